"""Functions that a pickle of cloudpickle restores in the job, without an import of cloudpickle.

The import takes 10 to 20 ms, as it loads forty modules of the standard library. The program of a job that calls
`add(1, 1)` takes 41 ms with it and 24 ms without it, of which an empty program takes 9 ms. The pickle of a function
names a few of cloudpickle's functions, and those here do the same. A small result of built-in types needs no
cloudpickle either (`packing`). Everything else, such as a class, loads cloudpickle, which travels with each call.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
import types

TYPE_CHECKING = False  # as in the boot program
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Tuple


def make_function(
    code: types.CodeType, variables: Dict[str, Any], name: str, defaults: Any, closure: Any
) -> types.FunctionType:
    """Return a function without its content.

    Args:
        code: its code.
        variables: its global variables, shared with the functions of its module.
        name: its name.
        defaults: the default values of its parameters, or None.
        closure: the cells of its free variables, or None.
    """
    variables["__builtins__"] = vars(builtins)
    return types.FunctionType(code, variables, name, defaults, closure)


def set_function_state(function: Any, state: Tuple[Dict[str, Any], Dict[str, Any]]) -> None:
    """Give a function its content.

    Args:
        function: the function.
        state: the variables of the function, and its attributes by name, with its cells and its global variables.
    """
    variables, attributes = state
    vars(function).update(variables)
    for name, value in attributes.items():
        if name == "__globals__":
            function.__globals__.update(value)
        elif name == "__closure__":
            fill_cells(function.__closure__, value)
        elif name != "_cloudpickle_submodules":  # it is there to be loaded
            setattr(function, name, value)


def fill_cells(cells: Any, filled: Any) -> None:
    """Give cells the content of others. A variable that was not assigned has none."""
    for cell, other in zip(cells or (), filled or ()):  # noqa: B905 - Python 3.8 has no `strict`
        with contextlib.suppress(ValueError):
            cell.cell_contents = other.cell_contents


def make_cell(*content: Any) -> types.CellType:
    """Return a cell with this content, or without any."""
    return types.CellType(*content)


def import_module(name: str) -> types.ModuleType:
    """Return the module of a name."""
    __import__(name)
    return sys.modules[name]


def type_of_interpreter(name: str) -> Any:
    """Return a class of the module `types`, such as that of code."""
    return getattr(types, name)


FUNCTIONS: Dict[str, Callable[..., Any]] = {
    "_builtin_type": type_of_interpreter,
    "_function_setstate": set_function_state,
    "_make_cell": make_cell,
    "_make_empty_cell": make_cell,
    "_make_function": make_function,
    "subimport": import_module,
}
"""The functions by the names that they have in `cloudpickle.cloudpickle`, of versions 3.x."""

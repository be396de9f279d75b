"""Modules of the caller that a pickle restores in the job.

The functions here are part of each pickle that needs them, so they use only what they import themselves. A restored
module has the names that the code in the pickle mentions. It is in `sys.modules`, so `import` statements in functions,
`pickle` and `dataclasses` find it. Where the caller's real module is loaded already, it is used and never changed.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from .restored_functions import set_function_state


def restore_module(name: str, variables: Dict[str, Any], parent: Optional[Any]) -> Any:
    """Return the module of a name: the one that is loaded, or a new one without content.

    Args:
        name: the module's name.
        variables: the first variables of a new module, such as `__file__`.
        parent: the package that it belongs to.
    """
    import os
    import sys
    import types

    module = sys.modules.get(name)
    if module is not None:
        return module
    module = types.ModuleType(name)
    content = vars(module)
    content.update(variables)
    if "__path__" in variables:
        # Modules of the package that did not travel may be in the job, in the image or in the working directory.
        places = [os.path.join(path or os.curdir, *name.split(".")) for path in sys.path]  # noqa: PTH118 - as import does
        content["__path__"] = [place for place in places if os.path.isdir(place)]  # noqa: PTH112 - a path as text

    def missing(attribute: str) -> Any:
        raise AttributeError(
            "module %r has no attribute %r in this job: of the caller's own modules, the names that the code mentions "
            "travel. Mention it, or set include_local_workdir=True for whole modules" % (name, attribute)
        )

    content["__getattr__"] = missing
    content["__restored__"] = True
    sys.modules[name] = module
    if parent is not None and "__restored__" in vars(parent):
        setattr(parent, name.rpartition(".")[2], module)
    return module


def restore_file(path: str, relative: str) -> str:
    """Return the path of a module's file: the one below the working directory, if the caller's directory travelled.

    Args:
        path: the file's path on the caller's machine.
        relative: its path from the caller's working directory.
    """
    import os

    here = os.path.abspath(relative)  # noqa: PTH100 - of a text
    return here if os.path.exists(here) else path  # noqa: PTH110 - a path as text


def restore_globals(module: Any) -> Dict[str, Any]:
    """Return the global variables for functions of a module: those of the restored module, else a copy of its names."""
    content: Dict[str, Any] = vars(module)
    if "__restored__" in content:
        return content
    names = ("__package__", "__name__", "__path__", "__file__")
    return {name: content[name] for name in names if name in content}


def add_names(module: Any, names: Dict[str, Any]) -> None:
    """Give a restored module the names that code uses as its attributes."""
    if "__restored__" in vars(module):
        vars(module).update(names)


def set_state(value: Any, state: Any) -> None:
    """Give a function or class its content, and give a restored module the function or class under its name.

    A class of the caller's real module stays as it is: cloudpickle returns that class itself to the process in which it
    was pickled.
    """
    import sys

    module: Any = sys.modules.get(value.__module__)
    is_restored = "__restored__" in getattr(module, "__dict__", {})
    if not isinstance(value, type):
        set_function_state(value, state)
    elif is_restored or getattr(module, value.__qualname__, None) is not value:
        from cloudpickle import cloudpickle

        cloudpickle._class_setstate(value, state)  # noqa: SLF001 - what cloudpickle's own pickles call
    if is_restored:
        setattr(module, value.__qualname__, value)


def restore_cached(maxsize: Optional[int], typed: bool) -> Any:
    """Return a function with the cache of `functools.lru_cache`, whose own function follows as `__wrapped__`."""
    import functools

    def call(*args: Any, **kwargs: Any) -> Any:
        return cached.__wrapped__(*args, **kwargs)

    cached = functools.lru_cache(maxsize=maxsize, typed=typed)(call)
    return cached

"""Pickler that stores the functions and classes of the caller's own modules by value.

cloudpickle does so for `__main__`. Its registry of further modules belongs to the whole process. It stores modules with
all their contents, and includes everything that is installed below a registered package. This pickler decides for each
object instead, and changes nothing in the process:

- Functions of one module share their global variables in the job as at home: those of a restored module.
- A module has the names that the pickled code mentions, so a lock or a client beside them does no harm.
- Modules that a function imports when it runs travel, too.
- Objects that pickle as their name in a module, such as functions with a cache, travel by value.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
import typing
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from processing.container.remote import restored_functions, restored_modules
from processing.remote_function.mentioned_names import ImportStatement, mentions
from processing.remote_function.own_modules import is_compiled, is_own, is_own_file
from processing.request.warnings import warn_user

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    class _Pickler:
        """The members of `cloudpickle.Pickler` that are used here."""

        globals_ref: dict[int, Any]

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...
        def dump(self, obj: Any) -> None: ...
        def reducer_override(self, obj: Any) -> Any: ...
        def _dynamic_function_reduce(self, func: Any) -> Any: ...

else:
    _Pickler = object  # cloudpickle belongs to an extra, and is imported when it is used

_RESTORERS = frozenset(
    {
        restored_modules.restore_file,
        restored_modules.restore_module,
        restored_modules.restore_globals,
        restored_modules.add_names,
        restored_modules.set_state,
        restored_modules.restore_cached,
        restored_functions.set_function_state,
        restored_functions.fill_cells,
    }
)
_CACHED: Any = type(functools.lru_cache(lambda: None))
_OWN_VARIABLES = frozenset({"cache_parameters"})
"""Attributes of a cached function that `functools.lru_cache` sets anew."""


class _Call:
    """An object that a call restores."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self._call


@functools.cache
def by_value_pickler(base: Any) -> Any:
    """Return a pickler class that stores the caller's own modules by value.

    Args:
        base: `cloudpickle.Pickler`, or a class derived from it.
    """
    return type("ByValuePickler", (_ByValue, base), {})


class _ByValue(_Pickler):
    """The part of a pickler that stores the caller's own code. It warns of compiled modules, which do not travel."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._compiled: set[str] = set()
        self._used_by_code: set[ModuleType] = set()

    def dump(self, obj: Any) -> None:
        """Write the pickle of an object."""
        super().dump(obj)
        if self._compiled:
            warn_user(
                f"{', '.join(sorted(self._compiled))}: compiled modules do not travel with a function; the image has "
                "to have them, or give dependencies='wheels/' with a wheel of them"
            )

    def reducer_override(self, obj: Any) -> Any:
        """Return the reduced form of an object, or NotImplemented for its own one."""
        kind = type(obj)
        if kind is FunctionType:
            if obj in _RESTORERS or _own_module(obj) is not None:
                return self._dynamic_function_reduce(obj)
        elif isinstance(obj, ModuleType):
            return self._module_reduce(obj)
        elif isinstance(obj, type):
            return self._class_reduce(obj)
        elif kind is BuiltinFunctionType:
            self._note_compiled(obj.__module__)
        elif kind in _NAMED_OBJECTS and _has_no_home(obj):
            return _NAMED_OBJECTS[kind](obj)
        return super().reducer_override(obj)

    def _note_compiled(self, name: str | None) -> None:
        module = sys.modules.get(name or "")
        if module is not None and is_compiled(module):
            self._compiled.add(module.__name__)

    def _class_reduce(self, obj: Any) -> Any:
        self._note_compiled(obj.__module__)
        if _own_module(obj) is None:
            return super().reducer_override(obj)
        from cloudpickle import cloudpickle

        reduced = cloudpickle._dynamic_class_reduce(obj)  # noqa: SLF001 - no public form
        return (*reduced[:-1], restored_modules.set_state) if _is_global(obj) else reduced

    def _dynamic_function_reduce(self, func: Any) -> Any:
        """Reduce a function by value, with the names that its code uses of the caller's modules."""
        home = sys.modules.get(func.__globals__.get("__name__", ""))
        if home is not None and vars(home) is func.__globals__ and is_own(home):
            self._used_by_code.add(home)
            self.globals_ref.setdefault(id(func.__globals__), _Call(restored_modules.restore_globals, home))
        make, args, (attributes, slots), *rest = super()._dynamic_function_reduce(func)
        variables = args[1]
        if isinstance(variables, dict) and isinstance(variables.get("__file__"), str):
            variables["__file__"] = _file(variables["__file__"])
        # cloudpickle restores these modules before the function.
        slots["_cloudpickle_submodules"] = [*slots["_cloudpickle_submodules"], *self._needed_by(func, slots)]
        if _own_module(func) is not None and _is_global(func):
            rest[-1] = restored_modules.set_state
        return (make, args, (attributes, slots), *rest)

    def _needed_by(self, func: FunctionType, slots: dict[str, Any]) -> Iterator[_Call]:
        """Yield calls that complete restored modules with the names that a function uses."""
        imports, names = mentions(func.__code__)
        found = [*slots["__globals__"].values(), *_cell_contents(func)]
        modules = [each for each in found if isinstance(each, ModuleType) and is_own(each)]
        modules += [each for statement in imports for each in _imported(statement, func)]
        seen: set[ModuleType] = set()
        while modules:
            module = modules.pop()
            if module in seen:
                continue
            seen.add(module)
            used = used_variables(module, names)
            modules += [each for each in used.values() if isinstance(each, ModuleType) and is_own(each)]
            self._used_by_code.add(module)
            yield _Call(restored_modules.add_names, module, used)

    def _module_reduce(self, module: ModuleType) -> Any:
        if not is_own(module):
            self._note_compiled(module.__name__)
            return super().reducer_override(module)
        parent = sys.modules.get(module.__name__.rpartition(".")[0])
        if parent is not None:
            self._used_by_code.add(parent)
        variables = {"__file__": _file(module.__file__), "__package__": module.__package__}
        if hasattr(module, "__path__"):
            variables["__path__"] = []
        reduced = restored_modules.restore_module, (module.__name__, variables, parent)
        if module in self._used_by_code:
            return reduced
        # A module that is itself a value: code that uses it may not mention the names.
        content = {name: value for name, value in vars(module).items() if name[:2] != "__"}
        return (*reduced, content, None, None, restored_modules.add_names)


def _file(path: str | None) -> Any:
    """Return the path of a module's file as it is stored: a file below the working directory may travel with it."""
    with contextlib.suppress(ValueError, OSError):  # on another drive, or the working directory was removed
        relative = os.path.relpath(path or "")
        if path and not relative.startswith(os.pardir):
            return _Call(restored_modules.restore_file, path, relative)
    return path


def used_variables(module: ModuleType, names: Container[str]) -> dict[str, Any]:
    """Return the variables of one of the caller's modules that travel with code.

    Args:
        module: the module.
        names: the names that the code mentions.
    """
    return {name: value for name, value in vars(module).items() if name in names and name[:2] != "__"}


def _own_module(obj: Any) -> ModuleType | None:
    """Return the module of a function or class if it is the caller's own."""
    name = getattr(obj, "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    return module if module is not None and is_own(module) else None


def _is_global(obj: Any) -> bool:
    """Return whether a function or class is the object that its module has under its name."""
    return getattr(sys.modules.get(obj.__module__), obj.__qualname__, None) is obj


def _cell_contents(func: FunctionType) -> Iterator[Any]:
    for cell in func.__closure__ or ():
        with contextlib.suppress(ValueError):  # not assigned yet
            yield cell.cell_contents


def _imported(statement: ImportStatement, func: FunctionType) -> Iterator[ModuleType]:
    """Yield the caller's own modules that an import in a function loads."""
    name = statement.module
    if statement.level:
        package = func.__globals__.get("__package__") or func.__globals__.get("__name__", "").rpartition(".")[0]
        try:
            name = importlib.util.resolve_name("." * statement.level + name, package)
        except ImportError:  # the function fails in the same way
            return
    module = _load_own(name)
    if module is None:
        return
    yield module
    while "." in name:
        name = name.rpartition(".")[0]
        yield sys.modules[name]
    for each in statement.names:
        if not hasattr(module, each):
            submodule = _load_own(f"{module.__name__}.{each}")
            if submodule is not None:
                yield submodule


def _load_own(name: str) -> ModuleType | None:
    """Return the caller's own module of a name, imported if necessary; None if it is another one or cannot be imported.

    Only the caller's own packages are imported.
    """
    module = sys.modules.get(name)
    if module is None:
        top = name.partition(".")[0]
        try:
            spec = importlib.util.find_spec(top)
            if spec is None or not is_own_file(top, spec.origin, spec.submodule_search_locations):
                return None
            module = importlib.import_module(name)
        except Exception:  # noqa: BLE001 - a module of the caller's; the import fails in the job, too, if it is reached
            return None
    return module if is_own(module) else None


def _has_no_home(obj: Any) -> bool:
    """Return whether a job cannot find an object by its name in a module."""
    name = getattr(obj, "__module__", None)
    return name == "__main__" or "<locals>" in getattr(obj, "__qualname__", "") or _own_module(obj) is not None


def _cached_reduce(function: Any) -> Any:
    parameters = function.cache_parameters()
    state = {name: value for name, value in vars(function).items() if name not in _OWN_VARIABLES}
    return restored_modules.restore_cached, (parameters["maxsize"], parameters["typed"]), state


def _typevar_reduce(variable: Any) -> Any:
    from cloudpickle import cloudpickle

    return cloudpickle._make_typevar, cloudpickle._decompose_typevar(variable)  # noqa: SLF001 - no public form


_NAMED_OBJECTS: dict[type, Any] = {
    _CACHED: _cached_reduce,
    typing.NewType: lambda kind: (typing.NewType, (kind.__name__, kind.__supertype__)),
    typing.ParamSpec: lambda variable: (typing.ParamSpec, (variable.__name__,)),
    typing.TypeVar: _typevar_reduce,
}
"""Reducers of objects that pickle as their name in a module, by their class."""
if sys.version_info >= (3, 11):
    _NAMED_OBJECTS[typing.TypeVarTuple] = lambda variable: (typing.TypeVarTuple, (variable.__name__,))
if sys.version_info >= (3, 12):
    _NAMED_OBJECTS[typing.TypeAliasType] = lambda alias: (typing.TypeAliasType, (alias.__name__, alias.__value__))

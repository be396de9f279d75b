"""The part of a value that cannot be pickled, by the path that leads to it: `divide.__closure__["s3"]`.

The search descends through functions, containers and instances of the user's own classes, as far as a part fails to be
pickled by itself. An object of a library is one part: its lock deep inside means nothing to the user.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import attrs

from processing._utils import type_name
from processing.container.remote import packing
from processing.remote_function.by_value import by_value_pickler, used_variables
from processing.remote_function.mentioned_names import mentions
from processing.remote_function.own_modules import is_own

DerivePickler = Callable[[Any], Any]
"""Returns a class derived from a pickler's class."""

Part = tuple[str, Any]
"""The end of a path, such as `["s3"]`, and the value there."""

_DEEPEST = 50  # levels; deeper ones are not worth a path, and values of the user may be nested without end
_SHOWN_KEY = 40  # characters of a key in a path


@attrs.frozen
class Culprit:
    """A part of a value that cannot be pickled, although all of its own parts can, or it has none.

    Args:
        path: the way to it.
        value: the part.
        error: the pickler's error.
    """

    path: str
    value: Any = attrs.field(repr=False)
    error: Exception


def find_culprit(value: Any, name: str, derive: DerivePickler | None = by_value_pickler) -> Culprit | None:
    """Return the first part of a value that cannot be pickled; None if the value can be.

    Args:
        value: any value.
        name: the beginning of the path.
        derive: the pickler, as `packing.pack` takes it.
    """
    error = _problem(value, derive)
    if error is None:
        return None
    culprit = Culprit(name, value, error)
    seen = {id(value)}
    for _ in range(_DEEPEST):
        deeper = _first_culprit(culprit, seen, derive)
        if deeper is None:
            break
        culprit = deeper
    return culprit


def explain(value: Any, name: str, error: Exception, derive: DerivePickler | None = by_value_pickler) -> str:
    """Return a message for a value that could not be pickled: the part that is the reason, and the remedy.

    Args:
        value: the value.
        name: the beginning of the path.
        error: the pickler's error for the whole value.
        derive: the pickler, as `packing.pack` takes it.
    """
    culprit = None
    with contextlib.suppress(Exception):  # the search reads attributes of the user's objects
        culprit = find_culprit(value, name, derive)
    culprit = culprit or Culprit(name, value, error)
    return (
        f"{culprit.path}: {_described(culprit.value)} cannot be sent to another process; create it inside of the "
        f"function, or pass what it is made of ({type(culprit.error).__name__}: {culprit.error})"
    )


def _described(value: Any) -> str:
    if isinstance(value, types.FunctionType | types.MethodType | type):
        return f"{value.__module__}.{value.__qualname__}"
    return f"an object of the type {type_name(value)}"


def _first_culprit(culprit: Culprit, seen: set[int], derive: DerivePickler | None) -> Culprit | None:
    """Return the first failing part of a value, one level deeper."""
    if isinstance(culprit.error, RecursionError) or isinstance(culprit.error.__cause__, RecursionError):
        return None
    parts = [(step, part) for step, part in _parts(culprit.value) if id(part) not in seen]
    # By halves: a pickler for each of a million items would take minutes.
    while len(parts) > 1:
        half = parts[: len(parts) // 2]
        parts = half if _problem([part for _, part in half], derive) is not None else parts[len(half) :]
    for step, part in parts:
        seen.add(id(part))
        error = _problem(part, derive)
        if error is not None:
            return Culprit(culprit.path + step, part, error)
    return None


def _problem(value: Any, derive: DerivePickler | None) -> Exception | None:
    """Return the pickler's error for a value; None if it can be pickled."""
    try:
        packing.pack(value, derive)
    except Exception as error:  # noqa: BLE001 - any class may raise anything when it is pickled
        return error
    return None


def _parts(value: Any) -> Iterator[Part]:
    """Yield the parts of a value that its pickle contains."""
    if isinstance(value, types.FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield from _indexed(".args", value.args)
        yield from _keyed(".keywords", value.keywords)
    elif isinstance(value, Mapping):
        yield from _keyed("", value)
    elif isinstance(value, list | tuple | set | frozenset):
        yield from _indexed("", value)
    if isinstance(value, BaseException):
        yield from _indexed(".args", value.args)
        yield from ((f".{name}", getattr(value, name)) for name in ("__cause__", "__context__"))
    if isinstance(value, type):
        descriptors = types.GetSetDescriptorType | types.MemberDescriptorType  # no part of the pickle
        members = ((name, part) for name, part in vars(value).items() if not isinstance(part, descriptors))
        yield from ((f".{name}", _function_of(part)) for name, part in members)
    elif isinstance(value, BaseException) or _is_users(type(value)):
        yield from _attributes(value)


def _parts_of_function(function: types.FunctionType) -> Iterator[Part]:
    names = mentions(function.__code__).names
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not assigned yet
            yield from _of_module(f'.__closure__["{name}"]', cell.cell_contents, names, set())
    for name in sorted(names & function.__globals__.keys()):
        yield from _of_module(f'.__globals__["{name}"]', function.__globals__[name], names, set())
    yield from _indexed(".__defaults__", function.__defaults__ or ())
    yield from _keyed(".__kwdefaults__", function.__kwdefaults__ or {})
    yield from ((f".{name}", part) for name, part in vars(function).items())


def _of_module(step: str, value: Any, names: Container[str], seen: set[int]) -> Iterator[Part]:
    """Yield a value; for one of the caller's own modules, the variables of it that travel with code."""
    if not isinstance(value, types.ModuleType) or not is_own(value):
        yield step, value
    elif id(value) not in seen:
        seen.add(id(value))
        for name, part in used_variables(value, names).items():
            yield from _of_module(f"{step}.{name}", part, names, seen)


def _function_of(member: Any) -> Any:
    return member.__func__ if isinstance(member, staticmethod | classmethod) else member


def _indexed(path: str, values: Any) -> Iterator[Part]:
    yield from ((f"{path}[{number}]", part) for number, part in enumerate(values))


def _keyed(path: str, values: Mapping[Any, Any]) -> Iterator[Part]:
    for key, part in values.items():
        shown = f'"{key}"' if isinstance(key, str) else repr(key)
        step = f"{path}[{shown if len(shown) <= _SHOWN_KEY else shown[:_SHOWN_KEY] + '...'}]"
        yield step, part
        yield f"{step} (the key)", key


def _attributes(value: Any) -> Iterator[Part]:
    for name, part in getattr(value, "__dict__", {}).items():
        yield f".{name}", part
    for kind in type(value).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, types.MemberDescriptorType):  # a slot
                yield f".{name}", getattr(value, name, None)


def _is_users(kind: type) -> bool:
    """Return whether a class is not one of Python or of an installed package."""
    module = sys.modules.get(kind.__module__)
    return kind.__module__ == "__main__" or (module is not None and is_own(module))

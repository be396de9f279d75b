"""Packed values on the caller's side: the errors name the value, the part of it and the remedy."""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import platform
import re
from typing import TYPE_CHECKING, Any

from processing.container.remote import packing
from processing.exceptions import ConfigurationError, DeserializationError, SerializationError
from processing.remote_function.unpicklable import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from processing.container.remote.packing import Buffer, PackedValue


def pack(value: Any, name: str, *, by_value: bool = True) -> PackedValue:
    """Pack a value into chunks of bytes. They refer to the memory of its arrays.

    Args:
        value: any value.
        name: the value's name in messages, such as `divide` or `arguments`.
        by_value: True to pack the functions and classes of the caller's own modules by value. False to pack them by
            name, as those of installed packages, for a reader that has the modules.

    Raises:
        ConfigurationError: cloudpickle is not installed.
        SerializationError: the value cannot be serialized. The message names the part of it that is the reason.
    """
    require_cloudpickle()
    from processing.remote_function.by_value import by_value_pickler  # loads typing and importlib's machinery

    derive = by_value_pickler if by_value else None
    try:
        return packing.pack(value, derive)
    except Exception as error:
        raise SerializationError(explain(value, name, error, derive)) from error


def unpack(memory: Buffer, source: str, *, written_by: str | None = None) -> Any:
    """Load a packed value whose origin has been checked. Arrays in it refer to the memory.

    Args:
        memory: all bytes of the packed value.
        source: the origin of the bytes, for messages.
        written_by: the version of Python that packed it. Code of another minor version is refused: Python would crash
            on it.

    Raises:
        ConfigurationError: cloudpickle is not installed.
        DeserializationError: the bytes are not a packed value, or it cannot be loaded here.
    """
    loads = _loads_for(written_by)
    with _explained(source, written_by):
        return packing.unpack(memory, loads)


def load_pickle(pickled: Buffer, source: str, *, written_by: str | None = None) -> Any:
    """Load a plain pickle whose origin has been checked.

    Args:
        pickled: the bytes.
        source: as for `unpack`.
        written_by: as for `unpack`.

    Raises:
        ConfigurationError: cloudpickle is not installed.
        DeserializationError: the bytes are not a pickle, or it cannot be loaded here.
    """
    loads = _loads_for(written_by)
    with _explained(source, written_by):
        return loads(pickled)


def require_cloudpickle() -> None:
    """Refuse to go on without cloudpickle.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import cloudpickle  # noqa: F401 - its presence is the question
    except ImportError as error:
        raise ConfigurationError(
            "remote functions need cloudpickle; install it with `pip install 'sm-processing[remote]'`"
        ) from error


@contextlib.contextmanager
def _explained(source: str, written_by: str | None) -> Iterator[None]:
    try:
        yield
    except packing.PackingError as error:
        raise DeserializationError(f"{source}: {error}") from error
    except (Exception, SystemExit) as error:
        origin = "" if _is_own(written_by) else f" (Python {written_by} wrote it; this is {platform.python_version()})"
        raise DeserializationError(
            f"{source}: the value cannot be loaded{origin}: {type(error).__name__}: {error}"
        ) from error


def _loads_for(written_by: str | None) -> Callable[..., Any]:
    require_cloudpickle()
    return _loads_with_own_classes if _is_own(written_by) else _loads_without_code


def _is_own(version: str | None) -> bool:
    """Return whether code of a version of Python, such as `3.11.7`, runs here."""
    return version is None or version.split(".")[:2] == platform.python_version().split(".")[:2]


def _loads_with_own_classes(pickled: Buffer, buffers: Iterable[Buffer] = ()) -> Any:
    if _CLASS_BY_VALUE.search(pickled) is None:
        return pickle.loads(pickled, buffers=buffers)  # noqa: S301 - the caller has checked the bytes
    return _WithOwnClasses(io.BytesIO(pickled), buffers=buffers).load()


def _loads_without_code(pickled: Buffer, buffers: Iterable[Buffer] = ()) -> Any:
    return _WithoutCode(io.BytesIO(pickled), buffers=buffers).load()


class _WithoutCode(pickle.Unpickler):
    """An unpickler that refuses the bytecode of functions."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "cloudpickle" and name == "_make_function":
            raise pickle.UnpicklingError("it contains code, which runs in the same minor version of Python only")
        return super().find_class(module, name)


class _WithOwnClasses(pickle.Unpickler):
    """An unpickler that leaves the classes of this process as they are.

    cloudpickle returns a class of `__main__` itself to the process in which it was pickled. But then it sets all its
    attributes again: its methods become copies, with global variables of their own.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known: list[type] = []

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module.partition(".")[0] != "cloudpickle":
            return found
        if name in _TRACKER_POSITION:
            return functools.partial(self._make, found, _TRACKER_POSITION[name])
        return functools.partial(self._set_state, found) if name == "_class_setstate" else found

    def _make(self, make: Callable[..., type], position: int, *args: Any) -> type:
        from cloudpickle import cloudpickle

        known = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(args[position])  # noqa: SLF001 - no public form
        made = make(*args)
        if made is known:
            self._known.append(made)
        return made

    def _set_state(self, set_state: Callable[[type, Any], type], kind: type, state: Any) -> type:
        return kind if any(kind is each for each in self._known) else set_state(kind, state)


_TRACKER_POSITION = {"_make_skeleton_class": 4, "_make_skeleton_enum": 5}
"""The position of the identifier of a class among the arguments of cloudpickle's functions that make it."""
_CLASS_BY_VALUE = re.compile(rb"_make_skeleton_(?:class|enum)")

"""Small helpers: paths, the cache folder, atomic writes of text, and words for error messages."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

StrPath: TypeAlias = str | os.PathLike[str]
"""A path, as the functions of `os` and `pathlib` accept it."""

CACHE_VARIABLE = "PROCESSING_CACHE_HOME"


def cache_home() -> Path:
    r"""Return the user's cache folder, which need not exist. Losing it costs time, never correctness.

    The first of these is used: the environment variable PROCESSING_CACHE_HOME; on Windows
    `%LOCALAPPDATA%\sm-processing\cache`; `$XDG_CACHE_HOME/sm-processing`; `~/.cache/sm-processing`.

    Raises:
        RuntimeError: the user has no home folder.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local", "sm-processing", "cache")
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG standard requires that a relative path is ignored.
    return Path(base if base.startswith("/") else Path.home() / ".cache", "sm-processing")


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically. Create its folder with mode 0700 if it does not exist.

    Raises:
        OSError: the file cannot be written; an earlier one is unchanged.
    """
    import tempfile  # loads zlib, bz2 and lzma, and `import processing` stays cheap

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    part = Path(name)
    try:
        with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - a handle, not a path
            file.write(text)
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


NO_WORKING_DIRECTORY = "is relative, and the working directory was removed; change to another one, or give a whole path"
"""The end of a message about a path that `absolute` cannot make absolute."""


def absolute(path: Path) -> Path | None:
    """Return the absolute path; None for a relative one if the working directory was removed."""
    try:
        return path.absolute()
    except OSError:
        return None


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the closest known value, or an empty text if no value is close.

    Case is ignored. A known value that begins with `value` counts as the closest.
    """
    import difflib  # loaded only to report an error

    lower, by_lower = value.lower(), {name.lower(): name for name in known}
    longer = [name for name in by_lower if lower and name.startswith(lower)]
    close = longer or difflib.get_close_matches(lower, by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


class lazy(Generic[T]):  # noqa: N801 - a decorator, such as `property`
    """A property that is computed once and can be assigned to: `functools.cached_property` without its lock.

    Before Python 3.12 that lock is held during the computation, for all instances. A child that is forked meanwhile
    would wait for it for ever.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object, owner: type) -> T | lazy[T]:
        if instance is None:
            return self
        value: T = vars(instance).setdefault(self._name, self._function(instance))
        return value


def type_name(value: object) -> str:
    """Return the type's name with its module: `sagemaker.processing` has classes of the same names."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def is_empty(value: object) -> bool:
    """Return whether a value is None, or an empty text or collection. An array of numpy, which has no truth, is not."""
    try:
        return not value
    except Exception:  # noqa: BLE001 - any class may define its truth, and the caller reports a wrong type
        return False

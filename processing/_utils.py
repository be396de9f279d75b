"""Small helpers without a home of their own: the type of a path, the cache folder, words for error messages."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

StrPath: TypeAlias = str | os.PathLike[str]
"""A path, as the functions of `os` and `pathlib` accept it."""

CACHE_VARIABLE = "PROCESSING_CACHE_HOME"


def cache_home() -> Path:
    r"""Return the user's cache folder; it need not exist.

    The first of these: the environment variable PROCESSING_CACHE_HOME; on Windows
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
    # The XDG standard says that a relative one is to be ignored.
    return Path(base if base.startswith("/") else Path.home() / ".cache", "sm-processing")


def write_whole(path: Path, text: str) -> None:
    """Write a file, and its folder (0700) if that is missing, so that no reader ever sees half of it.

    Raises:
        OSError: it cannot be written; what was there is unchanged.
    """
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


def meant(value: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the known value that is closest, in any case; empty where none is close.

    A value that the given one begins is closest.
    """
    import difflib  # loaded for a mistake only

    given, by_lower = value.lower(), {name.lower(): name for name in known}
    longer = [name for name in by_lower if given and name.startswith(given)]
    close = longer or difflib.get_close_matches(given, by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def type_name(value: object) -> str:
    """Return the type with its module: `sagemaker.processing` has classes of the same names."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"

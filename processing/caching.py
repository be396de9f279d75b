"""Where the package keeps what it could fetch or compute again: losing it costs time, never correctness."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

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

"""Where the embedded engine keeps its files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from processing.exceptions import EngineError

HOME_VARIABLE = "PROCESSING_LOCAL_HOME"


def engine_home() -> Path:
    r"""Return the engine's folder, made for its owner alone (0700) if it does not exist yet.

    The first of these: the environment variable PROCESSING_LOCAL_HOME; on Windows `%LOCALAPPDATA%\sm-processing`;
    `$XDG_DATA_HOME/sm-processing`; `~/.local/share/sm-processing`.

    Raises:
        EngineError: the folder cannot be made.
    """
    return prepare_home(_configured_home())


def prepare_home(home: Path) -> Path:
    """Make `home` if it is missing (its last part 0700: job data is its owner's business) and return it, absolute.

    Raises:
        EngineError: it cannot be made, or not be written to.
    """
    home = home.expanduser().absolute()
    try:
        if not home.is_dir():
            home.parent.mkdir(parents=True, exist_ok=True)
            home.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unusable(home, error.strerror or str(error)) from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise _unusable(home, "it cannot be written to")
    return home


def _unusable(home: Path, reason: str) -> EngineError:
    return EngineError(
        f"the engine cannot keep its files in {home}: {reason}. "
        f"Give a folder that can be written to: LocalSession(home), or the environment's {HOME_VARIABLE}"
    )


def _configured_home() -> Path:
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "sm-processing"

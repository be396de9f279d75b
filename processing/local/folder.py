"""Where the embedded engine keeps its files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HOME_VARIABLE = "PROCESSING_LOCAL_HOME"


def engine_home() -> Path:
    r"""Return the engine's folder, made for its owner alone (0700) if it does not exist yet.

    The first of these: the environment variable PROCESSING_LOCAL_HOME; on Windows `%LOCALAPPDATA%\sm-processing`;
    `$XDG_DATA_HOME/sm-processing`; `~/.local/share/sm-processing`.

    Raises:
        OSError: the folder cannot be made.
    """
    return prepare_home(_configured_home())


def prepare_home(home: Path) -> Path:
    """Make `home` if it is missing (its last part 0700: job data is its owner's business) and return it, absolute."""
    home = home.expanduser().absolute()
    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
    return home


def _configured_home() -> Path:
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "sm-processing"

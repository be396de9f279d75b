"""The folder of the embedded engine: its location and its access rights."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from processing._utils import NO_WORKING_DIRECTORY, absolute
from processing.exceptions import EngineError
from processing.local.errors import damaged_file

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME_VARIABLE = "PROCESSING_LOCAL_HOME"
FOLDERS = ("objects", "incoming", "jobs", "async")
"""The folders in the engine's folder: bodies of objects, bodies that are being written, running jobs and hosts of
endpoints, and waiting asynchronous invocations."""
MAX_PATH_BYTES = 480
"""SQLite accepts paths of 512 bytes, and the names of its own files are longer than a database's."""

logger = logging.getLogger(__name__)
_announced: set[Path] = set()


def require_locks() -> None:
    """Check that this system has the locks on files by which the engine's processes exclude each other.

    Raises:
        EngineError: it has none, as Windows.
    """
    try:
        import fcntl  # noqa: F401 - only its existence counts
    except ImportError as error:
        raise EngineError(
            "the embedded engine needs Linux or macOS: this Python has no module fcntl, whose locks the engine's "
            "processes rely on. On Windows, run Python in the Windows Subsystem for Linux (wsl --install), or run the "
            'job on AWS with an instance_type such as "ml.m5.xlarge"'
        ) from error


def engine_home() -> Path:
    r"""Return the engine's folder. If it does not exist, it is made for its owner alone (0700).

    It is the first of these: the environment variable PROCESSING_LOCAL_HOME; on Windows `%LOCALAPPDATA%\sm-processing`;
    `$XDG_DATA_HOME/sm-processing`; `~/.local/share/sm-processing`.

    Raises:
        EngineError: the folder cannot be made or used.
    """
    return prepare_home(_configured_home())


def prepare_home(home: Path) -> Path:
    """Make `home` if it is missing, and return its absolute path.

    Data of jobs is private: a new folder gets the mode 0700, and so does an existing folder that is empty. For a folder
    with content, readable to others, a warning is logged. A folder that others may write to is refused, since they
    could decide what jobs run. So is another user's folder, also for root.

    Raises:
        EngineError: the folder cannot be made or written to, it belongs to another user, or others may write to it.
    """
    with explain_os_errors(home):
        place = absolute(home.expanduser())
        if place is None:
            raise _unusable(home, f"it {NO_WORKING_DIRECTORY}")
        home = place
        if len(os.fsencode(home)) > MAX_PATH_BYTES:
            raise _unusable(home, f"its path has more than {MAX_PATH_BYTES} bytes, which SQLite cannot work with")
        if not home.is_dir():
            home.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process was faster, or it is a file
                home.mkdir(mode=0o700)
        state = home.stat()
        if not stat.S_ISDIR(state.st_mode):
            raise _unusable(home, "it is not a folder")
        if not os.access(home, os.W_OK | os.X_OK):
            raise _unusable(home, _why_not_writable(home, state))
        if os.name == "posix" and state.st_uid != os.geteuid():
            # Only root gets here. Its files would lock the owner out, and the owner could replace what root runs.
            raise _unusable(home, f"it belongs to another user ({_user(state.st_uid)}). Run as that user instead")
        if os.name == "posix" and state.st_mode & 0o077:
            _keep_others_out(home, state)
    return home


def configured_home() -> Path:
    """Return the absolute path of the engine's folder, which may not exist.

    Raises:
        EngineError: the path is impossible.
    """
    home = _configured_home()
    with explain_os_errors(home):
        return home.expanduser().absolute()


def check_folders(home: Path) -> None:
    """Check the folders in the engine's folder that exist already.

    Raises:
        EngineError: one is not a folder, or this user may not use it.
    """
    for name in FOLDERS:
        path = home / name
        with contextlib.suppress(FileNotFoundError):
            mode = path.lstat().st_mode
            if not path.is_dir():
                remedy = f"Move {path} out of the folder, so that the engine makes a new one"
                raise damaged_file(home, name, "it is not a folder", remedy)
            if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                remedy = f"Give your user its rights back (chmod -R u+rwX {home})"
                raise damaged_file(home, name, f"your user may not use it (its mode is {mode & 0o7777:04o})", remedy)


@contextlib.contextmanager
def explain_os_errors(home: Path) -> Iterator[None]:
    """Turn the system's errors about the engine's folder into an `EngineError` that names it.

    Args:
        home: the folder.
    """
    try:
        yield
    except OSError as error:
        raise _unusable(home, error.strerror or str(error)) from error
    except (RuntimeError, ValueError) as error:  # no home directory; a zero byte in the path
        raise _unusable(home, str(error)) from error


def _keep_others_out(home: Path, state: os.stat_result) -> None:
    mode = stat.S_IMODE(state.st_mode)
    if not any(home.iterdir()):
        home.chmod(0o700)
    elif mode & 0o022:
        raise _unusable(
            home,
            f"other users may write to it (its mode is {mode:04o}), and so decide what jobs run. "
            "Take that right away (chmod go-w), or use a folder inside it",
        )
    elif home not in _announced:
        _announced.add(home)
        logger.warning(
            "Other users may read the engine's folder %s (its mode is %04o): chmod 700 ends that.", home, mode
        )


def _why_not_writable(home: Path, state: os.stat_result) -> str:
    if hasattr(os, "statvfs") and os.statvfs(home).f_flag & os.ST_RDONLY:
        return "its file system is mounted read-only"
    if os.name == "posix" and state.st_uid != os.geteuid():
        return f"it belongs to another user ({_user(state.st_uid)}), and cannot be written to"
    return "it cannot be written to"


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"number {uid}"


def _unusable(home: Path, reason: str) -> EngineError:
    return EngineError(
        f"the engine cannot keep its files in {home}: {reason}. "
        f"Give a folder that can be written to: LocalSession(home), or the environment's {HOME_VARIABLE}"
    )


def _configured_home() -> Path:
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"], "sm-processing")
    base = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(base):  # noqa: PTH117 - the XDG standard ignores relative paths
        base = r"~\AppData\Local" if sys.platform == "win32" else "~/.local/share"
    return Path(base, "sm-processing")

"""Start of the shim as a zip file, which has this module as its `__main__`.

The zip file has two folders: `shim` with the package, and `botocore` for images without one. Each is unpacked below
the folder for temporary files when it is first needed, since Python keeps compiled modules beside files alone.
"""

import sys

if sys.version_info < (3, 8):
    # The oldest Python that reads this line names itself, so the annotations below stay simple.
    sys.exit(
        "processing-shim: this image has Python %d.%d, and the shim needs 3.8; use --shim static" % sys.version_info[:2]
    )

import atexit
import importlib
import os
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path
from typing import Optional

DIGEST = "digest"
"""The member with the digest of all others. A folder of another build is never used."""


def main(archive: Path) -> int:
    """Run the shim in a zip file, and return its exit code."""
    # A module of the user's with our name may have been imported before: by a .pth file, or by sitecustomize.
    for name in [each for each in sys.modules if each.partition(".")[0] == "processing"]:
        del sys.modules[name]
    # A program's image often forbids compiled files; the folder is the shim's own.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = None
    sys.path.insert(0, _unpacked(archive, "shim") or str(archive / "shim"))
    storage = importlib.import_module("processing.container.shim.storage")
    storage.carry(lambda: _unpacked(archive, "botocore"))
    return int(importlib.import_module("processing.container.shim.commands").main())


def _unpacked(archive: Path, part: str) -> Optional[str]:
    """Return the folder of an unpacked part; None if the part is missing, or no folder can be written to."""
    with zipfile.ZipFile(str(archive)) as opened:
        members = [name for name in opened.namelist() if name.startswith(part + "/")]
        digest = opened.read(DIGEST).decode("ascii")
        if not members:
            return None
        try:
            parent = Path(tempfile.gettempdir())
            place = parent / ("processing-shim-%d-%s-%s" % (os.geteuid(), digest[:32], part))
            if not _is_ours(place):
                _unpack(opened, members, parent, place)
                if not _is_ours(place):
                    # Another user has taken the name. A folder of another name is removed at the end.
                    place = Path(tempfile.mkdtemp(prefix="processing-shim-", dir=str(parent)))
                    atexit.register(shutil.rmtree, str(place), ignore_errors=True)
                    opened.extractall(str(place), members)
        except OSError:
            return None
    return str(place / part)


def _unpack(opened: zipfile.ZipFile, members: "list[str]", parent: Path, place: Path) -> None:
    """Unpack members to a place, in one step for other processes that do the same."""
    temporary = tempfile.mkdtemp(prefix="processing-shim-", dir=str(parent))
    try:
        opened.extractall(temporary, members)
        os.rename(temporary, str(place))  # noqa: PTH104 - it must not replace a file
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not place.exists():
            raise


def _is_ours(place: Path) -> bool:
    """Return whether this user made a folder that no other user can write to: /tmp belongs to all users."""
    try:
        found = place.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent))

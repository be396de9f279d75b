"""What is remembered of a directory between runs: its files' hashes, and the tree that it was uploaded as.

All of it could be found out again. It is kept in the user's cache folder with a checksum, and what cannot be read, or
is not what was written, is as if it were not there: losing it costs time and bytes, never correctness.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from processing._utils import cache_home, write_whole
from processing.container.contract import DAY

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

_MAX_AGE = 90.0 * DAY  # seconds since it was last used


def load(kind: str, key: str) -> dict[str, Any]:
    """Return what was remembered, or an empty dictionary.

    Args:
        kind: what it is; the name of a folder.
        key: what it is key, any text.
    """
    try:
        checksum, _, text = _file(kind, key).read_text(encoding="utf-8").partition("\n")
        found = json.loads(text) if checksum == _checksum(text) else {}
    except (OSError, ValueError, RuntimeError) as error:
        logger.debug("nothing is remembered of %s: %s", key, error)
        return {}
    return found if isinstance(found, dict) else {}


def store(kind: str, key: str, value: dict[str, Any]) -> None:
    """Remember a value of JSON's in place of what was remembered; where that is not possible, do not.

    Args:
        kind: as for `recall`.
        key: as for `recall`.
        value: the value.
    """
    try:
        text = json.dumps(value, separators=(",", ":"))
        file, checksum = _file(kind, key), _checksum(text)
        if _has_checksum(file, checksum):
            os.utime(file)
        else:
            write_whole(file, f"{checksum}\n{text}")
            _remove_old_files(file.parent)
    except (OSError, ValueError, RuntimeError) as error:
        logger.debug("%s is not remembered: %s", key, error)


def _remove_old_files(folder: Path) -> None:
    """Remove what nobody has asked for in a long time: directories come and go."""
    oldest = time.time() - _MAX_AGE
    for file in folder.iterdir():
        with contextlib.suppress(OSError):  # another process was quicker
            if file.stat().st_mtime < oldest:
                file.unlink()


def _file(kind: str, key: str) -> Path:
    return cache_home() / kind / f"{_checksum(key)}.json"


def _has_checksum(file: Path, checksum: str) -> bool:
    """Say whether a file begins with the checksum."""
    try:
        with file.open(encoding="utf-8") as there:
            return there.readline().rstrip("\n") == checksum
    except (OSError, ValueError):
        return False


def _checksum(text: str) -> str:
    import hashlib  # loads OpenSSL

    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

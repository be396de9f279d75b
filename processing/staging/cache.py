"""Facts about directories that are kept between runs: the hashes of their files, and the tree of their last upload.

Everything here can be computed again. Each fact is a file with a checksum in the user's cache folder. A file that
cannot be read, or fails its checksum, counts as missing. A loss costs time and bytes, never correctness.
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

_MAX_AGE = 90.0 * DAY  # seconds since the last use: three months cover a job that runs once a month


def load(kind: str, key: str) -> dict[str, Any]:
    """Return the stored value, or an empty dictionary.

    Args:
        kind: the kind of fact, which is the name of a folder.
        key: the subject of the fact, any text.
    """
    try:
        checksum, _, text = _file(kind, key).read_text(encoding="utf-8").partition("\n")
        found = json.loads(text) if checksum == _checksum(text) else {}
    except (OSError, ValueError, RuntimeError) as error:
        logger.debug("nothing is stored about %s: %s", key, error)
        return {}
    return found if isinstance(found, dict) else {}


def store(kind: str, key: str, value: dict[str, Any]) -> None:
    """Store a JSON value in place of an earlier one. If that fails, do nothing.

    Args:
        kind: as for `load`.
        key: as for `load`.
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
        logger.debug("nothing was stored about %s: %s", key, error)


def _remove_old_files(folder: Path) -> None:
    """Remove files that have not been used for a long time: their directories may not exist any more."""
    oldest = time.time() - _MAX_AGE
    for file in folder.iterdir():
        with contextlib.suppress(OSError):  # another process was quicker
            if file.stat().st_mtime < oldest:
                file.unlink()


def _file(kind: str, key: str) -> Path:
    return cache_home() / kind / f"{_checksum(key)}.json"


def _has_checksum(file: Path, checksum: str) -> bool:
    """Return whether a file begins with the checksum."""
    try:
        with file.open(encoding="utf-8") as there:
            return there.readline().rstrip("\n") == checksum
    except (OSError, ValueError):
        return False


def _checksum(text: str) -> str:
    import hashlib  # loads OpenSSL

    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

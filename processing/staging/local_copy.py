"""Outputs that a job wrote in place, on this machine: copied as a download would bring them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from processing.exceptions import StagingError

if TYPE_CHECKING:
    from pathlib import Path


def copy_tree(source: Path, to: Path) -> list[Path]:
    """Copy a directory's files into another; symbolic links stay behind, as they do on AWS.

    Args:
        source: the directory; a missing one is an empty one.
        to: made if missing. Files of the same names are replaced, each at once.

    Returns:
        The copies, sorted.

    Raises:
        StagingError: names every file that was not copied; no half-written one is left.
    """
    to.mkdir(parents=True, exist_ok=True)
    copies, failures = [], []
    for path in sorted(source.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        target = to / path.relative_to(source)
        try:
            _copy(path, target)
        except OSError as error:
            failures.append((str(path), error.strerror or str(error)))
        else:
            copies.append(target)
    if failures:
        raise StagingError(f"{len(failures)} files could not be copied", failures)
    return copies


def _copy(path: Path, target: Path) -> None:
    import secrets

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        shutil.copyfile(path, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)

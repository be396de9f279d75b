"""Copies of outputs that a job wrote on this machine, with the same result as a download."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from processing.exceptions import StagingError

if TYPE_CHECKING:
    from pathlib import Path


def copy_tree(source: Path, to: Path) -> list[Path]:
    """Copy a directory's files into another. Symbolic links are left out, as on AWS.

    Args:
        source: the directory; a missing one counts as empty.
        to: the target, created if missing. Files of the same names are replaced atomically.

    Returns:
        The copies, sorted.

    Raises:
        StagingError: files could not be copied, each named. No partial file is left.
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

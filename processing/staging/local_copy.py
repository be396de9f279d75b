"""Copies of outputs that a job wrote on this machine, with the same result as a download."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from processing.exceptions import StagingError
from processing.staging.sources import make_directory

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    make_directory(to)
    copies: list[Path] = []
    failures: list[tuple[str, str]] = []
    for path in sorted(_regular_files(source, failures)):
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


def _regular_files(source: Path, failures: list[tuple[str, str]]) -> Iterator[Path]:
    """Yield the regular files below a directory. A directory or file that cannot be read becomes a failure."""

    def report(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            failures.append((str(error.filename), error.strerror or str(error)))

    for folder, _, names in os.walk(source, onerror=report):
        for name in names:
            path = Path(folder, name)
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path
            except OSError as error:
                report(error)


def _copy(path: Path, target: Path) -> None:
    import secrets

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with path.open("rb") as source, temporary.open("xb") as copy:
            shutil.copyfileobj(source, copy)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

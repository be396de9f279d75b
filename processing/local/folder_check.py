"""A check of the engine's folder that changes nothing, for the doctor."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from processing.exceptions import ProcessingError
from processing.local.credentials import FILE, install_credentials
from processing.local.home import check_folders, prepare_home
from processing.local.stores.database import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DATABASES = ("jobs", "objects", "logs", "metrics", "queues")
"""The databases in the engine's folder, each `<name>.sqlite3`."""


def problems(home: Path) -> list[str]:
    """Return the reasons why an existing engine's folder cannot be used, with their remedies."""
    found = []
    for check in _checks(home):
        try:
            check()
        except ProcessingError as error:  # noqa: PERF203 - a few checks
            found.append(str(error))
    return found


def _checks(home: Path) -> Iterator[Callable[[], object]]:
    with contextlib.suppress(OSError):
        if home.is_dir() and not any(home.iterdir()):  # its mode will be set when it is first used
            return
    yield lambda: prepare_home(home)
    if not home.is_dir():
        return
    yield lambda: check_folders(home)
    if (home / FILE).exists():
        yield lambda: install_credentials(home)
    for name in DATABASES:
        path = home / f"{name}.sqlite3"
        if path.exists() or path.is_symlink():
            yield lambda path=path: verify(path)  # type: ignore[misc]

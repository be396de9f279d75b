"""The collection of garbage, paused while objects are made that stay until the process ends.

Python looks through young objects for garbage again and again, and through those of a service model in vain. With the
pauses, a cold process that creates a job (`benchmarks/cold_start.py`) spends 7 ms of CPU on that instead of 17 to 50.
The environment variable PROCESSING_FAST_START=off switches it off.
"""

from __future__ import annotations

import contextlib
import gc
import os
from typing import TYPE_CHECKING, Final

from processing._utils.forks import reset_after_fork

if TYPE_CHECKING:
    from collections.abc import Iterator


def fast_start() -> bool:
    """Return whether the environment leaves the means for a fast start switched on."""
    return os.environ.get("PROCESSING_FAST_START") != "off"


_MOST_PAUSES: Final = 8
"""The pauses of one process: a cold one needs five, for the loader, the model, the session and two clients.

Further pauses would keep the garbage of a process that makes sessions again and again, which old objects hide.
"""


class _Pauses:
    """The pauses of this process.

    Attributes:
        left: the number of pauses that may follow.
        active: True during a pause.
    """

    def __init__(self) -> None:
        self.left = _MOST_PAUSES
        self.active = False
        reset_after_fork(self)

    def _after_fork(self) -> None:
        if self.active:  # the thread that would end the pause is not in the child
            self.active = False
            gc.enable()


_PAUSES: Final = _Pauses()


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Let the collection of garbage wait until the end of the block. Objects that exist then count as old ones.

    After the first pauses of the process, this has no effect.
    """
    if not _PAUSES.left or not fast_start() or not gc.isenabled():
        yield
        return
    _PAUSES.left -= 1
    _PAUSES.active = True
    gc.disable()
    try:
        yield
    finally:
        _make_old()
        gc.enable()
        _PAUSES.active = False


def _make_old() -> None:
    """Move all objects to the oldest generation, which Python looks through seldom."""
    # Objects that the user has frozen, as before a fork, have to stay so.
    if hasattr(gc, "freeze") and not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()  # moves what was frozen to the oldest generation

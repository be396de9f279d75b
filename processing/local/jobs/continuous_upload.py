"""Continuous uploads of outputs, in a thread of their own: neither logs nor a stop wait for a large file."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE_SECONDS = 1.0
"""The pause between two passes. A file settles within two passes, so it is in S3 about two seconds after its last
change."""
_PAUSE_FACTOR = 20
"""A pause lasts at least so many times the pass before it: passes take 5 % of the time at most, with any number of
files. It is also the pause in ticks if the tick is short."""


class ContinuousUploads(threading.Thread):
    """A thread that uploads settled files again and again within a `with` block.

    The end of the block waits for the current file: the final upload relies on it being whole in S3. An exception of an
    upload ends the uploads, and the end of the block raises it.

    Args:
        upload: uploads the files that did not change since its last call.
        tick: the engine's tick in seconds; a short tick shortens the pauses between passes, too.
    """

    def __init__(self, upload: Callable[[], None], tick: float) -> None:
        super().__init__(daemon=True)
        self._upload = upload
        self._pause = min(_PAUSE_SECONDS, _PAUSE_FACTOR * tick)
        self._over = threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        """Upload until the block ends."""
        pause = 0.0
        while not self._over.wait(pause):
            began = time.monotonic()
            try:
                self._upload()
            except Exception as error:  # noqa: BLE001 - `__exit__` raises it in the supervisor's main thread
                self._error = error
                return
            pause = max(self._pause, _PAUSE_FACTOR * (time.monotonic() - began))

    def __enter__(self) -> ContinuousUploads:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._over.set()
        self.join()
        if self._error is not None and kind is None:
            raise self._error

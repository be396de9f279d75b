"""Continuous uploads of outputs, beside the program: neither its log nor its stop waits for a large file."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 1.0
_COST = 20
"""A look is followed by a pause of so many times the time that it took: with many files it is taken less often."""


class ContinuousUploads(threading.Thread):
    """Uploads what has settled, again and again, within a `with` block.

    Its end waits for the file that is just being uploaded: that it is in S3 whole, the last upload relies on. What an
    upload raises ends the uploads, and is raised at the end of the block.

    Args:
        upload: uploads the files that did not change since its last call.
        tick: the engine's tick in seconds; with a short one, looks are more frequent, too.
    """

    def __init__(self, upload: Callable[[], None], tick: float) -> None:
        super().__init__(daemon=True)
        self._upload = upload
        self._pause = min(_SECONDS, _COST * tick)
        self._over = threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        """Upload until the end."""
        pause = 0.0
        while not self._over.wait(pause):
            began = time.monotonic()
            try:
                self._upload()
            except Exception as error:  # noqa: BLE001 -- raised by `__exit__`, in the thread that notes the job's end
                self._error = error
                return
            pause = max(self._pause, _COST * (time.monotonic() - began))

    def __enter__(self) -> ContinuousUploads:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._over.set()
        self.join()
        if self._error is not None and kind is None:
            raise self._error

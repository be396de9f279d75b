"""Job names: `<base>-YYYY-MM-DD-HH-MM-SS-mmm` in UTC, at most 63 characters, never the same twice in a process.

The form is that of `sagemaker` 2.x. Characters and length are those of the service's `ProcessingJobName`:
`[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`.
"""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processing.clock import Clock

LONGEST_NAME = 63
"""The characters that a job name may have."""

_FALLBACK = "processing-job"
_TIMESTAMP_LENGTH = len("-YYYY-MM-DD-HH-MM-SS-mmm")


def sanitize(name: str) -> str:
    """Return the name with everything but letters, digits and hyphens made hyphens, none at either end.

    A name of which nothing is left becomes `processing-job`.
    """
    return re.sub(r"[^a-zA-Z0-9-]+", "-", name).strip("-") or _FALLBACK


def base_name_from_image(image_uri: str) -> str:
    """Return an image's own name: `1234.dkr.ecr.eu-west-1.amazonaws.com/team/etl:1.2@sha256:...` is `etl`."""
    last = image_uri.partition("@")[0].rpartition("/")[2]
    return sanitize(last.partition(":")[0])


class JobNames:
    """Makes job names that differ from each other, whichever thread asks and whatever its clock says."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # For each millisecond that is taken, one to try next: following these ends at the first free one.
        self._next_free: dict[int, int] = {}

    def new(self, base: str, clock: Clock) -> str:
        """Return `<base>-<UTC to the millisecond>`; where that moment is taken, a later one is named.

        Args:
            base: the beginning; what a name may not hold is replaced, and it is cut to fit.
            clock: what tells the time.
        """
        milliseconds = self._reserve(int(clock.time() * 1000))
        seconds, rest = divmod(milliseconds, 1000)
        stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime(seconds)) + f"-{rest:03d}"
        return f"{sanitize(sanitize(base)[: LONGEST_NAME - _TIMESTAMP_LENGTH])}-{stamp}"

    def _reserve(self, milliseconds: int) -> int:
        with self._lock:
            passed = []
            free = milliseconds
            while (following := self._next_free.get(free)) is not None:
                passed.append(free)
                free = following
            for taken in (*passed, free):
                self._next_free[taken] = free + 1
            return free


_NAMES = JobNames()


def unique_job_name(base: str, clock: Clock) -> str:
    """Return a job name that this process has not used before; see `JobNames.new`."""
    return _NAMES.new(base, clock)

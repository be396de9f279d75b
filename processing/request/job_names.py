"""Unique job names: `<base>-YYYY-MM-DD-HH-MM-SS-mmm` in UTC, at most 63 characters, never twice in a process.

The form is that of `sagemaker` 2.x. In a forked process the process id follows, in base 36: siblings that start
together would make equal names. Characters and length are those of the service's `ProcessingJobName`:
`[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from processing._utils.forks import ForkSafeLock, reset_after_fork
from processing._utils.validation import Kind

if TYPE_CHECKING:
    from processing.clock import Clock

LONGEST_NAME = 63
"""The most characters of a job name."""

JOB_NAME = Kind(
    "a job's name",
    lambda value: isinstance(value, str) and re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", value) is not None,
)
"""The names that the service accepts."""

_FALLBACK = "processing-job"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def sanitize(name: str) -> str:
    """Replace all characters but letters, digits and hyphens by hyphens, and strip hyphens from both ends.

    If nothing is left of the name, return `processing-job`.
    """
    return re.sub(r"[^a-zA-Z0-9-]+", "-", name).strip("-") or _FALLBACK


def base_name_from_image(image_uri: str) -> str:
    """Return the name part of an image URI: `1234.dkr.ecr.eu-west-1.amazonaws.com/team/etl:1.2@sha256:...` is `etl`."""
    last = image_uri.partition("@")[0].rpartition("/")[2]
    return sanitize(last.partition(":")[0])


class JobNames:
    """Generator of job names that are distinct across threads, even if the clock goes back."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._suffix = ""
        # A union-find structure: each reserved millisecond points to a later one. The chain ends at the first free one.
        self._next_free: dict[int, int] = {}
        reset_after_fork(self)

    def _after_fork(self) -> None:
        self._suffix = f"-{_base36(os.getpid())}"

    def new(self, base: str, clock: Clock) -> str:
        """Return `<base>-<UTC to the millisecond>`. If that millisecond is in use, return a later one.

        Args:
            base: the beginning of the name; invalid characters are replaced, and it is cut to fit.
            clock: the source of the time.
        """
        milliseconds = self._reserve(int(clock.time() * 1000))
        seconds, rest = divmod(milliseconds, 1000)
        stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime(seconds)) + f"-{rest:03d}{self._suffix}"
        return f"{sanitize(sanitize(base)[: LONGEST_NAME - len(stamp) - 1])}-{stamp}"

    def _reserve(self, milliseconds: int) -> int:
        with self._lock:
            passed = []
            free = milliseconds
            while (following := self._next_free.get(free)) is not None:
                passed.append(free)
                free = following
            # Path compression: every millisecond passed points behind the one that is reserved now.
            for taken in (*passed, free):
                self._next_free[taken] = free + 1
            return free


def _base36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text


_NAMES = JobNames()


def unique_job_name(base: str, clock: Clock) -> str:
    """Return a job name that this process has not used before; see `JobNames.new`."""
    return _NAMES.new(base, clock)

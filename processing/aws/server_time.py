"""What time it is at AWS, told by its answers: this machine's own clock may be wrong, and may have been asleep."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from processing.aws.retry import server_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.clock import Clock

_UNTOLD = 300.0  # seconds by which a clock may be off whose signatures AWS still takes


class ServerTime:
    """The difference between AWS's time and a monotonic clock.

    An answer's `Date` header is cut to whole seconds and some time old when it is read; so each answer bounds the
    difference from both sides, and many of them closely. Bounds that contradict each other mean that the machine slept.

    Args:
        clock: the clock that calls are measured on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._least = -math.inf
        self._most = math.inf

    def update(self, answer: Mapping[str, Any], sent: float) -> None:
        """Take the time from an answer.

        Args:
            answer: as botocore gives it.
            sent: the monotonic clock's reading before the call.
        """
        date = server_time(answer.get("ResponseMetadata") or {})
        if date is None:
            return
        least, most = date - self._clock.monotonic(), date + 1.0 - sent
        if least > self._most or most < self._least:
            self._least, self._most = least, most
        else:
            self._least, self._most = max(self._least, least), min(self._most, most)

    @property
    def is_known(self) -> bool:
        """Whether an answer has told the time."""
        return self._least > -math.inf

    def now(self) -> float:
        """Return AWS's time, in seconds since the epoch: never later than it is."""
        if not self.is_known:
            return self._clock.time() - _UNTOLD
        return self._clock.monotonic() + self._least

    def monotonic_at(self, moment: float) -> float:
        """Return what the monotonic clock read at a moment of AWS's (seconds since the epoch), or a little less.

        A moment that has not come yet is taken for now.
        """
        now = self._clock.monotonic()
        if self._most == math.inf:
            return min(now, now + moment - self._clock.time())
        return min(now, moment - self._most)

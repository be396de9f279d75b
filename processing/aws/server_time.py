"""Time by AWS's clock, learned from responses: this machine's clock may be wrong, or the machine may have slept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from processing.aws.retry import server_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.clock import Clock

# Seconds by which this machine's clock may be ahead as long as no response is known: AWS refuses the signatures of a
# clock that is further off.
_MAX_SKEW = 300.0

# A response's time is cut to whole seconds, and the response took a moment. A larger difference is a wrong clock.
_TRUSTED_DIFFERENCE = 5.0


class ServerTime:
    """The difference between AWS's time and a monotonic clock.

    A response's `Date` header is cut to whole seconds, and some time has passed when it is read. So each response
    bounds the difference from both sides, and several of them bound it closely. Bounds that contradict each other mean
    that the machine slept; then the newest ones count.

    Args:
        clock: the clock that calls are measured on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # The bounds of AWS's time minus the monotonic clock's reading, in seconds.
        self._least = -math.inf
        self._most = math.inf

    def update(self, response: Mapping[str, Any], sent: float) -> None:
        """Learn the time from a response.

        Args:
            response: the response as botocore returns it; ignored if it has no `Date` header.
            sent: the monotonic clock's reading before the call.
        """
        date = server_time(response.get("ResponseMetadata") or {})
        if date is None:
            return
        least, most = date - self._clock.monotonic(), date + 1.0 - sent
        if least > self._most or most < self._least:
            self._least, self._most = least, most
        else:
            self._least, self._most = max(self._least, least), min(self._most, most)

    @property
    def is_known(self) -> bool:
        """True if a response contained the time."""
        return self._least > -math.inf

    def now(self) -> float:
        """Return the time by AWS's clock in seconds since the epoch, or a slightly earlier one."""
        if not self.is_known:
            return self._clock.time() - _MAX_SKEW
        return self._clock.monotonic() + self._least

    def monotonic_at(self, moment: float) -> float:
        """Return the reading of the monotonic clock at a moment by AWS's clock, or a slightly smaller one.

        Args:
            moment: the moment in seconds since the epoch; a future one counts as now.
        """
        now = self._clock.monotonic()
        if self._most == math.inf:
            return min(now, now + moment - self._clock.time())
        return min(now, moment - self._most)


def trusted_time(clock: Clock, response: Mapping[str, Any]) -> float:
    """Return the time in seconds since the epoch: by this machine's clock, or by AWS's if they differ.

    Args:
        clock: this machine's clock.
        response: a response that has just arrived.
    """
    ours, theirs = clock.time(), server_time(response.get("ResponseMetadata") or {})
    return ours if theirs is None or abs(ours - theirs) <= _TRUSTED_DIFFERENCE else theirs

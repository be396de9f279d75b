"""How fast an operation may be called: token buckets that learn the rate from the server's refusals.

Retrying what was throttled is no way to submit many jobs: against a quota of one call a second most tries of most jobs
are refused. Holding calls back before they are sent costs nothing and loses nothing.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.clock import Clock


class FairLock:
    """Threads that stand in line, one of which is let in at a time; unlike at a lock, they wait by the clock."""

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._taken = False

    @contextlib.contextmanager
    def hold(self, clock: Clock) -> Iterator[None]:
        """Wait for one's turn, which ends with the block."""
        mine = False
        try:
            with self._moved:
                while self._taken:
                    clock.wait(self._moved, math.inf)
                mine = self._taken = True
            yield
        finally:
            with self._moved:
                if mine:
                    self._taken = False
                self._moved.notify()  # in any case: an interrupt may have come after another's notification


class AdaptiveRateLimiter:
    """An adaptive token bucket: it lets a burst through, then finds the rate that the server accepts.

    A throttled call cuts the rate, and remembers it as a ceiling that is approached again but not passed for a while;
    successes raise it. One rate limiter serves one operation of one account and region, and may be shared by threads.

    Args:
        rate: calls per second to begin with.
        burst: calls that may go at once after a pause.
        slowest: the rate is never cut below this, in calls per second.
        fastest: nor is it raised above this.
    """

    _STEADY = 100  # successes in a row after which the server may have changed its mind about the ceiling

    def __init__(
        self, rate: float = 1.0, burst: float = 5.0, *, slowest: float = 0.05, fastest: float = math.inf
    ) -> None:
        self.rate = rate
        self.burst = burst
        self.slowest = slowest
        self.fastest = fastest
        self._tokens = burst
        self._refilled: float | None = None
        self._ceiling = math.inf
        self._successes = 0
        self._bursting = False
        self._first_burst = True
        self._recent: deque[float] = deque(maxlen=10)  # when the last tokens were given
        self._state = threading.Lock()
        self._line = FairLock()
        self._pause = threading.Condition()  # nobody notifies it

    def acquire(self, clock: Clock) -> float:
        """Wait for a token, and return the seconds that the wait took."""
        started = clock.monotonic()
        with self._line.hold(clock):  # one caller sleeps for the next token, the others stand in line behind it
            while wait := self._take(clock.monotonic()):
                with self._pause:  # a wait, since on a virtual clock a sleep would take other threads' time as well
                    clock.wait(self._pause, wait)
        waited = clock.monotonic() - started
        with self._state:
            self._bursting = not waited
            self._recent.append(started + waited)
        return waited

    def delay(self, clock: Clock) -> float:
        """Return in how many seconds a token will be there, without taking it: 0 where `acquire` would not wait."""
        with self._state:
            return self._missing(clock.monotonic())

    def throttled(self) -> None:
        """Slow down: a call was refused."""
        with self._state:
            self._tokens = 0.0
            if self._bursting and self._first_burst:  # it was too long for the server, which says nothing of the rate
                self._first_burst = False
                return
            if self._successes or self._ceiling == math.inf:
                self._ceiling = min(self.rate, self._measured())
                self.rate = 0.8 * self._ceiling
            else:  # not one success since the last cut: far too fast still
                self.rate *= 0.5
            self.rate = max(self.slowest, self.rate)
            self._successes = 0

    def succeeded(self) -> None:
        """Speed up a little: a call went through."""
        with self._state:
            self._successes += 1
            if self._successes >= self._STEADY:
                self._ceiling = math.inf
            if not self._bursting:  # a rate that holds nobody back has not been tried
                self.rate = max(self.rate, min(self.rate * 1.05, self._ceiling * 0.95, self.fastest))

    def _measured(self) -> float:
        """Return the calls per second that were made of late: callers may be slower than the rate allows."""
        if len(self._recent) < 2 or self._recent[-1] <= self._recent[0]:
            return math.inf
        return (len(self._recent) - 1) / (self._recent[-1] - self._recent[0])

    def _take(self, now: float) -> float:
        with self._state:
            missing = self._missing(now)
            if not missing:
                self._tokens -= 1.0
            return missing

    def _missing(self, now: float) -> float:
        """Fill the bucket up, and return the seconds until a token is in it."""
        if self._refilled is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._refilled) * self.rate)
        self._refilled = now
        # A wait too short for the clock to show would never end: a missing billionth of a token is none.
        return 0.0 if self._tokens >= 1.0 - 1e-9 else (1.0 - self._tokens) / self.rate


# However long AWS refuses everything: what watches makes few calls, and is not to see ends minutes late afterwards.
_WATCHING = 0.5  # calls per second

_shared: dict[tuple[str, ...], dict[str, AdaptiveRateLimiter]] = {}
_shared_lock = threading.Lock()


def new_rate_limiters() -> dict[str, AdaptiveRateLimiter]:
    """Return a rate limiter for each operation of the package that AWS limits, by operation.

    CreateProcessingJob's published quota is one call a second, which says nothing of more at once. That of
    ListProcessingJobs is assumed to be two, as ListTrainingJobs' is. Those of Describe and Stop are not published.
    Those of CloudWatch Logs are between 5 and 25 a second, by region: all of them begin at the lowest, and learn.
    """
    return {
        "CreateProcessingJob": AdaptiveRateLimiter(1.0, 1.0),
        "DescribeLogStreams": AdaptiveRateLimiter(5.0, 5.0, fastest=25.0, slowest=_WATCHING),
        "DescribeProcessingJob": AdaptiveRateLimiter(5.0, 10.0, fastest=20.0, slowest=_WATCHING),
        "FilterLogEvents": AdaptiveRateLimiter(5.0, 5.0, fastest=25.0, slowest=_WATCHING),
        "GetLogEvents": AdaptiveRateLimiter(5.0, 5.0, fastest=25.0, slowest=_WATCHING),
        "ListProcessingJobs": AdaptiveRateLimiter(1.8, 2.0, fastest=1.8, slowest=_WATCHING),
        "StopProcessingJob": AdaptiveRateLimiter(5.0, 10.0, fastest=20.0, slowest=_WATCHING),
    }


def shared_rate_limiters(*key: str) -> Mapping[str, AdaptiveRateLimiter]:
    """Return the process's rate limiters for an account and region (any texts that tell them apart), by operation."""
    with _shared_lock:
        return _shared.setdefault(key, new_rate_limiters())

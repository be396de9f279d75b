"""Client-side rate limits per operation: token buckets that learn the rate from AWS's throttling errors.

Retrying throttled calls is a poor way to submit many jobs. Against a quota of one call a second, AWS would refuse most
tries. Holding calls back before they are sent costs nothing and loses nothing.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

from processing._utils.forks import ForkSafeLock, reset_after_fork

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.clock import Clock


class RateLimiter(Protocol):
    """A limit on the rate of calls, which learns from their results."""

    def acquire(self, clock: Clock) -> float:
        """Wait until a call may be sent, and return the seconds that this took."""

    def succeeded(self) -> None:
        """Record a call that was not throttled."""

    def throttled(self) -> None:
        """Record a call that was throttled."""


class FairLock:
    """A lock whose waiting threads wait by the package's clock, so that tests can use a virtual one."""

    def __init__(self) -> None:
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        self._released = threading.Condition()
        self._is_held = False

    @contextlib.contextmanager
    def hold(self, clock: Clock) -> Iterator[None]:
        """Wait for the lock, and hold it until the block ends."""
        is_mine = False
        try:
            with self._released:
                while self._is_held:
                    clock.wait(self._released, math.inf)
                is_mine = self._is_held = True
            yield
        finally:
            with self._released:
                if is_mine:
                    self._is_held = False
                # Also without the lock: an interrupt may arrive just after this thread was notified of a release, and
                # then another thread has to be notified instead.
                self._released.notify()


class AdaptiveRateLimiter:
    """An adaptive token bucket: it allows a burst, then finds the rate that the server accepts.

    The policy is multiplicative decrease and slow increase, with a ceiling:

    - A throttled call sets the ceiling to the present rate, or to the measured rate of the last ten calls if that is
      lower. The new rate is 0.8 of the ceiling. If there was no success since the last cut, the rate is halved instead.
    - A success after a wait raises the rate by 5 %, up to 0.95 of the ceiling. The ceiling falls away after 100
      successes in a row.
    - The first burst that is throttled changes nothing: it was too long, which proves nothing about the rate.

    A limiter serves one operation of one account and region, and may be shared by threads.

    Args:
        rate: calls per second at the beginning.
        burst: calls that may be sent at once after a pause.
        slowest: the lower bound of the rate, in calls per second.
        fastest: the upper bound of the rate, in calls per second.
    """

    # Successes in a row after which the ceiling falls away: the server may allow more by then.
    _SUCCESSES_TO_DROP_CEILING = 100

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
        self._recent: deque[float] = deque(maxlen=10)  # when the last calls were let through (monotonic)
        self._state = ForkSafeLock()
        self._queue = FairLock()

    def acquire(self, clock: Clock) -> float:
        """Wait for a token, and return the seconds that the wait took."""
        started = clock.monotonic()
        held_back = False
        # One thread waits for the next token, the others queue behind it.
        with self._queue.hold(clock):
            while wait := self._try_acquire(clock.monotonic()):
                held_back = True
                # A wait rather than a sleep, which would move a virtual clock on for other threads too.
                pause = threading.Condition()  # never notified
                with pause:
                    clock.wait(pause, wait)
        waited = clock.monotonic() - started
        with self._state:
            self._bursting = not held_back  # not by the clock, on which every call takes some time
            self._recent.append(started + waited)
        return waited

    def delay(self, clock: Clock) -> float:
        """Return the seconds that `acquire` would wait, without acquiring a token."""
        with self._state:
            return self._refill(clock.monotonic())

    def throttled(self) -> None:
        """Slow down after a throttled call."""
        with self._state:
            self._tokens = 0.0
            if self._bursting and self._first_burst:  # see the policy above
                self._first_burst = False
                return
            if self._successes or self._ceiling == math.inf:
                self._ceiling = min(self.rate, self._measured())
                self.rate = 0.8 * self._ceiling
            else:  # no success since the last cut: still far too fast
                self.rate *= 0.5
            self.rate = max(self.slowest, self.rate)
            self._successes = 0

    def succeeded(self) -> None:
        """Speed up a little after a call that was not throttled."""
        with self._state:
            self._successes += 1
            if self._successes >= self._SUCCESSES_TO_DROP_CEILING:
                self._ceiling = math.inf
            if not self._bursting:  # a call that did not wait proves nothing about the rate
                self.rate = max(self.rate, min(self.rate * 1.05, self._ceiling * 0.95, self.fastest))

    def _measured(self) -> float:
        """Return the calls per second of the last ten calls, since callers may be slower than the rate allows."""
        if len(self._recent) < 2 or self._recent[-1] <= self._recent[0]:
            return math.inf
        return (len(self._recent) - 1) / (self._recent[-1] - self._recent[0])

    def _try_acquire(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        with self._state:
            wait = self._refill(now)
            if not wait:
                self._tokens -= 1.0
            return wait

    def _refill(self, now: float) -> float:
        """Fill the bucket up, and return the seconds until it contains a token."""
        if self._refilled is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._refilled) * self.rate)
        self._refilled = now
        # A billionth of a token is not missed: a wait that is too short for the clock to measure would never end.
        return 0.0 if self._tokens >= 1.0 - 1e-9 else (1.0 - self._tokens) / self.rate


# The lower bound for calls that watch jobs, in calls per second. Even if AWS throttles everything for a long time, the
# end of a job is not seen minutes late afterwards; watching makes few calls.
_MIN_WATCHING_RATE = 0.5

_shared: dict[tuple[str, ...], dict[str, AdaptiveRateLimiter]] = {}
_shared_lock = ForkSafeLock()


def new_rate_limiters() -> dict[str, AdaptiveRateLimiter]:
    """Return a rate limiter for each operation of the package that AWS limits, by operation.

    The published quota of CreateProcessingJob is one call a second, and no burst is mentioned. The quota of
    ListProcessingJobs is assumed to be two a second, as that of ListTrainingJobs. The quotas of Describe and Stop are
    not published. The quotas of CloudWatch Logs are between 5 and 25 a second, depending on the region: the limiters
    begin at 5, and learn.
    """
    return {
        "CreateProcessingJob": AdaptiveRateLimiter(1.0, 1.0),
        "DescribeLogStreams": AdaptiveRateLimiter(5.0, 5.0, fastest=25.0, slowest=_MIN_WATCHING_RATE),
        "DescribeProcessingJob": AdaptiveRateLimiter(5.0, 10.0, fastest=20.0, slowest=_MIN_WATCHING_RATE),
        "FilterLogEvents": AdaptiveRateLimiter(5.0, 5.0, fastest=25.0, slowest=_MIN_WATCHING_RATE),
        "GetLogEvents": AdaptiveRateLimiter(5.0, 5.0, fastest=25.0, slowest=_MIN_WATCHING_RATE),
        "ListProcessingJobs": AdaptiveRateLimiter(1.8, 2.0, fastest=1.8, slowest=_MIN_WATCHING_RATE),
        "StopProcessingJob": AdaptiveRateLimiter(5.0, 10.0, fastest=20.0, slowest=_MIN_WATCHING_RATE),
    }


def shared_rate_limiters(*key: str) -> Mapping[str, AdaptiveRateLimiter]:
    """Return the process's rate limiters for an account and region, by operation.

    Args:
        key: texts that identify the account and the region.
    """
    with _shared_lock:
        return _shared.setdefault(key, new_rate_limiters())

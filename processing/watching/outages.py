"""Backoff per operation after transient failures, with one warning at the start and one message at recovery.

The retry layer (`processing.aws.retry`) repeats one call for seconds. An outage lasts as long as it lasts: hours of it
do not end a wait, cost few calls, and leave two lines in the log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import attrs

from processing.aws.retry import ClockSkewError, FailureKind, classify

if TYPE_CHECKING:
    import random as random_module

    from processing.watching.polling import Polling

logger = logging.getLogger(__name__)

_TRANSIENT: Final = frozenset({FailureKind.THROTTLED, FailureKind.TRANSIENT, FailureKind.AMBIGUOUS})


def is_transient(error: BaseException) -> bool:
    """Return whether a failure may end by itself."""
    return classify(error) in _TRANSIENT


def affects_all_calls(error: BaseException) -> bool:
    """Return whether a lasting failure affects every call: expired credentials, or a wrong clock of this machine."""
    return isinstance(error, ClockSkewError) or classify(error) is FailureKind.EXPIRED


@attrs.define
class _Outage:
    """One operation's present outage.

    Attributes:
        began: the moment of its first failure.
        wait: the seconds of the present pause, without jitter; None before the first.
        until: the moment at which the pause ends.
        expired_since: the moment of the first failure with expired credentials; None without one.
    """

    began: float
    wait: float | None = None
    until: float = 0.0
    expired_since: float | None = None


class Outages:
    """The present outages, by operation. A success of an operation ends its outage.

    Args:
        polling: the pauses between tries, which grow like the intervals of polling.
        random: the source of jitter.
        subject: the data that the operations read, as the log names it.
    """

    def __init__(self, polling: Polling, random: random_module.Random, subject: str = "the status of jobs") -> None:
        self._polling = polling
        self._random = random
        self._subject = subject
        self._outages: dict[str, _Outage] = {}

    def retry_at(self, operation: str) -> float:
        """Return the moment before which an operation is not worth a try; 0 without an outage."""
        outage = self._outages.get(operation)
        return outage.until if outage else 0.0

    def is_failing(self, operation: str) -> bool:
        """Return whether an operation failed the last time."""
        return operation in self._outages

    def record_failure(self, operation: str, error: Exception, now: float, *, transient: bool = False) -> bool:
        """Record a failure, and return whether the operation is worth another try. Log the first failure.

        Expired credentials may be renewed, so such failures count as transient for `Polling.renewal` seconds.

        Args:
            operation: the operation.
            error: its error.
            now: the moment.
            transient: True for a failure that is known to be transient, although its error is not.
        """
        outage = self._outages.get(operation) or _Outage(now)
        if classify(error) is FailureKind.EXPIRED:
            outage.expired_since = now if outage.expired_since is None else outage.expired_since
            if now - outage.expired_since >= self._polling.renewal:
                return False
        elif not (transient or is_transient(error)):
            return False
        if operation not in self._outages:
            self._outages[operation] = outage
            logger.warning("%s cannot be read at the moment, still trying: %s", self._subject, error)
        outage.wait = self._polling.next_interval(outage.wait)
        outage.until = now + outage.wait * self._random.uniform(1.0 - self._polling.jitter, 1.0)
        return True

    def record_success(self, operation: str, now: float) -> None:
        """Record that an operation succeeded. Log the end of an outage."""
        outage = self._outages.pop(operation, None)
        if outage:
            logger.info("%s can be read again, after %.0f seconds", self._subject, now - outage.began)

"""Backoff per operation after failures that may end, with one warning at the start and one message at recovery.

The retry layer (`processing.aws.retry`) repeats one call for seconds. An outage lasts as long as it lasts: hours of it
do not end a wait, cost few calls, and leave two lines in the log. Expired credentials and a wrong clock are an outage
too, since the user can renew the ones and set the other while a wait goes on.
"""

from __future__ import annotations

import enum
import logging
import math
import re
from typing import TYPE_CHECKING, Final

import attrs

from processing.aws.clock_skew import ClockSkewError
from processing.aws.retry import FailureKind, classify, error_code
from processing.exceptions import CredentialsError

if TYPE_CHECKING:
    import random as random_module

    from processing.watching.polling import Polling

logger = logging.getLogger(__name__)

_TRANSIENT: Final = frozenset({FailureKind.THROTTLED, FailureKind.TRANSIENT, FailureKind.AMBIGUOUS})
_SKEW_CODES: Final = frozenset({"RequestInTheFuture", "RequestTimeTooSkewed"})
# The message of an InvalidSignatureException about the time of a request.
_SKEW_MESSAGE: Final = re.compile("signature expired|signature not yet current", re.IGNORECASE)
# A wait that begins with expired credentials or a wrong clock ends after this many seconds, so that the user sees it.
_FIRST_RENEWAL: Final = 60.0


class Cause(enum.Enum):
    """The cause of an outage. The value is the advice in the warning."""

    TRANSIENT = ""
    """It may end by itself."""
    CREDENTIALS = "The wait then continues."
    """The credentials have expired or cannot be loaded. The error has the remedy."""
    REFUSED_CREDENTIALS = "With other credentials the wait continues."
    """AWS does not know the credentials (any more). The error has the remedy."""
    CLOCK = "The wait continues when this machine's clock is right."
    """AWS refuses signatures because this machine's clock is wrong."""


def cause_of(error: BaseException) -> Cause | None:
    """Return the cause of an outage that a failure is part of; None if the failure is permanent."""
    code, kind = error_code(error), classify(error)
    if isinstance(error, ClockSkewError) or code in _SKEW_CODES or (code and _SKEW_MESSAGE.search(str(error))):
        return Cause.CLOCK
    if kind is FailureKind.EXPIRED:
        return Cause.CREDENTIALS
    if isinstance(error, CredentialsError) and error.reason == "refused":
        return Cause.REFUSED_CREDENTIALS
    return Cause.TRANSIENT if kind in _TRANSIENT else None


def affects_all_calls(error: BaseException) -> bool:
    """Return whether a failure affects every call: bad credentials, or a wrong clock of this machine."""
    return cause_of(error) not in {Cause.TRANSIENT, None}


@attrs.define
class _Outage:
    """One operation's present outage.

    Attributes:
        began: the moment of its first failure.
        wait: the seconds of the present pause, without jitter; None before the first.
        until: the moment at which the pause ends.
        expired_since: the moment of the first failure for the credentials or the clock; None without one.
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
        reports_all: False if another `Outages` reports the causes that affect all calls.
    """

    def __init__(
        self,
        polling: Polling,
        random: random_module.Random,
        subject: str = "the status of jobs",
        *,
        reports_all: bool = True,
    ) -> None:
        self._polling = polling
        self._random = random
        self._subject = subject
        self._reports_all = reports_all
        self._outages: dict[str, _Outage] = {}
        self._reported: set[Cause] = set()  # by the warnings since there is an outage
        self._began = math.inf  # the moment of the first warning
        self._has_succeeded = not reports_all  # log lines are read after the first status

    def retry_at(self, operation: str) -> float:
        """Return the moment before which an operation is not worth a try; 0 without an outage."""
        outage = self._outages.get(operation)
        return outage.until if outage else 0.0

    def is_failing(self, operation: str) -> bool:
        """Return whether an operation failed the last time."""
        return operation in self._outages

    def record_failure(self, operation: str, error: Exception, now: float) -> bool:
        """Record a failure, and return whether the operation is worth another try. Log the first failure of a cause.

        Credentials may be renewed, and a clock may be set, within `Polling.renewal` seconds if they were good before,
        else within a minute. Credentials that AWS does not know are worth no try if they never were good.

        Args:
            operation: the operation.
            error: its error.
            now: the moment.
        """
        cause = cause_of(error)
        if cause is None or (cause is Cause.REFUSED_CREDENTIALS and not self._has_succeeded):
            return False
        outage = self._outages.get(operation) or _Outage(now)
        if cause is not Cause.TRANSIENT:
            outage.expired_since = now if outage.expired_since is None else outage.expired_since
            limit = self._polling.renewal if self._has_succeeded else min(self._polling.renewal, _FIRST_RENEWAL)
            if now - outage.expired_since >= limit:
                return False
        self.pause(operation, now)
        self._outages[operation].expired_since = outage.expired_since
        self._report(cause, error, now)
        return True

    def pause(self, operation: str, now: float) -> None:
        """Pause an operation after a failure, longer each time, without a warning."""
        outage = self._outages.setdefault(operation, _Outage(now))
        outage.wait = self._polling.next_interval(outage.wait)
        outage.until = now + outage.wait * self._random.uniform(1.0 - self._polling.jitter, 1.0)

    def forget(self, operation: str) -> None:
        """End an operation's outage without a message, as it is not called any more."""
        self._outages.pop(operation, None)

    def record_success(self, operation: str, now: float) -> None:
        """Record that an operation succeeded. Log the end of the last outage."""
        self._has_succeeded = True
        self.forget(operation)
        if self._reported and not self._outages:
            logger.info("%s can be read again, after %.0f seconds", self._subject, now - self._began)
            self._reported, self._began = set(), math.inf

    def _report(self, cause: Cause, error: Exception, now: float) -> None:
        self._began = min(self._began, now)
        if cause in self._reported:
            return
        self._reported.add(cause)
        level = logging.WARNING if self._reports_all or cause is Cause.TRANSIENT else logging.INFO
        reason = f"{str(error).rstrip('.')}. {cause.value}" if cause.value else str(error)
        logger.log(level, "%s cannot be read at the moment, still trying: %s", self._subject, reason)

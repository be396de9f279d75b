"""Failures that pass: which they are, how long an operation is left alone after them, and what is said of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import attrs

from processing.aws.retry import ClockSkewError, FailureKind, classify

if TYPE_CHECKING:
    import random as random_module

    from processing.watching.polling import Polling

logger = logging.getLogger(__name__)

_PASSING: Final = frozenset({FailureKind.THROTTLED, FailureKind.TRANSIENT, FailureKind.AMBIGUOUS})


def passes(error: BaseException) -> bool:
    """Return whether a failure may be over without anybody doing something about it."""
    return classify(error) in _PASSING


def concerns_all(error: BaseException) -> bool:
    """Return whether a lasting failure is one of every call: of the credentials, or of this machine's clock."""
    return isinstance(error, ClockSkewError) or classify(error) is FailureKind.EXPIRED


@attrs.define
class _Outage:
    """An operation's failures in a row: since when, how long it is left alone, since when the credentials are old."""

    began: float
    wait: float | None = None
    until: float = 0.0
    expired: float | None = None


class Outages:
    """Keeps account of the failures of operations; a success of an operation ends its bad outages.

    Args:
        polling: the waits between tries, which grow.
        random: where the jitter comes from.
        what: what is read, for the log.
    """

    def __init__(self, polling: Polling, random: random_module.Random, what: str = "the status of jobs") -> None:
        self._polling = polling
        self._random = random
        self._what = what
        self._spells: dict[str, _Outage] = {}

    def retry_at(self, operation: str) -> float:
        """Return the moment before which an operation is better left alone; 0 for none."""
        spell = self._spells.get(operation)
        return spell.until if spell else 0.0

    def is_bad(self, operation: str) -> bool:
        """Return whether an operation failed the last time."""
        return operation in self._spells

    def record_failure(self, operation: str, error: Exception, now: float, *, passing: bool = False) -> bool:
        """Note a failure, and return whether the operation is worth another try; where it begins, it is said.

        Credentials that have expired may be renewed, and are waited for as long as `Polling.renewal`.

        Args:
            operation: what was called.
            error: how it failed.
            now: the moment.
            passing: True for a failure that is known to pass, whatever it looks like.
        """
        spell = self._spells.get(operation) or _Outage(now)
        if classify(error) is FailureKind.EXPIRED:
            spell.expired = now if spell.expired is None else spell.expired
            if now - spell.expired >= self._polling.renewal:
                return False
        elif not (passing or passes(error)):
            return False
        if operation not in self._spells:
            self._spells[operation] = spell
            logger.warning("%s cannot be read at the moment, still trying: %s", self._what, error)
        spell.wait = self._polling.after(spell.wait)
        spell.until = now + spell.wait * self._random.uniform(1.0 - self._polling.jitter, 1.0)
        return True

    def record_success(self, operation: str, now: float) -> None:
        """Note that an operation was answered."""
        spell = self._spells.pop(operation, None)
        if spell:
            logger.info("%s can be read again, after %.0f seconds", self._what, now - spell.began)

"""Which of a job's lines somebody wants: from when on, how many of the last ones, of which host, with which text."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import attrs

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from processing.clock import Clock
    from processing.watching.events import LogEvent
    from processing.watching.logs.batch import LogBatch

Since: TypeAlias = datetime | timedelta
Host: TypeAlias = str | int
Pattern: TypeAlias = str | re.Pattern[str]


@attrs.frozen
class Selection:
    """The lines that are wanted; all of them where nothing is said.

    Args:
        since: no line that was written before this moment, in milliseconds since the epoch.
        tail: of the lines that there are at the first reading, the last so many.
        host: the lines of this host alone, such as `algo-1`.
        pattern: the lines in which this is found.
    """

    since: int | None = None
    tail: int | None = None
    host: str | None = None
    pattern: re.Pattern[str] | None = None

    @classmethod
    def of(
        cls,
        clock: Clock,
        *,
        since: Since | None = None,
        tail: int | None = None,
        host: Host | None = None,
        pattern: Pattern | None = None,
    ) -> Selection:
        """Read what a user gave.

        Args:
            clock: what a `since` that is a length of time is counted back from.
            since: a moment (without a time zone: of this machine's), or how long ago.
            tail: a number of lines.
            host: `algo-1`, or its number.
            pattern: a regular expression, searched for in each line.

        Raises:
            ConfigurationError: one of them is not what it has to be.
        """
        return cls(_since(since, clock), _tail(tail), _host(host), _pattern(pattern))

    def apply(self, lines: LogBatch) -> None:
        """Leave out the lines that do not have the text that is looked for."""
        if (pattern := self.pattern) is not None:
            lines.filter(lambda _, message: pattern.search(message))


class Tail:
    """The last of the lines that it was given, by time; holds little more than those.

    Args:
        number: how many.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._lines: list[LogEvent] = []

    def add(self, lines: Iterable[LogEvent]) -> None:
        """Take lines in."""
        self._lines += lines
        if len(self._lines) > 2 * self._number + 1000:
            self._lines = self.lines()

    def lines(self) -> list[LogEvent]:
        """Return the last lines, ordered by time."""
        return sorted(self._lines, key=in_time)[-self._number :]


def _since(given: object, clock: Clock) -> int | None:
    problem = f"since: must be a datetime, or a timedelta that is not negative, not {given!r}"
    if given is None:
        return None
    if isinstance(given, datetime):
        return int(given.timestamp() * 1000)
    if not isinstance(given, timedelta) or given < timedelta(0):
        raise ConfigurationError(problem)
    return int((clock.time() - given.total_seconds()) * 1000)


def _tail(given: object) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 1):
        return given
    raise ConfigurationError(f"tail: must be a positive number of lines, not {given!r}")


def _host(given: object) -> str | None:
    if given is None:
        return None
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return f"algo-{given}"
    if isinstance(given, str) and re.fullmatch(r"algo-[1-9][0-9]*", given):
        return given
    raise ConfigurationError(f"host: must be a host's name, such as 'algo-1', or its number from 1 on, not {given!r}")


def _pattern(given: Pattern | None) -> re.Pattern[str] | None:
    try:
        pattern = None if given is None else re.compile(given)
    except (TypeError, re.error) as error:
        raise ConfigurationError(f"pattern: {given!r} is not a regular expression: {error}") from error
    if pattern is not None and isinstance(pattern.pattern, bytes):
        raise ConfigurationError(f"pattern: must be a text, not {given!r}")
    return pattern


def in_time(line: LogEvent) -> tuple[int, int, str]:
    """Return what lines are sorted by: when they were written, when they came in, and their id."""
    return (line.timestamp, line.ingestion_time, line.event_id)

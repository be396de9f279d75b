"""Selection of log lines: by time, by host, by text, or the last ones."""

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
    """The lines that a user selects; all lines by default.

    Args:
        since: the earliest timestamp, in milliseconds since the epoch.
        tail: the number of lines to keep, from the end, of those that exist when reading begins.
        host: the only host, such as `algo-1`.
        pattern: a pattern that each line has to contain.
        may_be_silent: True if no warning is wanted about a job without lines.
    """

    since: int | None = None
    tail: int | None = None
    host: str | None = None
    pattern: re.Pattern[str] | None = None
    may_be_silent: bool = False

    @classmethod
    def of(
        cls,
        clock: Clock,
        *,
        since: Since | None = None,
        tail: int | None = None,
        host: Host | None = None,
        pattern: Pattern | None = None,
        now: float | None = None,
    ) -> Selection:
        """Return the selection for a user's arguments.

        Args:
            clock: the clock that a `since` of type timedelta is counted back from, unless `now` is given.
            since: a moment (in this machine's time zone if it has none), or how long ago.
            tail: the number of lines.
            host: the host's name, such as `algo-1`, or its number.
            pattern: a regular expression that is searched for in each line.
            now: the time by AWS's clock, in seconds since the epoch. This machine's clock may be wrong.

        Raises:
            ConfigurationError: an argument has a wrong type or value.
        """
        return cls(_since(since, clock.time() if now is None else now), _tail(tail), _host(host), _pattern(pattern))

    def apply(self, lines: LogBatch) -> None:
        """Remove the lines that do not contain the pattern from a batch."""
        if (pattern := self.pattern) is not None:
            lines.filter(lambda _, message: pattern.search(message))


class LogTail:
    """The last lines by time of all lines that were added.

    Args:
        number: the number of lines to keep; little more is held in memory.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._lines: list[LogEvent] = []

    def add(self, lines: Iterable[LogEvent]) -> None:
        """Add lines, in any order."""
        self._lines += lines
        if len(self._lines) > 2 * self._number + 1000:
            self._lines = self.lines()

    def lines(self) -> list[LogEvent]:
        """Return the last lines, ordered by time."""
        return sorted(self._lines, key=time_order)[-self._number :]


def _since(value: object, now: float) -> int | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    if not isinstance(value, timedelta) or value < timedelta(0):
        raise ConfigurationError(f"since: must be a datetime, or a timedelta that is not negative, not {value!r}")
    return int((now - value.total_seconds()) * 1000)


def _tail(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ConfigurationError(f"tail: must be a positive number of lines, not {value!r}")


def _host(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return f"algo-{value}"
    if isinstance(value, str) and re.fullmatch(r"algo-[1-9][0-9]*", value):
        return value
    raise ConfigurationError(f"host: must be a host's name, such as 'algo-1', or its number from 1 on, not {value!r}")


def _pattern(value: Pattern | None) -> re.Pattern[str] | None:
    try:
        pattern = None if value is None else re.compile(value)
    except (TypeError, re.error) as error:
        raise ConfigurationError(f"pattern: {value!r} is not a regular expression: {error}") from error
    if pattern is not None and isinstance(pattern.pattern, bytes):
        raise ConfigurationError(f"pattern: must be a text, not {value!r}")
    return pattern


def time_order(line: LogEvent) -> tuple[int, int, str]:
    """Return the sort key of a line: when it was written, when it arrived, and its id."""
    return (line.timestamp, line.ingestion_time, line.event_id)

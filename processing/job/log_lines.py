"""The log lines of one job that a user selects: those that exist now, or all until the job's end."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from processing.aws.server_time import trusted_time
from processing.watching.events import LogEvent
from processing.watching.logs.filters import Selection
from processing.watching.logs.history import read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from processing.session.session import Session
    from processing.watching.logs.filters import Host, Pattern, Since
    from processing.watching.stream import EventStream


class LogQuery:
    """A selection of log lines. An age is counted back by AWS's clock, which wrote the times of the lines.

    Args:
        session: the session that reaches the job.
        tail: only the last lines of those that exist now, as many as this number.
        since: the moment or the age of the earliest line.
        host: the only host: `"algo-1"`, or its number.
        pattern: a regular expression that each line has to contain a match of.

    Raises:
        ConfigurationError: an argument is not valid.
    """

    def __init__(
        self, session: Session, *, tail: int | None, since: Since | None, host: Host | None, pattern: Pattern | None
    ) -> None:
        self._session = session
        self._counts_back = isinstance(since, timedelta)
        self._select = functools.partial(
            Selection.of, session.clock, since=since, tail=tail, host=host, pattern=pattern
        )
        self._select()  # checks the arguments before the first line is requested

    def read(self, job_name: str, description: Mapping[str, Any]) -> Iterator[LogEvent]:
        """Yield the lines that exist now, ordered by time.

        Args:
            job_name: the job's name.
            description: the answer of DescribeProcessingJob.
        """
        selection = self._select(now=trusted_time(self._session.clock, description))
        return read_all(
            self._session.api,
            job_name,
            description,
            tail=selection.tail,
            since=selection.since,
            host=selection.host,
            pattern=selection.pattern,
            polling=self._session.polling,
        )

    def follow(
        self, describe: Callable[[], Mapping[str, Any]], stream: Callable[[Selection], EventStream[Any]]
    ) -> Iterator[LogEvent]:
        """Yield the lines until the job's end, in order of arrival.

        Args:
            describe: returns the answer of DescribeProcessingJob. It is called if `since` is an age.
            stream: returns the job's events with the selected lines.
        """
        now = trusted_time(self._session.clock, describe()) if self._counts_back else None
        with stream(self._select(now=now)) as events:
            yield from (event for event in events if isinstance(event, LogEvent))

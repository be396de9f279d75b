"""A job's log lines: every one once, while it runs and when it has ended.

CloudWatch delivers late: a line may appear before, in time, lines that were read already. So every poll reads again
from a while before the newest line, what was delivered is known by its id, and at the end the whole of the job's lines
is read until nothing new turns up.
"""

from __future__ import annotations

import heapq
import logging
import re
from typing import TYPE_CHECKING, Any

import attrs

from processing.retrying import server_time
from processing.watching.events import LogEvent
from processing.watching.policy import Polling
from processing.watching.seen import Seen
from processing.watching.sources import FilteredSource, Line, Source, StreamsSource, is_denied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from processing.retrying import RetryingApi, RetryPolicy

logger = logging.getLogger(__name__)

_SETTLED_AFTER = 600.0  # seconds after a job's end when none of its lines is under way any more


class LogReader:
    """Reads the lines of one job, and gives each of them once.

    Args:
        api: the session's calls.
        job_name: the job.
        polling: how late lines may be, and how long to wait for the last ones.
        since: lines with an earlier timestamp (ms since the epoch) are not the job's.
        policy: returns how long the next call is tried; the API's own policy where not given.
    """

    def __init__(
        self,
        api: RetryingApi,
        job_name: str,
        polling: Polling,
        *,
        since: int = 0,
        policy: Callable[[], RetryPolicy] | None = None,
    ) -> None:
        self._api = api
        self._job_name = job_name
        self._polling = polling
        self._since = since
        self._policy = policy or (lambda: api.policy)
        self._seen = Seen()
        self._newest: int | None = None
        self._newest_by_stream: dict[str, int] = {}
        self._sources: list[Source] = [FilteredSource(self._call, job_name), StreamsSource(self._call, job_name)]

    @property
    def count(self) -> int:
        """How many lines have been given."""
        return len(self._seen)

    @property
    def ordered(self) -> bool:
        """Whether a first sweep gives its lines in the order of time; known when it has begun."""
        return not self._sources or self._sources[0].ordered

    def poll(self) -> Iterator[LogEvent]:
        """Yield the lines that are new since the last time, in order of arrival.

        Raises:
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: CloudWatch could not be read. What was
                yielded counts as given; the next poll goes on from there.
        """
        if self._newest is None:
            return self._sweep(self._since, whole=True)
        lateness = round(self._polling.lateness * 1000)
        return self._sweep(max(self._since, self._newest - lateness), whole=False)

    def finish(self, *, settled: bool = False) -> Iterator[LogEvent]:
        """Yield the lines that are still missing, of a job that has ended.

        Everything is read again until two sweeps in a row bring nothing new, or `polling.settle_limit` has passed.

        Args:
            settled: True for a job that ended so long ago that no line is under way any more: one sweep is enough.
        """
        clock = self._api.clock
        limit = clock.monotonic() + self._polling.settle_limit
        quiet = 0
        while True:
            before = self.count
            yield from self._sweep(self._since, whole=True)
            quiet = quiet + 1 if self.count == before else 0
            if quiet == 2 or settled or not self._sources:
                return
            if clock.monotonic() >= limit:
                logger.warning(
                    "%s: log lines still came in %.0f seconds after the job's end; the last ones may be missing here",
                    self._job_name,
                    self._polling.settle_limit,
                )
                return
            clock.sleep(self._polling.settle)

    def _sweep(self, start: int, *, whole: bool) -> Iterator[LogEvent]:
        """Yield what is new from `start` on, by the first source that the caller may use."""
        if not self._sources:
            return
        try:
            for page in self._sources[0].pages(start, whole=whole):
                yield from self._new(page)
        except Exception as error:
            if not is_denied(error):
                raise
            self._denied(error)
        else:
            return
        yield from self._sweep(self._since, whole=True)

    def _denied(self, error: Exception) -> None:
        self._sources.pop(0)
        if self._sources:
            logger.info("FilterLogEvents is not allowed (%s); reading stream by stream", error)
        else:
            logger.warning("the logs of %s cannot be shown, reading them is not allowed: %s", self._job_name, error)

    def _new(self, page: list[Line]) -> Iterator[LogEvent]:
        for line in page:
            if not self._seen.add(line.identity):
                continue
            newest = self._newest_by_stream.get(line.stream)
            self._newest_by_stream[line.stream] = max(line.timestamp, newest or 0)
            # A host whose clock is ahead must not move the mark past what the others have yet to write.
            self._newest = max(self._newest or 0, min(line.timestamp, line.ingestion_time))
            yield LogEvent(
                job_name=self._job_name,
                host=host_of(line.stream),
                stream=line.stream,
                timestamp=line.timestamp,
                ingestion_time=line.ingestion_time,
                event_id=line.event_id,
                message=line.message,
                late=newest is not None and line.timestamp < newest,
            )

    def _call(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        return self._api.call("logs", operation, params, policy=self._policy())


def read_all(
    api: RetryingApi,
    description: Mapping[str, Any],
    tail: int | None = None,
    *,
    polling: Polling | None = None,
    complete: bool = False,
) -> Iterator[LogEvent]:
    """Return the lines that a job has written by now, ordered by time.

    They are read a page at a time, as they are asked for.

    Args:
        api: the session's calls.
        description: DescribeProcessingJob's answer. Lines older than the job are of another one that had its name.
        tail: the last so many only.
        polling: the session's.
        complete: True for a job that ended just now: its last lines are waited for.
    """
    name, since = description["ProcessingJobName"], milliseconds(description["CreationTime"])
    reader = LogReader(api, name, polling or Polling(), since=since)
    lines = reader.finish(settled=not complete or is_settled(api, description))
    if tail is not None:
        return iter(sorted(heapq.nlargest(tail, lines, key=_order), key=_order))
    return _in_order(reader, lines)


def _in_order(reader: LogReader, lines: Iterator[LogEvent]) -> Iterator[LogEvent]:
    for first in lines:  # with the first line it is known how they are read
        if reader.ordered:
            yield first
            yield from lines
        else:  # stream by stream: the hosts have to be merged
            yield from sorted((attrs.evolve(line, late=False) for line in (first, *lines)), key=_order)


def _order(event: LogEvent) -> tuple[int, int, str]:
    return (event.timestamp, event.ingestion_time, event.event_id)


def is_settled(api: RetryingApi, description: Mapping[str, Any]) -> bool:
    """Return whether a job ended so long ago that none of its lines is under way any more."""
    ended = description.get("ProcessingEndTime")
    now = server_time(description.get("ResponseMetadata", {})) or api.clock.time()
    return ended is not None and bool(now - ended.timestamp() > _SETTLED_AFTER)


def milliseconds(moment: datetime) -> int:
    """Return a moment as CloudWatch writes it: in milliseconds since the epoch."""
    return int(moment.timestamp() * 1000)


def host_of(stream: str) -> str:
    """Return the instance that a stream belongs to: `algo-1` of `<job>/algo-1-<number>`."""
    name = stream.rpartition("/")[2]
    match = re.match(r"algo-\d+", name)
    return match[0] if match else name

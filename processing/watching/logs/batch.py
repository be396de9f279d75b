"""Batch of new log lines; `LogEvent` objects are created only for those that are iterated.

Most lines are only shown, and `messages` and `streams` suffice for that. A shown line of an ended job then takes 3.0 us
of CPU. It takes 3.8 us with an event for each line, and 19 us if the lines are also passed on one by one
(benchmarks/log_lines.py). To switch batches off, iterate the batch: the consumer gets the same lines as events.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import attrs

from processing._utils import lazy
from processing.watching.events import LogEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from processing.watching.logs.page import Record

_message = operator.itemgetter("message")
_stream = operator.itemgetter("logStreamName")


class StreamOrigin(Protocol):
    """The origin of a stream's lines."""

    @property
    def job_name(self) -> str:
        """The job that writes them."""

    @property
    def host(self) -> str:
        """The host that writes them."""


@attrs.frozen
class _Origin:
    job_name: str
    host: str


class RawLine(NamedTuple):
    """A line before its event is created.

    Args:
        host: the host that wrote it.
        record: the line as CloudWatch returned it.
        late: True if a line with a later timestamp was delivered before.
    """

    host: str
    record: Record
    late: bool

    def event(self, job_name: str) -> LogEvent:
        """Return the event of the line of a job."""
        record = self.record
        timestamp: int = record["timestamp"]
        arrival: int = record.get("ingestionTime", timestamp)
        stream: str = record["logStreamName"]
        return LogEvent(
            job_name, self.host, stream, timestamp, arrival, record.get("eventId", ""), record["message"], self.late
        )


class LogBatch:
    """New lines in order, with a count of those that were consumed.

    Iterating consumes the lines one by one, as events; the next iteration continues after the last consumed one. A
    consumer that shows or counts all lines at once uses `messages` and `streams` instead, without creating events.

    Args:
        records: the lines.
        origins: by stream, the origin of its lines.
        keys: the fingerprints of the lines.
        late: the indexes of the late lines.
        newest: by stream, the newest timestamp (ms since the epoch) before these lines.

    Attributes:
        consumed: the number of lines that were consumed, those that were filtered out included.
    """

    def __init__(
        self,
        records: Sequence[Record],
        origins: Mapping[str, StreamOrigin],
        *,
        keys: Sequence[int] = (),
        late: Collection[int] = (),
        newest: Mapping[str, int] | None = None,
    ) -> None:
        self.records = records
        self.origins = origins
        self.keys = keys
        self.newest = newest or {}
        self.consumed = 0
        self._late = late
        self._selected: Sequence[int] | None = None  # indexes of the lines that `filter` left; None for all lines

    @classmethod
    def of(cls, event: LogEvent) -> LogBatch:
        """Return a batch of one line."""
        record = {
            "logStreamName": event.stream,
            "timestamp": event.timestamp,
            "ingestionTime": event.ingestion_time,
            "eventId": event.event_id,
            "message": event.message,
        }
        return cls([record], {event.stream: _Origin(event.job_name, event.host)}, late=(0,) if event.late else ())

    def __len__(self) -> int:
        """Return the number of selected lines, including consumed ones."""
        return len(self.records if self._selected is None else self._selected)

    def __iter__(self) -> Iterator[LogEvent]:
        for index in self._indexes():
            if index >= self.consumed:
                self.consumed = index + 1
                yield self.event(index)
        self.consumed = len(self.records)

    @property
    def job_names(self) -> set[str]:
        """The names of the jobs that the lines belong to."""
        return {self.origins[stream].job_name for stream in set(self.streams)}

    @lazy
    def streams(self) -> list[str]:
        """The stream of each selected line."""
        return list(map(_stream, self._selected_records()))

    @lazy
    def messages(self) -> list[str]:
        """The text of each selected line."""
        return list(map(_message, self._selected_records()))

    def filter(self, predicate: Callable[[str, str], object]) -> None:
        """Remove lines from the selection.

        Args:
            predicate: takes a job's name and the text of a line; the line stays if the result is true.
        """
        selected = [
            index
            for index in self._indexes()
            if predicate(self.origins[_stream(self.records[index])].job_name, _message(self.records[index]))
        ]
        if len(selected) < len(self):
            self._selected = selected
            vars(self).pop("streams", None)
            vars(self).pop("messages", None)

    def last(self, number: int) -> dict[str, list[RawLine]]:
        """Return the last `number` selected lines of each host by job, in their order, without consuming them."""
        origins = {stream: self.origins[stream] for stream in set(self.streams)}
        hosts = {stream: (origin.job_name, origin.host) for stream, origin in origins.items()}
        left = dict.fromkeys(hosts.values(), number)
        last: dict[str, list[RawLine]] = {job_name: [] for job_name, _ in left}
        for index in reversed(self._indexes()):
            record = self.records[index]
            of_host = job_name, host = hosts[_stream(record)]
            if of_host in left:
                last[job_name].append(RawLine(host, record, index in self._late))
                left[of_host] -= 1
                if not left[of_host]:
                    del left[of_host]
                    if not left:
                        break
        return {job_name: lines[::-1] for job_name, lines in last.items()}

    def event(self, index: int) -> LogEvent:
        """Return a line by its index among all lines, without consuming it."""
        record = self.records[index]
        origin = self.origins[_stream(record)]
        return RawLine(origin.host, record, index in self._late).event(origin.job_name)

    def unconsumed(self, job_name: str) -> tuple[dict[int, int], dict[str, int]]:
        """Return the lines of a job that were not consumed, and how far its streams were.

        Returns:
            by key, the timestamps of the lines that were not consumed; and by stream, the newest timestamp that was.
        """
        newest = dict(self.newest)
        left = {}
        for index, record in enumerate(self.records):
            stream, timestamp = record["logStreamName"], record["timestamp"]
            if self.origins[stream].job_name != job_name:
                newest.pop(stream, None)
            elif index < self.consumed:
                newest[stream] = max(newest[stream], timestamp)
            else:
                left[self.keys[index]] = timestamp
        return left, newest

    def _indexes(self) -> Sequence[int]:
        return range(len(self.records)) if self._selected is None else self._selected

    def _selected_records(self) -> Sequence[Record]:
        return self.records if self._selected is None else [self.records[index] for index in self._selected]

"""New lines of jobs, as many as came together: made into events one by one only for who asks."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Protocol

import attrs

from processing.watching.events import LogEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from processing.watching.logs.page import Record

_message = operator.itemgetter("message")
_stream = operator.itemgetter("logStreamName")


class Origin(Protocol):
    """Where a stream's lines come from."""

    @property
    def job_name(self) -> str:
        """The job that writes them."""

    @property
    def host(self) -> str:
        """The instance that writes them."""


@attrs.frozen
class _Origin:
    job_name: str
    host: str


class LogBatch:
    """Lines in their order, of which it is known how many have been taken.

    Iterating takes them, one after another, as events; what was not taken is there at the next iteration. Whoever
    shows or counts them as a whole does not make events of them.

    Args:
        records: the lines.
        origins: by stream, where they come from.
        keys: their fingerprints.
        late: the places of those that are late.
        newest: by stream, the newest timestamp (ms since the epoch) before them.
    """

    def __init__(
        self,
        records: Sequence[Record],
        origins: Mapping[str, Origin],
        *,
        keys: Sequence[int] = (),
        late: Collection[int] = (),
        newest: Mapping[str, int] | None = None,
    ) -> None:
        self.records = records
        self.origins = origins
        self.keys = keys
        self.newest = newest or {}
        self.taken = 0
        self._late = late
        self._wanted: Sequence[int] | None = None  # places; None for all of them

    @classmethod
    def of(cls, event: LogEvent) -> LogBatch:
        """Return one line."""
        record = {
            "logStreamName": event.stream,
            "timestamp": event.timestamp,
            "ingestionTime": event.ingestion_time,
            "eventId": event.event_id,
            "message": event.message,
        }
        return cls([record], {event.stream: _Origin(event.job_name, event.host)}, late=(0,) if event.late else ())

    def __len__(self) -> int:
        """Return how many lines are wanted, taken ones included."""
        return len(self.records if self._wanted is None else self._wanted)

    def __iter__(self) -> Iterator[LogEvent]:
        for place in self._places():
            if place >= self.taken:
                self.taken = place + 1
                yield self.event(place)
        self.taken = len(self.records)

    @property
    def job_names(self) -> set[str]:
        """The jobs of which there are lines."""
        return {self.origins[stream].job_name for stream in set(self.streams)}

    @functools.cached_property
    def streams(self) -> list[str]:
        """The stream of each line that is wanted."""
        return list(map(_stream, self._chosen()))

    @functools.cached_property
    def messages(self) -> list[str]:
        """What each line that is wanted says."""
        return list(map(_message, self._chosen()))

    def filter(self, wants: Callable[[str, str], object]) -> None:
        """Leave out the lines that are not wanted.

        Args:
            wants: tells by the job's name and the line.
        """
        wanted = [
            place
            for place in self._places()
            if wants(self.origins[_stream(self.records[place])].job_name, _message(self.records[place]))
        ]
        if len(wanted) < len(self):
            self._wanted = wanted
            vars(self).pop("streams", None)
            vars(self).pop("messages", None)

    def last(self, number: int) -> Iterator[LogEvent]:
        """Yield the last so many lines of each job."""
        left = dict.fromkeys(self.job_names, number)
        last = []
        for place in reversed(self._places()):
            name = self.origins[_stream(self.records[place])].job_name
            if left[name]:
                left[name] -= 1
                last.append(place)
                if not any(left.values()):
                    break
        return (self.event(place) for place in reversed(last))

    def event(self, place: int) -> LogEvent:
        """Return one line, by its place among all of them; it is not taken by that."""
        record = self.records[place]
        stream: str = record["logStreamName"]
        timestamp: int = record["timestamp"]
        arrival: int = record.get("ingestionTime", timestamp)
        origin = self.origins[stream]
        return LogEvent(
            origin.job_name,
            origin.host,
            stream,
            timestamp,
            arrival,
            record.get("eventId", ""),
            record["message"],
            place in self._late,
        )

    def left(self, job_name: str) -> tuple[dict[int, int], dict[str, int]]:
        """Return what of a job was not taken: timestamps by key; and by stream the newest timestamp of what was."""
        newest = dict(self.newest)
        left = {}
        for place, record in enumerate(self.records):
            stream, timestamp = record["logStreamName"], record["timestamp"]
            if self.origins[stream].job_name != job_name:
                newest.pop(stream, None)
            elif place < self.taken:
                newest[stream] = max(newest[stream], timestamp)
            else:
                left[self.keys[place]] = timestamp
        return left, newest

    def _places(self) -> Sequence[int]:
        return range(len(self.records)) if self._wanted is None else self._wanted

    def _chosen(self) -> Sequence[Record]:
        return self.records if self._wanted is None else [self.records[place] for place in self._wanted]

"""What becomes of the lines of a page: whose they are, which of them are new, and which are late."""

from __future__ import annotations

import bisect
import operator
import re
from typing import TYPE_CHECKING, Final

import attrs

from processing.watching.logs.batch import LogBatch
from processing.watching.logs.dedup import fingerprints, fingerprints_of_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from processing.watching.logs.job_groups import FollowedJob
    from processing.watching.logs.page import Page, Part, Record

_TOGETHER: Final = 500  # lines that are given together at most: between them statuses and deadlines get their turn

_stream = operator.itemgetter("logStreamName")
_timestamp = operator.itemgetter("timestamp")
_arrival = operator.itemgetter("ingestionTime")
_id = operator.itemgetter("eventId")


@attrs.frozen(eq=False)
class _Route:
    """Where the lines of a stream go."""

    job: FollowedJob | None = None  # None: not followed
    job_name: str = ""
    host: str = ""
    floor: int = 0  # lines with an earlier timestamp are left out


class LogRouter:
    """Takes pages, and gives the lines of the followed jobs that are new.

    Args:
        jobs: the jobs by name; they may change, which `forget` has to be told of.
        host: the instance whose lines alone are taken; None for all.

    Attributes:
        way: the way in which lines are read: those of another one have other identities.
        oldest: the earliest timestamp (ms since the epoch) of what was new; set it to None to begin anew.
    """

    def __init__(self, jobs: Mapping[str, FollowedJob], host: str | None) -> None:
        self.way = ""
        self.oldest: int | None = None
        self._jobs = jobs
        self._host = host
        self._routes: dict[str, _Route] = {}

    def forget(self) -> None:
        """Find out anew where lines go."""
        self._routes = {}

    def take(self, page: Page, jobs: Sequence[FollowedJob]) -> Iterator[LogBatch]:
        """Yield the lines of a page that are new; those that are yielded are known from then on.

        Args:
            page: the lines.
            jobs: those that they are looked for of.
        """
        news = self._with_news(page, jobs)
        if news is None:
            return
        for first in range(0, len(news), _TOGETHER):
            if lines := self._new(news[first : first + _TOGETHER]):
                yield lines

    def _with_news(self, page: Page, jobs: Sequence[FollowedJob]) -> Page | None:
        """Return the page without the known lines that it begins with; None where all are known, by their ids."""
        part: Part | None = None
        for part in page.parts():
            left = set(fingerprints_of_numbers(part.ids))
            for job in jobs:
                if left:
                    left = job.seen.unknown(left, part.first, part.last)
            if left or not part.ids:
                return page.beginning_with(part)
        return None if part else page

    def _new(self, records: Sequence[Record]) -> LogBatch | None:
        routes = self._routes
        streams = set(map(_stream, records))
        for stream in streams - routes.keys():
            routes[stream] = self._route(stream)
        earliest = min(map(_timestamp, records))
        if any(routes[stream].job is None or routes[stream].floor > earliest for stream in streams):
            records = [record for record in records if self._wants(record)]
        keys = fingerprints(_identities(records))
        new: set[int] = set()
        for job, mine, known_by in self._by_job(records, keys):
            new |= job.seen.add(list(map(_timestamp, mine)), known_by)
        if not new:
            return None
        if len(new) < len(keys):  # one of them may be there twice
            found = {key: record for key, record in zip(keys, records, strict=True) if key in new}
            keys, records = list(found), list(found.values())
        for job, mine, _ in self._by_job(records, keys):
            self._note(job, mine)
        newest, late = self._in_time(records)
        return LogBatch(records, routes, keys=keys, newest=newest, late=late)

    def _wants(self, record: Record) -> bool:
        route = self._routes[record["logStreamName"]]
        return route.job is not None and record["timestamp"] >= route.floor

    def _by_job(
        self, records: Sequence[Record], keys: Sequence[int]
    ) -> Iterator[tuple[FollowedJob, Sequence[Record], Sequence[int]]]:
        """Yield the lines of each job, and their fingerprints."""
        routes = self._routes
        jobs = {routes[stream].job for stream in set(map(_stream, records))}
        parts: dict[FollowedJob | None, tuple[Sequence[Record], Sequence[int]]]
        if len(jobs) == 1:  # mostly, and then they need not be taken apart
            parts = {jobs.pop(): (records, keys)}
        else:
            lists: dict[FollowedJob | None, tuple[list[Record], list[int]]] = {job: ([], []) for job in jobs}
            for record, key in zip(records, keys, strict=True):
                mine, known_by = lists[routes[record["logStreamName"]].job]
                mine.append(record)
                known_by.append(key)
            parts = {**lists}
        return ((job, *part) for job, part in parts.items() if job is not None)

    def _note(self, job: FollowedJob, records: Sequence[Record]) -> None:
        """Note when a job's lines were written, and when they arrived."""
        timestamps = list(map(_timestamp, records))
        arrivals = _arrivals(records)
        delays = list(map(operator.sub, arrivals, timestamps))
        job.taken += len(records)
        job.count += len(records)
        job.skew = max(job.skew, *delays)
        oldest = min(timestamps)
        self.oldest = oldest if self.oldest is None else min(self.oldest, oldest)
        # A host whose clock is ahead must not move the mark past what the others have yet to write.
        surely = max(timestamps) if min(delays) >= 0 else max(map(min, timestamps, arrivals))
        if job.newest is None or surely > job.newest:
            job.newest = surely

    def _in_time(self, records: Sequence[Record]) -> tuple[dict[str, int], set[int]]:
        """Return the newest timestamps of streams before these lines, and the places of the late ones among them."""
        streams, timestamps = list(map(_stream, records)), list(map(_timestamp, records))
        jobs = {stream: job for stream in set(streams) if (job := self._routes[stream].job)}
        before = {stream: job.streams.get(stream, -1) for stream, job in jobs.items()}
        newest, late = dict(before), set()
        # Mostly they are in the order of time, and then but the first ones can be late.
        ordered = timestamps == sorted(timestamps)
        doubtful = bisect.bisect_left(timestamps, max(before.values())) if ordered else len(timestamps)
        for place, stream, timestamp in zip(range(doubtful), streams, timestamps, strict=False):
            if timestamp < newest[stream]:
                late.add(place)
            else:
                newest[stream] = timestamp
        newest.update(zip(streams[doubtful:], timestamps[doubtful:], strict=True))
        for stream, job in jobs.items():
            job.streams[stream] = newest[stream]
        return before, late

    def _route(self, stream: str) -> _Route:
        """Find out where the lines of a stream go."""
        job = self._jobs.get(stream.partition("/")[0])
        host = host_of(stream)
        if job is None or self._host not in {None, host}:
            return _Route()
        if job.way not in {None, self.way}:  # what was given cannot be told from the rest: these lines have other ids
            job.told = dict(job.streams)
        job.way = self.way
        return _Route(job, job.name, host, max(job.since, job.told.get(stream, -1) + 1))


def _identities(records: Sequence[Record]) -> list[str]:
    try:
        return list(map(_id, records))
    except KeyError:  # GetLogEvents gives no ids
        return [record.get("identity") or record.get("eventId", "") for record in records]


def _arrivals(records: Sequence[Record]) -> list[int]:
    try:
        return list(map(_arrival, records))
    except KeyError:
        return [record["ingestionTime" if "ingestionTime" in record else "timestamp"] for record in records]


def host_of(stream: str) -> str:
    """Return the instance that a stream belongs to: `algo-1` of `<job>/algo-1-<number>`."""
    name = stream.rpartition("/")[2]
    match = re.match(r"algo-\d+", name)
    return match[0] if match else name

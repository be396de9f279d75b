"""Router of log lines: assigns the lines of a page to their jobs, drops duplicates, and marks late arrivals.

Known lines at the beginning of a page are skipped by their ids, without being parsed (`LogRouter._skip_known`). Then a
shown line takes 4.9 us of CPU instead of 6.1 in a job of ten minutes, and 6.8 us instead of 7.4 in a job of an hour
(benchmarks/log_lines.py). To switch it off, let `_skip_known` return the page.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Final

import attrs

from processing.watching.logs.batch import LogBatch
from processing.watching.logs.dedup import fingerprints, fingerprints_of_numbers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from processing.watching.logs.followed_job import FollowedJob
    from processing.watching.logs.page import Page, Part, Record
    from processing.watching.logs.sources import LogSource

# The most lines of a batch. Between two batches a wait handles changes of status and deadlines. With 50 a line of an
# ended job takes 4.0 us of CPU instead of 3.0.
_MAX_BATCH: Final = 500

TRUSTED_SKEW: Final = 300_000
"""The ms by which a host's clock may be behind AWS's: AWS refuses the calls of a host that is further behind."""

# The moment at which a stream was made, at the end of its name, in seconds. The engine adds the milliseconds.
_STREAM_MADE: Final = re.compile(r"-(\d{10})(?:\d{3})?$")

_stream = operator.itemgetter("logStreamName")
_timestamp = operator.itemgetter("timestamp")
_arrival = operator.itemgetter("ingestionTime")
_id = operator.itemgetter("eventId")


@attrs.frozen(eq=False)
class _Route:
    """The destination of a stream's lines.

    Args:
        job: the job that the stream belongs to; None if its lines are not wanted.
        job_name: the job's name.
        host: the host that writes the stream.
        earliest: the earliest timestamp of the lines that are wanted (ms since the epoch).
        ingested: the earliest arrival of the lines that are wanted (ms since the epoch).
        until: the arrival from which on lines are not wanted (ms since the epoch); None for no limit.
    """

    job: FollowedJob | None = None
    job_name: str = ""
    host: str = ""
    earliest: int = 0
    ingested: int = 0
    until: int | None = None

    def takes_all_from(self, earliest: int) -> bool:
        """Return whether all lines with this timestamp or a later one are wanted."""
        return bool(self.job and self.until is None and max(self.earliest, self.ingested) <= earliest)


class LogRouter:
    """Selects the new lines of the followed jobs from pages.

    Args:
        jobs: the followed jobs by name. Call `reset` after a change.
        host: the only host whose lines are selected; None for all.
        source: the source of the lines. Call `reset` after its name has changed.

    Attributes:
        oldest_new: the earliest timestamp (ms since the epoch) of the new lines since it was last set to None.
    """

    def __init__(self, jobs: Mapping[str, FollowedJob], host: str | None, source: LogSource) -> None:
        self.oldest_new: int | None = None
        self._jobs = jobs
        self._host = host
        self._source = source
        self._routes: dict[str, _Route] = {}

    def reset(self) -> None:
        """Determine the route of every stream again."""
        self._routes = {}

    def route(self, page: Page, jobs: Sequence[FollowedJob]) -> Iterator[LogBatch]:
        """Yield the new lines of a page; they count as known from then on.

        Args:
            page: the lines.
            jobs: the jobs that the page was read for.
        """
        records = self._skip_known(page, jobs)
        if records is None:
            return
        for start in range(0, len(records), _MAX_BATCH):
            if batch := self._new_lines(records[start : start + _MAX_BATCH]):
                yield batch

    def _skip_known(self, page: Page, jobs: Sequence[FollowedJob]) -> Page | None:
        """Return the page without the known lines at its beginning; None if all its lines are known.

        Only ids and timestamps are compared, which are scanned from the JSON text: known lines are not parsed.
        """
        part: Part | None = None
        for part in page.parts():
            unknown = set(fingerprints_of_numbers(part.ids))
            for job in jobs:
                if unknown:
                    unknown = job.seen.unknown(unknown, part.first, part.last)
            if unknown or not part.ids:
                return page.beginning_with(part)
        return None if part else page

    def _new_lines(self, records: Sequence[Record]) -> LogBatch | None:
        streams = set(map(_stream, records))
        if not streams <= self._routes.keys():
            self._detect_next_job(streams)
        routes = self._routes
        for stream in streams - routes.keys():
            routes[stream] = self._route(stream)
        earliest = min(map(_timestamp, records))
        if not all(routes[stream].takes_all_from(earliest) for stream in streams):
            records = [record for record in records if self._is_wanted(record)]
        keys = fingerprints(_identities(records))
        new: set[int] = set()
        for job, job_records, job_keys in self._by_job(records, keys):
            new |= job.seen.add(list(map(_timestamp, job_records)), job_keys)
        if not new:
            return None
        if len(new) < len(keys):
            # A dictionary, since a page may contain a line twice.
            found = {key: record for key, record in zip(keys, records, strict=True) if key in new}
            keys, records = list(found), list(found.values())
        for job, job_records, _ in self._by_job(records, keys):
            self._record(job, job_records)
        newest, late = self._find_late(records)
        return LogBatch(records, routes, keys=keys, newest=newest, late=late)

    def _is_wanted(self, record: Record) -> bool:
        route = self._routes[record["logStreamName"]]
        timestamp: int = record["timestamp"]
        if route.job is None or timestamp < route.earliest:
            return False
        arrival = int(record.get("ingestionTime", timestamp))
        if route.until is not None and arrival >= route.until:
            return False
        # A line from before its job's creation is of an older job, or of a host whose clock is behind. The arrival
        # decides: CloudWatch's clock is AWS's.
        return bool(timestamp >= route.ingested or record.get("ingestionTime", 0) >= route.ingested)

    def _by_job(
        self, records: Sequence[Record], keys: Sequence[int]
    ) -> Iterator[tuple[FollowedJob, Sequence[Record], Sequence[int]]]:
        """Yield each job with its lines and their fingerprints."""
        routes = self._routes
        jobs = {routes[stream].job for stream in set(map(_stream, records))}
        parts: dict[FollowedJob | None, tuple[Sequence[Record], Sequence[int]]]
        if len(jobs) == 1:  # the usual case, in which nothing needs to be copied
            parts = {jobs.pop(): (records, keys)}
        else:
            lists: dict[FollowedJob | None, tuple[list[Record], list[int]]] = {job: ([], []) for job in jobs}
            for record, key in zip(records, keys, strict=True):
                job_records, job_keys = lists[routes[record["logStreamName"]].job]
                job_records.append(record)
                job_keys.append(key)
            parts = {**lists}
        return ((job, *part) for job, part in parts.items() if job is not None)

    def _record(self, job: FollowedJob, records: Sequence[Record]) -> None:
        """Record the number of a job's new lines, when they were written, and when they arrived."""
        timestamps = list(map(_timestamp, records))
        arrivals = _arrivals(records)
        delays = list(map(operator.sub, arrivals, timestamps))
        job.event_count += len(records)
        job.line_count += len(records)
        job.max_delay = max(job.max_delay, *delays)
        oldest = min(timestamps)
        self.oldest_new = oldest if self.oldest_new is None else min(self.oldest_new, oldest)
        # A host whose clock is ahead writes timestamps that lie after their arrival. The arrival counts then: the other
        # hosts have yet to write lines before such a timestamp.
        newest = max(timestamps) if min(delays) >= 0 else max(map(min, timestamps, arrivals))
        if job.newest is None or newest > job.newest:
            job.newest = newest

    def _find_late(self, records: Sequence[Record]) -> tuple[dict[str, int], set[int]]:
        """Return the newest timestamp of each stream before these lines, and the indexes of the late lines.

        A line is late if its stream has delivered a newer one already.
        """
        streams, timestamps = list(map(_stream, records)), list(map(_timestamp, records))
        jobs = {stream: job for stream in set(streams) if (job := self._routes[stream].job)}
        before = {stream: job.newest_by_stream.get(stream, -1) for stream, job in jobs.items()}
        newest, late = dict(before), set()
        for index, (stream, timestamp) in enumerate(zip(streams, timestamps, strict=True)):
            if timestamp < newest[stream]:
                late.add(index)
            else:
                newest[stream] = timestamp
        for stream, job in jobs.items():
            job.newest_by_stream[stream] = newest[stream]
        return before, late

    def _route(self, stream: str) -> _Route:
        """Determine the route of a stream's lines."""
        job = self._jobs.get(stream.partition("/")[0])
        host = host_of(stream)
        if job is None or job.complete or self._host not in {None, host}:
            return _Route()  # an earlier watch has delivered all lines of a complete job
        if job.source_name not in {None, self._source.name}:
            # The lines of the new source have other ids, so those that were delivered cannot be recognized. They are
            # skipped by their timestamps.
            job.other_source_until = dict(job.newest_by_stream)
        job.source_name = self._source.name
        # The older job's late lines arrive after the creation too, but in a stream that was made before.
        is_own = _made(stream) >= max(1, job.created // 1000)
        earliest = max(job.since if is_own else job.created, job.since, job.other_source_until.get(stream, -1) + 1)
        until = job.gone if job.gone is not None and _made(stream) >= job.gone // 1000 else None
        return _Route(job, job.name, host, earliest, job.created if is_own else 0, until)

    def _detect_next_job(self, streams: Collection[str]) -> None:
        """Detect that a job is gone by a stream of the next job of its name, which is made after this one's end.

        A host's clock may be wrong, so its job's end alone is not evidence. But each host of a job writes one stream.
        """
        for stream in streams:
            job = self._jobs.get(stream.partition("/")[0])
            if job is None or job.gone is not None or job.ended is None or _made(stream) < job.ended // 1000:
                continue
            earliest, latest, host = job.created // 1000, _made(stream), host_of(stream)
            others = {*job.newest_by_stream, *(each for each in streams if each.startswith(f"{job.name}/"))}
            if any(earliest <= _made(other) < latest and host_of(other) == host for other in others):
                job.gone = job.ended
                self.reset()


def _made(stream: str) -> int:
    """Return the moment at which a stream was made, in seconds since the epoch; 0 if its name does not have it."""
    made = _STREAM_MADE.search(stream)
    return 0 if made is None else int(made[1])


def _identities(records: Sequence[Record]) -> list[str]:
    try:
        return list(map(_id, records))
    except KeyError:  # GetLogEvents returns no ids
        return [record.get("identity") or record.get("eventId", "") for record in records]


def _arrivals(records: Sequence[Record]) -> list[int]:
    try:
        return list(map(_arrival, records))
    except KeyError:
        return [record["ingestionTime" if "ingestionTime" in record else "timestamp"] for record in records]


def host_of(stream: str) -> str:
    """Return the host that writes a stream: `algo-1` for `<job>/algo-1-<number>`."""
    name = stream.rpartition("/")[2]
    match = re.match(r"algo-\d+", name)
    return match[0] if match else name

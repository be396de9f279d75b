"""The log lines of jobs: every one once, while they run and when they have ended.

CloudWatch delivers late: a line may appear before, in time, lines that were read already. So every poll reads again
from a while before the newest line, what was given is known by its id, and at the end the whole of a job's lines is
read once more, then its last ones until nothing new turns up.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.aws.retry import is_denied, response_of, server_time
from processing.aws.server_time import ServerTime
from processing.exceptions import ConfigurationError
from processing.watching.checkpoint import Checkpoint
from processing.watching.logs.batch import LogBatch
from processing.watching.logs.dedup import SeenLines
from processing.watching.logs.job_groups import Ending, FollowedJob, JobGroup, prefix_of
from processing.watching.logs.page import install_page_parser
from processing.watching.logs.reassembly import LineAssembler
from processing.watching.logs.router import LogRouter
from processing.watching.logs.sources import FilterLogEventsSource, GetLogEventsSource
from processing.watching.outages import Outages

if TYPE_CHECKING:
    import random as random_module
    from collections.abc import Callable, Generator, Iterator, Mapping
    from datetime import datetime

    from processing.aws.retry import RetryingApi, RetryPolicy
    from processing.watching.logs.page import Page
    from processing.watching.polling import Polling

logger = logging.getLogger(__name__)

_SETTLED_AFTER = 600.0  # seconds after a job's end when none of its lines is under way any more
_ALIVE_FOR = 0.4  # seconds after its newest line that a job which writes as usual is taken to have lived
_HELD = 5.0  # seconds that a piece of a long line waits for the next one
_EVENTS_A_PAGE = 5_000  # a page has up to 10,000 events, or 1 MB
_CALL_BUDGET = 20.0  # seconds for one call, while there is more to be done than to read logs
_READING: Final = "FilterLogEvents"  # whose outages is kept: there is one for all ways of reading


@attrs.frozen
class LogsComplete:
    """All lines of a job that has ended have been given.

    Args:
        job_name: the job.
        count: how many lines there were.
        gave_up: True where the wait for the last ones was given up: some may be missing.
    """

    job_name: str
    count: int
    gave_up: bool


@attrs.frozen(eq=False)
class _Sweep:
    """A reading of all streams of some jobs from a moment on."""

    jobs: list[FollowedJob]
    start: int
    whole: bool
    group: JobGroup | None = None  # of jobs that run


class LogReader:
    """Reads the lines of jobs, and gives each of them once.

    It reads when it is asked for lines, a page at a time; it never sleeps. Failures that pass are ridden out; without
    the permission to read logs there is one warning, and no lines.

    Args:
        api: the session's calls.
        polling: how often to read, how late lines may be, and how long to wait for the last ones.
        policy: returns how long the next call is tried; by default the API's own policy, cut to 20 seconds.
        host: only the lines of this instance, such as `algo-1`.
        checkpoint: lines that were given before it are not given again.
        random: for a little jitter; by default the same as for the calls.
        strict: True to raise what makes reading fail.
    """

    def __init__(
        self,
        api: RetryingApi,
        polling: Polling,
        *,
        policy: Callable[[], RetryPolicy] | None = None,
        host: str | None = None,
        checkpoint: Checkpoint | None = None,
        random: random_module.Random | None = None,
        strict: bool = False,
    ) -> None:
        self._api = api
        self._clock = api.clock
        self._polling = polling
        self._policy = policy or self._short_policy
        self._host = host
        self._restored = dict(checkpoint.jobs) if checkpoint else {}
        self._random = random or api.random
        self._outages = Outages(polling, self._random, "the log lines of jobs")
        self._strict = strict
        self._jobs: dict[str, FollowedJob] = {}
        self._groups: list[JobGroup] = []
        self._intake = LogRouter(self._jobs, host)
        self._assembler = LineAssembler()
        self._open: LogBatch | None = None  # being given; what is left of it is what was not taken
        self._source: FilterLogEventsSource | GetLogEventsSource | None = None  # None: the logs cannot be read
        self._read_by(FilterLogEventsSource(self._call))
        self._server = ServerTime(self._clock)
        self._fresh: dict[str, float] = {}
        self._complete: dict[str, tuple[int, int]] = {}  # since and count of jobs that are complete

    # What the consumer does.

    def add(self, job_name: str, since: int) -> None:
        """Follow a job too; its first lines are due at once.

        Args:
            job_name: the job.
            since: lines with an earlier timestamp (ms since the epoch) are of another job that had the name.
        """
        job = self._jobs[job_name] = self._restore(job_name, since) or FollowedJob(job_name, since, since)
        if job.done:
            return
        now = self._clock.monotonic()
        group = next((group for group in self._groups if group.takes(job_name)), None)
        if group is None:
            group = JobGroup(self._polling, now)
            self._groups.append(group)
        # A group that grows by a job a second is not read each time.
        group.due = min(group.due, now + self._polling.longest) if group.jobs else now
        group.jobs[job_name] = job
        self._intake.forget()

    def drop(self, job_name: str) -> None:
        """Follow a job no more: it is gone, and what it wrote last is not waited for."""
        self._forget(self._jobs[job_name])

    def mark_ended(self, job_name: str, *, ended_at: float | None, all_arrived: bool) -> None:
        """Wait for the last lines of a job from now on; when they are there, `read` says so.

        Args:
            job_name: the job.
            ended_at: when it ended, in seconds since the epoch; None where that is not known.
            all_arrived: True for a job that ended so long ago that no line is under way any more: one sweep is enough.
        """
        now = self._clock.monotonic()
        job = self._jobs[job_name]
        job.ending = Ending(ended_at, all_arrived, now, now + 10 * self._polling.settle_limit)
        job.resume = job.since  # everything is read once more
        self._leave_group(job)

    def read(self) -> Generator[LogBatch | LogsComplete, None, None]:
        """Yield the lines that are new, in order of arrival, and say of jobs that have ended when there are no more.

        What is due now is read, page by page as lines are taken; where it was left, the next call goes on. Lines that
        were yielded count as given when the next ones are asked for, before that as far as they were taken.

        Raises:
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: only if `strict`.
        """
        if self._open is not None:
            yield from self._give(self._open)
        for sweep in self._due_sweeps():
            done = yield from self._try(sweep)
            if done and not sweep.group:
                yield from self._end(sweep)
        yield from self._end_without_reading()

    @property
    def ordered(self) -> bool:
        """Whether a sweep gives its lines in the order of time; known when it has begun."""
        return not isinstance(self._source, GetLogEventsSource)

    @property
    def due(self) -> float | None:
        """When `read` has something to do next, as a reading of the monotonic clock; None for never."""
        endings = [job.ending.due for job in self._jobs.values() if job.ending]
        if self._source is None:
            return min(endings, default=None)
        return min([*endings, *(group.due for group in self._groups if group.jobs)], default=None)

    @property
    def caught_up(self) -> bool:
        """Whether everything that there was of each job when reading began has been given."""
        return self._source is None or all(job.swept for job in self._jobs.values())

    def pop_signs_of_life(self) -> Mapping[str, float]:
        """Return moments (seconds since the epoch) until which jobs ran that write as usual, since the last call."""
        moved, self._fresh = self._fresh, {}
        return moved

    def align_with_status_call(self, moment: float) -> None:
        """Put off what is due of jobs that run until one of them would be looked at: young lines may save the look.

        Args:
            moment: the monotonic moment of that look.
        """
        now = self._clock.monotonic()
        for group in self._groups:
            if group.due <= now:
                group.align_with_status_call(moment, now)

    def checkpoint(self) -> Checkpoint:
        """Return which lines have been given by now: another process goes on without a gap or a repeat."""
        jobs = {name: entry for name, entry in self._restored.items() if name not in self._jobs}
        jobs.update((name, {"since": since, "count": count}) for name, (since, count) in self._complete.items())
        jobs.update((name, self._saved(job)) for name, job in self._jobs.items())
        return Checkpoint(jobs)

    # What is read.

    def _due_sweeps(self) -> Iterator[_Sweep]:
        now = self._clock.monotonic()
        if self._source is None:
            return
        ending = [job for job in self._jobs.values() if job.ending and job.ending.due <= now and not job.done]
        whole = [job for job in ending if not job.was_read_whole]
        again = [job for job in ending if job.was_read_whole]
        yield from self._last_sweeps(whole, whole=True)
        yield from self._last_sweeps(again, whole=False)
        for group in [group for group in self._groups if group.jobs and group.due <= now]:
            fresh = [job for job in group.jobs.values() if not job.swept]
            swept = [job for job in group.jobs.values() if job.swept]
            if fresh:
                yield _Sweep(fresh, min(job.resume for job in fresh), whole=True, group=group)
            if swept:
                start = group.start() if group.swept_at else min(job.resume for job in swept)
                yield _Sweep(swept, max(start, min(job.since for job in swept)), whole=False, group=group)

    def _last_sweeps(self, jobs: list[FollowedJob], *, whole: bool) -> Iterator[_Sweep]:
        """Yield sweeps over jobs that have ended: one over their common prefix, or one each, whichever is shorter."""
        families: dict[str, list[FollowedJob]] = {}
        for job in jobs:
            families.setdefault(job.name[:4], []).append(job)
        for family in families.values():
            pages = 2 + sum(job.taken for job in family) / _EVENTS_A_PAGE if whole else 2
            together = len(family) > pages and isinstance(self._source, FilterLogEventsSource)
            for batch in [family] if together else [[job] for job in family]:
                yield _Sweep(batch, min(self._last_start(job, whole=whole) for job in batch), whole)

    def _last_start(self, job: FollowedJob, *, whole: bool) -> int:
        """Return where a sweep over a job that has ended begins: at its first line, where that costs one call."""
        if whole or job.taken <= _EVENTS_A_PAGE or job.newest is None:
            return job.resume
        ended_at = job.ending.ended_at if job.ending else None
        last = job.newest if ended_at is None else min(job.newest, round(ended_at * 1000))
        return max(job.since, last - max(round(self._polling.lateness * 1000), 2 * job.skew))

    def _try(self, sweep: _Sweep) -> Generator[LogBatch, None, bool]:
        """Read one sweep, and return whether that went well."""
        try:
            yield from self._sweep(sweep)
        except Exception as error:
            if is_denied(error) and isinstance(self._source, FilterLogEventsSource):
                self._read_by_streams(error)
                return (yield from self._try(sweep))
            if self._strict and not is_denied(error):
                raise
            self._failed(error, sweep)
            return False
        self._outages.record_success(_READING, self._clock.monotonic())
        return True

    def _sweep(self, sweep: _Sweep) -> Iterator[LogBatch]:
        """Read one sweep to its end, and note that."""
        before = {job.name: job.taken for job in sweep.jobs}
        first_news = sweep.group is not None and sweep.group.newest is None
        self._intake.oldest = None
        clock_began = self._clock.monotonic()
        for page in self._pages(sweep):
            for lines in self._intake.take(page, sweep.jobs):
                yield from self._give(lines)
            if sweep.whole and page.last is not None and isinstance(self._source, FilterLogEventsSource):
                self._advance(sweep, page.last)
        began = self._aws_now() - (self._clock.monotonic() - clock_began)
        for job in sweep.jobs:
            job.swept, job.resume = True, job.since
            if job.ending and not sweep.group:
                # Lines that came long ago, and were just not asked for, do not tell that more are under way.
                quiet = job.taken == before[job.name] or (sweep.whole and job.is_quiet(began, self._polling.grace))
                job.ending.quiet = job.ending.quiet + 1 if quiet else 0
                job.ending.last_began = began
        if sweep.group:
            self._after(sweep, sweep.group, began, first_news)
        yield from map(LogBatch.of, self._assembler.flush(before=clock_began - _HELD))

    def _pages(self, sweep: _Sweep) -> Iterator[Page]:
        if isinstance(self._source, FilterLogEventsSource):
            yield from self._source.pages(prefix_of(sweep.jobs, self._host), sweep.start)
        elif self._source:
            for job in sweep.jobs:  # a prefix may be that of others' streams too, of which each costs a call
                start = job.since if sweep.group else sweep.start  # a token goes with the start that it was given for
                from_head = sweep.whole or not sweep.group
                yield from self._source.pages(prefix_of([job], self._host), start, from_head=from_head)

    def _advance(self, sweep: _Sweep, reached: int) -> None:
        """Note how far a sweep has come: where it is broken off, the next one goes on from there."""
        place = reached - round(self._polling.lateness * 1000)
        for job in sweep.jobs:
            job.resume = max(job.resume, place)

    def _after(self, sweep: _Sweep, group: JobGroup, began: float, first_news: bool) -> None:
        newest = [job.newest for job in sweep.jobs if job.newest is not None]
        group.skew = max([group.skew, *(job.skew for job in sweep.jobs)])
        if newest:
            group.newest = max([*newest, group.newest or 0])
        if not sweep.whole or group.swept_at is None:
            group.swept(began, sweep.start, self._intake.oldest)
        for job in sweep.jobs if len(self._jobs) <= self._polling.few else ():
            if job.newest is not None:
                self._feel(job, job.newest / 1000, began)
        first_news = first_news and group.newest is not None
        group.pace(first_news, self._clock.monotonic(), self._aws_now(), self._random)

    def _feel(self, job: FollowedJob, newest: float, began: float) -> None:
        if job.pulse.observe(began - newest, self._polling.longest):
            self._fresh[job.name] = min(began, newest + _ALIVE_FOR)

    def _give(self, lines: LogBatch) -> Iterator[LogBatch]:
        """Yield lines, with long ones put together; what is not taken is left for the next poll."""
        self._open = lines
        if self._assembler.can_skip(lines.messages, lines.streams):
            yield lines
        else:
            for place in range(lines.taken, len(lines.records)):
                event = lines.event(place)
                if ended := self._assembler.flush_before(event):
                    yield LogBatch.of(ended)
                lines.taken = place + 1
                if whole := self._assembler.add(event, lines.keys[place], self._clock.monotonic()):
                    yield LogBatch.of(whole)
        self._open = None

    # What becomes of it.

    def _end(self, sweep: _Sweep) -> Iterator[LogBatch | LogsComplete]:
        """Say which jobs are complete after a sweep over ended ones, and when the others are read again."""
        now = self._clock.monotonic()
        for job in sweep.jobs:
            ending = job.ending
            if ending is None or self._jobs.get(job.name) is not job:  # dropped meanwhile
                continue
            if ending.limit is None:
                ending.limit = now + self._polling.settle_limit
            grace = self._polling.grace and max(self._polling.grace, job.lateness)  # none: no line comes late
            earliest = (ending.ended_at or 0.0) + grace
            if ending.all_arrived or ending.is_over(grace):
                yield from self._completed(job, gave_up=False)
            elif now >= ending.limit:
                logger.warning(
                    "%s: log lines still came in %.0f seconds after the job's end; the last ones may be missing here",
                    job.name,
                    self._polling.settle_limit,
                )
                yield from self._completed(job, gave_up=True)
            else:
                ending.due = now + self._polling.settle
                if ending.quiet:  # the next sweep may be the last, if it is late enough
                    ending.due = max(ending.due, now + earliest - self._aws_now())

    def _end_without_reading(self) -> Iterator[LogBatch | LogsComplete]:
        """Say that ended jobs are complete for which nothing is read any more."""
        now = self._clock.monotonic()
        for job in [job for job in self._jobs.values() if job.ending]:
            assert job.ending
            if job.done:
                yield from self._completed(job, gave_up=False)
            elif self._source is None:
                yield from self._completed(job, gave_up=True)
            elif self._outages.retry_at(_READING) and now >= job.ending.give_up_at:
                logger.warning("the last log lines of %s could not be read; they may be missing here", job.name)
                yield from self._completed(job, gave_up=True)

    def _completed(self, job: FollowedJob, *, gave_up: bool) -> Iterator[LogBatch | LogsComplete]:
        yield from map(LogBatch.of, self._assembler.flush(job.name))
        job.count -= self._assembler.saved.pop(job.name, 0)
        if not job.count and not gave_up and self._host is None and not self._strict:
            logger.warning("%s logged nothing", job.name)
        self._complete[job.name] = (job.since, job.count)
        self._forget(job)
        yield LogsComplete(job.name, job.count, gave_up)

    def _forget(self, job: FollowedJob) -> None:
        del self._jobs[job.name]
        self._leave_group(job)
        self._intake.forget()
        if isinstance(self._source, GetLogEventsSource):
            self._source.forget(f"{job.name}/")

    def _leave_group(self, job: FollowedJob) -> None:
        for group in self._groups:
            group.jobs.pop(job.name, None)
        self._groups = [group for group in self._groups if group.jobs]

    # What goes wrong.

    def _read_by_streams(self, error: Exception) -> None:
        logger.info("FilterLogEvents is not allowed (%s); reading stream by stream", error)
        self._read_by(GetLogEventsSource(self._call))

    def _read_by(self, source: FilterLogEventsSource | GetLogEventsSource) -> None:
        self._source, self._intake.way = source, type(source).__name__
        self._intake.forget()

    def _failed(self, error: Exception, sweep: _Sweep) -> None:
        """Come back later to a sweep that failed, or give up reading logs."""
        name = sweep.jobs[0].name + (f" and {len(sweep.jobs) - 1} others" if len(sweep.jobs) > 1 else "")
        if is_denied(error) or not self._outages.record_failure(_READING, error, self._clock.monotonic()):
            why = "reading them is not allowed" if is_denied(error) else "they cannot be read"
            logger.warning("the logs of %s cannot be shown, %s: %s", name, why, error)
            self._source = None
            return
        due = self._outages.retry_at(_READING)
        if sweep.group:
            sweep.group.due = due
        for job in sweep.jobs:
            if job.ending:
                job.ending.due = due

    def _call(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        if not self._server.is_known:
            install_page_parser(self._api.client("logs"))
        sent, answer = self._clock.monotonic(), {}
        try:
            answer = self._api.call("logs", operation, params, policy=self._policy())
        except Exception as error:
            answer = dict(response_of(error))
            raise
        finally:
            self._server.update(answer, sent)
        return answer

    def _aws_now(self) -> float:
        return self._server.now() if self._server.is_known else self._clock.time()

    def _short_policy(self) -> RetryPolicy:
        return attrs.evolve(self._api.policy, budget=min(self._api.policy.budget, _CALL_BUDGET))

    # What another process goes on with.

    def _saved(self, job: FollowedJob) -> dict[str, Any]:
        """Return a job's part of a checkpoint: without what was taken and is not yet given."""
        group = next((group for group in self._groups if job.name in group.jobs), None)
        resume = group.start() if group and job.swept else job.resume
        held, first = self._assembler.held(job.name)
        left, streams = self._open.left(job.name) if self._open else ({}, {})
        earliest = [moment for moment in (first, *left.values()) if moment is not None]
        return {
            "since": job.since,
            "resume": max(job.since, min([resume, *earliest])),
            "count": job.count - self._assembler.saved[job.name] - len(held) - len(left),
            "newest": job.newest,
            "streams": {**job.streams, **streams},
            "way": job.way,
            "told": dict(job.told),
            "seen": job.seen.to_texts(without=[*held, *left]),
        }

    def _restore(self, job_name: str, since: int) -> FollowedJob | None:
        """Return a job as the checkpoint has it; None where it has none, or another of the name."""
        saved = self._restored.get(job_name)
        if saved is None or saved.get("since") != since:
            return None
        try:
            job = FollowedJob(job_name, since, saved.get("resume", since), count=saved["count"])
            if "seen" not in saved:
                return attrs.evolve(job, done=True)
            job.newest, job.streams = saved["newest"], dict(saved["streams"])
            job.seen = SeenLines.from_texts(saved["seen"])
            job.way, job.told = saved["way"], dict(saved["told"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"checkpoint: what it says of {job_name} cannot be read") from error
        return job


def ended_long_ago(api: RetryingApi, description: Mapping[str, Any]) -> bool:
    """Return whether a job ended so long ago that none of its lines is under way any more."""
    ended = description.get("ProcessingEndTime")
    now = server_time(description.get("ResponseMetadata", {})) or api.clock.time()
    return ended is not None and bool(now - ended.timestamp() > _SETTLED_AFTER)


def to_milliseconds(moment: datetime) -> int:
    """Return a moment as CloudWatch writes it: in milliseconds since the epoch."""
    return int(moment.timestamp() * 1000)

"""Reader of the log lines of jobs: delivers every line once, while the jobs run and after they have ended.

CloudWatch delivers late: a line may appear after newer lines have been read. So every sweep starts some time before the
newest line, and lines that were read before are recognized by their ids and dropped. After a job's end all its lines
are read once more, then its last lines until nothing new appears.

A line takes this way:

1. `SweepPlanner` decides which jobs are read, and from which moment on.
2. `LogSource` reads pages with FilterLogEvents, or with GetLogEvents.
3. `LogRouter` assigns the lines of a page to their jobs and drops those that were read before: a `LogBatch`.
4. `LineAssembler` joins the pieces of lines that were longer than a CloudWatch event.
5. `Endings` decides when all lines of an ended job have been read: `LogsComplete`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from processing.aws.retry import is_denied, server_time
from processing.watching.logs.batch import LogBatch
from processing.watching.logs.endings import Endings, LogsComplete
from processing.watching.logs.followed_job import FollowedJob
from processing.watching.logs.job_checkpoints import JobCheckpoints, job_entry
from processing.watching.logs.logs_api import LogsApi
from processing.watching.logs.reassembly import LineAssembler
from processing.watching.logs.router import TRUSTED_SKEW, LogRouter
from processing.watching.logs.sources import LogSource
from processing.watching.logs.sweep_planner import SweepPlanner
from processing.watching.outages import Outages

if TYPE_CHECKING:
    import random as random_module
    from collections.abc import Callable, Generator, Iterator, Mapping

    from processing.aws.retry import RetryingApi, RetryPolicy
    from processing.watching.checkpoint import Checkpoint
    from processing.watching.logs.endings import Completion
    from processing.watching.logs.job_groups import Sweep
    from processing.watching.polling import Polling

logger = logging.getLogger(__name__)

# Seconds after a job's end after which no line is on its way any more.
_ALL_ARRIVED_AFTER: Final = 600.0
# Seconds for which a job counts as running after its newest line, if it writes as usual. With a line a second this
# saves 5 of 289 calls an hour. A larger value saves more, but the end of a job may then be seen that much later.
_ALIVE_AFTER_LINE: Final = 0.4
# Seconds for which a piece of a long line waits for the next one; then it is delivered as it is.
_HOLD_PIECES: Final = 5.0
# AWS publishes no bound on how late a new log group is visible. It is assumed to be visible this many seconds after the
# first line at the latest. So the longer a job ran without a group, the less likely it has written a line at all. The
# wait concerns the first job of an account only.
_GROUP_DELAY: Final = 150.0
_MOST_GROUP_PATIENCE: Final = 90.0
# All operations that read logs count as one in `Outages`, so that an outage is reported once.
_READING: Final = "FilterLogEvents"


class LogReader:
    """Reads the lines of jobs, and delivers each of them once.

    It reads when it is asked for lines, a page at a time, and never sleeps. It waits transient failures out. If the
    user has no permission to read logs, it logs one warning and delivers no lines.

    Args:
        api: the session's calls.
        polling: how often to read, how late lines may be, and how long to wait for the last ones.
        policy: returns the retry policy of the next call; by default the API's own, with at most 20 seconds for a call.
        host: the only instance whose lines are read, such as `algo-1`; None for all.
        checkpoint: the lines that were delivered before.
        random: the source of jitter; by default that of the calls.
        strict: True to raise the errors of reading.
        may_be_silent: True if no warning is wanted about a job without lines.
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
        may_be_silent: bool = False,
    ) -> None:
        random = random or api.random
        self._api = LogsApi(api, policy)
        self._clock = api.clock
        self._polling = polling
        self._random = random
        self._host = host
        self._strict = strict
        self._may_be_silent = may_be_silent
        self._jobs: dict[str, FollowedJob] = {}
        self._source = LogSource(self._api.call, host)
        self._outages = Outages(polling, random, "the log lines of jobs", reports_all=False)
        self._planner = SweepPlanner(self._jobs, polling, api.clock, self._source, random)
        self._router = LogRouter(self._jobs, host, self._source)
        self._assembler = LineAssembler()
        self._endings = Endings(self._jobs, polling, api.clock, self._source, self._api.aws_time)
        self._checkpoints = JobCheckpoints(checkpoint)
        # The batch that is being delivered. If the consumer stops in the middle of it, the next `read` continues here.
        self._current_batch: LogBatch | None = None
        self._signs_of_life: dict[str, float] = {}

    def add(self, job_name: str, since: int, *, created: int = 0) -> None:
        """Follow another job; its first lines are due at once.

        Args:
            job_name: the job.
            since: lines with an earlier timestamp (ms since the epoch) are not wanted.
            created: the job's creation (ms since the epoch). Earlier lines may belong to an older job of that name.

        Raises:
            ConfigurationError: the checkpoint's entry of the job cannot be read.
        """
        job = self._checkpoints.restore(job_name, since) or FollowedJob(job_name, since, since)
        job.created = created
        self._jobs[job_name] = job
        if not job.complete:
            self._planner.add(job)
            self._router.reset()

    def remove(self, job_name: str) -> None:
        """Stop following a job that does not exist any more, without waiting for its last lines."""
        self._forget(self._jobs[job_name])

    def mark_ended(
        self,
        job_name: str,
        *,
        ended_at: float | None,
        all_arrived: bool,
        group_patience: float = 0.0,
        gone_at: float | None = None,
    ) -> None:
        """Wait for the last lines of a job from now on; `read` yields a `LogsComplete` after the last one.

        Args:
            job_name: the job.
            ended_at: when it ended, in seconds since the epoch; None if that is not known.
            all_arrived: True if CloudWatch has delivered all its lines, so that one sweep is enough.
            group_patience: the seconds for which a missing log group is waited for.
            gone_at: a moment at which the job did not exist any more, in seconds since the epoch.
        """
        job = self._jobs[job_name]
        job.ended, job.gone = _milliseconds(ended_at), _milliseconds(gone_at)
        self._router.reset()  # streams from now on may be those of the next job of that name
        self._endings.begin(job, ended_at=ended_at, all_arrived=all_arrived, group_patience=group_patience)
        self._planner.remove(job)

    def read(self) -> Generator[LogBatch | LogsComplete, None, None]:
        """Yield new lines in the order of their arrival, and a `LogsComplete` after the last line of each ended job.

        Everything that is due is read, page by page as lines are consumed. If the consumer stops early, the next call
        continues where it stopped. The lines of a batch count as delivered when the next batch is requested; before
        that, as many as were consumed.

        Raises:
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: reading failed, and `strict` is True.
        """
        if self._current_batch is not None and self._current_batch.consumed < len(self._current_batch.records):
            yield from self._deliver(self._current_batch)
        for sweep in self._planner.due_sweeps():
            succeeded = yield from self._try_sweep(sweep)
            if succeeded and not sweep.group:
                for completion in self._endings.after_sweep(sweep):
                    yield from self._complete(completion)
        for completion in self._endings.without_sweep(is_outage=self._outages.retry_at(_READING) > 0):
            yield from self._complete(completion)

    @property
    def is_ordered(self) -> bool:
        """True if a sweep delivers its lines in the order of time; known after it has begun."""
        return self._source.is_ordered

    @property
    def due(self) -> float | None:
        """The monotonic time at which `read` has something to do next; None for never."""
        return self._planner.due

    @property
    def caught_up(self) -> bool:
        """True if all lines have been delivered that each job had when reading began."""
        return not self._source.is_readable or all(job.fully_read for job in self._jobs.values())

    def pop_signs_of_life(self) -> Mapping[str, float]:
        """Return by job until when it surely ran (seconds since the epoch), as far as that is new since the last call.

        Only jobs that write as usual are in the result.
        """
        signs, self._signs_of_life = self._signs_of_life, {}
        return signs

    def align_with_status_call(self, moment: float) -> None:
        """Delay the sweeps that are due until the next status call: young lines may make that call unnecessary.

        Args:
            moment: the monotonic time of that call.
        """
        self._planner.align_with_status_call(moment)

    def checkpoint(self) -> Checkpoint:
        """Return the lines that have been delivered; another process continues from there without a gap or a repeat."""
        return self._checkpoints.checkpoint(
            {
                name: job_entry(job, self._planner.resume_at(job), self._assembler, self._current_batch)
                for name, job in self._jobs.items()
                if not job.complete  # the earlier checkpoint's entry stays
            }
        )

    def _try_sweep(self, sweep: Sweep) -> Generator[LogBatch, None, bool]:
        """Read a sweep, and return whether that succeeded."""
        try:
            yield from self._read_sweep(sweep)
        except Exception as error:
            if self._source.fall_back(error):
                self._router.reset()
                return (yield from self._try_sweep(sweep))
            if self._strict and not is_denied(error):
                raise
            self._handle_failure(error, sweep)
            return False
        self._outages.record_success(_READING, self._clock.monotonic())
        return True

    def _read_sweep(self, sweep: Sweep) -> Iterator[LogBatch]:
        """Read a sweep to its end, and record that."""
        counts_before = {job.name: job.event_count for job in sweep.jobs}
        self._router.oldest_new = None
        clock_began = self._clock.monotonic()
        for page in self._source.pages(sweep):
            for lines in self._router.route(page, sweep.jobs):
                yield from self._deliver(lines)
            if sweep.whole and page.last is not None and self._source.reads_prefixes:
                self._planner.record_progress(sweep, page.last)
        began = self._api.aws_time() - (self._clock.monotonic() - clock_began)
        if sweep.group and self._source.is_absent:
            # Nothing counts as read: the next sweep begins with the first line too.
            sweep.group.schedule(
                has_first_lines=False, now=self._clock.monotonic(), aws_time=self._api.aws_time(), random=self._random
            )
            return
        for job in sweep.jobs:
            job.fully_read, job.resume_at = True, job.since
        if sweep.group:
            self._record_signs_of_life(sweep, began)
            self._planner.record_sweep(
                sweep, sweep.group, began, self._router.oldest_new, aws_time=self._api.aws_time()
            )
        else:
            self._endings.record_sweep(sweep, counts_before, began)
        yield from map(LogBatch.of, self._assembler.flush(before=clock_began - _HOLD_PIECES))

    def _record_signs_of_life(self, sweep: Sweep, began: float) -> None:
        """Record that jobs run whose newest line is as young as usual, if status calls are made job by job."""
        if len(self._jobs) > self._polling.few:
            return
        for job in sweep.jobs:
            if job.newest is not None:
                newest = job.newest / 1000
                if job.liveness.observe(began - newest, self._polling.longest):
                    self._signs_of_life[job.name] = min(began, newest + _ALIVE_AFTER_LINE)

    def _deliver(self, lines: LogBatch) -> Iterator[LogBatch]:
        """Yield lines, with the pieces of long ones joined; those that are not consumed stay for the next `read`."""
        self._current_batch = lines
        if self._assembler.can_skip(lines.messages, lines.streams):
            yield lines
        else:
            for index in range(lines.consumed, len(lines.records)):
                event = lines.event(index)
                if earlier := self._assembler.flush_before(event):
                    yield LogBatch.of(earlier)
                lines.consumed = index + 1
                if line := self._assembler.add(event, lines.keys[index], self._clock.monotonic()):
                    yield LogBatch.of(line)
        self._current_batch = None

    def _complete(self, completion: Completion) -> Iterator[LogBatch | LogsComplete]:
        """Yield the pieces of a job's lines that are still held back, then its `LogsComplete`, and forget the job."""
        job, gave_up = completion.job, completion.gave_up
        yield from map(LogBatch.of, self._assembler.flush(job.name))
        job.line_count -= self._assembler.joined.pop(job.name, 0)
        is_odd = self._host is None and not self._strict and not self._may_be_silent
        if not job.line_count and not gave_up and is_odd:
            logger.warning("%s logged nothing", job.name)
        self._checkpoints.record_complete(job)
        self._forget(job)
        yield LogsComplete(job.name, job.line_count, gave_up)

    def _forget(self, job: FollowedJob) -> None:
        del self._jobs[job.name]
        self._planner.remove(job)
        self._router.reset()
        self._source.forget(job.name)

    def _handle_failure(self, error: Exception, sweep: Sweep) -> None:
        """Schedule a sweep that failed again, or give up reading logs."""
        if is_denied(error) or not self._outages.record_failure(_READING, error, self._clock.monotonic()):
            more = f" and {len(sweep.jobs) - 1} others" if len(sweep.jobs) > 1 else ""
            reason = "reading them is not allowed" if is_denied(error) else "they cannot be read"
            logger.warning("the logs of %s cannot be shown, %s: %s", sweep.jobs[0].name + more, reason, error)
            self._source.give_up()
            return
        due = self._outages.retry_at(_READING)
        if sweep.group:
            sweep.group.due = due
        for job in sweep.jobs:
            if job.ending:
                job.ending.due = due


def _milliseconds(moment: float | None) -> int | None:
    return None if moment is None else int(moment * 1000)


def ended_long_ago(api: RetryingApi, description: Mapping[str, Any]) -> bool:
    """Return whether a job ended so long ago that CloudWatch has delivered all its lines.

    Args:
        api: the session's calls.
        description: the response of DescribeProcessingJob.
    """
    ended = description.get("ProcessingEndTime")
    now = server_time(description.get("ResponseMetadata", {})) or api.clock.time()
    return ended is not None and bool(now - ended.timestamp() > _ALL_ARRIVED_AFTER)


def group_patience(description: Mapping[str, Any]) -> float:
    """Return the seconds for which the log group is waited for after a job's end, if it is missing.

    The first line of an account's first job creates it. A job whose container never started writes no line. The answer
    of DescribeProcessingJob shows that, the summary by ListProcessingJobs does not.
    """
    is_summary = "AppSpecification" not in description
    started = description.get("ProcessingStartTime") or (description.get("CreationTime") if is_summary else None)
    ended = description.get("ProcessingEndTime")
    if started is None or ended is None:
        return 0.0
    ran = max(0.0, float((ended - started).total_seconds()))
    return max(0.0, min(_MOST_GROUP_PATIENCE, _GROUP_DELAY - ran))


def first_line_range(description: Mapping[str, Any], since: int | None) -> tuple[int, int]:
    """Return the earliest timestamp to read, and the creation for `LogReader.add`, in ms since the epoch.

    Args:
        description: the job's description.
        since: the user's earliest timestamp; None for all lines.
    """
    created = creation_ms(description)
    if since is not None and since > created:
        return since, 0
    return max(0, created - TRUSTED_SKEW), created


def creation_ms(description: Mapping[str, Any]) -> int:
    """Return the CreationTime of a job as CloudWatch writes it, in ms since the epoch; 0 if it is not known."""
    created = description.get("CreationTime")
    return 0 if created is None else int(created.timestamp() * 1000)

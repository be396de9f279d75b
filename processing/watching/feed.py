"""The events of a session's jobs, as an iterator that never waits.

A feed yields events. When it has none, it yields `Until`: the moment at which it has to be asked again. Its driver
waits in its own way, a thread on the subscription and a coroutine on a wake-up (`processing.watching.stream`,
`processing.watching.aio`). Statuses come from the session's poller, which all feeds share. Log lines are read here,
only when the driver asks for them and no faster than it consumes them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs

from processing.container.contract import TERMINAL
from processing.exceptions import ConfigurationError
from processing.watching.events import StatusChanged
from processing.watching.logs.batch import LogBatch
from processing.watching.logs.filters import LogTail, Selection
from processing.watching.logs.reader import LogReader, ended_long_ago, first_line_range, group_patience
from processing.watching.status.model import Lost

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from processing.aws.retry import RetryingApi, RetryPolicy
    from processing.clock import Clock
    from processing.watching.checkpoint import Checkpoint
    from processing.watching.logs.endings import LogsComplete
    from processing.watching.polling import Polling
    from processing.watching.status.model import StatusUpdate, WatchTarget
    from processing.watching.status.poller import Poller, Subscription

# A call for log lines is retried this many seconds. The feed repeats it later, and must not delay status updates.
_BUDGET: Final = 20.0
# A call gets at least five seconds, however near the deadline: a healthy call is never cut off.
_GRACE: Final = 5.0
# A long read of log lines pauses after one second, the poller's shortest interval, so that statuses stay current.
_READ_SLICE: Final = 1.0
# The feed asks for newly submitted jobs once a second: AWS creates about one job a second.
_ARRIVALS_EVERY: Final = 1.0
# After a longer pause of the consumer, in seconds, statuses are asked for before lines are read.
_LONG_PAUSE: Final = 10.0
# A full output is asked again after this many seconds.
_READY_AGAIN: Final = 0.2
_MOST_NAMES: Final = 5  # in a message


class Watchable(Protocol):
    """The part of a session that a feed uses."""

    @property
    def clock(self) -> Clock:
        """The clock that deadlines are measured on."""

    @property
    def api(self) -> RetryingApi:
        """The session's calls."""

    @property
    def polling(self) -> Polling:
        """The intervals of status calls and log reads."""

    @property
    def poller(self) -> Poller:
        """The source of statuses."""


@attrs.frozen
class Until:
    """The end of the present events.

    Args:
        moment: the moment of the monotonic clock at which the feed has to be asked again, if there is no news of the
            subscription before. None means only at news.
    """

    moment: float | None


FeedItem: TypeAlias = StatusChanged | LogBatch | Lost | Until


class Feed:
    """The events of some jobs of one session, for one consumer.

    A job's events are its status changes and its log lines. The last event is the change to its terminal status, or a
    `Lost` if it cannot be watched any longer. All of its lines come before.

    Args:
        session: the session of the jobs.
        targets: the jobs.
        logs: False for statuses only.
        timeout: the seconds from now after which jobs that still run are given up; None for no limit. The last lines of
            a job that ended in time are read after the timeout too.
        selection: the log lines to yield.
        checkpoint: the position at which another feed of the same jobs stopped.
        ready: returns whether the consumer can take lines at the moment. Lines are not read while it cannot.
        arrivals: returns the jobs to watch in addition, since its last call, and None once no more will come. The feed
            does not end before. The function makes no call to AWS.

    Attributes:
        session: the argument.
        makes_calls: whether the next item may take as long as a call to AWS.
        unfinished: the jobs that had not ended at the timeout, and their last known statuses; empty before.
    """

    def __init__(
        self,
        session: Watchable,
        targets: Sequence[WatchTarget],
        *,
        logs: bool = False,
        timeout: float | None = None,
        selection: Selection | None = None,
        checkpoint: Checkpoint | None = None,
        ready: Callable[[], bool] = lambda: True,
        arrivals: Callable[[], Sequence[WatchTarget] | None] | None = None,
    ) -> None:
        self.session = session
        self.unfinished: Mapping[str, str | None] = {}
        self.makes_calls = logs
        self._targets = tuple(targets)
        self._deadline = None if timeout is None else session.clock.monotonic() + timeout
        self._running: dict[str, str | None] = {target.name: target.status for target in targets}
        self._closed = False
        self._has_read = False
        self._refreshed_at_deadline = False
        self._subscription: Subscription | None = None
        self._arrivals = arrivals
        self._logs: _FeedLogs | None = None
        if logs:
            self._logs = _FeedLogs(session, selection or Selection(), checkpoint, self._policy, ready)

    @property
    def subscription(self) -> Subscription:
        """The subscription to wait on. It is made at first use, without a call to AWS."""
        if self._subscription is None:
            self._subscription = self.session.poller.subscribe(self._targets, deadline=self._deadline)
            if self._closed:  # by another thread, meanwhile
                self._subscription.close()
        return self._subscription

    def checkpoint(self) -> Checkpoint:
        """Return the position after the lines that were yielded so far.

        Raises:
            ConfigurationError: the feed has no log lines.
        """
        if self._logs is None:
            raise ConfigurationError(
                "logs: a checkpoint is about log lines, and these events have none; give logs=True"
            )
        return self._logs.reader.checkpoint()

    def close(self) -> None:
        """Stop watching. If another thread is iterating, its iteration ends soon."""
        self._closed = True
        if self._subscription is not None:
            self._subscription.close()

    def items(self) -> Iterator[FeedItem]:
        """Yield the events, and an `Until` each time that there are none.

        The driver continues at the moment of the `Until`, or when the subscription has updates. Calls for log lines are
        made in between. Without logs, no item takes time.
        """
        self._add_arrivals()
        if self._is_over():
            return
        if self._is_overdue():
            self._refresh_at_deadline()  # without any time, the first status calls are the last ones too
        yield Until(_earliest(self._deadline, self._next_arrivals()))  # the poller makes its first call meanwhile
        yield from self._further_items()

    def _further_items(self) -> Iterator[FeedItem]:
        """Yield the items after the poller's first call."""
        while True:
            self._add_arrivals()
            begun = self.session.clock.monotonic()
            updates = self.subscription.drain()
            for update in updates:
                yield from self._handle_update(update)
            if self._logs is not None and self.session.clock.monotonic() - begun > _LONG_PAUSE:
                # The consumer paused. A job may be gone, and its name be taken: the poller asks before lines are read.
                yield Until(self.session.clock.monotonic())
                continue
            if self._logs is not None and (self._logs.ending or not self._has_read or not self._is_overdue()):
                self._has_read = True
                yield from self._read(self._logs)
            if self._is_over():
                return
            if self._is_overdue():
                # News of one job: the answers about the others are on their way.
                if self._refresh_at_deadline() or (updates and self.subscription.awaits_answers):
                    yield Until(self._deadline)
                    continue
                if self._give_up():
                    return
            lines_due = self._logs.due() if self._logs else None
            yield Until(_earliest(self._deadline, lines_due, self._next_arrivals()))

    def _is_over(self) -> bool:
        return self._closed or not (self._running or self._arrivals)

    def _add_arrivals(self) -> None:
        """Watch the jobs that have arrived. After some, ask at once whether more will come."""
        while self._arrivals is not None:
            targets = self._arrivals()
            if targets is None:
                self._arrivals = None
            for target in targets or ():
                self._running[target.name] = target.status
                self.subscription.add(target)
            if not targets:
                return

    def _next_arrivals(self) -> float | None:
        return None if self._arrivals is None else self.session.clock.monotonic() + _ARRIVALS_EVERY

    def _handle_update(self, update: StatusUpdate) -> Iterator[FeedItem]:
        """Yield an update, unless the job's last lines have to come before it."""
        if update.job_name not in self._running:
            return
        is_last = isinstance(update, Lost) or update.status in TERMINAL
        if isinstance(update, StatusChanged):
            self._running[update.job_name] = update.status
        if self._logs is not None and self._logs.holds_back(update, is_last=is_last):
            return
        if is_last:
            del self._running[update.job_name]
        yield update

    def _read(self, logs: _FeedLogs) -> Iterator[FeedItem]:
        """Yield the lines that are due, and the last updates of jobs whose last lines are among them."""
        clock, pause_at = self.session.clock, self.session.clock.monotonic() + _READ_SLICE
        logs.reader.align_with_status_call(self.subscription.next_describe())
        with contextlib.closing(logs.read()) as items:
            for item in items:
                if self._closed:
                    return
                if isinstance(item, LogBatch):
                    yield from self._only_running(item)
                    item.consumed = len(item.records)  # a display takes all lines without iterating
                    if clock.monotonic() < pause_at:
                        continue
                    if self._is_overdue():
                        break
                    yield Until(clock.monotonic())  # lets this thread lead the poller, if no other one does
                    pause_at = clock.monotonic() + _READ_SLICE
                elif item.job_name in self._running:
                    del self._running[item.job_name]
                    yield item
        for name, moment in logs.reader.pop_signs_of_life().items():
            self.subscription.record_alive(name, moment)

    def _only_running(self, lines: LogBatch) -> Iterator[LogBatch]:
        if not lines.job_names <= self._running.keys():
            lines.filter(lambda name, _: name in self._running)
        if lines:
            yield lines

    def _is_overdue(self) -> bool:
        return self._deadline is not None and self.session.clock.monotonic() >= self._deadline

    def _refresh_at_deadline(self) -> bool:
        """Request a last status call about the jobs, once, if they are few. Return whether it was requested."""
        if self._refreshed_at_deadline or len(self._running) > self.session.polling.few:
            return False
        self._refreshed_at_deadline = True
        self.subscription.refresh()
        return True

    def _give_up(self) -> bool:
        """Give up the jobs that still run. Return whether the feed ends, as no ended job has lines left to read."""
        logs = self._logs
        self.unfinished = {
            name: status for name, status in self._running.items() if logs is None or name not in logs.ending
        }
        for name in self.unfinished:
            del self._running[name]
        self._arrivals = None
        self._deadline = None  # the others ended in time, and the reader bounds the wait for their last lines
        return not self._running

    def _policy(self) -> RetryPolicy:
        """Return the retry policy of the next call for lines, within the time that is left."""
        policy = self.session.api.policy
        budget, patience = min(policy.budget, _BUDGET), policy.patience
        if self._deadline is not None:
            left = self._deadline - self.session.clock.monotonic()
            budget, patience = min(budget, max(0.0, left)), max(_GRACE, left)
        return attrs.evolve(policy, budget=budget, patience=patience)


class _FeedLogs:
    """The log lines of a feed: when to read them, which to leave out, and the updates that wait for them.

    Attributes:
        ending: the jobs whose last lines are being read, each with the update that follows them.
    """

    def __init__(
        self,
        session: Watchable,
        selection: Selection,
        checkpoint: Checkpoint | None,
        policy: Callable[[], RetryPolicy],
        ready: Callable[[], bool],
    ) -> None:
        self._session = session
        self._selection = selection
        self._policy = policy
        self._ready = ready
        self._checkpoint = checkpoint
        self._reader: LogReader | None = None
        self._added: set[str] = set()
        self.ending: dict[str, StatusUpdate] = {}
        self._tail = None if selection.tail is None else LogTail(selection.tail)
        self._not_before = 0.0

    @property
    def reader(self) -> LogReader:
        """The reader. It is made at first use, like the session's calls."""
        if self._reader is None:
            session = self._session
            self._reader = LogReader(
                session.api,
                session.polling,
                policy=self._policy,
                host=self._selection.host,
                may_be_silent=self._selection.may_be_silent,
                checkpoint=self._checkpoint,
            )
        return self._reader

    def holds_back(self, update: StatusUpdate, *, is_last: bool) -> bool:
        """Record an update of a job, and return whether it has to wait until the job's last line has been read."""
        name = update.job_name
        if isinstance(update, StatusChanged) and name not in self._added:
            self._added.add(name)
            since, created = first_line_range(update.description, self._selection.since)
            self.reader.add(name, since, created=created)
        if not is_last or name not in self._added:
            return False
        self.ending[name] = update
        if isinstance(update, StatusChanged):
            ended = update.description.get("ProcessingEndTime")
            all_arrived = ended_long_ago(self._session.api, update.description)
            self.reader.mark_ended(
                name,
                ended_at=ended and ended.timestamp(),
                all_arrived=all_arrived,
                group_patience=group_patience(update.description),
            )
        else:  # of a lost job, only the present lines are read
            self.reader.mark_ended(name, ended_at=None, all_arrived=True, gone_at=update.gone_at)
        return True

    def due(self) -> float | None:
        """Return the moment of the next read; None if there is nothing to read."""
        due = self.reader.due
        return None if due is None else max(due, self._not_before)

    def read(self) -> Generator[LogBatch | StatusUpdate, None, None]:
        """Yield the lines that are due, and each update that waited for them."""
        clock = self._session.clock
        due = self.due()
        if due is None or due > clock.monotonic():
            return
        if not self._ready():
            self._not_before = clock.monotonic() + _READY_AGAIN
            return
        with contextlib.closing(self.reader.read()) as items:
            for item in items:
                if isinstance(item, LogBatch):
                    yield from self._select(item)
                else:
                    yield from self._flush_tail()
                    yield from self._complete(item)
        if self.reader.caught_up:
            yield from self._flush_tail()

    def _select(self, lines: LogBatch) -> Iterator[LogBatch]:
        self._selection.apply(lines)
        if self._tail is None:
            yield lines
        else:
            self._tail.add(lines)

    def _flush_tail(self) -> Iterator[LogBatch]:
        """Yield the last lines that existed when reading began. Later lines are then yielded as they come."""
        if self._tail is not None:
            tail, self._tail = self._tail, None
            yield from map(LogBatch.of, tail.lines())

    def _complete(self, complete: LogsComplete) -> Iterator[StatusUpdate]:
        update = self.ending.pop(complete.job_name, None)
        if update is not None:
            yield update


def join_names(names: Sequence[str]) -> str:
    """Return names as a text: the first few, and the number of the others."""
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def _earliest(*moments: float | None) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)

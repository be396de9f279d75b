"""What happens to jobs of one session, as steps: events, and the moments before which there is nothing to do.

A feed never waits. Where it has nothing more to give it says until when, and whoever drives it waits in its own way: a
thread on the subscription, a coroutine on a wake-up (`processing.watching.stream`). Statuses come from the session's
poller, which all feeds share. Log lines are read here, when they are asked for and no faster than they are taken.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

from processing.container.contract import TERMINAL
from processing.exceptions import ConfigurationError
from processing.watching.events import StatusChanged
from processing.watching.logs.batch import LogBatch
from processing.watching.logs.filters import Selection, Tail
from processing.watching.logs.reader import LogReader, ended_long_ago, to_milliseconds
from processing.watching.status.model import Lost

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from processing.aws.retry import RetryingApi, RetryPolicy
    from processing.clock import Clock
    from processing.watching.checkpoint import Checkpoint
    from processing.watching.logs.reader import LogsComplete
    from processing.watching.polling import Polling
    from processing.watching.status.model import News, Target
    from processing.watching.status.poller import Poller, Subscription

_BUDGET = 20.0  # seconds for the tries of one call: the feed comes back to it, and statuses are not to wait for it
_GRACE = 5.0  # seconds that a call has in any case, however near the deadline
_TURN = 1.0  # seconds of reading lines after which statuses get their turn
_ARRIVALS_EVERY = 1.0  # seconds after which it is asked again which jobs have come: about as fast as AWS creates them
_READY_AGAIN = 0.2  # seconds after which an output that was full is asked again
_SHOWN = 5  # names that a message spells out


class Watchable(Protocol):
    """What a feed needs of a session."""

    @property
    def clock(self) -> Clock:
        """What deadlines are measured on."""

    @property
    def api(self) -> RetryingApi:
        """The session's calls."""

    @property
    def polling(self) -> Polling:
        """How often to look."""

    @property
    def poller(self) -> Poller:
        """What knows the statuses."""


@attrs.frozen
class Until:
    """There is nothing to do before this moment of the monotonic clock, or before news; None means before news."""

    moment: float | None


FeedItem: TypeAlias = StatusChanged | LogBatch | Lost | Until


class Feed:
    """The jobs of one session that somebody watches together.

    A job's events are its status changes and its lines; the last is the change to its terminal status, or a `Lost`
    where it cannot be watched any more. Before that all of its lines have been given.

    Args:
        session: where the jobs are.
        targets: the jobs.
        logs: False for the statuses alone.
        timeout: seconds from now after which to give up those that still run; None for never. The last lines of a job
            that ended in time are read all the same.
        selection: the lines that are wanted.
        checkpoint: where another feed over the same jobs stopped.
        ready: tells whether lines can be taken at the moment; they are not read where they cannot.
        arrivals: returns the jobs that have come since it was called last, which are watched too, and None when none
            will come any more; until then the feed does not end. It makes no call.

    Attributes:
        session: as given.
        makes_calls: whether a step may take as long as a call to AWS.
        unfinished: the jobs that had not ended when the time was up, and their last known statuses; empty before.
    """

    def __init__(
        self,
        session: Watchable,
        targets: Sequence[Target],
        *,
        logs: bool = False,
        timeout: float | None = None,
        selection: Selection | None = None,
        checkpoint: Checkpoint | None = None,
        ready: Callable[[], bool] = lambda: True,
        arrivals: Callable[[], Sequence[Target] | None] | None = None,
    ) -> None:
        self.session = session
        self.unfinished: Mapping[str, str | None] = {}
        self.makes_calls = logs
        self._targets = tuple(targets)
        self._deadline = None if timeout is None else session.clock.monotonic() + timeout
        self._left: dict[str, str | None] = {target.name: target.status for target in targets}
        self._closed = False
        self._has_read = False
        self._looked = timeout is not None and timeout <= 0  # the first look is the last one too
        self._subscription: Subscription | None = None
        self._arrivals = arrivals
        self._lines: _Lines | None = None
        if logs:
            self._lines = _Lines(session, selection or Selection(), checkpoint, self._policy, ready)

    @property
    def subscription(self) -> Subscription:
        """What to wait on; made when first asked for, without a call."""
        if self._subscription is None:
            self._subscription = self.session.poller.subscribe(self._targets, deadline=self._deadline)
            if self._closed:  # by another thread, meanwhile
                self._subscription.close()
        return self._subscription

    def checkpoint(self) -> Checkpoint:
        """Return where the lines stand: what was given so far.

        Raises:
            ConfigurationError: lines are not read here.
        """
        if self._lines is None:
            raise ConfigurationError(
                "logs: a checkpoint is about log lines, and these events have none; give logs=True"
            )
        return self._lines.reader.checkpoint()

    def close(self) -> None:
        """Stop watching; another thread that is amid a step comes to its end soon."""
        self._closed = True
        if self._subscription is not None:
            self._subscription.close()

    def items(self) -> Iterator[FeedItem]:
        """Yield the events, and an `Until` wherever there is nothing to give.

        Whoever drives comes back when the moment has come, or when the subscription has news. Calls to AWS for log
        lines are made in between; without logs nothing here takes time.
        """
        self._take_in()
        yield Until(_earliest(self._deadline, self._next_arrivals()))  # the poller's first look
        while True:
            self._take_in()
            for news in self.subscription.take():
                yield from self._heard(news)
            if self._lines is not None and (self._lines.ending or not self._has_read or not self._time_is_up()):
                self._has_read = True
                yield from self._read(self._lines)
            if self._closed or not (self._left or self._arrivals):
                return
            if self._time_is_up():
                if self._last_look():
                    yield Until(self._deadline)
                    continue
                if self._gives_up():
                    return
            lines_due = self._lines.due() if self._lines else None
            yield Until(_earliest(self._deadline, lines_due, self._next_arrivals()))

    def _take_in(self) -> None:
        """Watch the jobs that have come."""
        if self._arrivals is None:
            return
        targets = self._arrivals()
        if targets is None:
            self._arrivals = None
        for target in targets or ():
            self._left[target.name] = target.status
            self.subscription.add(target)

    def _next_arrivals(self) -> float | None:
        return None if self._arrivals is None else self.session.clock.monotonic() + _ARRIVALS_EVERY

    def _heard(self, news: News) -> Iterator[FeedItem]:
        if news.job_name not in self._left:
            return
        over = isinstance(news, Lost) or news.status in TERMINAL
        if isinstance(news, StatusChanged):
            self._left[news.job_name] = news.status
        if self._lines is not None and self._lines.takes(news, over=over):
            return
        if over:
            del self._left[news.job_name]
        yield news

    def _read(self, lines: _Lines) -> Iterator[FeedItem]:
        """Yield the lines that are due, and how jobs ended whose last line was among them."""
        clock, turn = self.session.clock, self.session.clock.monotonic() + _TURN
        lines.reader.align_with_status_call(self.subscription.next_look())
        with contextlib.closing(lines.read()) as steps:
            for step in steps:
                if self._closed:
                    return
                if isinstance(step, LogBatch):
                    yield from self._of_those_left(step)
                    if clock.monotonic() < turn:
                        continue
                    if self._time_is_up():
                        break
                    yield Until(clock.monotonic())  # a poller that nobody else leads gets its turn
                    turn = clock.monotonic() + _TURN
                elif step.job_name in self._left:
                    del self._left[step.job_name]
                    yield step
        for name, moment in lines.reader.pop_signs_of_life().items():
            self.subscription.alive(name, moment)

    def _of_those_left(self, lines: LogBatch) -> Iterator[LogBatch]:
        if not lines.job_names <= self._left.keys():
            lines.filter(lambda name, _: name in self._left)
        if lines:
            yield lines

    def _time_is_up(self) -> bool:
        return self._deadline is not None and self.session.clock.monotonic() >= self._deadline

    def _last_look(self) -> bool:
        """Have those that still run looked at once more, where they are few."""
        if self._looked or len(self._left) > self.session.polling.few:
            return False
        self._looked = True
        self.subscription.look()
        return True

    def _gives_up(self) -> bool:
        """Give up those that still run, and return whether no job is left whose last lines are under way."""
        lines = self._lines
        self.unfinished = {
            name: status for name, status in self._left.items() if lines is None or name not in lines.ending
        }
        for name in self.unfinished:
            del self._left[name]
        self._arrivals = None
        self._deadline = None  # the others ended in time; waiting for their last lines is bounded by itself
        return not self._left

    def _policy(self) -> RetryPolicy:
        """Return how long a call for lines is tried: no longer than there is time."""
        policy = self.session.api.policy
        budget, patience = min(policy.budget, _BUDGET), policy.patience
        if self._deadline is not None:
            left = self._deadline - self.session.clock.monotonic()
            budget, patience = min(budget, max(0.0, left)), max(_GRACE, left)
        return attrs.evolve(policy, budget=budget, patience=patience)


class _Lines:
    """The lines of a feed: when they are read, what is left out, and which news have to wait for them."""

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
        self._known: set[str] = set()
        self.ending: dict[str, News] = {}  # jobs whose last lines are being read, and what is told after them
        self._tail = None if selection.tail is None else Tail(selection.tail)
        self._not_before = 0.0

    @property
    def reader(self) -> LogReader:
        """What reads them; made when first asked for, as the session's calls are."""
        if self._reader is None:
            session = self._session
            self._reader = LogReader(
                session.api,
                session.polling,
                policy=self._policy,
                host=self._selection.host,
                checkpoint=self._checkpoint,
            )
        return self._reader

    def takes(self, news: News, *, over: bool) -> bool:
        """Take note of news of a job, and return whether they are held back until its last line has been read."""
        name = news.job_name
        if isinstance(news, StatusChanged) and name not in self._known:
            self._known.add(name)
            created = to_milliseconds(news.description["CreationTime"])
            self.reader.add(name, max(created, self._selection.since or 0))
        if not over or name not in self._known:
            return False
        self.ending[name] = news
        if isinstance(news, StatusChanged):
            ended = news.description.get("ProcessingEndTime")
            all_arrived = ended_long_ago(self._session.api, news.description)
            self.reader.mark_ended(name, ended_at=ended and ended.timestamp(), all_arrived=all_arrived)
        else:  # what there is now is all that is asked for
            self.reader.mark_ended(name, ended_at=None, all_arrived=True)
        return True

    def due(self) -> float | None:
        """Return the moment before which there is nothing to read; None where nothing is."""
        due = self.reader.due
        return None if due is None else max(due, self._not_before)

    def read(self) -> Generator[LogBatch | News, None, None]:
        """Yield the lines that are due, and the news that were held back for them."""
        clock = self._session.clock
        due = self.due()
        if due is None or due > clock.monotonic():
            return
        if not self._ready():
            self._not_before = clock.monotonic() + _READY_AGAIN
            return
        with contextlib.closing(self.reader.read()) as found:
            for item in found:
                if isinstance(item, LogBatch):
                    yield from self._selected(item)
                else:
                    yield from self._all_told()
                    yield from self._completed(item)
        if self.reader.caught_up:
            yield from self._all_told()

    def _selected(self, lines: LogBatch) -> Iterator[LogBatch]:
        self._selection.apply(lines)
        if self._tail is None:
            yield lines
        else:
            self._tail.add(lines)

    def _all_told(self) -> Iterator[LogBatch]:
        """Yield the last of the lines that there were when reading began; those that follow are given as they come."""
        if self._tail is not None:
            tail, self._tail = self._tail, None
            yield from map(LogBatch.of, tail.lines())

    def _completed(self, complete: LogsComplete) -> Iterator[News]:
        news = self.ending.pop(complete.job_name, None)
        if news is not None:
            yield news


def listed(names: Sequence[str]) -> str:
    """Return names as a text, of many the first few."""
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _earliest(*moments: float | None) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)

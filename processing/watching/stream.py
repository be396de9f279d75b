"""The merged events of several feeds, driven by the calling thread.

`wait`, `logs(follow=True)` and the command line consume such a stream. While it waits, the thread takes part in leading
the feeds' pollers. `processing.watching.aio` does the same for coroutines, without a thread of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, TypeVar, cast

import attrs

from processing.exceptions import ConfigurationError, WaitTimeoutError
from processing.watching.detach import detached, jobs_go_on
from processing.watching.feed import Feed, Until, join_names
from processing.watching.logs.batch import LogBatch
from processing.watching.status.model import Lost

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from processing.watching.checkpoint import Checkpoint
    from processing.watching.events import Event, StatusChanged

T = TypeVar("T")

# The poller of one session waits at most this long while those of other sessions are due. A quarter of a second is
# short beside the poller's shortest interval (one second), and long beside the cost of changing the leader.
_SLICE: Final = 0.25


@attrs.frozen
class FeedEvent:
    """One event, and the feed that it comes from: jobs of two sessions may have the same name."""

    feed: Feed
    event: StatusChanged | LogBatch | Lost


@attrs.frozen
class Idle:
    """A moment at which no feed has an event.

    Args:
        due: the feeds that have not ended, and the monotonic moment at which each has to be asked again. None means
            that only news of its subscription make it due.
    """

    due: Mapping[Feed, float | None]

    def overdue(self) -> list[Feed]:
        """Return the feeds whose moment has passed."""
        return [
            feed for feed, moment in self.due.items() if moment is not None and moment <= feed.session.clock.monotonic()
        ]


def merge(feeds: Sequence[Feed]) -> Iterator[FeedEvent | Idle]:
    """Yield the events of several feeds, and an `Idle` each time that no feed has an event. Never waits."""
    running = {feed: feed.items() for feed in feeds}
    while running:
        due: dict[Feed, float | None] = {}
        for feed, items in running.items():
            for item in items:
                if isinstance(item, Until):
                    due[feed] = item.moment
                    break
                yield FeedEvent(feed, item)
        running = {feed: running[feed] for feed in due}
        if due:
            yield Idle(due)


def drive(feeds: Sequence[Feed]) -> Generator[FeedEvent | Idle, None, None]:
    """Yield the events of feeds, and an `Idle` before each wait, until all feeds have ended.

    Closing the iterator closes the feeds.
    """
    with contextlib.ExitStack() as stack:
        for feed in feeds:
            stack.callback(feed.close)
        for item in merge(feeds):
            yield item
            if isinstance(item, Idle):
                wait_until_due(item)


def wait_until_due(idle: Idle) -> None:
    """Return when one of the feeds is due. Meanwhile this thread may lead the feeds' pollers."""
    if len(idle.due) == 1:
        [(feed, moment)] = idle.due.items()
        feed.subscription.wait(moment)
        return
    if idle.overdue():
        for feed in idle.due:  # without a pause, but each poller makes the calls that are due
            feed.subscription.wait(feed.session.clock.monotonic())
        return
    # A thread can lead only one poller at a time, so each poller gets a slice, one after the other.
    length = min(_SLICE, *(feed.session.polling.longest / 2 for feed in idle.due))
    while True:
        for feed, moment in idle.due.items():
            now = feed.session.clock.monotonic()
            until = now + length if moment is None else min(moment, now + length)
            if feed.subscription.wait(until) or (moment is not None and feed.session.clock.monotonic() >= moment):
                return


def timeout_error(feeds: Sequence[Feed]) -> WaitTimeoutError | None:
    """Return the error about the jobs that had not ended at the timeout; None if there are none."""
    unfinished = [item for feed in feeds for item in feed.unfinished.items()]
    if not unfinished:
        return None
    names = [name for name, _ in unfinished]
    if len(unfinished) == 1:
        text = (
            f"processing job {names[0]} has not ended in time (status: {unfinished[0][1] or 'not known'}); it goes on"
        )
    else:
        text = f"{len(names)} processing jobs have not ended in time; they go on: {join_names(names)}"
    return WaitTimeoutError(text, job_name=names[0])


def checkpoint_of(feeds: Sequence[Feed]) -> Checkpoint:
    """Return the position of a stream in the log lines.

    Raises:
        ConfigurationError: the stream has no log lines, or has jobs of several sessions.
    """
    if len(feeds) != 1:
        raise ConfigurationError("jobs: a checkpoint is for the jobs of one session; make a stream for each session")
    return feeds[0].checkpoint()


class EventStream(Iterator[T]):
    """The events of jobs, one after the other.

    Leaving a `with` block, `close`, or dropping the iterator ends the watch; the jobs go on. Ctrl-C during the wait for
    an event does the same. The text of the KeyboardInterrupt shows how to attach to the jobs and how to stop them.

    Args:
        feeds: the sources of the events.
        alone: True for one job: if it is lost, its error is raised. False yields a `Lost` value instead.
        advice: a function that returns the text of the KeyboardInterrupt.
    """

    def __init__(self, feeds: Sequence[Feed], *, alone: bool, advice: Callable[[], str] = jobs_go_on) -> None:
        self._feeds = feeds
        self._advice = advice
        self._events = cast("Generator[T, None, None]", self._iterate(alone=alone))

    def __iter__(self) -> EventStream[T]:
        return self

    def __next__(self) -> T:
        """Wait for the next event and return it.

        Raises:
            WaitTimeoutError: the timeout has passed.
            WatchError: the job cannot be watched any longer.
        """
        try:
            return next(self._events)
        except KeyboardInterrupt:
            raise detached(self._advice()) from None

    def __enter__(self) -> EventStream[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the watch."""
        self._events.close()

    def checkpoint(self) -> Checkpoint:
        """Return the position in the log lines. A stream that continues from it does not repeat the lines so far.

        Raises:
            ConfigurationError: the stream has no log lines, or has jobs of several sessions.
        """
        return checkpoint_of(self._feeds)

    def _iterate(self, *, alone: bool) -> Iterator[Event | Lost]:
        with contextlib.closing(drive(self._feeds)) as items:
            for item in items:
                if isinstance(item, Idle):
                    continue
                event = item.event
                if alone and isinstance(event, Lost):
                    raise event.error
                if isinstance(event, LogBatch):
                    yield from event
                else:
                    yield event
        if error := timeout_error(self._feeds):
            raise error

"""One stream of events: what `wait`, `logs(follow=True)`, their asynchronous kin and the command line all consume.

Here the steps of feeds (`processing.watching.feed`) are put together and driven by a thread, which takes its part in
leading the pollers. `processing.watching.aio` drives them without one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast

from processing.exceptions import ConfigurationError, WaitTimeoutError
from processing.watching.feed import Feed, Until, listed
from processing.watching.logs.batch import LogBatch
from processing.watching.status.model import Lost

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from processing.watching.checkpoint import Checkpoint
    from processing.watching.events import Event, StatusChanged
    from processing.watching.feed import Watchable
    from processing.watching.logs.filters import Selection
    from processing.watching.status.model import Target

T = TypeVar("T")

Told: TypeAlias = "tuple[Feed, StatusChanged | LogBatch | Lost]"
"""What a feed tells, and the feed: jobs of two sessions may have one name."""

Pause: TypeAlias = "list[tuple[Feed, float | None]]"
"""The feeds that are not at their end, and the moment until which each has nothing to do."""

_SLICE: Final = 0.25  # seconds at most for which the poller of one session waits while those of others are due


def steps(feeds: Sequence[Feed]) -> Iterator[Told | Pause]:
    """Yield the events of several feeds, and a pause wherever none of them has any."""
    walks = [(feed, feed.steps()) for feed in feeds]
    while walks:
        pause: Pause = []
        for feed, walk in walks:
            for step in walk:
                if isinstance(step, Until):
                    pause.append((feed, step.moment))
                    break
                yield feed, step
        goes_on = {id(feed) for feed, _ in pause}
        walks = [(feed, walk) for feed, walk in walks if id(feed) in goes_on]
        if pause:
            yield pause


def tell(feeds: Sequence[Feed]) -> Generator[Told | Pause, None, None]:
    """Yield the events of feeds, and before each wait the pause; a feed whose time is up comes to its end.

    Closing the iterator closes the feeds.
    """
    with contextlib.ExitStack() as stack:
        for feed in feeds:
            stack.callback(feed.close)
        for step in steps(feeds):
            yield step
            if isinstance(step, list):
                wait(step)


def wait(pause: Pause) -> None:
    """Return when one of the feeds has something to do; meanwhile this thread takes part in leading their pollers."""
    if len(pause) == 1:
        feed, moment = pause[0]
        feed.subscription.wait(moment)
        return
    # A thread can lead one poller at a time: each gets a slice, in turn.
    length = min(_SLICE, *(feed.session.polling.longest / 2 for feed, _ in pause))
    while True:
        for feed, moment in pause:
            now = feed.session.clock.monotonic()
            until = now + length if moment is None else min(moment, now + length)
            if feed.subscription.wait(until) or (moment is not None and feed.session.clock.monotonic() >= moment):
                return


def overdue(feeds: Sequence[Feed]) -> WaitTimeoutError | None:
    """Return the error for jobs that had not ended when the time was up; None where there are none."""
    unfinished = [item for feed in feeds for item in feed.unfinished.items()]
    if not unfinished:
        return None
    names = [name for name, _ in unfinished]
    if len(unfinished) == 1:
        text = (
            f"processing job {names[0]} has not ended in time (status: {unfinished[0][1] or 'not known'}); it goes on"
        )
    else:
        text = f"{len(names)} processing jobs have not ended in time; they go on: {listed(names)}"
    return WaitTimeoutError(text, job_name=names[0])


def checkpoint_of(feeds: Sequence[Feed]) -> Checkpoint:
    """Return where the log lines of a stream stand.

    Raises:
        ConfigurationError: the stream is without log lines, or of jobs of several sessions.
    """
    if len(feeds) != 1:
        raise ConfigurationError("jobs: a checkpoint is of the jobs of one session; make a stream for each session")
    return feeds[0].checkpoint()


class EventStream(Iterator[T]):
    """The events of jobs, one after the other.

    Leaving a `with` block, `close`, or dropping the iterator ends the watch; the jobs go on.

    Args:
        feeds: where the events come from.
        alone: True for one job: what ends its watch is raised. False gives it as a `Lost` among the events.
    """

    def __init__(self, feeds: Sequence[Feed], *, alone: bool) -> None:
        self._feeds = feeds
        self._events = cast("Generator[T, None, None]", self._told(alone=alone))

    def __iter__(self) -> EventStream[T]:
        return self

    def __next__(self) -> T:
        """Return the next event, waiting for it.

        Raises:
            WaitTimeoutError: the time is up.
            WatchError: the job cannot be watched any more.
        """
        return next(self._events)

    def __enter__(self) -> EventStream[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the watch."""
        self._events.close()

    def checkpoint(self) -> Checkpoint:
        """Return where the log lines stand: what is given so far is not given again to whom continues from here.

        Raises:
            ConfigurationError: the stream is without log lines, or of jobs of several sessions.
        """
        return checkpoint_of(self._feeds)

    def _told(self, *, alone: bool) -> Iterator[Event | Lost]:
        with contextlib.closing(tell(self._feeds)) as told:
            for item in told:
                if isinstance(item, list):
                    continue
                _, event = item
                if alone and isinstance(event, Lost):
                    raise event.error
                if isinstance(event, LogBatch):
                    yield from event
                else:
                    yield event
        if error := overdue(self._feeds):
            raise error


def watch(
    session: Watchable,
    targets: Sequence[Target],
    *,
    logs: bool,
    timeout: float | None = None,
    selection: Selection | None = None,
    checkpoint: Checkpoint | None = None,
) -> EventStream[Event]:
    """Return what happens to a job until it has ended; for several jobs, what happens to each of them.

    Each is looked at at once, then at growing intervals. A job's last value is the `StatusChanged` to its terminal
    status; before it every line has been given, in order of arrival. Failures that pass are waited out.

    Args:
        session: where the jobs are.
        targets: the jobs.
        logs: False for the statuses alone.
        timeout: seconds after which to give up; None for never.
        selection: the lines that are wanted; all where not given.
        checkpoint: where another stream about the same jobs stopped.
    """
    feed = Feed(session, targets, logs=logs, timeout=timeout, selection=selection, checkpoint=checkpoint)
    return EventStream([feed], alone=len(targets) == 1)

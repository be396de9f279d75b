"""The merged events of several feeds for coroutines, which hold no thread while they wait."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, TypeVar, cast

from processing.watching.detach import jobs_go_on, show_alone
from processing.watching.logs.batch import LogBatch
from processing.watching.status.model import Lost
from processing.watching.stream import Idle, checkpoint_of, merge, timeout_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from processing.watching.checkpoint import Checkpoint
    from processing.watching.events import Event
    from processing.watching.feed import Feed
    from processing.watching.stream import FeedEvent

T = TypeVar("T")

# Status changes of many jobs are handed over in batches, so that ten thousand of them do not hold up the event loop.
_BATCH: Final = 1000


async def drive_async(feeds: Sequence[Feed]) -> AsyncGenerator[FeedEvent | Idle, None]:
    """Yield the events of feeds, and an `Idle` before each wait. Calls for log lines run in the loop's executor.

    Cancelling the task or closing the iterator closes the feeds. A call that is under way then ends in its thread, and
    its result is dropped.
    """
    loop = asyncio.get_running_loop()
    merged = merge(feeds)
    woken = asyncio.Event()

    def wake(event: asyncio.Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(event.set)

    try:
        await in_thread(lambda: [feed.subscription for feed in feeds])  # the first call of a session makes its clients
        blocking = any(feed.makes_calls for feed in feeds)
        while items := await in_thread(lambda: _next_items(merged)) if blocking else _next_items(merged):
            for item in items:
                yield item
                if isinstance(item, Idle):
                    # Each feed at its deadline is awaited: it learns the present status of its jobs.
                    awaited = {feed: asyncio.Event() for feed in item.overdue()}
                    for feed, moment in item.due.items():
                        feed.subscription.notify(functools.partial(wake, awaited.get(feed, woken)), moment)
                    for event in awaited.values() or [woken]:
                        await event.wait()
                    woken.clear()
    finally:
        for feed in feeds:
            feed.close()


def _next_items(merged: Iterator[FeedEvent | Idle]) -> list[FeedEvent | Idle]:
    """Return the next items, up to the first `Idle` or batch of lines. Return an empty list at the end.

    Lines count as delivered once the item after them is asked for. A batch of lines is therefore always the last item:
    the caller may take a checkpoint before it goes on.
    """
    items: list[FeedEvent | Idle] = []
    for item in merged:
        items.append(item)
        if isinstance(item, Idle) or isinstance(item.event, LogBatch) or len(items) >= _BATCH:
            break
    return items


class AsyncEventStream(AsyncIterator[T]):
    """The events of jobs, one after the other, for `async for`.

    Leaving an `async with` block, `aclose`, or cancelling the task that waits for the next event ends the watch; the
    jobs go on.

    Args:
        feeds: the sources of the events.
        alone: True for one job: if it is lost, its error is raised. False yields a `Lost` value instead.
        advice: a function that returns the text that IPython shows if its user interrupts the wait for an event.
    """

    def __init__(self, feeds: Sequence[Feed], *, alone: bool, advice: Callable[[], str] = jobs_go_on) -> None:
        self._feeds = feeds
        self._advice = advice
        self._events = cast("AsyncGenerator[T, None]", _events_of(feeds, alone=alone))

    def __aiter__(self) -> AsyncEventStream[T]:
        return self

    async def __anext__(self) -> T:
        """Wait for the next event and return it.

        Raises:
            WaitTimeoutError: the timeout has passed.
            WatchError: the job cannot be watched any longer.
        """
        try:
            return await anext(self._events)
        except asyncio.CancelledError as cancelled:
            show_alone(cancelled, self._advice())
            raise

    async def __aenter__(self) -> AsyncEventStream[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the watch."""
        await self._events.aclose()

    def checkpoint(self) -> Checkpoint:
        """Return the position in the log lines, as `EventStream.checkpoint` does. Call it between two events.

        Raises:
            ConfigurationError: the stream has no log lines, or has jobs of several sessions.
        """
        return checkpoint_of(self._feeds)


async def _events_of(feeds: Sequence[Feed], *, alone: bool) -> AsyncGenerator[Event | Lost, None]:
    async with contextlib.aclosing(drive_async(feeds)) as items:
        async for item in items:
            if isinstance(item, Idle):
                continue
            event = item.event
            if alone and isinstance(event, Lost):
                raise event.error
            if isinstance(event, LogBatch):
                for line in event:
                    yield line
            else:
                yield event
    if error := timeout_error(feeds):
        raise error


async def in_thread(function: Callable[[], T]) -> T:
    """Call a blocking function in the executor of the event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, function)

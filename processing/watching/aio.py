"""Watching from coroutines: the same feeds as a thread drives, and no thread held while there is nothing to do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, TypeVar, cast

from processing.watching.logs.batch import LogBatch
from processing.watching.status.model import Lost
from processing.watching.stream import checkpoint_of, overdue, steps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from processing.watching.checkpoint import Checkpoint
    from processing.watching.events import Event
    from processing.watching.feed import Feed
    from processing.watching.stream import Pause, Told

T = TypeVar("T")

_BATCH: Final = 1000  # changes of status that are taken at a time


async def tell_async(feeds: Sequence[Feed]) -> AsyncGenerator[Told | Pause, None]:
    """Yield the events of feeds, and before each wait the pause; calls for log lines are made in the loop's executor.

    Where the task is cancelled or the iterator is closed, so are the feeds. A call that is under way comes to its end
    in its thread, and nothing is made of it.
    """
    loop = asyncio.get_running_loop()
    walk: Iterator[Told | Pause] = steps(feeds)
    woken = asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(woken.set)

    try:
        await in_thread(lambda: [feed.subscription for feed in feeds])  # the first call of a session makes its clients
        while True:
            if any(feed.makes_calls for feed in feeds):
                told, pause = await in_thread(lambda: _advance(walk))
            else:
                told, pause = _advance(walk)
            for one in told:
                yield one
            if pause is None:
                return
            if pause:
                yield pause
                for feed, moment in pause:
                    feed.subscription.notify(wake, moment)
                await woken.wait()
                woken.clear()
    finally:
        for feed in feeds:
            feed.close()


def _advance(walk: Iterator[Told | Pause]) -> tuple[list[Told], Pause | None]:
    """Return the events up to lines or a pause, and the pause: an empty one where there is more, None at the end.

    Lines count as given when it is asked for what follows them, and a checkpoint may be wanted before.
    """
    told: list[Told] = []
    for step in walk:
        if isinstance(step, list):
            return told, step
        told.append(step)
        if isinstance(step[1], LogBatch) or len(told) >= _BATCH:
            return told, []
    return told, None


class AsyncEventStream(AsyncIterator[T]):
    """The events of jobs, one after the other, for `async for`.

    Leaving an `async with` block, `aclose`, or cancelling the task that waits for the next event ends the watch; the
    jobs go on.

    Args:
        feeds: where the events come from.
        alone: True for one job: what ends its watch is raised. False gives it as a `Lost` among the events.
    """

    def __init__(self, feeds: Sequence[Feed], *, alone: bool) -> None:
        self._feeds = feeds
        self._events = cast("AsyncGenerator[T, None]", _events_of(feeds, alone=alone))

    def __aiter__(self) -> AsyncEventStream[T]:
        return self

    async def __anext__(self) -> T:
        """Return the next event, when it has come.

        Raises:
            WaitTimeoutError: the time is up.
            WatchError: the job cannot be watched any more.
        """
        return await anext(self._events)

    async def __aenter__(self) -> AsyncEventStream[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the watch."""
        await self._events.aclose()

    def checkpoint(self) -> Checkpoint:
        """Return where the log lines stand, as `EventStream.checkpoint` does; call it between two events.

        Raises:
            ConfigurationError: the stream is without log lines, or of jobs of several sessions.
        """
        return checkpoint_of(self._feeds)


async def _events_of(feeds: Sequence[Feed], *, alone: bool) -> AsyncGenerator[Event | Lost, None]:
    async with contextlib.aclosing(tell_async(feeds)) as told:
        async for item in told:
            if isinstance(item, list):
                continue
            _, event = item
            if alone and isinstance(event, Lost):
                raise event.error
            if isinstance(event, LogBatch):
                for line in event:
                    yield line
            else:
                yield event
    if error := overdue(feeds):
        raise error


async def in_thread(function: Callable[[], T]) -> T:
    """Call something that takes its time in a thread of the loop's."""
    return await asyncio.get_running_loop().run_in_executor(None, function)

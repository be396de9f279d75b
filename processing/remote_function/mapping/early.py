"""The results of a map while its job runs: segments that the job's log announces."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from processing.container.remote.segments import log_line
from processing.exceptions import ProcessingError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from processing.container.remote.segments import Announcement
    from processing.job.job import ProcessingJob
    from processing.remote_function.mapping.results import SegmentReader
    from processing.watching.events import Event

# A Continuous output reaches S3 one to two seconds after the write. Later looks are for a service that takes longer.
_LOOKS: Final = (1.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)

logger = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def early_results(
    job: ProcessingJob, reader: SegmentReader, show: Callable[[Event], object] | None = None
) -> AsyncIterator[asyncio.Future[None]]:
    """Read the segments that a job's log announces, until the block ends. The value is done at the end of the log.

    Args:
        job: the job.
        reader: reads the segments.
        show: receives all other events; None if they are not shown.
    """
    task = asyncio.ensure_future(_follow_log(job, reader, show))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _follow_log(job: ProcessingJob, reader: SegmentReader, show: Callable[[Event], object] | None) -> None:
    from processing.watching.events import LogEvent

    looks: set[asyncio.Task[None]] = set()
    try:
        async with job.events_async(logs=True) as events:
            async for event in events:
                if isinstance(event, LogEvent):
                    found = reader.announce(event.host, event.message)
                    if found is not None:
                        looks.add(asyncio.create_task(_look_for(reader, found)))
                        if event.message == log_line(*found):  # without text of the user's program
                            continue
                if show is not None:
                    show(event)
    except ProcessingError as error:  # the results come at the end
        logger.debug("no early results of %s: %s", job.job_name, error)
    finally:
        for look in looks:
            look.cancel()


async def _look_for(reader: SegmentReader, found: Announcement) -> None:
    """Read a segment as soon as it is in S3. A wrong one may be replaced by the right one: the job's end decides."""
    from processing.watching.aio import in_thread

    for pause in _LOOKS:
        await asyncio.sleep(pause)
        with contextlib.suppress(ProcessingError):
            if await in_thread(lambda: reader.read(*found)):
                return

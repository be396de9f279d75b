"""The lines that a job has written by now, read to their end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

from processing.watching.lines import Lines
from processing.watching.logs import LogReader, is_settled, milliseconds
from processing.watching.policy import Polling
from processing.watching.selection import Tail, in_time

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Mapping

    from processing.retrying import RetryingApi, RetryPolicy
    from processing.watching.events import LogEvent


def read_all(
    api: RetryingApi,
    description: Mapping[str, Any],
    tail: int | None = None,
    *,
    since: int | None = None,
    host: str | None = None,
    pattern: re.Pattern[str] | None = None,
    polling: Polling | None = None,
    complete: bool = False,
    patience: float = math.inf,
) -> Iterator[LogEvent]:
    """Return the lines that a job has written by now, ordered by time.

    They are read a page at a time, as they are asked for.

    Args:
        api: the session's calls.
        description: DescribeProcessingJob's answer. Lines older than the job are of another one that had its name.
        tail: the last so many only.
        since: only lines with this timestamp (ms since the epoch) or a later one.
        host: only lines of this instance, such as `algo-1`.
        pattern: only lines in which this is found.
        polling: the session's.
        complete: True for a job that ended just now: its last lines are waited for.
        patience: seconds after which a call that fails is not tried again.

    Raises:
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: CloudWatch could not be read.
    """
    limit = api.clock.monotonic() + patience

    def policy() -> RetryPolicy:
        left = max(0.0, limit - api.clock.monotonic())
        return attrs.evolve(api.policy, budget=min(api.policy.budget, left))

    name, created = description["ProcessingJobName"], milliseconds(description["CreationTime"])
    reader = LogReader(api, polling or Polling(), host=host, policy=policy, strict=True)
    reader.add(name, max(created, since or 0))
    ended = description.get("ProcessingEndTime")
    settled = not complete or is_settled(api, description)
    reader.ended(name, ended_at=ended.timestamp() if ended else None, settled=settled)
    lines = _until_complete(api, reader, pattern)
    if tail is None:
        return _in_order(reader, lines)
    last = Tail(tail)
    for some in lines:
        last.add(some)
    return iter(last.lines())


def _until_complete(api: RetryingApi, reader: LogReader, pattern: re.Pattern[str] | None) -> Iterator[Lines]:
    while (due := reader.due) is not None:
        if (wait := due - api.clock.monotonic()) > 0:
            api.clock.sleep(wait)
        for item in reader.read():
            if isinstance(item, Lines):
                if pattern is not None:
                    item.keep(lambda _, message: pattern.search(message))
                yield item


def _in_order(reader: LogReader, lines: Iterator[Lines]) -> Iterator[LogEvent]:
    for first in lines:  # with the first lines it is known how they are read
        if reader.ordered:
            yield from first
            for some in lines:
                yield from some
        else:  # stream by stream: the hosts have to be merged
            every = [attrs.evolve(line, late=False) for some in (first, *lines) for line in some]
            yield from sorted(every, key=in_time)

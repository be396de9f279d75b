"""The lines that a job has written by now, read to their end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.aws.retry import server_time
from processing.watching.logs.batch import LogBatch
from processing.watching.logs.filters import Tail, in_time
from processing.watching.logs.reader import LogReader, ended_long_ago, to_milliseconds
from processing.watching.polling import Polling

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Mapping

    from processing.aws.retry import RetryingApi, RetryPolicy
    from processing.watching.events import LogEvent

_FIRST_LOOK_BACK: Final = 60.0  # seconds before the end in which the last lines are looked for first
_LONGER: Final = 8  # times as far back as before: what is read again is little then


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

    They are read a page at a time, as they are asked for; the last so many from the end, as far back as they go.

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

    def reader(begin: int, *, all_arrived: bool) -> LogReader:
        made = LogReader(api, polling or Polling(), host=host, policy=policy, strict=True)
        made.add(description["ProcessingJobName"], begin)
        ended = description.get("ProcessingEndTime")
        made.mark_ended(
            description["ProcessingJobName"], ended_at=ended.timestamp() if ended else None, all_arrived=all_arrived
        )
        return made

    begin = max(to_milliseconds(description["CreationTime"]), since or 0)
    all_arrived = not complete or ended_long_ago(api, description)
    if tail is None:
        whole = reader(begin, all_arrived=all_arrived)
        return _in_order(whole, _until_complete(api, whole, pattern))
    for start in _starts(begin, api, description):
        last = Tail(tail + 1)  # the first of them may have begun before
        for lines in _until_complete(api, reader(start, all_arrived=all_arrived), pattern):
            last.add(lines)
        all_arrived = True
        if start == begin or len(last.lines()) > tail:
            break
    return iter(last.lines()[-tail:])


def _starts(begin: int, api: RetryingApi, description: Mapping[str, Any]) -> Iterator[int]:
    """Yield ever earlier moments from which on the last lines of a job may be, in ms since the epoch."""
    ended, back = description.get("ProcessingEndTime"), _FIRST_LOOK_BACK
    end = ended.timestamp() if ended else server_time(description.get("ResponseMetadata", {})) or api.clock.time()
    while (start := round((end - back) * 1000)) > begin:
        yield start
        back *= _LONGER
    yield begin


def _until_complete(api: RetryingApi, reader: LogReader, pattern: re.Pattern[str] | None) -> Iterator[LogBatch]:
    while (due := reader.due) is not None:
        if (wait := due - api.clock.monotonic()) > 0:
            api.clock.sleep(wait)
        for item in reader.read():
            if isinstance(item, LogBatch):
                if pattern is not None:
                    item.filter(lambda _, message: pattern.search(message))
                yield item


def _in_order(reader: LogReader, lines: Iterator[LogBatch]) -> Iterator[LogEvent]:
    for first in lines:  # with the first lines it is known how they are read
        if reader.ordered:
            yield from first
            for some in lines:
                yield from some
        else:  # stream by stream: the hosts have to be merged
            every = [attrs.evolve(line, late=False) for some in (first, *lines) for line in some]
            yield from sorted(every, key=in_time)

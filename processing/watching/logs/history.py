"""All log lines that a job has written so far, or the last of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.aws.retry import server_time
from processing.watching.logs.batch import LogBatch
from processing.watching.logs.filters import LogTail, time_order
from processing.watching.logs.reader import LogReader, ended_long_ago, first_line_range, group_patience
from processing.watching.polling import Polling

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Mapping

    from processing.aws.retry import RetryingApi, RetryPolicy
    from processing.watching.events import LogEvent

# The last lines of a log are found by reading ever longer parts from its end. The first part is this many seconds long.
_FIRST_PART: Final = 60.0
# Each part is this many times as long as the one before, so that at most an eighth of it is read again.
_GROWTH: Final = 8


def read_all(
    api: RetryingApi,
    job_name: str,
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
    """Return the lines that a job has written so far, ordered by time.

    Lines are read a page at a time, as they are consumed. With `tail`, reading begins near the end of the log.

    Args:
        api: the session's calls.
        job_name: the job's name.
        description: the response of DescribeProcessingJob. Lines older than the job belong to an older job of its name.
        tail: the number of lines to return, from the end; None for all.
        since: the earliest timestamp (ms since the epoch).
        host: the only host whose lines are returned, such as `algo-1`.
        pattern: a pattern that each line has to contain.
        polling: the session's polling.
        complete: True for a job that ended just now: wait for its last lines.
        patience: seconds after which a failed call is not tried again.

    Raises:
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: CloudWatch could not be read.
    """
    deadline = api.clock.monotonic() + patience

    def policy() -> RetryPolicy:
        left = max(0.0, deadline - api.clock.monotonic())
        return attrs.evolve(api.policy, budget=min(api.policy.budget, left))

    def make_reader(begin: int, *, all_arrived: bool) -> LogReader:
        reader = LogReader(api, polling or Polling(), host=host, policy=policy, strict=True)
        reader.add(job_name, begin, created=created)
        ended = description.get("ProcessingEndTime")
        reader.mark_ended(
            job_name,
            ended_at=ended.timestamp() if ended else None,
            all_arrived=all_arrived,
            group_patience=min(patience, group_patience(description)),
        )
        return reader

    earliest, created = first_line_range(description, since)
    all_arrived = not complete or ended_long_ago(api, description)
    if tail is None:
        whole = make_reader(earliest, all_arrived=all_arrived)
        return _in_order(whole, _until_complete(api, whole, pattern))
    for start in _starts(earliest, api, description):
        last = LogTail(tail + 1)  # one more, since the first of them may be the rest of a long line that began earlier
        for lines in _until_complete(api, make_reader(start, all_arrived=all_arrived), pattern):
            last.add(lines)
        all_arrived = True
        if start == earliest or len(last.lines()) > tail:
            break
    return iter(last.lines()[-tail:])


def _starts(begin: int, api: RetryingApi, description: Mapping[str, Any]) -> Iterator[int]:
    """Yield ever earlier moments to read the last lines of a job from, in ms since the epoch."""
    ended, back = description.get("ProcessingEndTime"), _FIRST_PART
    end = ended.timestamp() if ended else server_time(description.get("ResponseMetadata", {})) or api.clock.time()
    while (start := round((end - back) * 1000)) > begin:
        yield start
        back *= _GROWTH
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
    for first in lines:  # the source in use is known after the first lines
        if reader.is_ordered:
            yield from first
            for some in lines:
                yield from some
        else:  # GetLogEvents reads stream by stream, so the lines of the hosts are merged here
            every = [attrs.evolve(line, late=False) for some in (first, *lines) for line in some]
            yield from sorted(every, key=time_order)

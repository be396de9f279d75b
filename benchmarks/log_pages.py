"""Cost of a page of logs at the end of a stream of a million lines, against one at its beginning.

All pages are read to the end: GetLogEvents from the head and from the tail; FilterLogEvents of that stream, with a
pattern, and of all streams; DescribeLogStreams by name and by last event. Then the first and the last pages are read
again, alternating. The figure is the engine's processor time for them, without a transport, which adds the same to
each.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from figures import Figure, finish, scaled

from processing import LocalSession

LINES = scaled(1_000_000, 100_000)
BATCH = 10_000
STREAMS = scaled(5_000, 500)
GROUP, STREAM = "/aws/sagemaker/ProcessingJobs", "job/algo-1-1"
EDGE = scaled(5, 1)
"""Pages at the beginning and at the end that are compared, by their medians."""
TURNS = scaled(5, 1)


def fill(session: LocalSession) -> None:
    """Write the lines, and streams with one line each."""
    logs = session.engine.logs
    start = 1_700_000_000_000
    for first in range(0, LINES, BATCH):
        lines = range(first, first + BATCH)
        logs.append(
            GROUP, STREAM, [(start + line, f"{line:07d} step {line % 100} of the job is done") for line in lines]
        )
    for number in range(STREAMS):
        logs.append(GROUP, f"other-{number:05d}/algo-1-1", [(start + number * 7919 % LINES, "one line")])


Call = Callable[[dict[str, Any]], Any]


def places(call: Call, token: str) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the parameters that lead to each page, and its number of lines or streams."""
    place: dict[str, Any] = {}
    while True:
        answer = call(place)
        found = len(answer.get("events", answer.get("logStreams", [])))
        if found:
            yield place, found
        following = answer.get(token)
        if following is None or (not found and token != "nextToken"):  # GetLogEvents has a token on each page
            return
        place = {"nextToken": following}


def cost(call: Call, place: dict[str, Any]) -> float:
    """Return the seconds of the processor for a page."""
    begun = time.process_time()
    call(place)
    return time.process_time() - begun


def ratio(name: str, call: Call, expected: int, token: str = "nextToken") -> Figure:
    """Return the cost of the last pages against that of the first ones."""
    pages = list(places(call, token))
    if sum(found for _, found in pages) != expected:
        message = f"{name}: {sum(found for _, found in pages)} instead of {expected}"
        raise AssertionError(message)
    whole = [place for place, _ in pages[:-1]]
    count = min(EDGE, len(whole) - 1)  # the first page is reached without a token
    edges = (whole[1 : count + 1], whole[-count:]) if count else (whole, whole)
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(TURNS):
        for pair in zip(*edges, strict=True):
            for side, place in enumerate(pair):
                costs[side].append(cost(call, place))
    first, last = map(statistics.median, costs)
    note = f"{len(pages)} pages, {first * 1000:.2g} ms, then {last * 1000:.2g} ms"
    return Figure(f"{name}: last pages against first", last / first, 1.5, note=note)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        session = LocalSession(Path(folder))
        fill(session)

        def calling(operation: str, **params: Any) -> Call:
            return lambda place: session.engine.handle("logs", operation, {**params, **place})

        stream = {"logGroupName": GROUP, "logStreamName": STREAM}
        one = {"logGroupName": GROUP, "logStreamNames": [STREAM]}
        group = {"logGroupName": GROUP}
        head = calling("GetLogEvents", **stream, startFromHead=True)
        tail = calling("GetLogEvents", **stream)
        matching = calling("FilterLogEvents", **one, filterPattern='"step 7 "')
        by_time = calling("DescribeLogStreams", **group, orderBy="LastEventTime")
        everything = LINES + STREAMS
        finish(
            [
                ratio("GetLogEvents", head, LINES, "nextForwardToken"),
                ratio("GetLogEvents, backward", tail, LINES, "nextBackwardToken"),
                ratio("FilterLogEvents", calling("FilterLogEvents", **one), LINES),
                ratio("FilterLogEvents, a pattern", matching, LINES // 100),
                ratio("FilterLogEvents, all streams", calling("FilterLogEvents", **group), everything),
                ratio("DescribeLogStreams", calling("DescribeLogStreams", **group), STREAMS + 1),
                ratio("DescribeLogStreams, by last event", by_time, STREAMS + 1),
            ]
        )


if __name__ == "__main__":
    main()

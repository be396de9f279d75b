"""A CloudWatch Logs whose lines arrive when they are told to, with all the liberties that the real one takes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import attrs

from processing.testing.wire import Handler, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from processing.testing.clock import VirtualClock


@attrs.frozen
class ScriptedLine:
    """A line, and when it can first be read.

    Args:
        stream: the name of its stream.
        timestamp: when it was written, in ms since the epoch.
        arrival: when it can be read, in ms since the epoch; CloudWatch's ingestion time.
        event_id: its id.
        message: its text.
    """

    stream: str
    timestamp: int
    arrival: int
    event_id: str
    message: str

    @property
    def place(self) -> tuple[int, int, str]:
        """The line's place in FilterLogEvents' order."""
        return (self.timestamp, self.arrival, self.event_id)


class ScriptedLogs:
    """Handlers for a `JsonService`, over lines that arrive as the clock moves.

    Pages are short; with a seed their length is random, and some are empty or come twice. A line that arrives during
    a sweep, before the sweep's place, is not in it: so it is on AWS.

    Args:
        lines: what is ever written.
        clock: says which of it has arrived.
        seed: for the liberties; None for none.
        page: the most lines of a page.
        call_seconds: what each call takes on the clock, at most.
    """

    def __init__(
        self,
        lines: Iterable[ScriptedLine],
        clock: VirtualClock,
        *,
        seed: int | None = None,
        page: int = 4,
        call_seconds: float = 0.0,
    ) -> None:
        self.lines = list(lines)
        self.denied: set[str] = set()
        self._clock = clock
        self._random = None if seed is None else random.Random(seed)  # noqa: S311 - chance in a test
        self._page = page
        self._call_seconds = call_seconds
        self._tokens: dict[str, tuple[int, int, str]] = {}

    def handlers(self) -> dict[str, Handler]:
        """Return the operations that reading logs takes."""
        return {
            "FilterLogEvents": self.filter_log_events,
            "GetLogEvents": self.get_log_events,
            "DescribeLogStreams": self.describe_log_streams,
        }

    def forget_tokens(self) -> None:
        """Make every token given so far too old."""
        self._tokens.clear()

    def filter_log_events(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer FilterLogEvents."""
        prefix = params["logStreamNamePrefix"]
        arrived = [line for line in self._arrived("FilterLogEvents") if line.stream.startswith(prefix)]
        if not arrived:
            raise ServiceError("ResourceNotFoundException", "The specified log group does not exist.")
        after = self._place(params)
        rest = sorted((line for line in arrived if line.place > after), key=lambda line: line.place)
        page = rest[: self._length()]
        again = self._chance(0.1)  # the page will come once more
        answer: dict[str, Any] = {
            "events": [{**_event(line), "logStreamName": line.stream, "eventId": line.event_id} for line in page],
            "searchedLogStreams": [],
        }
        if again or len(page) < len(rest):
            answer["nextToken"] = self._token(after if again or not page else page[-1].place)
        return answer

    def get_log_events(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer GetLogEvents, from the head forward."""
        arrived = [line for line in self._arrived("GetLogEvents") if line.stream == params["logStreamName"]]
        if not arrived:
            raise ServiceError("ResourceNotFoundException", "The specified log stream does not exist.")
        after = self._place(params)
        rest = sorted((line for line in arrived if line.place > after), key=lambda line: line.place)
        page = rest[: self._length()]
        token = self._token(page[-1].place) if page else params.get("nextToken", self._token(after))
        if not page and rest:  # an empty page that is not the end has another token
            token = self._token(after)
        return {"events": [_event(line) for line in page], "nextForwardToken": token, "nextBackwardToken": "b/0"}

    def describe_log_streams(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer DescribeLogStreams: 50 to a page, ordered by name."""
        prefix = params["logStreamNamePrefix"]
        arrived = self._arrived("DescribeLogStreams")
        names = sorted({line.stream for line in arrived if line.stream.startswith(prefix)})
        start = int(params.get("nextToken", 0))
        answer: dict[str, Any] = {"logStreams": [{"logStreamName": name} for name in names[start : start + 50]]}
        if len(names) > start + 50:
            answer["nextToken"] = str(start + 50)
        return answer

    def _arrived(self, operation: str) -> Sequence[ScriptedLine]:
        if operation in self.denied:
            raise ServiceError("AccessDeniedException", f"User is not authorized to perform: logs:{operation}")
        if self._random:
            self._clock.advance(self._random.uniform(0.0, self._call_seconds))
        now = self._clock.time() * 1000
        return [line for line in self.lines if line.arrival <= now]

    def _place(self, params: dict[str, Any]) -> tuple[int, int, str]:
        token = params.get("nextToken")
        if token is None:
            return (params.get("startTime", 0), -1, "")
        if token not in self._tokens:
            raise ServiceError("InvalidParameterException", "The specified nextToken is invalid.")
        return self._tokens[token]

    def _token(self, place: tuple[int, int, str]) -> str:
        token = f"t{len(self._tokens)}"
        self._tokens[token] = place
        return token

    def _length(self) -> int:
        if self._random is None:
            return self._page
        return 0 if self._chance(0.15) else self._random.randint(1, self._page)

    def _chance(self, probability: float) -> bool:
        return self._random is not None and self._random.random() < probability


def _event(line: ScriptedLine) -> dict[str, Any]:
    return {"timestamp": line.timestamp, "ingestionTime": line.arrival, "message": line.message}

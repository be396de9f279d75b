"""Reassembly of long lines: a line that is longer than a CloudWatch event arrives as several events.

CloudWatch accepts at most 256 KiB per event, and uses 26 bytes of them itself. So writers cut longer lines at 262,118
bytes; some cut one byte later. The embedded engine cuts there too. Docker passes lines on in pieces of 16 KiB, and some
log drivers send these pieces as they are: https://github.com/moby/moby/issues/34887,
https://github.com/moby/moby/issues/41794. Nothing in an event marks it as a piece. Only its length does, to the byte.
An event of just that length is joined with the next event of its stream. The next event must follow within ten seconds
(CloudWatch's limit) or one second (Docker's). A complete line of that length that is followed as quickly is joined by
mistake.

Few lines are that long. So a batch whose lines are all short passes unchanged (`LineAssembler.can_skip`) and stays one
batch. Otherwise each line becomes an event and a batch of its own. Then 3.0 us of CPU per line of an ended job become
19, and 6.8 us become 25 for a job that is followed for an hour (benchmarks/log_lines.py). To switch it off, let
`can_skip` return False.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from processing.watching.events import LogEvent

LONGEST: Final = 16 << 20
"""The maximum number of characters that are joined; a longer line is delivered in parts of about that length."""

_DOCKER: Final = 16_384
# A writer that cuts between two characters cuts up to three bytes earlier.
_EVENT: Final = range(262_115, 262_120)
# The smallest number of characters that a piece may have: no character takes more than four bytes.
_SHORTEST: Final = _DOCKER // 4
# The replacement of a byte that was cut off its character. It takes three bytes.
_BROKEN: Final = "\ufffd"
# Milliseconds between two pieces. Docker gives all pieces of a line the same time; it takes a while to write an event
# of 256 KiB.
_DOCKER_GAP: Final = 1_000
_EVENT_GAP: Final = 10_000


@attrs.define
class _PartialLine:
    """A line whose end has not arrived yet.

    Args:
        first: the first piece.
        last: the last piece so far.
        keys: the keys of all pieces.
        texts: their texts.
        size: the number of characters.
        gap: the longest time until the next piece, in ms.
        updated_at: when the last piece was added (monotonic).
    """

    first: LogEvent
    last: LogEvent
    keys: list[int]
    texts: list[str]
    size: int
    gap: int
    updated_at: float

    def is_followed_by(self, event: LogEvent) -> bool:
        return 0 <= event.timestamp - self.last.timestamp <= self.gap

    def joined(self) -> LogEvent:
        return self.first if len(self.texts) == 1 else attrs.evolve(self.first, message="".join(self.texts))


class LineAssembler:
    """Joins events to lines.

    A piece is held back until the next event of its stream, or until it is flushed. A line has the timestamp, the id
    and the late mark of its first piece.

    Attributes:
        joined: by job, the number of events that were joined to an earlier one: by so many its lines are fewer.
    """

    def __init__(self) -> None:
        self.joined: Counter[str] = Counter()
        self._partial: dict[str, _PartialLine] = {}

    def can_skip(self, messages: Iterable[str], streams: Iterable[str]) -> bool:
        """Return whether all events are complete lines, so that they need not be added.

        Args:
            messages: the texts of the events.
            streams: their streams.
        """
        return max(map(len, messages), default=0) < _SHORTEST and self._partial.keys().isdisjoint(streams)

    def flush_before(self, event: LogEvent) -> LogEvent | None:
        """Return the line that was held back, if an event shows that it is complete because it does not continue it.

        Return None if the event continues the line, if it is late, or if no line is held back.
        """
        partial = self._partial.get(event.stream)
        if partial is None or event.timestamp < partial.last.timestamp or partial.is_followed_by(event):
            return None
        return self._finish(partial)

    def add(self, event: LogEvent, key: int, now: float) -> LogEvent | None:
        """Add an event, and return the line that it completes; None if it is held back.

        Args:
            event: the next event. `flush_before` was called with it.
            key: its key, which `held` returns.
            now: the monotonic time.
        """
        partial = self._partial.get(event.stream)
        if partial and event.timestamp < partial.last.timestamp:
            return event  # a late event, which belongs to no partial line
        gap = _gap(event.message)
        if partial:
            partial.texts.append(event.message)
            partial.keys.append(key)
            partial.last, partial.gap, partial.updated_at = event, gap, now
            partial.size += len(event.message)
            return None if gap and partial.size < LONGEST else self._finish(partial)
        if not gap:
            return event
        self._partial[event.stream] = _PartialLine(event, event, [key], [event.message], len(event.message), gap, now)
        return None

    def flush(self, job_name: str | None = None, *, before: float | None = None) -> Iterator[LogEvent]:
        """Yield the lines that are held back, as they are.

        Args:
            job_name: the only job whose lines are flushed; None for all.
            before: flush only lines without a new piece since that monotonic time.
        """
        for partial in list(self._partial.values()):
            if job_name in {None, partial.first.job_name} and (before is None or partial.updated_at < before):
                yield self._finish(partial)

    def held(self, job_name: str) -> tuple[list[int], int | None]:
        """Return the keys of a job's pieces that are held back, and the timestamp of the first of them."""
        own = [partial for partial in self._partial.values() if partial.first.job_name == job_name]
        keys = [key for partial in own for key in partial.keys]
        return keys, min((partial.first.timestamp for partial in own), default=None)

    def _finish(self, partial: _PartialLine) -> LogEvent:
        del self._partial[partial.first.stream]
        self.joined[partial.first.job_name] += len(partial.texts) - 1
        return partial.joined()


def _gap(message: str) -> int:
    """Return the longest time until the next piece of a line, in milliseconds; 0 for a complete line."""
    if len(message) < _SHORTEST:
        return 0
    size = len(message) if message.isascii() else len(message.encode("utf-8", "surrogatepass"))
    if size in _EVENT:
        return _EVENT_GAP
    edges = len(message) - len(message.lstrip(_BROKEN)) + len(message) - len(message.rstrip(_BROKEN))
    return _DOCKER_GAP if size - 2 * edges == _DOCKER else 0

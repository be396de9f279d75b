"""Long lines put together again: a line that is longer than an event arrives as several.

CloudWatch takes at most 256 KiB an event, 26 bytes of them for itself, so writers cut what is longer at 262,118 bytes
(so does the embedded engine; some cut one byte later). Docker hands lines on in pieces of 16 KiB, which some log
drivers send as they are: https://github.com/moby/moby/issues/34887, https://github.com/moby/moby/issues/41794.
Nothing in an event says that it is a piece. What tells is its length, to the byte.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from processing.watching.events import LogEvent

LONGEST: Final = 16 << 20
"""The most characters of one line that are put together; a longer one comes in parts of about that length."""

_DOCKER: Final = 16_384
_EVENT: Final = range(262_115, 262_120)  # cut between two characters: up to three bytes short
_SHORTEST: Final = _DOCKER // 4  # characters; with fewer of them no text has so many bytes
_BROKEN: Final = "\ufffd"  # what is left of a byte that was cut off its character, three bytes in its place
# Milliseconds between two pieces: docker gives all pieces of a line one time; an event is a while in the making.
_DOCKER_GAP: Final = 1_000
_EVENT_GAP: Final = 10_000


@attrs.define
class _Pending:
    """A line whose end has yet to come."""

    event: LogEvent  # the first piece
    keys: list[int]
    last: LogEvent  # the last piece
    gap: int
    taken_at: float
    texts: list[str]
    size: int

    def is_followed_by(self, event: LogEvent) -> bool:
        return 0 <= event.timestamp - self.last.timestamp <= self.gap

    def whole(self) -> LogEvent:
        return self.event if len(self.texts) == 1 else attrs.evolve(self.event, message="".join(self.texts))


class LineAssembler:
    """Takes events as they come, and gives lines.

    A piece is held back until the next event of its stream, or until it is released. A line has the timestamp, the id
    and the mark of its first piece.

    Attributes:
        saved: by job, by how many its lines are fewer than its events.
    """

    def __init__(self) -> None:
        self.saved: Counter[str] = Counter()
        self._pending: dict[str, _Pending] = {}

    def can_skip(self, messages: Iterable[str], streams: Iterable[str]) -> bool:
        """Return whether events are lines by themselves; for such ones `add` need not be called.

        Args:
            messages: what they say.
            streams: where they come from.
        """
        return max(map(len, messages), default=0) < _SHORTEST and self._pending.keys().isdisjoint(streams)

    def flush_before(self, event: LogEvent) -> LogEvent | None:
        """Return the line that was held back and that an event, which is not its rest, shows to be whole."""
        pending = self._pending.get(event.stream)
        if pending is None or event.timestamp < pending.last.timestamp or pending.is_followed_by(event):
            return None
        return self._end(pending)

    def add(self, event: LogEvent, key: int, now: float) -> LogEvent | None:
        """Return the line that is whole with this event; None where it is held back.

        Args:
            event: the next one; what it ends has been asked for.
            key: stands for it in `keys`.
            now: the monotonic time.
        """
        pending = self._pending.get(event.stream)
        if pending and event.timestamp < pending.last.timestamp:  # a late one: it is in the middle of nothing
            return event
        gap = _gap(event.message)
        if pending:
            pending.texts.append(event.message)
            pending.keys.append(key)
            pending.last, pending.gap, pending.taken_at = event, gap, now
            pending.size += len(event.message)
            return None if gap and pending.size < LONGEST else self._end(pending)
        if not gap:
            return event
        self._pending[event.stream] = _Pending(event, [key], event, gap, now, [event.message], len(event.message))
        return None

    def flush(self, job_name: str | None = None, *, before: float | None = None) -> Iterator[LogEvent]:
        """Yield what is held back, as it is.

        Args:
            job_name: of this job only.
            before: only what has got no further piece since that monotonic time.
        """
        for pending in list(self._pending.values()):
            if job_name in {None, pending.event.job_name} and (before is None or pending.taken_at < before):
                yield self._end(pending)

    def _end(self, pending: _Pending) -> LogEvent:
        del self._pending[pending.event.stream]
        self.saved[pending.event.job_name] += len(pending.texts) - 1
        return pending.whole()

    def held(self, job_name: str) -> tuple[list[int], int | None]:
        """Return the keys of the pieces of a job that are held back, and the timestamp of the first of them."""
        mine = [pending for pending in self._pending.values() if pending.event.job_name == job_name]
        keys = [key for pending in mine for key in pending.keys]
        return keys, min((pending.event.timestamp for pending in mine), default=None)


def _gap(message: str) -> int:
    """Return within how many milliseconds the rest of a line follows; 0 for a line that is whole."""
    if len(message) < _SHORTEST:
        return 0
    size = len(message) if message.isascii() else len(message.encode("utf-8", "surrogatepass"))
    if size in _EVENT:
        return _EVENT_GAP
    edges = len(message) - len(message.lstrip(_BROKEN)) + len(message) - len(message.rstrip(_BROKEN))
    return _DOCKER_GAP if size - 2 * edges == _DOCKER else 0

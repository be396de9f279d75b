"""Which lines have been given: a set that only grows, in about eight bytes a member."""

from __future__ import annotations

import base64
import sys
from array import array
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_MODULUS: Final = 0x6A09E667F3BCC91D  # a prime with nothing special about it: from the digits of the root of 2
_SPAN: Final = 60_000  # milliseconds of timestamps that share a part
_OPEN: Final = 3  # parts that are kept open at most


def fingerprint(text: str) -> int:
    """Return a number of 63 bits that stands for a text: the same in every process, unlike `hash()`.

    Not for texts of somebody who wants two of them to be the same: lines have ids that CloudWatch gives.
    """
    try:
        return int(text) % _MODULUS  # CloudWatch's are numbers of 56 digits
    except ValueError:
        return int.from_bytes(text.encode("utf-8", "surrogatepass"), "big") % _MODULUS


def fingerprints(texts: Collection[str]) -> list[int]:
    """Return the `fingerprint` of each of many texts."""
    try:
        return fingerprints_of_numbers(texts)
    except ValueError:
        return list(map(fingerprint, texts))


def fingerprints_of_numbers(digits: Iterable[str | bytes]) -> list[int]:
    """Return the `fingerprint` of each of many texts that are numbers."""
    return list(map(_MODULUS.__rmod__, map(int, digits)))


class SeenLines:
    """Remembers which lines it was told of, by timestamp and fingerprint.

    A job may write millions of lines, and one that comes very late must still be told from those that were given hours
    ago. So fingerprints are kept in arrays, one for each minute of timestamps. As logs are read in the order of
    time, a few parts are open at a time, as sets; the others are closed. Two of a million lines of one minute have the
    same fingerprint once in twenty million runs.
    """

    def __init__(self) -> None:
        self._open: dict[int, set[int]] = {}  # in the order of last use
        self._closed: dict[int, array[int]] = {}  # also of those open parts that have not grown since
        self._span = 0
        self._current: set[int] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, timestamps: Sequence[int], keys: Sequence[int]) -> set[int]:
        """Remember lines, and return the keys of those that are new.

        Args:
            timestamps: the lines', in milliseconds since the epoch.
            keys: their fingerprints.
        """
        if not keys:
            return set()
        span = timestamps[0] // _SPAN
        if min(timestamps) // _SPAN == max(timestamps) // _SPAN == span:
            return self._add(span, keys)
        by_span: dict[int, list[int]] = {}
        for timestamp, key in zip(timestamps, keys, strict=True):
            by_span.setdefault(timestamp // _SPAN, []).append(key)
        return set().union(*(self._add(span, some) for span, some in by_span.items()))

    def unknown(self, keys: set[int], first: int, last: int) -> set[int]:
        """Return those keys that are of no line that was remembered with a timestamp from `first` to `last`."""
        for span in range(first // _SPAN, last // _SPAN + 1):
            if keys and (span in self._open or span in self._closed):
                keys = keys - (keys & self._part(span))  # of two sets, the smaller one is gone through
        return keys

    def to_texts(self, without: Iterable[int] = ()) -> dict[str, str]:
        """Return what is remembered as texts, for a checkpoint.

        Args:
            without: keys to leave out.
        """
        left_out = set(without)
        texts = {}
        for span in sorted({*self._open, *self._closed}):
            keys = sorted({*self._open.get(span, ()), *self._closed.get(span, ())} - left_out)
            if keys:
                texts[str(span)] = base64.b64encode(_little_endian(array("q", keys)).tobytes()).decode("ascii")
        return texts

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> SeenLines:
        """Return what `to_texts` wrote.

        Raises:
            ValueError: it did not write that.
        """
        seen = cls()
        for span, text in texts.items():
            keys = array("q")
            keys.frombytes(base64.b64decode(text, validate=True))
            seen._closed[int(span)] = _little_endian(keys)
            seen._count += len(keys)
        return seen

    def _add(self, span: int, keys: Iterable[int]) -> set[int]:
        part = self._part(span)
        new = set(keys) - part
        if new:
            part |= new
            self._closed.pop(span, None)
            self._count += len(new)
        return new

    def _part(self, span: int) -> set[int]:
        """Return the keys of a span of time, and keep them open."""
        if span == self._span and self._current is not None:
            return self._current
        part = self._open.pop(span, None)
        self._span, self._current = span, set(self._closed.get(span, ())) if part is None else part
        self._open[span] = self._current
        if len(self._open) > _OPEN:
            self._close(next(iter(self._open)))
        return self._current

    def _close(self, span: int) -> None:
        keys = self._open.pop(span)
        if keys and span not in self._closed:
            self._closed[span] = array("q", keys)


def _little_endian(keys: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return keys
    swapped = keys[:]
    swapped.byteswap()
    return swapped

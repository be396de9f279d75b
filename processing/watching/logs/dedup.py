"""Set of the lines that were read, in about eight bytes a line.

A set of a million ids takes 139 MB, a set of their fingerprints 70 MB; here they take 12 MB, open parts included. That
costs 0.8 us a line instead of 0.2. To switch it off, keep a plain set of fingerprints behind the same methods.
"""

from __future__ import annotations

import base64
import sys
from array import array
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

# A prime of 63 bits, so that fingerprints fit into an array of 64-bit integers. Its digits are those of the root of 2.
_MODULUS: Final = 0x6A09E667F3BCC91D
# Milliseconds of timestamps in one part.
_SPAN: Final = 60_000
# The most parts that are kept as sets. A sweep starts up to a minute back, so it touches two or three.
_MAX_OPEN: Final = 3


def fingerprint(text: str) -> int:
    """Return a 63-bit hash of a text, which is the same in every process, unlike `hash()`.

    It does not resist attempts to produce two texts with the same hash: the ids of lines come from CloudWatch.
    """
    try:
        return int(text) % _MODULUS  # CloudWatch's ids are numbers of 56 digits
    except ValueError:
        return int.from_bytes(text.encode("utf-8", "surrogatepass"), "big") % _MODULUS


def fingerprints(texts: Collection[str]) -> list[int]:
    """Return the `fingerprint` of each text."""
    try:
        return fingerprints_of_numbers(texts)
    except ValueError:
        return list(map(fingerprint, texts))


def fingerprints_of_numbers(digits: Iterable[str | bytes]) -> list[int]:
    """Return the `fingerprint` of each text; all of them are numbers.

    Raises:
        ValueError: a text is not a number.
    """
    return list(map(_MODULUS.__rmod__, map(int, digits)))


class SeenLines:
    """A set of lines, identified by timestamp and fingerprint, that only grows.

    A job may write millions of lines, and a very late line has to be compared with those of hours ago. So fingerprints
    are kept in arrays, one for each minute of timestamps. Logs are read in the order of time, so a few of these parts
    are open at a time, as sets; the others are closed. Two of a million lines of one minute have the same fingerprint
    once in twenty million runs.
    """

    def __init__(self) -> None:
        self._open: dict[int, set[int]] = {}  # in the order of last use
        self._closed: dict[int, array[int]] = {}  # an open part is here too until it grows
        self._span = 0
        self._current: set[int] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, timestamps: Sequence[int], keys: Sequence[int]) -> set[int]:
        """Add lines, and return the keys of those that are new.

        Args:
            timestamps: the timestamps of the lines, in milliseconds since the epoch.
            keys: the fingerprints of the lines.
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
        """Return the keys that no line with a timestamp from `first` to `last` has."""
        for span in range(first // _SPAN, last // _SPAN + 1):
            if keys and (span in self._open or span in self._closed):
                keys = keys - (keys & self._part(span))  # `&` iterates over the smaller set
        return keys

    def to_texts(self, without: Iterable[int] = ()) -> dict[str, str]:
        """Return the lines as texts, for a checkpoint.

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
        """Return the set that `to_texts` wrote.

        Raises:
            ValueError: the texts are not such a set.
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
        """Return the keys of a span of time, and keep that part open."""
        if span == self._span and self._current is not None:
            return self._current
        part = self._open.pop(span, None)
        self._span, self._current = span, set(self._closed.get(span, ())) if part is None else part
        self._open[span] = self._current
        if len(self._open) > _MAX_OPEN:
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

"""Which lines have been given: a set that only grows, in about eight bytes a member."""

from __future__ import annotations

import base64
import sys
from array import array
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MODULUS: Final = 0x6A09E667F3BCC91D  # a prime with nothing special about it: from the digits of the root of 2
_SPAN: Final = 60_000  # milliseconds of timestamps that share a part
_OPEN: Final = 3  # parts that are kept open at most


def fingerprint(text: str) -> int:
    """Return a number of 63 bits that stands for a text: the same in every process, unlike `hash()`.

    Not for texts of somebody who wants two of them to be the same: lines have ids that CloudWatch gives.
    """
    return int.from_bytes(text.encode("utf-8", "surrogatepass"), "big") % _MODULUS


class Seen:
    """Remembers which lines it was told of, by timestamp and fingerprint.

    A job may write millions of lines, and one that comes very late must still be told from those that were given hours
    ago. So fingerprints are kept in sorted arrays, one for each minute of timestamps. As logs are read in the order of
    time, a few parts are open at a time, as sets; the others are closed. Two of a million lines of one minute have the
    same fingerprint once in twenty million runs.
    """

    def __init__(self) -> None:
        self._open: dict[int, set[int]] = {}  # in the order of last use
        self._closed: dict[int, array[int]] = {}
        self._span = 0
        self._current: set[int] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, timestamp: int, key: int) -> bool:
        """Remember a line, and return whether it is new.

        Args:
            timestamp: the line's, in milliseconds since the epoch.
            key: its `fingerprint`.
        """
        if timestamp // _SPAN != self._span or self._current is None:
            self._turn_to(timestamp // _SPAN)
        current = self._current
        if key in current:  # type: ignore[operator]
            return False
        current.add(key)  # type: ignore[union-attr]
        self._count += 1
        return True

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
    def from_texts(cls, texts: Mapping[str, str]) -> Seen:
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

    def _turn_to(self, span: int) -> None:
        self._span = span
        self._current = self._open.pop(span, None)
        if self._current is None:
            self._current = set(self._closed.pop(span, ()))
        self._open[span] = self._current
        if len(self._open) > _OPEN:
            self._close(next(iter(self._open)))

    def _close(self, span: int) -> None:
        keys = self._open.pop(span)
        if keys:
            self._closed[span] = array("q", sorted(keys))


def _little_endian(keys: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return keys
    swapped = keys[:]
    swapped.byteswap()
    return swapped

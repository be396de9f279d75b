"""A set that only grows, in about eight bytes a member."""

from __future__ import annotations

from array import array
from bisect import bisect_left


class Seen:
    """Remembers which texts it was told of.

    A job may write millions of lines, each with an id of 56 characters, and a line that comes very late must still be
    told from those that were delivered hours ago. So ids are kept as 64-bit hashes in sorted arrays, of which there are
    few: a new one is merged with those before it that are no longer than itself. Two of a million ids share a hash
    once in forty million runs.
    """

    _FRESH = 4096  # members in the set that is not yet an array

    def __init__(self) -> None:
        self._fresh: set[int] = set()
        self._runs: list[array[int]] = []

    def __len__(self) -> int:
        return len(self._fresh) + sum(map(len, self._runs))

    def add(self, text: str) -> bool:
        """Remember a text, and return whether it is new."""
        key = hash(text)
        if key in self._fresh or any(_holds(run, key) for run in self._runs):
            return False
        self._fresh.add(key)
        if len(self._fresh) >= self._FRESH:
            self._settle()
        return True

    def _settle(self) -> None:
        run = array("q", sorted(self._fresh))
        self._fresh.clear()
        while self._runs and len(self._runs[-1]) <= len(run):
            run = array("q", sorted(self._runs.pop() + run))  # two sorted stretches: sorting them is one pass
        self._runs.append(run)


def _holds(run: array[int], key: int) -> bool:
    place = bisect_left(run, key)
    return place < len(run) and run[place] == key

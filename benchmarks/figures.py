"""How a benchmark says what it measured: one line a figure, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import attrs

OVER_THE_LIMIT = 3
"""The exit code where a figure is over its limit; a benchmark that breaks leaves with 1."""


@attrs.frozen
class Figure:
    """One thing measured.

    Attributes:
        name: what it is.
        value: what was measured.
        limit: the most that it may be.
        unit: such as `s`; empty for a ratio or a number.
        note: how it came about, where that helps.
    """

    name: str
    value: float
    limit: float
    unit: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        verdict = "PASS" if self.passed else "FAIL"
        note = f"   ({self.note})" if self.note else ""
        return f"{verdict}  {self.name:<58} {self.value:>8.3g} {self.unit:<3} limit {self.limit:g} {self.unit}{note}"


def finish(figures: Sequence[Figure]) -> None:
    """Print the figures and leave the process: with `OVER_THE_LIMIT` where one of them is."""
    for figure in figures:
        print(figure)
    sys.exit(0 if all(figure.passed for figure in figures) else OVER_THE_LIMIT)

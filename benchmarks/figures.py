"""The output of a benchmark: one line per figure, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import attrs

OVER_THE_LIMIT = 3
"""The exit code if a figure is over its limit. A benchmark that breaks exits with 1."""

SHORT = os.environ.get("PROCESSING_BENCHMARKS") == "short"
"""True for the short form, which shows that a benchmark works. Its figures mean little."""


def scaled(full: int, short: int) -> int:
    """Return the size of a measurement: `full`, or `short` in the short form."""
    return short if SHORT else full


@attrs.frozen
class Figure:
    """One measured value.

    Attributes:
        name: the quantity.
        value: the measured value.
        limit: the highest value allowed.
        unit: the unit, such as `s`; empty for a ratio or a number.
        note: the circumstances, if they help.
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
    """Print the figures, and exit with `OVER_THE_LIMIT` if one is over its limit."""
    for figure in figures:
        print(figure)
    sys.exit(0 if all(figure.passed for figure in figures) else OVER_THE_LIMIT)

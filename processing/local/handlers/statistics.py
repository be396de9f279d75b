"""CloudWatch's statistics: what the samples of a metric come to in each period."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.local.stores.metrics import Metric, MetricStore, PeriodSummary

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100)")
_SIMPLE: dict[str, Callable[[PeriodSummary], float]] = {
    "Average": lambda bucket: bucket.sum / bucket.number if bucket.number else 0.0,
    "Sum": lambda bucket: bucket.sum,
    "Minimum": lambda bucket: bucket.minimum,
    "Maximum": lambda bucket: bucket.maximum,
    "SampleCount": lambda bucket: bucket.number,
}


def is_statistic(name: str) -> bool:
    """Whether it is one that the engine has: Average, Sum, Minimum, Maximum, SampleCount or a percentile."""
    return name in _SIMPLE or _PERCENTILE.fullmatch(name) is not None


class Series:
    """A metric over some time, in periods, each of which begins at a multiple of its length.

    Args:
        store: where the samples are.
        metric: which one.
        start: the period in which this moment is comes first.
        end: periods that begin at this moment or later are not in it.
        period: in seconds.
    """

    def __init__(self, store: MetricStore, metric: Metric, start: float, end: float, period: int) -> None:
        self._store = store
        self._where = (metric, start // period * period, end, period)
        self._buckets: list[PeriodSummary] | None = None

    def points(self, statistic: str) -> list[tuple[float, float]]:
        """Return the start of each period that has samples, in seconds since the epoch, and the statistic's value."""
        percentile = _PERCENTILE.fullmatch(statistic)
        if percentile is not None:
            values = self._store.values_by_period(*self._where)
            return [(moment, quantile(found, float(percentile[1]) / 100)) for moment, found in values.items()]
        if self._buckets is None:
            self._buckets = self._store.summarize(*self._where)
        return [(bucket.start, float(_SIMPLE[statistic](bucket))) for bucket in self._buckets]


def quantile(values: list[tuple[float, float]], fraction: float) -> float:
    """Return the value below which a fraction of the values is, between two of them in proportion.

    Args:
        values: each with how often it came, lowest first.
        fraction: from 0 to 1.
    """
    position = fraction * (sum(number for _, number in values) - 1)
    passed = 0.0
    lower = values[0][0]
    for value, number in values:
        if position < passed:  # between the last of the values before and this one
            return lower + (value - lower) * (position - (passed - 1))
        passed += number
        lower = value
        if position <= passed - 1:
            return value
    return lower

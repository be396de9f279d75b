"""CloudWatch's statistics of the samples of a metric, for each period."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.local.stores.metrics import Metric, MetricStore, PeriodSummary

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100)")
_SIMPLE: dict[str, Callable[[PeriodSummary], float]] = {
    "Average": lambda summary: summary.sum / summary.number if summary.number else 0.0,
    "Sum": lambda summary: summary.sum,
    "Minimum": lambda summary: summary.minimum,
    "Maximum": lambda summary: summary.maximum,
    "SampleCount": lambda summary: summary.number,
}


def is_statistic(name: str) -> bool:
    """Return True for a supported statistic: Average, Sum, Minimum, Maximum, SampleCount or a percentile."""
    return name in _SIMPLE or _PERCENTILE.fullmatch(name) is not None


class Series:
    """The statistics of a metric by period. Each period starts at a multiple of its length.

    Args:
        store: the store of the samples.
        metric: the metric.
        start: a time in the first period.
        end: the last period starts before this time.
        period: the length of a period in seconds.
    """

    def __init__(self, store: MetricStore, metric: Metric, start: float, end: float, period: int) -> None:
        self._store = store
        self._query = (metric, start // period * period, end, period)
        self._summaries: list[PeriodSummary] | None = None

    def points(self, statistic: str) -> list[tuple[float, float]]:
        """Return (start in seconds since the epoch, value of the statistic) for each period with samples."""
        percentile = _PERCENTILE.fullmatch(statistic)
        if percentile is not None:
            values = self._store.values_by_period(*self._query)
            return [(moment, quantile(found, float(percentile[1]) / 100)) for moment, found in values.items()]
        if self._summaries is None:
            self._summaries = self._store.summarize(*self._query)
        return [(summary.start, float(_SIMPLE[statistic](summary))) for summary in self._summaries]


def quantile(values: list[tuple[float, float]], fraction: float) -> float:
    """Return the quantile of weighted values, with linear interpolation between neighbors.

    Args:
        values: the values with their numbers, the lowest first.
        fraction: the quantile, from 0 to 1.
    """
    position = fraction * (sum(number for _, number in values) - 1)
    passed = 0.0
    lower = values[0][0]
    for value, number in values:
        if position < passed:  # between the last of the lower values and this one
            return lower + (value - lower) * (position - (passed - 1))
        passed += number
        lower = value
        if position <= passed - 1:
            return value
    return lower

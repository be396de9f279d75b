"""The metric store, and the statistics over it."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.local.handlers.statistics import Series, is_statistic, quantile
from processing.local.stores.metrics import JOB_NAMESPACE, Metric, MetricStore, Sample

if TYPE_CHECKING:
    import sqlite3
    from contextlib import AbstractContextManager
    from pathlib import Path

NOW = 1_700_000_000.0
CPU = Metric(JOB_NAMESPACE, "CPUUtilization", (("Host", "job/algo-1"),))


@pytest.fixture
def store(tmp_path: Path) -> MetricStore:
    """An empty store whose time stands still."""
    return MetricStore(tmp_path, now=lambda: NOW)


def test_samples_of_a_host_are_its_metrics(store: MetricStore) -> None:
    """Each name is a metric of its own, in percent, in the namespace of processing jobs."""
    store.append(
        "job/algo-1", [(NOW, {"CPUUtilization": 50, "MemoryUtilization": 2.5}), (NOW + 1, {"DiskUtilization": 1})]
    )
    found, more = store.metrics()
    assert [metric.name for metric in found] == ["CPUUtilization", "DiskUtilization", "MemoryUtilization"]
    assert found[0] == CPU
    assert not more
    assert store.unit(CPU) == "Percent"
    assert store.unit(Metric(JOB_NAMESPACE, "CPUUtilization")) is None


def test_samples_come_to_buckets(store: MetricStore) -> None:
    """Each period starts at a multiple of its length, and the last one is complete."""
    start = 1_700_000_040.0  # the start of a minute
    store.append("job/algo-1", [(start + second, {"CPUUtilization": second}) for second in range(180)])
    buckets = store.summarize(CPU, start, start + 61, 60)
    assert [(bucket.start, bucket.number, bucket.minimum, bucket.maximum) for bucket in buckets] == [
        (start, 60, 0, 59),
        (start + 60, 60, 60, 119),
    ]
    assert buckets[0].sum == sum(range(60))
    assert store.summarize(Metric(JOB_NAMESPACE, "none"), start, start + 61, 60) == []


def test_a_series_begins_with_the_period_of_its_start(store: MetricStore) -> None:
    """This holds for any start in the period."""
    store.append(
        "job/algo-1", [(60.0, {"CPUUtilization": 1}), (90.0, {"CPUUtilization": 3}), (120.0, {"CPUUtilization": 5})]
    )
    series = Series(store, CPU, 75.0, 120.0, 60)
    assert series.points("Average") == [(60.0, 2.0)]
    assert series.points("SampleCount") == [(60.0, 2.0)]
    assert series.points("p50") == [(60.0, 2.0)]


def test_a_set_of_values_has_no_percentiles(store: MetricStore) -> None:
    """A set of equal values has percentiles, because no value is unknown."""
    store.put([(CPU, "Percent", [Sample(0.0, 3, 12, 1, 9), Sample(60.0, 4, 8, 2, 2), Sample.of(60.0, 4.0, 2)])])
    series = Series(store, CPU, 0.0, 120.0, 60)
    assert series.points("Sum") == [(0.0, 12.0), (60.0, 16.0)]
    assert series.points("p100") == [(60.0, 4.0)]
    assert series.points("p0") == [(60.0, 2.0)]


@given(values=st.lists(st.integers(-50, 50), min_size=2, max_size=30), percent=st.integers(1, 99))
def test_quantiles_are_those_of_the_standard_library(values: list[int], percent: int) -> None:
    """The result is the same for single and for counted values."""
    expected = statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
    counted = [(float(value), float(values.count(value))) for value in sorted(set(values))]
    assert quantile(counted, percent / 100) == pytest.approx(expected)
    assert quantile([(float(value), 1.0) for value in sorted(values)], percent / 100) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["p101", "p", "p1.", "tm99", "average", "", "p99.99.9", "iqm"])
def test_other_statistics_are_none(name: str) -> None:
    """The engine has no trimmed means."""
    assert not is_statistic(name)


def test_metrics_are_found(store: MetricStore) -> None:
    """They are selected by namespace, name, dimensions and recent activity, in sorted pages."""
    for job in ("a", "b"):
        for host in (1, 2):
            store.append(
                f"{job}/algo-{host}", [(NOW - 4 * 3600 * (job == "a"), {"CPUUtilization": 1.0, "DiskUtilization": 1.0})]
            )
    store.put([(Metric.of("Own", "Rows", {"Table": "t", "Host": "x"}), "Count", [Sample.of(NOW, 1.0)])])
    assert len(store.metrics()[0]) == 9
    assert len(store.metrics(namespace=JOB_NAMESPACE, name="CPUUtilization")[0]) == 4
    assert len(store.metrics(dimensions=[("Host", None)])[0]) == 9
    assert len(store.metrics(dimensions=[("Host", "b/algo-1")])[0]) == 2
    assert [metric.namespace for metric in store.metrics(dimensions=[("Host", None), ("Table", "t")])[0]] == ["Own"]
    assert {metric.dimensions[0][1][0] for metric in store.metrics(namespace=JOB_NAMESPACE, recent=True)[0]} == {"b"}
    page, more = store.metrics(limit=4)
    rest, no_more = store.metrics(after=page[-1])
    assert (more, no_more) == (True, False)
    assert page + rest == store.metrics()[0]


def test_old_samples_go(store: MetricStore) -> None:
    """Metrics without samples are deleted, too."""
    store.append("old/algo-1", [(NOW - 10, {"CPUUtilization": 1.0})])
    store.append("job/algo-1", [(NOW - 10, {"CPUUtilization": 1.0}), (NOW, {"CPUUtilization": 2.0})])
    assert store.delete_before(NOW) == 2
    assert store.metrics()[0] == [CPU]
    assert [bucket.sum for bucket in store.summarize(CPU, NOW - 60, NOW + 60, 60)] == [2.0]
    assert store.delete_before(NOW) == 0


def test_old_samples_go_a_few_at_a_time(store: MetricStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others write in between. Their samples stay, and every old sample is deleted."""
    monkeypatch.setattr("processing.local.stores.metrics.DELETED_AT_ONCE", 3)
    samples = [(NOW - 10 + (number % 4 == 0) * 10, {"CPUUtilization": 1.0}) for number in range(20)]
    store.append("job/algo-1", samples)
    write = store._database.write
    writes: list[None] = []

    def counted() -> AbstractContextManager[sqlite3.Connection]:
        writes.append(None)
        if len(writes) == 3:
            MetricStore(store._database.path.parent).append("new/algo-1", [(NOW, {"CPUUtilization": 5.0})])
        return write()

    monkeypatch.setattr(store._database, "write", counted)
    assert store.delete_before(NOW) == 15
    assert len(writes) > 6
    assert sum(bucket.number for bucket in store.summarize(CPU, NOW - 60, NOW + 60, 60)) == 5
    assert len(store.metrics()[0]) == 2

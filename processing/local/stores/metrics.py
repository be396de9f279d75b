"""The metric store: metrics of CloudWatch, in SQLite. They come from the hosts of jobs and from PutMetricData.

A metric is a namespace, a name and a set of dimensions. Every sample is stored, and queries summarize them by
period. Unlike the service, the engine never reduces the resolution of old samples.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple

from processing.local.errors import tolerating_full_disk
from processing.local.stores.database import Database, free_pages, give_space_back, is_saving_space

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

JOB_NAMESPACE = "/aws/sagemaker/ProcessingJobs"
"""The namespace of the metrics of processing jobs."""
HOST_DIMENSION = "Host"
"""The only dimension of these metrics, with values like `<job>/algo-<n>`."""

RECENT_SECONDS = 3 * 3600
"""CloudWatch calls a metric recently active if its last sample is younger."""
DELETED_AT_ONCE = 10_000
"""Samples that one transaction of a deletion examines, so that writers hardly wait."""

_SCHEMA = (
    """CREATE TABLE metrics (
        id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, dimensions TEXT NOT NULL,
        unit TEXT NOT NULL, last REAL NOT NULL, UNIQUE (namespace, name, dimensions)
    )""",
    """CREATE TABLE samples (
        metric INTEGER NOT NULL REFERENCES metrics, time REAL NOT NULL,
        count REAL NOT NULL, sum REAL NOT NULL, minimum REAL NOT NULL, maximum REAL NOT NULL
    )""",
    "CREATE INDEX samples_in_order ON samples (metric, time)",
)


class Metric(NamedTuple):
    """A metric. Dimensions are pairs of name and value, sorted by name."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, namespace: str, name: str, dimensions: Mapping[str, str]) -> Metric:
        """Return the metric with dimensions in any order."""
        return cls(namespace, name, tuple(sorted(dimensions.items())))


class Sample(NamedTuple):
    """A value (`number` 1), a repeated value, or the statistics of a set of unknown values."""

    time: float
    number: float
    sum: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, time: float, value: float, number: float = 1.0) -> Sample:
        """Return the sample of a value that occurred `number` times."""
        return cls(time, number, value * number, value, value)


class PeriodSummary(NamedTuple):
    """Summary of the samples of one period, which starts at `start` (seconds since the epoch)."""

    start: float
    number: float
    sum: float
    minimum: float
    maximum: float


class MetricStore:
    """The metrics in the engine's folder.

    Args:
        root: the engine's folder.
        now: returns the time in seconds since the epoch.
    """

    def __init__(self, root: Path, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._database = Database(root / "metrics.sqlite3", _SCHEMA)

    def check(self) -> None:
        """Open the database, so that an unusable folder is detected now."""
        self._database.check()

    def append(self, host: str, samples: Sequence[tuple[float, Mapping[str, float]]]) -> None:
        """Add samples of a host of a processing job.

        Args:
            host: `<job>/algo-<n>`.
            samples: times in seconds since the epoch, each with values by metric name, such as `CPUUtilization` (in
                percent).
        """
        HostSamples(self, JOB_NAMESPACE, {HOST_DIMENSION: host}).append(samples)

    def put(self, series: Iterable[tuple[Metric, str, Sequence[Sample]]]) -> None:
        """Add samples of several metrics, each with its unit, in one transaction."""
        known = [(metric, unit, samples) for metric, unit, samples in series if samples]
        if not known:
            return
        with self._database.write() as connection:
            for metric, unit, samples in known:
                number = _upsert(connection, metric, unit, max(sample.time for sample in samples))
                connection.executemany(
                    "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?)", [(number, *sample) for sample in samples]
                )

    def summarize(self, metric: Metric, start: float, end: float, period: int) -> list[PeriodSummary]:
        """Return a summary of each period with samples between start and end.

        Args:
            metric: the metric. An unknown metric has no samples.
            start: the start of the first period in seconds since the epoch, a multiple of the period.
            end: the last period starts before this time.
            period: the length of a period in seconds.
        """
        statement = """SELECT CAST(time / ?2 AS INTEGER) * ?2, sum(count), sum(sum), min(minimum), max(maximum)
            FROM samples WHERE metric = ?1 AND time >= ?3 AND time < ?4 GROUP BY 1 ORDER BY 1"""
        with self._database.read() as connection:
            number = _metric_id(connection, metric)
            rows = connection.execute(statement, (number, period, start, _ceiling(end, period))).fetchall()
        return [PeriodSummary._make(row) for row in rows]

    def values_by_period(
        self, metric: Metric, start: float, end: float, period: int
    ) -> dict[float, list[tuple[float, float]]]:
        """Return the values of each period with their numbers, the lowest value first. See `summarize`.

        Periods with statistics of unknown values are omitted, because they have no percentiles.
        """
        statement = """SELECT CAST(time / ?2 AS INTEGER) * ?2, minimum, maximum, sum(count)
            FROM samples WHERE metric = ?1 AND time >= ?3 AND time < ?4 GROUP BY 1, 2, 3 ORDER BY 1, 2"""
        with self._database.read() as connection:
            number = _metric_id(connection, metric)
            rows = connection.execute(statement, (number, period, start, _ceiling(end, period))).fetchall()
        unknown = {moment for moment, minimum, maximum, _ in rows if minimum != maximum}
        found: dict[float, list[tuple[float, float]]] = {}
        for moment, value, _, count in rows:
            if moment not in unknown:
                found.setdefault(moment, []).append((value, count))
        return found

    def unit(self, metric: Metric) -> str | None:
        """Return the unit of a metric's last samples, or None if the metric does not exist."""
        with self._database.read() as connection:
            row = _find(connection, metric, "unit")
        return None if row is None else str(row)

    def metrics(
        self,
        *,
        namespace: str | None = None,
        name: str | None = None,
        dimensions: Sequence[tuple[str, str | None]] = (),
        recent: bool = False,
        after: Metric | None = None,
        limit: int = 500,
    ) -> tuple[list[Metric], bool]:
        """Return a page of the metrics, sorted, and True if another page follows.

        Args:
            namespace: return only metrics of this namespace.
            name: return only metrics with this name.
            dimensions: return only metrics with all of these dimensions. None stands for any value.
            recent: return only metrics with a sample in the last three hours.
            after: the last metric of the page before.
            limit: the size of the page.
        """
        conditions: list[str] = ["1"]
        values: list[str | float] = []
        for column, value in (("namespace", namespace), ("name", name)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        if recent:
            conditions.append("last >= ?")
            values.append(self._now() - RECENT_SECONDS)
        if after is not None:
            conditions.append("(namespace, name, dimensions) > (?, ?, ?)")
            values += [after.namespace, after.name, _dimensions_json(after)]
        statement = f"""SELECT namespace, name, dimensions FROM metrics WHERE {" AND ".join(conditions)}
            ORDER BY namespace, name, dimensions"""  # noqa: S608 - the conditions are constants
        found: list[Metric] = []
        with self._database.read() as connection:
            for row in connection.execute(statement, values):
                metric = Metric(row[0], row[1], tuple((key, value) for key, value in json.loads(row[2])))
                if _has_dimensions(metric, dimensions):
                    if len(found) == limit:
                        return found, True
                    found.append(metric)
        return found, False

    def count_before(self, moment: float) -> int:
        """Return the number of samples before a moment, in seconds since the epoch."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM samples WHERE time < ?", (moment,)).fetchone()[0])

    def delete_before(self, moment: float) -> int:
        """Delete the samples before a moment and metrics without samples, and return the number of samples.

        The deletion runs in many transactions, between which others write.

        Args:
            moment: the time in seconds since the epoch.
        """
        with self._database.read() as connection:
            statement = "SELECT coalesce(min(rowid), 0), coalesce(max(rowid), -1) FROM samples"
            first, last = connection.execute(statement).fetchone()
        statement = "DELETE FROM samples WHERE rowid >= ? AND rowid < ? AND time < ?"
        deleted = 0
        begins = range(first, last + 1, DELETED_AT_ONCE)
        # The last rows are at the end of the file, which then shrinks without moving pages.
        for begin in reversed(begins) if is_saving_space() else begins:
            with self._database.write() as connection:
                deleted += connection.execute(statement, (begin, begin + DELETED_AT_ONCE, moment)).rowcount
                if is_saving_space():
                    free_pages(connection)
            if is_saving_space():
                with tolerating_full_disk():
                    give_space_back(self._database.path)
        with self._database.write() as connection:
            connection.execute("DELETE FROM metrics WHERE id NOT IN (SELECT DISTINCT metric FROM samples)")
        return deleted


def _has_dimensions(metric: Metric, dimensions: Sequence[tuple[str, str | None]]) -> bool:
    known = dict(metric.dimensions)
    return all(name in known and value in {None, known[name]} for name, value in dimensions)


def _ceiling(moment: float, period: int) -> float:
    """Return the first multiple of the period that is not before a moment."""
    return -(-moment // period) * period


def _dimensions_json(metric: Metric) -> str:
    return json.dumps(metric.dimensions)


def _find(connection: sqlite3.Connection, metric: Metric, column: str) -> str | int | None:
    statement = f"SELECT {column} FROM metrics WHERE namespace = ? AND name = ? AND dimensions = ?"  # noqa: S608 - the values are bound
    row = connection.execute(statement, (metric.namespace, metric.name, _dimensions_json(metric))).fetchone()
    found: str | int | None = None if row is None else row[0]
    return found


class HostSamples:
    """The samples of one host.

    Args:
        store: the store.
        namespace: the namespace of the samples.
        dimensions: the dimensions of the samples.
    """

    def __init__(self, store: MetricStore, namespace: str, dimensions: Mapping[str, str]) -> None:
        self._store = store
        self._namespace = namespace
        self._dimensions = dict(dimensions)

    def append(self, samples: Sequence[tuple[float, Mapping[str, float]]]) -> None:
        """Add samples: times in seconds since the epoch, each with values by metric, in percent."""
        by_name: dict[str, list[Sample]] = {}
        for moment, values in samples:
            for name, value in values.items():
                by_name.setdefault(name, []).append(Sample.of(moment, float(value)))
        self._store.put(
            (Metric.of(self._namespace, name, self._dimensions), "Percent", found) for name, found in by_name.items()
        )


def _metric_id(connection: sqlite3.Connection, metric: Metric) -> int:
    return int(_find(connection, metric, "id") or 0)  # no metric has the id 0


def _upsert(connection: sqlite3.Connection, metric: Metric, unit: str, last: float) -> int:
    """Create or update a metric and return its id."""
    statement = """INSERT INTO metrics (namespace, name, dimensions, unit, last) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET unit = excluded.unit, last = max(last, excluded.last)"""
    connection.execute(statement, (metric.namespace, metric.name, _dimensions_json(metric), unit, last))
    return _metric_id(connection, metric)

"""The metric store: CloudWatch's metrics, in SQLite. What a job's hosts are sampled for, and what is put by hand.

A metric is a namespace, a name and a set of dimensions. Stored is every sample as it came, and answered what they come
to in periods: unlike the service, the engine never makes old samples coarser.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple

from processing.local.stores.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

JOB_NAMESPACE = "/aws/sagemaker/ProcessingJobs"
"""The namespace of the metrics of processing jobs."""
HOST_DIMENSION = "Host"
"""Their one dimension: `<job>/algo-<n>`."""

RECENT_SECONDS = 3 * 3600
"""So young is the last sample of a metric that is called recently active."""
DELETED_AT_ONCE = 10_000
"""Samples that are looked at in one transaction of a deletion."""

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
    """A metric; dimensions are pairs of name and value, by name."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, namespace: str, name: str, dimensions: Mapping[str, str]) -> Metric:
        """Return the metric with these dimensions, in any order."""
        return cls(namespace, name, tuple(sorted(dimensions.items())))


class Sample(NamedTuple):
    """One value (number 1), a value that came several times, or a set of values of which no more is known than this."""

    time: float
    number: float
    sum: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, time: float, value: float, number: float = 1.0) -> Sample:
        """Return the sample of one value, that came so many times."""
        return cls(time, number, value * number, value, value)


class PeriodSummary(NamedTuple):
    """What the samples of one period come to; start in seconds since the epoch."""

    start: float
    number: float
    sum: float
    minimum: float
    maximum: float


class MetricStore:
    """The metrics in the engine's folder.

    Args:
        root: the engine's folder.
        now: the time in seconds since the epoch.
    """

    def __init__(self, root: Path, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._database = Database(root / "metrics.sqlite3", _SCHEMA)

    def check(self) -> None:
        """Open the database, so that a folder that cannot be used is found out now."""
        self._database.check()

    def append(self, host: str, samples: Sequence[tuple[float, Mapping[str, float]]]) -> None:
        """Add what a host was sampled for.

        Args:
            host: `<job>/algo-<n>`.
            samples: times in seconds since the epoch, each with values by metric name, such as `CPUUtilization` (in
                percent).
        """
        by_name: dict[str, list[Sample]] = {}
        for moment, values in samples:
            for name, value in values.items():
                by_name.setdefault(name, []).append(Sample.of(moment, float(value)))
        self.put(
            (Metric.of(JOB_NAMESPACE, name, {HOST_DIMENSION: host}), "Percent", found)
            for name, found in by_name.items()
        )

    def put(self, series: Iterable[tuple[Metric, str, Sequence[Sample]]]) -> None:
        """Add samples of several metrics, each with its unit, in one transaction."""
        known = [(metric, unit, samples) for metric, unit, samples in series if samples]
        if not known:
            return
        with self._database.write() as connection:
            for metric, unit, samples in known:
                number = _number(connection, metric, unit, max(sample.time for sample in samples))
                connection.executemany(
                    "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?)", [(number, *sample) for sample in samples]
                )

    def summarize(self, metric: Metric, start: float, end: float, period: int) -> list[PeriodSummary]:
        """Return what the samples come to in the periods from start on and before end; empty periods are left out.

        Args:
            metric: which one; that it has never been heard of is no error.
            start: in seconds since the epoch, a multiple of the period.
            end: the start of the last period is before it.
            period: in seconds.
        """
        statement = """SELECT CAST(time / ?2 AS INTEGER) * ?2, sum(count), sum(sum), min(minimum), max(maximum)
            FROM samples WHERE metric = ?1 AND time >= ?3 AND time < ?4 GROUP BY 1 ORDER BY 1"""
        with self._database.read() as connection:
            number = _known_number(connection, metric)
            rows = connection.execute(statement, (number, period, start, _ceiling(end, period))).fetchall()
        return [PeriodSummary._make(row) for row in rows]

    def values_by_period(
        self, metric: Metric, start: float, end: float, period: int
    ) -> dict[float, list[tuple[float, float]]]:
        """Return the values of each period (see `summarize`), lowest first, with how often each came.

        A period with a set of values that are not known one by one is left out: it has no percentiles.
        """
        statement = """SELECT CAST(time / ?2 AS INTEGER) * ?2, minimum, maximum, sum(count)
            FROM samples WHERE metric = ?1 AND time >= ?3 AND time < ?4 GROUP BY 1, 2, 3 ORDER BY 1, 2"""
        with self._database.read() as connection:
            number = _known_number(connection, metric)
            rows = connection.execute(statement, (number, period, start, _ceiling(end, period))).fetchall()
        unknown = {bucket for bucket, minimum, maximum, _ in rows if minimum != maximum}
        found: dict[float, list[tuple[float, float]]] = {}
        for bucket, value, _, count in rows:
            if bucket not in unknown:
                found.setdefault(bucket, []).append((value, count))
        return found

    def unit(self, metric: Metric) -> str | None:
        """Return the unit that a metric was last put with; None for one that does not exist."""
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
        """Return a page of the metrics, in their order, and whether there is more.

        Args:
            namespace: only metrics of this one.
            name: only metrics of this name.
            dimensions: only metrics that have all of these, with this value or, for None, any.
            recent: only metrics that got a sample in the last three hours.
            after: only metrics that come after this one.
            limit: at most so many.
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
            values += [after.namespace, after.name, _text(after)]
        statement = f"""SELECT namespace, name, dimensions FROM metrics WHERE {" AND ".join(conditions)}
            ORDER BY namespace, name, dimensions"""  # noqa: S608 — the conditions are constants
        found: list[Metric] = []
        with self._database.read() as connection:
            for row in connection.execute(statement, values):
                metric = Metric(row[0], row[1], tuple((key, value) for key, value in json.loads(row[2])))
                if _has(metric, dimensions):
                    if len(found) == limit:
                        return found, True
                    found.append(metric)
        return found, False

    def count_before(self, moment: float) -> int:
        """Return how many samples are older; in seconds since the epoch."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM samples WHERE time < ?", (moment,)).fetchone()[0])

    def delete_before(self, moment: float) -> int:
        """Delete the samples that are older, and metrics without any; return how many samples there were.

        It goes in many transactions, between which others write.

        Args:
            moment: in seconds since the epoch.
        """
        with self._database.read() as connection:
            statement = "SELECT coalesce(min(rowid), 0), coalesce(max(rowid), -1) FROM samples"
            first, last = connection.execute(statement).fetchone()
        statement = "DELETE FROM samples WHERE rowid >= ? AND rowid < ? AND time < ?"
        deleted = 0
        for begin in range(first, last + 1, DELETED_AT_ONCE):
            with self._database.write() as connection:
                deleted += connection.execute(statement, (begin, begin + DELETED_AT_ONCE, moment)).rowcount
        with self._database.write() as connection:
            connection.execute("DELETE FROM metrics WHERE id NOT IN (SELECT DISTINCT metric FROM samples)")
        return deleted


def _has(metric: Metric, wanted: Sequence[tuple[str, str | None]]) -> bool:
    known = dict(metric.dimensions)
    return all(name in known and value in {None, known[name]} for name, value in wanted)


def _ceiling(moment: float, period: int) -> float:
    """Return the end of the period in which a moment is, or before which it is."""
    return -(-moment // period) * period


def _text(metric: Metric) -> str:
    return json.dumps(metric.dimensions)


def _find(connection: sqlite3.Connection, metric: Metric, column: str) -> str | int | None:
    statement = f"SELECT {column} FROM metrics WHERE namespace = ? AND name = ? AND dimensions = ?"  # noqa: S608
    row = connection.execute(statement, (metric.namespace, metric.name, _text(metric))).fetchone()
    found: str | int | None = None if row is None else row[0]
    return found


def _known_number(connection: sqlite3.Connection, metric: Metric) -> int:
    return int(_find(connection, metric, "id") or 0)  # 0 is the number of none


def _number(connection: sqlite3.Connection, metric: Metric, unit: str, last: float) -> int:
    """Return the number of a metric, which is made, and note when it was last put."""
    statement = """INSERT INTO metrics (namespace, name, dimensions, unit, last) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET unit = excluded.unit, last = max(last, excluded.last)"""
    connection.execute(statement, (metric.namespace, metric.name, _text(metric), unit, last))
    return _known_number(connection, metric)

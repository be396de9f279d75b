"""Processing jobs, their hosts and their tags.

A job is finished by the last of its hosts, in the transaction that notes that host's end. Every change of a status is
noted in the outbox by the transaction that makes it. All times are seconds since the epoch. Standard library only.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.container import contract
from processing.local.errors import ApiError
from processing.local.stores import outbox
from processing.local.stores.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

TEXT_LIMIT = 1024
"""Characters of a FailureReason and of an ExitMessage."""
MAX_TAGS = 50

_LIST_INDEXES = (
    "CREATE INDEX jobs_by_creation_and_filters ON jobs (created, id, modified, name, status)",
    "CREATE INDEX jobs_by_status_and_creation ON jobs (status, created, id, modified, name)",
    "CREATE INDEX jobs_by_modification ON jobs (modified, id)",
)
"""They have all that List may filter by: what it skips is never read, since rows, with their requests, are large."""
_FEW = 500
"""So many jobs are sorted in less time than it takes to find them among all."""

_SCHEMA = (
    """CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        arn TEXT NOT NULL,
        status TEXT NOT NULL,
        created REAL NOT NULL,
        started REAL,
        ended REAL,
        modified REAL NOT NULL,
        failure_reason TEXT,
        exit_message TEXT,
        folder TEXT NOT NULL,
        request TEXT NOT NULL,
        plan TEXT NOT NULL
    )""",
    "CREATE INDEX jobs_by_status ON jobs (status, id)",
    *_LIST_INDEXES,
    """CREATE TABLE hosts (
        job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        process_group INTEGER,
        group_started TEXT,
        outcome TEXT,
        exit_code INTEGER,
        reason TEXT,
        exit_message TEXT,
        ended REAL,
        PRIMARY KEY (job, number)
    ) WITHOUT ROWID""",
    """CREATE TABLE tags (
        arn TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (arn, key)
    )""",
    *outbox.SCHEMA,
)
_VERSION = 2
_UPGRADES = {1: (*outbox.SCHEMA, *_LIST_INDEXES, "DROP INDEX jobs_by_creation")}
_COLUMNS = "id, name, arn, status, created, started, ended, modified, failure_reason, exit_message, folder"
_SORT_COLUMNS = {"Name": "name", "CreationTime": "created", "Status": "status"}


class JobRecord(NamedTuple):
    """A job as it stands. `folder` is where its hosts work and keep their locks, relative to the engine's folder."""

    id: int
    name: str
    arn: str
    status: str
    created: float
    started: float | None
    ended: float | None
    modified: float
    failure_reason: str | None
    exit_message: str | None
    folder: str

    @property
    def finished(self) -> bool:
        """Whether the status will not change any more."""
        return self.status in contract.TERMINAL


class HostRecord(NamedTuple):
    """One host of a job. `outcome` is None until it ends; `group_started` tells a process group from a later one."""

    number: int
    process_group: int | None
    group_started: str | None
    outcome: str | None


class HostEnd(NamedTuple):
    """How a host ended.

    Attributes:
        outcome: `completed`, `failed`, `stopped` (the job was stopped or ran out of time) or `cancelled` (another
            host failed).
        exit_code: of the program, if it ran.
        reason: why, for a FailureReason.
        exit_message: what the program left in /opt/ml/output/message.
        ended: when its program ended, or what came before that failed; None for now.
    """

    outcome: str
    exit_code: int | None = None
    reason: str | None = None
    exit_message: str | None = None
    ended: float | None = None


class JobQuery(NamedTuple):
    """What ListProcessingJobs may ask for; times exclusive, in seconds since the epoch."""

    created_after: float | None = None
    created_before: float | None = None
    modified_after: float | None = None
    modified_before: float | None = None
    name_contains: str | None = None
    status: str | None = None
    sort_by: str = "CreationTime"
    descending: bool = False


class JobStore:
    """The jobs of one engine folder.

    Args:
        root: the engine's folder.

    Attributes:
        outbox: the changes of the jobs' status.
    """

    def __init__(self, root: Path) -> None:
        self._database = Database(Path(root) / "jobs.sqlite3", _SCHEMA, _VERSION, _UPGRADES)
        self.outbox = outbox.Outbox(self._database)

    # --- by those who ask

    def check(self) -> None:
        """Open the database, so that a folder that cannot be used is found out now."""
        self._database.check()

    def create(
        self,
        request: Mapping[str, Any],
        *,
        arn: str,
        folder: str,
        plan: Mapping[str, Any],
        hosts: int,
        tags: Mapping[str, str],
        now: float,
    ) -> JobRecord:
        """Note a new job, in progress, with so many hosts.

        Raises:
            ApiError: `ResourceInUse`, there is a job of that name.
        """
        name = request["ProcessingJobName"]
        with self._database.write() as connection:
            taken = connection.execute("SELECT arn FROM jobs WHERE name = ?", (name,)).fetchone()
            if taken is not None:
                raise ApiError(
                    "ResourceInUse",
                    "Job name must be unique within an AWS account and region, "
                    f"and a job with this name already exists ({taken[0]})",
                )
            values = (name, arn, "InProgress", now, now, folder, json.dumps(request), json.dumps(plan))
            job = connection.execute(
                "INSERT INTO jobs (name, arn, status, created, modified, folder, request, plan) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            ).lastrowid
            connection.executemany(
                "INSERT INTO hosts (job, number) VALUES (?, ?)", [(job, number + 1) for number in range(hosts)]
            )
            _put_tags(connection, arn, tags)
            record = _by_id(connection, job or 0)
            outbox.record_transition(connection, record, now)
            return record

    def get(self, name: str) -> JobRecord:
        """Return the job of that name.

        Raises:
            ApiError: `ValidationException`, there is none.
        """
        with self._database.read() as connection:
            return _by_name(connection, name)

    def get_by_id(self, job: int) -> JobRecord:
        """Return the job of that number in this store.

        Raises:
            LookupError: there is none.
        """
        with self._database.read() as connection:
            return _by_id(connection, job)

    def request(self, job: int) -> dict[str, Any]:
        """Return the request that created the job, without its tags."""
        return self._json(job, "request")

    def execution_plan(self, job: int) -> dict[str, Any]:
        """Return how the job runs on this machine: interpreter, sandbox, tick, grace."""
        return self._json(job, "plan")

    def _json(self, job: int, column: str) -> dict[str, Any]:
        with self._database.read() as connection:
            row = connection.execute(f"SELECT {column} FROM jobs WHERE id = ?", (job,)).fetchone()  # noqa: S608
        if row is None:
            raise LookupError(f"there is no job number {job}")
        value: dict[str, Any] = json.loads(row[0])
        return value

    def list(self, query: JobQuery, limit: int, token: str | None = None) -> tuple[list[JobRecord], str | None]:
        """Return a page of jobs, and the token of the next page if there is one.

        Raises:
            ApiError: `ValidationException`, the token is none of this store's.
        """
        column = _SORT_COLUMNS[query.sort_by]
        conditions, values = _conditions(query)
        if token is not None:
            conditions.append(f"({column}, id) {'<' if query.descending else '>'} (?, ?)")
            values += _read_token(token, query)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "DESC" if query.descending else "ASC"
        with self._database.read() as connection:
            key = f"+{column}" if _few_changed(connection, query) else column  # with a plus, no index gives the order
            found = f"SELECT id FROM jobs {where} ORDER BY {key} {order}, id {order} LIMIT ?"  # noqa: S608
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE id IN ({found}) ORDER BY {column} {order}, id {order}",  # noqa: S608
                (*values, limit + 1),
            ).fetchall()
        page = [JobRecord(*row) for row in rows[:limit]]
        if len(rows) <= limit:
            return page, None
        position = {"Name": page[-1].name, "CreationTime": page[-1].created, "Status": page[-1].status}
        return page, _make_token(query, position[query.sort_by], page[-1].id)

    def unfinished(self) -> Sequence[JobRecord]:
        """Return every job that still runs, or should."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE status IN ('InProgress', 'Stopping')"  # noqa: S608
            ).fetchall()
        return [JobRecord(*row) for row in rows]

    def request_stop(self, name: str, now: float) -> None:
        """Ask the hosts to stop; asking again changes nothing.

        Raises:
            ApiError: `ValidationException`, there is no such job or it has finished.
        """
        with self._database.write() as connection:
            job = _by_name(connection, name)
            if job.finished:
                raise ApiError(
                    "ValidationException",
                    f"The request was rejected because the processing job is in status {job.status}.",
                )
            if job.status != "Stopping":
                connection.execute("UPDATE jobs SET status = 'Stopping', modified = ? WHERE id = ?", (now, job.id))
                outbox.record_transition(connection, _by_id(connection, job.id), now)

    def delete(self, name: str) -> JobRecord:
        """Forget a finished job and its tags; the name can be used again.

        Raises:
            ApiError: `ResourceNotFound`, or `ResourceInUse` while it runs.
        """
        with self._database.write() as connection:
            try:
                job = _by_name(connection, name)
            except ApiError as error:
                raise ApiError("ResourceNotFound", error.message) from None
            if not job.finished:
                raise ApiError(
                    "ResourceInUse",
                    f"The processing job {job.arn} is in status {job.status}. "
                    "Only a job in a terminal state (Completed, Failed, Stopped) can be deleted.",
                )
            connection.execute("DELETE FROM tags WHERE arn = ?", (job.arn,))
            connection.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
            return job

    def ended_before(self, moment: float) -> Sequence[JobRecord]:
        """Return the jobs that finished before a moment, oldest first."""
        with self._database.read() as connection:
            statement = f"SELECT {_COLUMNS} FROM jobs WHERE ended < ? ORDER BY ended, id"  # noqa: S608
            return [JobRecord(*row) for row in connection.execute(statement, (moment,))]

    def delete_finished(self, jobs: Iterable[int]) -> None:
        """Delete finished jobs, by their numbers, and their tags; the others of them stay."""
        with self._database.write() as connection:
            for job in jobs:
                finished = "SELECT arn FROM jobs WHERE id = ? AND ended IS NOT NULL"
                connection.execute(f"DELETE FROM tags WHERE arn IN ({finished})", (job,))  # noqa: S608
                connection.execute("DELETE FROM jobs WHERE id = ? AND ended IS NOT NULL", (job,))

    def find_tagged(
        self, filters: Sequence[tuple[str, Sequence[str]]], limit: int, after: str, arns: Sequence[str] | None = None
    ) -> Sequence[tuple[str, dict[str, str]]]:
        """Return a page of the jobs that have tags, by ARN, each with them.

        Args:
            filters: keys that a job must have, each with the values that it may have; none for any.
            limit: how many at most.
            after: the ARN that the page follows; empty for the first one.
            arns: these jobs alone.
        """
        wanted = ["arn > ?"]
        values: list[Any] = [after]
        for key, options in filters:
            among = f" AND value IN ({', '.join('?' * len(options))})" if options else ""
            wanted.append(f"arn IN (SELECT arn FROM tags WHERE key = ?{among})")  # noqa: S608
            values += [key, *options]
        if arns:
            wanted.append(f"arn IN ({', '.join('?' * len(arns))})")
            values += arns
        with self._database.read() as connection:
            found = connection.execute(
                f"SELECT DISTINCT arn FROM tags WHERE {' AND '.join(wanted)} ORDER BY arn LIMIT ?",  # noqa: S608
                (*values, limit),
            ).fetchall()
            return [(arn, _tags(connection, arn)) for (arn,) in found]

    def tags(self, arn: str) -> dict[str, str]:
        """Return the tags of the job with that ARN, sorted by key.

        Raises:
            ApiError: `ValidationException`, there is no such job.
        """
        with self._database.read() as connection:
            _require_arn(connection, arn)
            return _tags(connection, arn)

    def add_tags(self, arn: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags, or overwrite them; return all that the job has now.

        Raises:
            ApiError: `ValidationException` (no such job), `ResourceLimitExceeded` (more than 50 tags).
        """
        with self._database.write() as connection:
            _require_arn(connection, arn)
            _put_tags(connection, arn, tags)
            return _tags(connection, arn)

    def delete_tags(self, arn: str, keys: Iterable[str]) -> None:
        """Remove tags; those that are not there do not matter.

        Raises:
            ApiError: `ValidationException`, there is no such job.
        """
        with self._database.write() as connection:
            _require_arn(connection, arn)
            connection.executemany("DELETE FROM tags WHERE arn = ? AND key = ?", [(arn, key) for key in keys])

    # --- by the hosts

    def hosts(self, job: int) -> Sequence[HostRecord]:
        """Return the job's hosts in order."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT number, process_group, group_started, outcome FROM hosts WHERE job = ? ORDER BY number", (job,)
            ).fetchall()
        return [HostRecord(*row) for row in rows]

    def record_start(self, job: int, number: int, group: int, group_started: str | None, now: float) -> None:
        """Note that a host's program runs, in that process group; the first one starts the job."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE hosts SET process_group = ?, group_started = ? WHERE job = ? AND number = ?",
                (group, group_started, job, number),
            )
            connection.execute(
                "UPDATE jobs SET started = ?, modified = ? WHERE id = ? AND started IS NULL AND ended IS NULL",
                (now, now, job),
            )

    def interruption(self, job: int) -> str | None:
        """Return why the job's hosts must stop: `stopped`, `cancelled` (a host failed), or None."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT status, EXISTS (SELECT 1 FROM hosts WHERE job = jobs.id AND outcome = 'failed') "
                "FROM jobs WHERE id = ?",
                (job,),
            ).fetchone()
        if row is None or row[0] == "Stopping":
            return "stopped"
        return "cancelled" if row[1] else None

    def record_host_end(self, job: int, number: int, end: HostEnd, now: float) -> bool:
        """Note how a host ended; the last one finishes the job.

        Returns:
            whether the job is finished by that. A host ends once: a second report changes nothing.
        """
        with self._database.write() as connection:
            changed = connection.execute(
                "UPDATE hosts SET outcome = ?, exit_code = ?, reason = ?, exit_message = ?, ended = ? "
                "WHERE job = ? AND number = ? AND outcome IS NULL",
                (*end[:-1], end.ended or now, job, number),
            ).rowcount
            if not changed:
                return False
            hosts = connection.execute(
                "SELECT number, outcome, reason, exit_message, ended FROM hosts WHERE job = ? ORDER BY number", (job,)
            ).fetchall()
            if any(outcome is None for _, outcome, _, _, _ in hosts):
                return False
            _finish(connection, job, hosts, now)
            return True

    def close(self) -> None:
        """Close the database's idle connections."""
        self._database.close()


def _finish(connection: sqlite3.Connection, job: int, hosts: list[tuple[Any, ...]], now: float) -> None:
    """Give the job its last status."""
    stopping = connection.execute("SELECT status FROM jobs WHERE id = ?", (job,)).fetchone()[0] == "Stopping"
    status, reason = "Completed", None
    in_order_of_end = sorted(hosts, key=lambda host: (host[4], host[0]))
    failed = [host for host in in_order_of_end if host[1] == "failed"]
    stopped = [host for host in in_order_of_end if host[1] == "stopped"]
    if failed:
        status, reason = "Failed", failed[0][2]
        if len(hosts) > 1:
            host = f", host: {contract.host_name(failed[0][0])}"
            reason = f"{reason[: TEXT_LIMIT - len(host)]}{host}"
    elif stopping or stopped:
        status, reason = "Stopped", stopped[0][2] if stopped else None
    message = "".join(host[3] or "" for host in hosts)[:TEXT_LIMIT]
    connection.execute(
        "UPDATE jobs SET status = ?, failure_reason = ?, exit_message = ?, ended = ?, modified = ? WHERE id = ?",
        (status, reason[:TEXT_LIMIT] if reason else None, message or None, now, now, job),
    )
    outbox.record_transition(connection, _by_id(connection, job), now)


def _by_name(connection: sqlite3.Connection, name: str) -> JobRecord:
    row = connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE name = ?", (name,)).fetchone()  # noqa: S608
    if row is None:
        raise ApiError("ValidationException", f"Could not find requested job with name: {name}")
    return JobRecord(*row)


def _by_id(connection: sqlite3.Connection, job: int) -> JobRecord:
    row = connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job,)).fetchone()  # noqa: S608
    if row is None:
        raise LookupError(f"there is no job number {job}")
    return JobRecord(*row)


def _require_arn(connection: sqlite3.Connection, arn: str) -> None:
    if connection.execute("SELECT 1 FROM jobs WHERE arn = ?", (arn,)).fetchone() is None:
        raise ApiError("ValidationException", f"Could not find requested job with name: {arn.rpartition('/')[2]}")


def _tags(connection: sqlite3.Connection, arn: str) -> dict[str, str]:
    return dict(connection.execute("SELECT key, value FROM tags WHERE arn = ? ORDER BY key", (arn,)).fetchall())


def _put_tags(connection: sqlite3.Connection, arn: str, tags: Mapping[str, str]) -> None:
    connection.executemany(
        "INSERT INTO tags VALUES (?, ?, ?) ON CONFLICT (arn, key) DO UPDATE SET value = excluded.value",
        [(arn, key, value) for key, value in tags.items()],
    )
    (count,) = connection.execute("SELECT COUNT(*) FROM tags WHERE arn = ?", (arn,)).fetchone()
    if count > MAX_TAGS:
        raise ApiError("ResourceLimitExceeded", f"The resource {arn} may have {MAX_TAGS} tags at most, not {count}.")


def _conditions(query: JobQuery) -> tuple[list[str], list[Any]]:
    wanted = (
        ("created > ?", query.created_after),
        ("created < ?", query.created_before),
        ("modified > ?", query.modified_after),
        ("modified < ?", query.modified_before),
        ("instr(name, ?) > 0", query.name_contains),
        ("status = ?", query.status),
    )
    given = [(condition, value) for condition, value in wanted if value is not None]
    return [condition for condition, _ in given], [value for _, value in given]


def _few_changed(connection: sqlite3.Connection, query: JobQuery) -> bool:
    """Whether a query is for few of the jobs by the time of their last change, as those are that ask for news."""
    if query.modified_after is None:
        return False
    before = float("inf") if query.modified_before is None else query.modified_before
    (count,) = connection.execute(
        "SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE modified > ? AND modified < ? LIMIT ?)",
        (query.modified_after, before, _FEW),
    ).fetchone()
    return bool(count < _FEW)


def _make_token(query: JobQuery, position: Any, job: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([list(query), position, job]).encode()).decode()


def _read_token(token: str, query: JobQuery) -> list[Any]:
    """Return the position that a token stands for; a token goes with the filters that it was made for."""
    try:
        made_for, position, job = json.loads(base64.urlsafe_b64decode(token.encode()))
        if made_for == list(query) and isinstance(job, int) and isinstance(position, (str, int, float)):
            return [position, job]
    except (ValueError, TypeError):
        pass
    raise ApiError("ValidationException", "The NextToken is not valid for this request.")

"""Processing jobs, their hosts and their tags.

The last host to end finishes its job, in the transaction that records the end of the host. Every change of a status is
recorded in the outbox by the transaction that makes it. All times are seconds since the epoch.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.container import contract
from processing.local import strict_json
from processing.local.errors import ApiError
from processing.local.stores import outbox
from processing.local.stores.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

TEXT_LIMIT = 1024
"""Characters of a FailureReason and of an ExitMessage."""
MAX_TAGS = 50
"""SageMaker's limit for the tags of a job."""

_LIST_INDEXES = (
    "CREATE INDEX jobs_by_creation_and_filters ON jobs (created, id, modified, name, status)",
    "CREATE INDEX jobs_by_status_and_creation ON jobs (status, created, id, modified, name)",
    "CREATE INDEX jobs_by_modification ON jobs (modified, id)",
)
"""Indexes with all columns that List can filter by. Rows contain requests and are large, so List reads no row that it
skips."""
_FEW_JOBS = 500
"""Sorting fewer jobs than this takes less time than finding them in an index of all jobs."""

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
    """A job. `folder` holds its hosts' files and locks, relative to the engine's folder."""

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
        """True if the status is terminal."""
        return self.status in contract.TERMINAL


class HostRecord(NamedTuple):
    """A host of a job. `outcome` is None until the host ends.

    `group_started` distinguishes the process group from a later one with the same number.
    """

    number: int
    process_group: int | None
    group_started: str | None
    outcome: str | None


class HostEnd(NamedTuple):
    """The end of a host.

    Attributes:
        outcome: `completed`, `failed`, `stopped` (the job was stopped or ran out of time) or `cancelled` (another
            host failed).
        exit_code: the exit code of the program, if it ran.
        reason: the reason of a failure, for the FailureReason.
        exit_message: the content of the program's /opt/ml/output/message.
        ended: the time at which the program ended, or at which its preparation failed. None stands for now.
    """

    outcome: str
    exit_code: int | None = None
    reason: str | None = None
    exit_message: str | None = None
    ended: float | None = None


class JobQuery(NamedTuple):
    """The filters and the order of ListProcessingJobs. Times are exclusive bounds."""

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
        outbox: the status changes of the jobs.
    """

    def __init__(self, root: Path) -> None:
        self._database = Database(Path(root) / "jobs.sqlite3", _SCHEMA, _VERSION, _UPGRADES)
        self.outbox = outbox.Outbox(self._database)

    # --- requests of clients

    def check(self) -> None:
        """Open the database, so that an unusable folder is detected now."""
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
        """Create a job in status InProgress.

        Args:
            request: the request without its tags.
            arn: the job's ARN.
            folder: the folder of its hosts, relative to the engine's folder.
            plan: the job's ExecutionPlan, as JSON values.
            hosts: the number of hosts.
            tags: the job's tags.
            now: the time.

        Raises:
            ApiError: the name belongs to another job (`ResourceInUse`).
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
        """Return the job with a name.

        Raises:
            ApiError: the job does not exist (`ValidationException`).
        """
        with self._database.read() as connection:
            return _by_name(connection, name)

    def get_by_id(self, job: int) -> JobRecord:
        """Return the job with an id.

        Raises:
            LookupError: the job does not exist.
        """
        with self._database.read() as connection:
            return _by_id(connection, job)

    def request(self, job: int) -> dict[str, Any]:
        """Return the request that created the job, without its tags."""
        return self._json(job, "request")

    def execution_plan(self, job: int) -> dict[str, Any]:
        """Return the job's ExecutionPlan, as JSON values."""
        return self._json(job, "plan")

    def _json(self, job: int, column: str) -> dict[str, Any]:
        with self._database.read() as connection:
            row = connection.execute(f"SELECT {column} FROM jobs WHERE id = ?", (job,)).fetchone()  # noqa: S608
        if row is None:
            raise LookupError(f"there is no job with id {job}")
        value: dict[str, Any] = json.loads(row[0])
        return value

    def list(self, query: JobQuery, limit: int, token: str | None = None) -> tuple[list[JobRecord], str | None]:
        """Return a page of jobs, and the token of the next page or None.

        Raises:
            ApiError: the token does not belong to this query (`ValidationException`).
        """
        column = _SORT_COLUMNS[query.sort_by]
        conditions, values = _conditions(query)
        if token is not None:
            conditions.append(f"({column}, id) {'<' if query.descending else '>'} (?, ?)")
            values += _read_token(token, query)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "DESC" if query.descending else "ASC"
        with self._database.read() as connection:
            # A plus sign keeps SQLite from using an index for the order.
            key = f"+{column}" if _few_changed(connection, query) else column
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
        """Return all jobs whose status is not terminal."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE status IN ('InProgress', 'Stopping')"  # noqa: S608
            ).fetchall()
        return [JobRecord(*row) for row in rows]

    def request_stop(self, name: str, now: float) -> None:
        """Ask the hosts of a job to stop. A second request changes nothing.

        Raises:
            ApiError: the job does not exist or has finished (`ValidationException`).
        """
        with self._database.write() as connection:
            job = _by_name(connection, name)
            if job.finished:
                raise ApiError(
                    "ValidationException",
                    f"The request was rejected because the processing job is in status {job.status}.",
                )
            if job.status != "Stopping":
                connection.execute(
                    "UPDATE jobs SET status = 'Stopping', modified = max(modified, ?) WHERE id = ?", (now, job.id)
                )
                outbox.record_transition(connection, _by_id(connection, job.id), now)

    def delete(self, name: str) -> JobRecord:
        """Delete a finished job and its tags. The name can be used again.

        Raises:
            ApiError: the job does not exist (`ResourceNotFound`) or has not finished (`ResourceInUse`).
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
        """Return the jobs that finished before a moment, the oldest first."""
        with self._database.read() as connection:
            statement = f"SELECT {_COLUMNS} FROM jobs WHERE ended < ? ORDER BY ended, id"  # noqa: S608
            return [JobRecord(*row) for row in connection.execute(statement, (moment,))]

    def delete_finished(self, jobs: Iterable[int]) -> None:
        """Delete finished jobs by their ids, and their tags. Unfinished jobs stay."""
        with self._database.write() as connection:
            for job in jobs:
                finished = "SELECT arn FROM jobs WHERE id = ? AND ended IS NOT NULL"
                connection.execute(f"DELETE FROM tags WHERE arn IN ({finished})", (job,))  # noqa: S608
                connection.execute("DELETE FROM jobs WHERE id = ? AND ended IS NOT NULL", (job,))

    def find_tagged(
        self, filters: Sequence[tuple[str, Sequence[str]]], limit: int, after: str, arns: Sequence[str] | None = None
    ) -> Sequence[tuple[str, dict[str, str]]]:
        """Return (ARN, tags) for a page of the tagged jobs, sorted by ARN.

        Args:
            filters: the required keys, each with its accepted values. No values accept any value.
            limit: the size of the page.
            after: the last ARN of the page before, or "" for the first page.
            arns: return only these jobs.
        """
        conditions = ["arn > ?"]
        values: list[Any] = [after]
        for key, options in filters:
            among = f" AND value IN ({', '.join('?' * len(options))})" if options else ""
            conditions.append(f"arn IN (SELECT arn FROM tags WHERE key = ?{among})")  # noqa: S608
            values += [key, *options]
        if arns:
            conditions.append(f"arn IN ({', '.join('?' * len(arns))})")
            values += arns
        with self._database.read() as connection:
            found = connection.execute(
                f"SELECT DISTINCT arn FROM tags WHERE {' AND '.join(conditions)} ORDER BY arn LIMIT ?",  # noqa: S608
                (*values, limit),
            ).fetchall()
            return [(arn, _tags(connection, arn)) for (arn,) in found]

    def tags(self, arn: str) -> dict[str, str]:
        """Return the tags of a job, sorted by key.

        Raises:
            ApiError: the job does not exist (`ValidationException`).
        """
        with self._database.read() as connection:
            _require_arn(connection, arn)
            return _tags(connection, arn)

    def add_tags(self, arn: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add or overwrite tags of a job, and return all of its tags.

        Raises:
            ApiError: the job does not exist (`ValidationException`) or would have more than 50 tags
                (`ResourceLimitExceeded`).
        """
        with self._database.write() as connection:
            _require_arn(connection, arn)
            _put_tags(connection, arn, tags)
            return _tags(connection, arn)

    def delete_tags(self, arn: str, keys: Iterable[str]) -> None:
        """Remove tags of a job by key. Missing keys are ignored.

        Raises:
            ApiError: the job does not exist (`ValidationException`).
        """
        with self._database.write() as connection:
            _require_arn(connection, arn)
            connection.executemany("DELETE FROM tags WHERE arn = ? AND key = ?", [(arn, key) for key in keys])

    # --- reports of hosts

    def hosts(self, job: int) -> Sequence[HostRecord]:
        """Return the job's hosts, sorted by number."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT number, process_group, group_started, outcome FROM hosts WHERE job = ? ORDER BY number", (job,)
            ).fetchall()
        return [HostRecord(*row) for row in rows]

    def record_start(self, job: int, number: int, group: int, group_started: str | None, now: float) -> None:
        """Record that a host's program runs in a process group. The first host to start also starts the job.

        This machine's clock may be set back, but no job starts before its creation, and none ends before its start.
        """
        with self._database.write() as connection:
            connection.execute(
                "UPDATE hosts SET process_group = ?, group_started = ? WHERE job = ? AND number = ?",
                (group, group_started, job, number),
            )
            connection.execute(
                "UPDATE jobs SET started = max(created, ?), modified = max(modified, ?) "
                "WHERE id = ? AND started IS NULL AND ended IS NULL",
                (now, now, job),
            )

    def interruption(self, job: int) -> str | None:
        """Return the outcome with which hosts must end early, or None.

        It is `stopped` for a stopped job and `cancelled` if another host failed.
        """
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
        """Record the end of a host. The last host to end finishes the job.

        A host ends once, so a second report changes nothing.

        Returns:
            True if this report finished the job.
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
    """Set the job's terminal status.

    One failed host makes the job Failed, with the reason of the host that failed first. The ExitMessage joins the
    messages of all hosts.
    """
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
        "UPDATE jobs SET status = ?, failure_reason = ?, exit_message = ?, ended = max(coalesce(started, created), ?), "
        "modified = max(modified, ?) WHERE id = ?",
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
        raise LookupError(f"there is no job with id {job}")
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
    possible = (
        ("created > ?", query.created_after),
        ("created < ?", query.created_before),
        ("modified > ?", query.modified_after),
        ("modified < ?", query.modified_before),
        ("instr(name, ?) > 0", query.name_contains),
        ("status = ?", query.status),
    )
    used = [(condition, value) for condition, value in possible if value is not None]
    return [condition for condition, _ in used], [value for _, value in used]


def _few_changed(connection: sqlite3.Connection, query: JobQuery) -> bool:
    """Return True if the query's bounds of the modification time select few jobs, as in polls for news."""
    if query.modified_after is None:
        return False
    before = float("inf") if query.modified_before is None else query.modified_before
    (count,) = connection.execute(
        "SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE modified > ? AND modified < ? LIMIT ?)",
        (query.modified_after, before, _FEW_JOBS),
    ).fetchone()
    return bool(count < _FEW_JOBS)


def _make_token(query: JobQuery, position: Any, job: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([list(query), position, job]).encode()).decode()


def _read_token(token: str, query: JobQuery) -> list[Any]:
    """Return the position in a token. A token is valid only with the filters that it was made for."""
    try:
        made_for, position, job = strict_json.loads(base64.urlsafe_b64decode(token.encode()))
        if made_for == list(query) and isinstance(job, int) and isinstance(position, (str, int, float)):
            return [position, job]
    except (ValueError, TypeError):
        pass
    raise ApiError("ValidationException", "The NextToken is not valid for this request.")

"""Jobs and their hosts. A store has the jobs of one kind by name, and those of every kind by number.

The last host to end finishes its job, in the transaction that records the end of the host. Every change of a status is
recorded in the outbox by the transaction that makes it. All times are seconds since the epoch.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.container import contract
from processing.local.errors import ApiError
from processing.local.stores import outbox, phases
from processing.local.stores.job_kinds import ENDPOINT_HOST, PROCESSING, JobKind
from processing.local.stores.job_tables import job_database
from processing.local.stores.tags import delete_tags, put_tags

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from processing.local.stores.list_query import ListQuery

TEXT_LIMIT = 1024
"""Characters of a FailureReason and of an ExitMessage."""
_FEW_JOBS = 500
"""Sorting fewer jobs than this takes less time than finding them in an index of all jobs."""

_COLUMNS = "id, name, arn, status, created, started, ended, modified, failure_reason, exit_message, folder, kind, state"


class JobRecord(NamedTuple):
    """A job.

    `folder` holds its hosts' files and locks, relative to the engine's folder. `kind` is the `JobKind.resource` of its
    kind. `state` is JSON: what a kind records beyond the other fields, such as the phases of a training job.
    """

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
    kind: str = PROCESSING.resource
    state: str = "{}"

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


class JobStore:
    """The jobs of one engine folder.

    Args:
        root: the engine's folder.
        kind: the kind of the jobs that this store creates, lists, and finds by name.

    Attributes:
        outbox: the status changes of the jobs of every kind.
    """

    def __init__(self, root: Path, kind: JobKind = PROCESSING) -> None:
        self._kind = kind
        self._database = job_database(root)
        self.outbox = outbox.Outbox(self._database)

    def of_kind(self, kind: JobKind) -> JobStore:
        """Return the store of the jobs of a kind, over the same database."""
        other = copy.copy(self)
        other._kind = kind  # noqa: SLF001 - a copy of this store
        return other

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
        name = request[self._kind.name_member]
        with self._database.write() as connection:
            taken = connection.execute(
                "SELECT arn FROM jobs WHERE kind = ? AND name = ?", (self._kind.resource, name)
            ).fetchone()
            if taken is not None:
                raise ApiError(
                    "ResourceInUse",
                    "Job name must be unique within an AWS account and region, "
                    f"and a job with this name already exists ({taken[0]})",
                )
            job = insert_job(
                connection, self._kind, name, arn=arn, folder=folder, request=request, plan=plan, hosts=hosts, now=now
            )
            put_tags(connection, arn, tags)
            if self._kind.has_phases:
                phases.enter(connection, job, phases.STARTING, now)
            record = _by_id(connection, job)
            outbox.record_transition(connection, record, now)
            return record

    def get(self, name: str) -> JobRecord:
        """Return the job with a name.

        Raises:
            ApiError: the job does not exist (`ValidationException`).
        """
        with self._database.read() as connection:
            return self._by_name(connection, name)

    def _by_name(self, connection: sqlite3.Connection, name: str) -> JobRecord:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE kind = ? AND name = ?",  # noqa: S608 - the values are bound
            (self._kind.resource, name),
        ).fetchone()
        if row is None:
            raise ApiError("ValidationException", self._kind.unknown.format(name))
        return JobRecord(*row)

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
            row = connection.execute(f"SELECT {column} FROM jobs WHERE id = ?", (job,)).fetchone()  # noqa: S608 - the values are bound
        if row is None:
            raise LookupError(f"there is no job with id {job}")
        value: dict[str, Any] = json.loads(row[0])
        return value

    def list(self, query: ListQuery, limit: int, token: str | None = None) -> tuple[list[JobRecord], str | None]:
        """Return a page of jobs, and the token of the next page or None.

        Raises:
            ApiError: the token does not belong to this query (`ValidationException`).
        """
        column, order, kind = query.column, query.order, self._kind.resource
        where, values = query.where(kind, token)
        with self._database.read() as connection:
            # A plus sign keeps SQLite from using an index for the order.
            key = f"+{column}" if self._few_changed(connection, query) else column
            found = f"SELECT id FROM jobs WHERE {where} ORDER BY {key} {order}, id {order} LIMIT ?"  # noqa: S608 - the values are bound
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE id IN ({found}) ORDER BY {column} {order}, id {order}",  # noqa: S608 - the values are bound
                (*values, limit + 1),
            ).fetchall()
        page = [JobRecord(*row) for row in rows[:limit]]
        return page, query.token_after(kind, page[-1]) if len(rows) > limit else None

    def _few_changed(self, connection: sqlite3.Connection, query: ListQuery) -> bool:
        """Return True if the query's bounds of the modification time select few jobs, as in polls for news."""
        if query.modified_after is None:
            return False
        before = float("inf") if query.modified_before is None else query.modified_before
        (count,) = connection.execute(
            "SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE kind = ? AND modified > ? AND modified < ? LIMIT ?)",
            (self._kind.resource, query.modified_after, before, _FEW_JOBS),
        ).fetchone()
        return bool(count < _FEW_JOBS)

    def unfinished(self) -> Sequence[JobRecord]:
        """Return all jobs whose status is not terminal, of every kind."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE status IN ('InProgress', 'Stopping')"  # noqa: S608 - the values are bound
            ).fetchall()
        return [JobRecord(*row) for row in rows]

    def endpoint_hosts(self) -> Sequence[JobRecord]:
        """Return the hosts of endpoints, also those that have ended: each may be started again."""
        with self._database.read() as connection:
            statement = f"SELECT {_COLUMNS} FROM jobs WHERE kind = ?"  # noqa: S608 - the values are bound
            return [JobRecord(*row) for row in connection.execute(statement, (ENDPOINT_HOST.resource,))]

    def request_stop(self, name: str, now: float) -> None:
        """Ask the hosts of a job to stop. A second request changes nothing.

        Raises:
            ApiError: the job does not exist or has finished (`ValidationException`).
        """
        with self._database.write() as connection:
            job = self._by_name(connection, name)
            if job.finished:
                raise ApiError(
                    "ValidationException",
                    f"The request was rejected because the {self._kind.label} is in status {job.status}.",
                )
            if job.status != "Stopping":
                connection.execute(
                    "UPDATE jobs SET status = 'Stopping', modified = max(modified, ?) WHERE id = ?", (now, job.id)
                )
                phases.enter(connection, job.id, phases.STOPPING, now)
                outbox.record_transition(connection, _by_id(connection, job.id), now)

    def delete(self, name: str) -> JobRecord:
        """Delete a finished job and its tags. The name can be used again.

        Raises:
            ApiError: the job does not exist (`ResourceNotFound`) or has not finished (`ResourceInUse`).
        """
        with self._database.write() as connection:
            try:
                job = self._by_name(connection, name)
            except ApiError as error:
                raise ApiError("ResourceNotFound", error.message) from None
            if not job.finished:
                raise ApiError(
                    "ResourceInUse",
                    f"The {self._kind.label} {job.arn} is in status {job.status}. "
                    "Only a job in a terminal state (Completed, Failed, Stopped) can be deleted.",
                )
            delete_tags(connection, job.arn)
            connection.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
            return job

    def ended_before(self, moment: float) -> Sequence[JobRecord]:
        """Return the jobs of AWS's kinds that finished before a moment, the oldest first.

        The hosts of endpoints are missing: each is deleted when its endpoint no longer refers to it.
        """
        with self._database.read() as connection:
            statement = f"SELECT {_COLUMNS} FROM jobs WHERE ended < ? AND kind != ? ORDER BY ended, id"  # noqa: S608 - the values are bound
            return [JobRecord(*row) for row in connection.execute(statement, (moment, ENDPOINT_HOST.resource))]

    def delete_finished(self, jobs: Iterable[int]) -> None:
        """Delete finished jobs by their ids, and their tags. Unfinished jobs stay."""
        with self._database.write() as connection:
            for job in jobs:
                finished = "SELECT arn FROM jobs WHERE id = ? AND ended IS NOT NULL"
                connection.execute(f"DELETE FROM tags WHERE arn IN ({finished})", (job,))  # noqa: S608 - the values are bound
                connection.execute("DELETE FROM jobs WHERE id = ? AND ended IS NOT NULL", (job,))

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
            self._enter(connection, job, phases.RUNNING, now)

    def record_phase(self, job: int, phase: str, now: float) -> None:
        """Record that a host is in a phase. A job without phases, or beyond this one, stays as it is."""
        with self._database.write() as connection:
            self._enter(connection, job, phase, now)

    def _enter(self, connection: sqlite3.Connection, job: int, phase: str, now: float) -> None:
        if phases.enter(connection, job, phase, now):
            connection.execute("UPDATE jobs SET modified = max(modified, ?) WHERE id = ?", (now, job))
            outbox.record_transition(connection, _by_id(connection, job), now)

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

    def is_last_host(self, job: int, number: int, end: HostEnd, now: float) -> bool:
        """Record the end of a host, unless it is the last one of its job: then record nothing, and return True.

        Of hosts that call this at the same time, one is the last. It completes the job's results and then records its
        own end.
        """
        with self._database.write() as connection:
            (others,) = connection.execute(
                "SELECT COUNT(*) FROM hosts WHERE job = ? AND number != ? AND outcome IS NULL", (job, number)
            ).fetchone()
            if others:
                _end_host(connection, job, number, end, now)
            return not others

    def record_metrics(self, job: int, metrics: Mapping[str, tuple[float, float]]) -> None:
        """Record the last value of each metric of a job's program, with its time, beside those of other hosts."""
        with self._database.write() as connection:
            (text,) = connection.execute("SELECT state FROM jobs WHERE id = ?", (job,)).fetchone()
            state: dict[str, Any] = json.loads(text)
            state["metrics"] = {**state.get("metrics", {}), **metrics}
            connection.execute("UPDATE jobs SET state = ? WHERE id = ?", (json.dumps(state), job))

    def record_uploading(self, job: int) -> None:
        """Record that a host of a job without phases uploads its outputs: its program has ended."""
        with self._database.write() as connection:
            connection.execute("UPDATE jobs SET state = json_set(state, '$.uploading', 1) WHERE id = ?", (job,))

    def record_host_end(self, job: int, number: int, end: HostEnd, now: float) -> bool:
        """Record the end of a host. The last host to end finishes the job.

        A host ends once, so a second report changes nothing.

        Returns:
            True if this report finished the job.
        """
        with self._database.write() as connection:
            changed = _end_host(connection, job, number, end, now)
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


def _end_host(connection: sqlite3.Connection, job: int, number: int, end: HostEnd, now: float) -> bool:
    """Record the end of a host that has none yet, and return whether there was such a host."""
    changed = connection.execute(
        "UPDATE hosts SET outcome = ?, exit_code = ?, reason = ?, exit_message = ?, ended = ? "
        "WHERE job = ? AND number = ? AND outcome IS NULL",
        (*end[:-1], end.ended or now, job, number),
    ).rowcount
    return bool(changed)


def insert_job(
    connection: sqlite3.Connection,
    kind: JobKind,
    name: str,
    *,
    arn: str,
    folder: str,
    request: Mapping[str, Any],
    plan: Mapping[str, Any],
    hosts: int,
    now: float,
) -> int:
    """Insert a job in status InProgress with its hosts, and return its number."""
    values = (kind.resource, name, arn, now, now, folder, json.dumps(request), json.dumps(plan))
    job = connection.execute(
        "INSERT INTO jobs (status, kind, name, arn, created, modified, folder, request, plan) "
        "VALUES ('InProgress', ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    ).lastrowid
    assert job is not None
    connection.executemany(
        "INSERT INTO hosts (job, number) VALUES (?, ?)", [(job, number + 1) for number in range(hosts)]
    )
    return job


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
    phases.enter(connection, job, phases.TIMED_OUT if status == "Stopped" and reason else status, now)
    outbox.record_transition(connection, _by_id(connection, job), now)


def _by_id(connection: sqlite3.Connection, job: int) -> JobRecord:
    row = connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job,)).fetchone()  # noqa: S608 - the values are bound
    if row is None:
        raise LookupError(f"there is no job with id {job}")
    return JobRecord(*row)

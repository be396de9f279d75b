"""Endpoints, and the hosts that serve their variants.

An endpoint is a resource, and each host is a job of an internal kind with one host. The state of the endpoint refers to
the hosts that serve its variants, and during a creation or an update to the hosts that will. A transaction that ends a
host, or that makes one ready, also settles the endpoint: it goes into service, fails, or disappears. If a process is
killed between two of them, the next process that reads the endpoint settles it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.container import contract
from processing.local.errors import ApiError
from processing.local.stores import outbox
from processing.local.stores.job_kinds import ENDPOINT_HOST
from processing.local.stores.job_tables import job_database
from processing.local.stores.jobs import insert_job
from processing.local.stores.resources import ENDPOINT, ResourceRecord, ResourceStore, read_record
from processing.local.stores.tags import delete_tags, put_tags

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CREATING, UPDATING, IN_SERVICE, DELETING, FAILED = "Creating", "Updating", "InService", "Deleting", "Failed"
_STABLE = frozenset({IN_SERVICE, FAILED})


class NewHost(NamedTuple):
    """A host to create for a variant.

    Attributes:
        variant: the variant's name.
        folder: the folder of the host, relative to the engine's folder.
        request: the host's model, container and settings, as JSON values.
        plan: its ExecutionPlan, as JSON values.
        weight: the variant's weight.
        instances: the variant's number of instances, which the engine reports and does not run.
    """

    variant: str
    folder: str
    request: Mapping[str, Any]
    plan: Mapping[str, Any]
    weight: float
    instances: int


class Variant(NamedTuple):
    """A variant of an endpoint, and the host that serves it.

    Attributes:
        name: the variant's name.
        job: the number of the host's job.
        folder: the folder of the host, relative to the engine's folder.
        weight: its weight.
        instances: its number of instances.
        image: the model's image.
        instance_type: the type of its instances.
        ready: whether the host was healthy. It counts only before the variant goes into service.
    """

    name: str
    job: int
    folder: str
    weight: float
    instances: int
    image: str
    instance_type: str
    ready: bool = False


class EndpointState(NamedTuple):
    """The state of an endpoint, as JSON in its resource.

    Attributes:
        config: the name of the configuration that is in service.
        variants: the variants that are in service.
        pending_config: the name of the configuration that is to go into service; None if there is none.
        pending: its variants.
        pending_since: the time at which the update began.
        failure: the FailureReason.
        async_config: the AsyncInferenceConfig of the configuration in service; None if it has none.
        pending_async: that of the pending configuration.
    """

    config: str = ""
    variants: tuple[Variant, ...] = ()
    pending_config: str | None = None
    pending: tuple[Variant, ...] = ()
    pending_since: float = 0.0
    failure: str | None = None
    async_config: Mapping[str, Any] | None = None
    pending_async: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, record: ResourceRecord) -> EndpointState:
        """Return the state of an endpoint."""
        data = dict(record.state)
        for name in ("variants", "pending"):
            data[name] = tuple(Variant(*values) for values in data.get(name, ()))
        return cls(**data)

    def to_json(self) -> str:
        """Return the state for the store."""
        return json.dumps(self._asdict())

    @property
    def hosts(self) -> tuple[Variant, ...]:
        """All variants with a host."""
        return (*self.variants, *self.pending)


class EndpointStore(ResourceStore):
    """The endpoints in an engine's folder.

    Args:
        root: the engine's folder.
        arn: the beginning of ARNs, up to the resource type.
    """

    def __init__(self, root: Path, arn: str = "") -> None:
        super().__init__(root, ENDPOINT, arn)
        self._endpoints = job_database(root)

    def find(self, name: str) -> ResourceRecord | None:
        """Return the endpoint with a name, or None."""
        with self._endpoints.read() as connection:
            return _find(connection, name)

    def variants(self, name: str) -> Sequence[Variant]:
        """Return the variants of an endpoint that are in service.

        Raises:
            ApiError: the endpoint does not exist (`ValidationException`).
        """
        return EndpointState.of(self.get(name)).variants

    def begin(
        self,
        request: Mapping[str, Any],
        config: str,
        hosts: Sequence[NewHost],
        *,
        tags: Mapping[str, str],
        now: float,
        async_config: Mapping[str, Any] | None,
    ) -> tuple[ResourceRecord, Sequence[Variant]]:
        """Create an endpoint whose hosts are about to start, and return it with its hosts.

        Raises:
            ApiError: the name belongs to another endpoint (`ValidationException`).
        """
        name = request["EndpointName"]
        arn = self.arn(name)
        with self._endpoints.write() as connection:
            if _find(connection, name) is not None:
                raise ApiError("ValidationException", f'Cannot create already existing endpoint "{arn}".')
            variants = _insert_hosts(connection, name, arn, hosts, now)
            state = EndpointState(
                pending_config=config, pending=variants, pending_since=now, pending_async=async_config
            )
            connection.execute(
                "INSERT INTO resources (kind, name, arn, status, created, modified, request, state) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (ENDPOINT.resource, name, arn, CREATING, now, now, json.dumps(request), state.to_json()),
            )
            put_tags(connection, arn, tags)
            record = _require(connection, name, arn)
            _announce(connection, record, now)
            return record, variants

    def begin_update(
        self, name: str, config: str, hosts: Sequence[NewHost], *, now: float, async_config: Mapping[str, Any] | None
    ) -> Sequence[Variant]:
        """Record that an endpoint gets other variants, and return those. The present ones serve meanwhile.

        Raises:
            ApiError: the endpoint does not exist, or is not in service (`ValidationException`).
        """
        with self._endpoints.write() as connection:
            record = _in_service(connection, name, self.arn(name))
            state = EndpointState.of(record)
            variants = _insert_hosts(connection, name, record.arn, hosts, now)
            state = state._replace(
                pending_config=config, pending=variants, pending_since=now, pending_async=async_config, failure=None
            )
            _write(connection, record, UPDATING, state, now)
            return variants

    def set_weights(self, name: str, changes: Mapping[str, tuple[float | None, int | None]], now: float) -> None:
        """Change weights and numbers of instances of variants.

        Args:
            name: the endpoint's name.
            changes: the new weight and the new number by variant; None leaves a value as it is.
            now: the time.

        Raises:
            ApiError: the endpoint or a variant does not exist, or the endpoint is not in service
                (`ValidationException`).
        """
        with self._endpoints.write() as connection:
            record = _in_service(connection, name, self.arn(name))
            state = EndpointState.of(record)
            unknown = sorted(set(changes) - {variant.name for variant in state.variants})
            if unknown:
                raise ApiError("ValidationException", f"The variant {unknown[0]} does not exist in {record.arn}.")
            changed = []
            for variant in state.variants:
                weight, instances = changes.get(variant.name, (None, None))
                changed.append(
                    variant._replace(
                        weight=variant.weight if weight is None else weight,
                        instances=variant.instances if instances is None else instances,
                    )
                )
            _write(connection, record, UPDATING, state, now)
            _write(connection, record, IN_SERVICE, state._replace(variants=tuple(changed)), now)

    def begin_delete(self, name: str, now: float) -> None:
        """Ask all hosts of an endpoint to stop. The endpoint disappears with the last of them.

        Raises:
            ApiError: the endpoint does not exist, or is being created, updated or deleted (`ValidationException`).
        """
        with self._endpoints.write() as connection:
            record = _require(connection, name, self.arn(name))
            if record.status not in _STABLE:
                raise _in_progress(record)
            state = EndpointState.of(record)
            _stop(connection, state.hosts, now)
            _write(connection, record, DELETING, state, now)
            _settle(connection, name, now)

    def replace_host(self, name: str, ended: Variant, host: NewHost, now: float) -> Variant | None:
        """Put a new host in the place of one that has ended, and return the variant.

        Return None, without a change, if the endpoint no longer refers to the ended host, or is being deleted.
        """
        with self._endpoints.write() as connection:
            record = _find(connection, name)
            if record is None or record.status == DELETING:
                return None
            state = EndpointState.of(record)
            if ended.job not in {variant.job for variant in state.variants}:
                return None
            (made,) = _insert_hosts(connection, name, record.arn, [host], now)
            made = made._replace(weight=ended.weight, instances=ended.instances)
            variants = tuple(made if variant.job == ended.job else variant for variant in state.variants)
            connection.execute(
                "UPDATE resources SET state = ? WHERE id = ?",
                (state._replace(variants=variants).to_json(), record.id),
            )
            _settle(connection, name, now)
            return made

    def record_ready(self, name: str, job: int, now: float) -> None:
        """Record that a host is healthy. The last one of an update puts its variants into service."""
        with self._endpoints.write() as connection:
            record = _find(connection, name)
            if record is None:
                return
            state = EndpointState.of(record)
            pending = tuple(each._replace(ready=each.ready or each.job == job) for each in state.pending)
            if pending != state.pending:
                connection.execute(
                    "UPDATE resources SET state = ? WHERE id = ?",
                    (state._replace(pending=pending).to_json(), record.id),
                )
            _settle(connection, name, now)

    def settle(self, name: str, now: float) -> ResourceRecord | None:
        """Bring an endpoint into the status that follows from its hosts, and return it; None if it is gone."""
        with self._endpoints.write() as connection:
            _settle(connection, name, now)
            return _find(connection, name)

    def forget_ended_hosts(self) -> None:
        """Delete the ended hosts to which no endpoint refers. They are those that were killed after an update."""
        with self._endpoints.write() as connection:
            rows = connection.execute(
                "SELECT name FROM jobs WHERE kind = ? AND ended IS NOT NULL", (ENDPOINT_HOST.resource,)
            ).fetchall()
            for name in {row[0].partition("/")[0] for row in rows}:
                record = _find(connection, name)
                hosts = () if record is None else EndpointState.of(record).hosts
                _forget(connection, name, {variant.job for variant in hosts})

    def in_transition(self) -> Sequence[ResourceRecord]:
        """Return the endpoints that are being created, updated or deleted."""
        return [record for record in self.all() if record.status not in _STABLE]


def _find(connection: sqlite3.Connection, name: str) -> ResourceRecord | None:
    return read_record(connection, ENDPOINT, name)


def _require(connection: sqlite3.Connection, name: str, arn: str) -> ResourceRecord:
    found = _find(connection, name)
    if found is None:
        raise ApiError("ValidationException", f'Could not find endpoint "{arn}".')
    return found


def _in_service(connection: sqlite3.Connection, name: str, arn: str) -> ResourceRecord:
    """Return an endpoint that can be updated."""
    record = _require(connection, name, arn)
    if record.status == FAILED:
        raise ApiError("ValidationException", f'Cannot update endpoint "{record.arn}" in status Failed. Delete it.')
    if record.status != IN_SERVICE:
        raise _in_progress(record)
    return record


def _in_progress(record: ResourceRecord) -> ApiError:
    return ApiError(
        "ValidationException", f'Cannot update in-progress endpoint "{record.arn}" (its status is {record.status}).'
    )


def _insert_hosts(
    connection: sqlite3.Connection, name: str, arn: str, hosts: Sequence[NewHost], now: float
) -> tuple[Variant, ...]:
    made = []
    for host in hosts:
        job = insert_job(
            connection,
            ENDPOINT_HOST,
            f"{name}/{host.variant}/{host.folder.rpartition('-')[2]}",
            arn=f"{arn}/{host.variant}",
            folder=host.folder,
            request=host.request,
            plan=host.plan,
            hosts=1,
            now=now,
        )
        image, instance_type = host.request["Container"]["Image"], host.request["InstanceType"]
        made.append(Variant(host.variant, job, host.folder, host.weight, host.instances, image, instance_type))
    return tuple(made)


def _write(
    connection: sqlite3.Connection, record: ResourceRecord, status: str, state: EndpointState, now: float
) -> None:
    connection.execute(
        "UPDATE resources SET status = ?, state = ?, modified = max(modified, ?) WHERE id = ?",
        (status, state.to_json(), now, record.id),
    )
    found = _find(connection, record.name)
    if found is not None:
        _announce(connection, found, now)


def _announce(connection: sqlite3.Connection, record: ResourceRecord, now: float) -> None:
    """Record the event of a change of the status. The sinks are those of the plans of the endpoint's hosts."""
    state = EndpointState.of(record)
    sinks: set[str] = set()
    for variant in state.hosts:
        row = connection.execute("SELECT plan FROM jobs WHERE id = ?", (variant.job,)).fetchone()
        sinks.update(() if row is None else json.loads(row[0]).get("events", ()))
    fields = (
        *(record.id, record.name, record.arn, record.status, record.created, None, None, record.modified),
        *(state.failure, None, "", ENDPOINT.resource, state.to_json()),
    )
    outbox.record_change(connection, fields, json.dumps(record.request), sorted(sinks), now)


def _stop(connection: sqlite3.Connection, variants: Sequence[Variant], now: float) -> None:
    connection.executemany(
        "UPDATE jobs SET status = 'Stopping', modified = max(modified, ?) WHERE id = ? AND status = 'InProgress'",
        [(now, variant.job) for variant in variants],
    )


def _settle(connection: sqlite3.Connection, name: str, now: float) -> None:
    record = _find(connection, name)
    state = EndpointState() if record is None else EndpointState.of(record)
    ended = _ended(connection, state.hosts)
    if record is not None and record.status == DELETING and len(ended) == len({each.job for each in state.hosts}):
        delete_tags(connection, record.arn)
        connection.execute("DELETE FROM resources WHERE id = ?", (record.id,))
        state = EndpointState()
    elif record is not None and record.status != DELETING and state.pending:
        state = _settle_pending(connection, record, state, ended, now)
    _forget(connection, name, {variant.job for variant in state.hosts})


def _settle_pending(
    connection: sqlite3.Connection,
    record: ResourceRecord,
    state: EndpointState,
    ended: Mapping[int, str],
    now: float,
) -> EndpointState:
    """Put the pending variants into service if all are ready, or give them up if one has ended."""
    failed = [variant for variant in state.pending if variant.job in ended]
    over = state._replace(pending_config=None, pending=(), pending_async=None)
    if failed:
        _stop(connection, state.pending, now)
        changed = over._replace(failure=ended[failed[0].job], config=state.config or state.pending_config or "")
        _write(connection, record, FAILED, changed, now)
        return changed
    if all(variant.ready for variant in state.pending):
        _stop(connection, state.variants, now)
        changed = over._replace(
            config=state.pending_config or "", variants=state.pending, async_config=state.pending_async
        )
        _write(connection, record, IN_SERVICE, changed, now)
        return changed
    return state


def _ended(connection: sqlite3.Connection, variants: Sequence[Variant]) -> dict[int, str]:
    """Return the reasons of the hosts that have ended, by the numbers of their jobs."""
    ended = {}
    for variant in variants:
        row = connection.execute("SELECT status, failure_reason FROM jobs WHERE id = ?", (variant.job,)).fetchone()
        if row is None or row[0] in contract.TERMINAL:
            ended[variant.job] = (row and row[1]) or f"The host of production variant {variant.name} was stopped."
    return ended


def _forget(connection: sqlite3.Connection, name: str, kept: set[int]) -> None:
    """Delete the hosts of an endpoint that have ended and that it does not refer to."""
    rows = connection.execute(
        "SELECT id, status FROM jobs WHERE kind = ? AND name > ? AND name < ?",
        (ENDPOINT_HOST.resource, f"{name}/", f"{name}0"),  # "0" follows "/"
    ).fetchall()
    over = [(job,) for job, status in rows if status in contract.TERMINAL and job not in kept]
    connection.executemany("DELETE FROM jobs WHERE id = ?", over)

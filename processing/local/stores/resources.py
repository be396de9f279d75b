"""SageMaker's resources beside jobs: models, endpoint configurations and endpoints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local.errors import ApiError
from processing.local.stores.job_tables import job_database
from processing.local.stores.tags import delete_tags, put_tags

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from processing.local.stores.list_query import ListQuery

_COLUMNS = "id, name, arn, status, created, modified, request, state"


class ResourceKind(NamedTuple):
    """A kind of resources.

    Attributes:
        resource: the resource type in ARNs, such as `endpoint-config`.
        label: the kind in AWS's messages, such as `endpoint configuration`.
        name_member: the API's member for a resource's name.
    """

    resource: str
    label: str
    name_member: str


MODEL = ResourceKind("model", "model", "ModelName")
ENDPOINT_CONFIG = ResourceKind("endpoint-config", "endpoint configuration", "EndpointConfigName")
ENDPOINT = ResourceKind("endpoint", "endpoint", "EndpointName")


class ResourceRecord(NamedTuple):
    """A resource. `status` is None for kinds without one. `state` has what the kind records beyond its request."""

    id: int
    name: str
    arn: str
    status: str | None
    created: float
    modified: float
    request: dict[str, Any]
    state: dict[str, Any]


class ResourceStore:
    """The resources of one kind in an engine's folder.

    Args:
        root: the engine's folder.
        kind: the kind.
        arn: the beginning of ARNs, up to the resource type: `arn:aws:sagemaker:us-east-1:000000000000`.
    """

    def __init__(self, root: Path, kind: ResourceKind, arn: str) -> None:
        self._kind = kind
        self._arn = arn
        self._database = job_database(root)

    def arn(self, name: str) -> str:
        """Return the ARN of the resource with a name."""
        return f"{self._arn}:{self._kind.resource}/{name}"

    def create(
        self,
        request: Mapping[str, Any],
        *,
        tags: Mapping[str, str],
        now: float,
        status: str | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> ResourceRecord:
        """Create a resource.

        Args:
            request: the request without its tags.
            tags: the resource's tags.
            now: the time.
            status: the status; None for kinds without one.
            state: the state, as JSON values.

        Raises:
            ApiError: the name belongs to another resource (`ValidationException`).
        """
        name = request[self._kind.name_member]
        arn = self.arn(name)
        with self._database.write() as connection:
            if connection.execute("SELECT 1 FROM resources WHERE arn = ?", (arn,)).fetchone():
                raise ApiError("ValidationException", f'Cannot create already existing {self._kind.label} "{arn}".')
            connection.execute(
                "INSERT INTO resources (kind, name, arn, status, created, modified, request, state) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (self._kind.resource, name, arn, status, now, now, json.dumps(request), json.dumps(state or {})),
            )
            put_tags(connection, arn, tags)
            return self._get(connection, name)

    def get(self, name: str) -> ResourceRecord:
        """Return the resource with a name.

        Raises:
            ApiError: it does not exist (`ValidationException`).
        """
        with self._database.read() as connection:
            return self._get(connection, name)

    def _get(self, connection: sqlite3.Connection, name: str) -> ResourceRecord:
        found = read_record(connection, self._kind, name)
        if found is None:
            raise ApiError("ValidationException", f'Could not find {self._kind.label} "{self.arn(name)}".')
        return found

    def all(self) -> Sequence[ResourceRecord]:
        """Return every resource of this kind, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM resources WHERE kind = ? ORDER BY id",  # noqa: S608 - the values are bound
                (self._kind.resource,),
            ).fetchall()
        return [_record(row) for row in rows]

    def update(
        self,
        name: str,
        now: float,
        *,
        status: str | None,
        state: Mapping[str, Any],
        expected: Sequence[str | None] = (),
    ) -> ResourceRecord:
        """Change the status and the state of a resource.

        Args:
            name: the name.
            now: the time of the change.
            status: the new status.
            state: the new state, as JSON values.
            expected: the statuses in which the change is possible; none accept any.

        Returns:
            the resource as it was before the change. If its status is not an expected one, nothing changed.

        Raises:
            ApiError: it does not exist (`ValidationException`).
        """
        with self._database.write() as connection:
            before = self._get(connection, name)
            if not expected or before.status in expected:
                connection.execute(
                    "UPDATE resources SET status = ?, state = ?, modified = max(modified, ?) WHERE id = ?",
                    (status, json.dumps(state), now, before.id),
                )
            return before

    def delete(self, name: str) -> ResourceRecord:
        """Delete a resource and its tags, and return it.

        Raises:
            ApiError: it does not exist (`ValidationException`).
        """
        with self._database.write() as connection:
            found = self._get(connection, name)
            delete_tags(connection, found.arn)
            connection.execute("DELETE FROM resources WHERE id = ?", (found.id,))
            return found

    def list(self, query: ListQuery, limit: int, token: str | None = None) -> tuple[list[ResourceRecord], str | None]:
        """Return a page of resources, and the token of the next page or None.

        Raises:
            ApiError: the token does not belong to this query (`ValidationException`).
        """
        where, values = query.where(self._kind.resource, token)
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM resources WHERE {where} "  # noqa: S608 - the values are bound
                f"ORDER BY {query.column} {query.order}, id {query.order} LIMIT ?",
                (*values, limit + 1),
            ).fetchall()
        page = [_record(row) for row in rows[:limit]]
        return page, query.token_after(self._kind.resource, page[-1]) if len(rows) > limit else None


def read_record(connection: sqlite3.Connection, kind: ResourceKind, name: str) -> ResourceRecord | None:
    """Return the resource with a name, or None."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM resources WHERE kind = ? AND name = ?",  # noqa: S608 - the values are bound
        (kind.resource, name),
    ).fetchone()
    return None if row is None else _record(row)


def _record(row: Sequence[Any]) -> ResourceRecord:
    number, name, arn, status, created, modified, request, state = row
    return ResourceRecord(number, name, arn, status, created, modified, json.loads(request), json.loads(state))

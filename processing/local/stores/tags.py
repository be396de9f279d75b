"""The tags of SageMaker's resources: jobs, models, endpoint configurations and endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.stores.job_tables import job_database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

MAX_TAGS = 50
"""SageMaker's limit for the tags of a resource."""


class TagStore:
    """The tags of one engine folder.

    Args:
        root: the engine's folder.
    """

    def __init__(self, root: Path) -> None:
        self._database = job_database(root)

    def find(
        self,
        filters: Sequence[tuple[str, Sequence[str]]],
        limit: int,
        after: str,
        arns: Sequence[str] | None = None,
        types: Sequence[str] = (),
    ) -> Sequence[tuple[str, dict[str, str]]]:
        """Return (ARN, tags) for a page of the tagged resources, sorted by ARN.

        Args:
            filters: the required keys, each with its accepted values. No values accept any value.
            limit: the size of the page.
            after: the last ARN of the page before, or "" for the first page.
            arns: return only these resources.
            types: return only resources of these types, such as `training-job`; no types accept any.
        """
        conditions = ["arn > ?"]
        values: list[Any] = [after]
        for key, options in filters:
            among = f" AND value IN ({', '.join('?' * len(options))})" if options else ""
            conditions.append(f"arn IN (SELECT arn FROM tags WHERE key = ?{among})")  # noqa: S608 - the values are bound
            values += [key, *options]
        if arns:
            conditions.append(f"arn IN ({', '.join('?' * len(arns))})")
            values += arns
        if types:
            conditions.append(f"({' OR '.join(['instr(arn, ?) > 0'] * len(types))})")
            values += [f":{each}/" for each in types]
        with self._database.read() as connection:
            found = connection.execute(
                f"SELECT DISTINCT arn FROM tags WHERE {' AND '.join(conditions)} ORDER BY arn LIMIT ?",  # noqa: S608 - the values are bound
                (*values, limit),
            ).fetchall()
            return [(arn, _tags(connection, arn)) for (arn,) in found]

    def tags(self, arn: str) -> dict[str, str]:
        """Return the tags of a resource, sorted by key.

        Raises:
            ApiError: the resource does not exist (`ValidationException`).
        """
        with self._database.read() as connection:
            _require(connection, arn)
            return _tags(connection, arn)

    def add(self, arn: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add or overwrite tags of a resource, and return all of its tags.

        Raises:
            ApiError: the resource does not exist (`ValidationException`) or would have more than 50 tags
                (`ResourceLimitExceeded`).
        """
        with self._database.write() as connection:
            _require(connection, arn)
            put_tags(connection, arn, tags)
            return _tags(connection, arn)

    def delete(self, arn: str, keys: Iterable[str]) -> None:
        """Remove tags of a resource by key. Missing keys are ignored.

        Raises:
            ApiError: the resource does not exist (`ValidationException`).
        """
        with self._database.write() as connection:
            _require(connection, arn)
            connection.executemany("DELETE FROM tags WHERE arn = ? AND key = ?", [(arn, key) for key in keys])


def put_tags(connection: sqlite3.Connection, arn: str, tags: Mapping[str, str]) -> None:
    """Add or overwrite tags of a resource, in the transaction that makes or changes it.

    Raises:
        ApiError: the resource would have more than 50 tags (`ResourceLimitExceeded`).
    """
    connection.executemany(
        "INSERT INTO tags VALUES (?, ?, ?) ON CONFLICT (arn, key) DO UPDATE SET value = excluded.value",
        [(arn, key, value) for key, value in tags.items()],
    )
    (count,) = connection.execute("SELECT COUNT(*) FROM tags WHERE arn = ?", (arn,)).fetchone()
    if count > MAX_TAGS:
        raise ApiError("ResourceLimitExceeded", f"The resource {arn} may have {MAX_TAGS} tags at most, not {count}.")


def delete_tags(connection: sqlite3.Connection, arn: str) -> None:
    """Remove all tags of a resource, in the transaction that deletes it."""
    connection.execute("DELETE FROM tags WHERE arn = ?", (arn,))


def _tags(connection: sqlite3.Connection, arn: str) -> dict[str, str]:
    return dict(connection.execute("SELECT key, value FROM tags WHERE arn = ? ORDER BY key", (arn,)).fetchall())


def _require(connection: sqlite3.Connection, arn: str) -> None:
    found = "SELECT 1 FROM jobs WHERE arn = ? UNION ALL SELECT 1 FROM resources WHERE arn = ?"
    if connection.execute(found, (arn, arn)).fetchone() is None:
        resource, _, name = arn.rpartition(":")[2].partition("/")
        known = "job with name" if resource.endswith("-job") else f"{resource.replace('-', ' ')} with name"
        raise ApiError("ValidationException", f"Could not find requested {known}: {name}")

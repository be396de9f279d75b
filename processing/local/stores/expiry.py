"""Expiry of objects and uploads that have not been written or used for long.

Removal runs in small transactions. Each of them checks again, so that objects that were written, used or protected in
the meantime stay.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from processing.local.errors import ApiError, is_full

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from processing.local.stores.objects import ObjectStore

    Protected = Callable[[], Sequence[tuple[str, bytes]]]
    """Returns the buckets and key prefixes whose objects must stay at present."""

T = TypeVar("T")

_BATCH = 500
"""Rows per transaction, few enough that writers hardly wait."""
_Position = tuple[str, bytes]


class Totals(NamedTuple):
    """The number of objects, uploads or files, and their size in bytes."""

    number: int
    size: int


class OldObject(NamedTuple):
    """An old object. `touched` is its last write or use, in seconds since the epoch."""

    bucket: str
    key: bytes
    touched: float
    size: int
    body: str


def old_objects(store: ObjectStore, before: float, protected: Protected) -> Iterator[OldObject]:
    """Yield the unprotected objects that were last written or used before a moment."""
    after: _Position = ("", b"")
    while True:
        with store.database.read() as connection:
            rows = _page(connection, before, after)
        if not rows:
            return
        after = rows[-1][:2]
        yield from _unprotected(rows, protected())


def remove_objects(store: ObjectStore, before: float, protected: Protected) -> Totals:
    """Delete the unprotected objects that were last written or used before a moment."""
    after: _Position = ("", b"")
    removed = Totals(0, 0)
    while True:
        rows, doomed = _on_full_disk(functools.partial(_remove_page, store, before, protected, after))
        if not rows:
            return removed
        store.bodies.discard([each.body for each in doomed])
        after = rows[-1][:2]
        removed = Totals(removed.number + len(doomed), removed.size + sum(each.size for each in doomed))


def _remove_page(
    store: ObjectStore, before: float, protected: Protected, after: _Position, files_first: bool
) -> tuple[list[OldObject], list[OldObject]]:
    """Delete the unprotected objects of a page, and return all of the page and the deleted ones."""
    rows: list[OldObject] = []
    doomed: list[OldObject] = []

    def choose(connection: sqlite3.Connection) -> None:
        rows.extend(_page(connection, before, after))
        doomed.extend(_unprotected(rows, protected()))

    if files_first:
        with store.database.read() as connection:
            choose(connection)
        store.bodies.discard([each.body for each in doomed])
    with store.database.write() as connection:
        if not files_first:
            choose(connection)
        statement = "DELETE FROM objects WHERE bucket = ? AND key = ? AND body = ?"
        connection.executemany(statement, [(each.bucket, each.key, each.body) for each in doomed])
        store.mark_garbage(connection, [each.body for each in doomed])
    return rows, doomed


def old_uploads(store: ObjectStore, before: float) -> Totals:
    """Count the multipart uploads without a new part since a moment, and the bytes of their parts."""
    with store.database.read() as connection:
        found = _abandoned(connection, before)
    return Totals(len({upload for upload, _, _ in found}), sum(size for _, _, size in found))


def remove_uploads(store: ObjectStore, before: float) -> Totals:
    """Abort the multipart uploads without a new part since a moment."""

    def remove(files_first: bool) -> tuple[set[str], list[str], int]:
        if files_first:
            with store.database.read() as connection:
                store.bodies.discard([body for _, body, _ in _abandoned(connection, before) if body is not None])
        with store.database.write() as connection:
            found = _abandoned(connection, before)
            uploads = {upload for upload, _, _ in found}
            bodies = [body for _, body, _ in found if body is not None]
            store.mark_garbage(connection, bodies)
            for table, column in (("parts", "upload"), ("uploads", "id")):
                statement = f"DELETE FROM {table} WHERE {column} = ?"  # noqa: S608 - constants
                connection.executemany(statement, [(upload,) for upload in uploads])
        return uploads, bodies, sum(size for _, _, size in found)

    uploads, bodies, size = _on_full_disk(remove)
    store.bodies.discard(bodies)
    return Totals(len(uploads), size)


def _on_full_disk(remove: Callable[[bool], T]) -> T:
    """Call a removal with False. If the disk is full, call it with True: it then removes files before their rows.

    A row's deletion needs space, and a file's does not. A process that is killed in between leaves rows without files,
    which the next removal deletes.
    """
    try:
        return remove(False)
    except ApiError as error:
        if not is_full(error):
            raise
        return remove(True)


def empty_garbage(store: ObjectStore) -> int:
    """Remove the files of deleted and replaced objects that are still on the disk, and return their number."""
    removed = 0
    while True:
        with store.database.write() as connection:
            rows = connection.execute("SELECT body FROM garbage LIMIT ?", (_BATCH,)).fetchall()
            existing = [row for row in rows if store.bodies.exists(row[0])]
            store.bodies.discard([body for (body,) in existing])
            removable = [row for row in rows if not store.bodies.exists(row[0])]
            connection.executemany("DELETE FROM garbage WHERE body = ?", removable)
        removed += len(set(existing) & set(removable))
        if not removable:
            return removed


def _page(connection: sqlite3.Connection, before: float, after: _Position) -> list[OldObject]:
    rows = connection.execute(
        "SELECT bucket, key, max(modified, coalesce(used, modified)) AS touched, size, body FROM objects "
        "WHERE (bucket, key) > (?, ?) AND touched < ? ORDER BY bucket, key LIMIT ?",
        (*after, before, _BATCH),
    )
    return [OldObject(*row) for row in rows]


def _unprotected(rows: Sequence[OldObject], protected: Sequence[_Position]) -> Iterator[OldObject]:
    for row in rows:
        if not any(row.bucket == bucket and row.key.startswith(prefix) for bucket, prefix in protected):
            yield row


def _abandoned(connection: sqlite3.Connection, before: float) -> list[tuple[str, str | None, int]]:
    """Return (upload, body, size) for each part of the abandoned uploads, or (upload, None, 0) without parts."""
    return connection.execute(
        "SELECT id, body, COALESCE(size, 0) FROM uploads LEFT JOIN parts ON upload = id WHERE initiated < ?1 "
        "AND NOT EXISTS (SELECT 1 FROM parts WHERE upload = id AND modified >= ?1)",
        (before,),
    ).fetchall()

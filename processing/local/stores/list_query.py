"""The List operations on a table of jobs or resources: filters, order, and the token of the next page.

Both tables have the columns id, kind, name, status, created and modified. Times are seconds since the epoch.
"""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple, Protocol

from processing.local import strict_json
from processing.local.errors import ApiError

SORT_COLUMNS = {"Name": "name", "CreationTime": "created", "Status": "status"}


class _Listed(Protocol):
    """The columns of a row that can order a list."""

    @property
    def id(self) -> int:
        """The row's number."""

    @property
    def name(self) -> str:
        """The name."""

    @property
    def status(self) -> str | None:
        """The status; None for kinds without one."""

    @property
    def created(self) -> float:
        """The time of creation."""


class ListQuery(NamedTuple):
    """The filters and the order of a List operation. Times are exclusive bounds."""

    created_after: float | None = None
    created_before: float | None = None
    modified_after: float | None = None
    modified_before: float | None = None
    name_contains: str | None = None
    status: str | None = None
    sort_by: str = "CreationTime"
    descending: bool = False

    @property
    def column(self) -> str:
        """The column that orders the list."""
        return SORT_COLUMNS[self.sort_by]

    @property
    def order(self) -> str:
        """The direction of the order in SQL."""
        return "DESC" if self.descending else "ASC"

    def where(self, kind: str, token: str | None) -> tuple[str, list[Any]]:
        """Return the condition of a page in SQL, and its values.

        Args:
            kind: the kind of the rows.
            token: the token of the page; None for the first one.

        Raises:
            ApiError: the token does not belong to this query (`ValidationException`).
        """
        possible = (
            ("kind = ?", kind),
            ("created > ?", self.created_after),
            ("created < ?", self.created_before),
            ("modified > ?", self.modified_after),
            ("modified < ?", self.modified_before),
            ("instr(name, ?) > 0", self.name_contains),
            ("status = ?", self.status),
        )
        conditions = [condition for condition, value in possible if value is not None]
        values = [value for _, value in possible if value is not None]
        if token is not None:
            conditions.append(f"({self.column}, id) {'<' if self.descending else '>'} (?, ?)")
            values += self._read_token(kind, token)
        return " AND ".join(conditions), values

    def token_after(self, kind: str, last: _Listed) -> str:
        """Return the token of the page that follows a row."""
        position = {"Name": last.name, "CreationTime": last.created, "Status": last.status}[self.sort_by]
        return base64.urlsafe_b64encode(json.dumps([[kind, *self], position, last.id]).encode()).decode()

    def _read_token(self, kind: str, token: str) -> list[Any]:
        """Return the position in a token. A token is valid only with the filters that it was made for."""
        try:
            made_for, position, number = strict_json.loads(base64.urlsafe_b64decode(token.encode()))
            if made_for == [kind, *self] and isinstance(number, int) and isinstance(position, (str, int, float)):
                return [position, number]
        except (ValueError, TypeError):
            pass
        raise ApiError("ValidationException", "The NextToken is not valid for this request.")

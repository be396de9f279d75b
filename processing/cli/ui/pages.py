"""The content of the pages: an overview, a list of each kind, and a page for each job and endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from processing.cli.ui.page import page
from processing.cli.ui.resources import KINDS, Row, settings
from processing.exceptions import ConfigurationError
from processing.job.cards import described, resource_card
from processing.report.markup import card, escaped, fields, lines, status_class
from processing.watching.render.run_text import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.cli.ui.resources import PageKind
    from processing.session.session import Session

_NEWEST: Final = 10  # rows of each kind in the overview


class PageNotFoundError(Exception):
    """There is no such page; the text has the reason."""


class Pages:
    """The pages of an engine.

    Args:
        session: the session of the engine.
        folder: the engine's folder, as text.
        root: the URL of the first page, which begins those of all pages and ends with a slash.
    """

    def __init__(self, session: Session, folder: str, root: str) -> None:
        self._session = session
        self._folder = folder
        self._root = root

    def at(self, path: Sequence[str], query: Mapping[str, str]) -> str:
        """Return the page at a path below the first page, as HTML.

        Args:
            path: the parts of the path.
            query: the fields of the query.

        Raises:
            PageNotFoundError: there is none.
        """
        kind, *rest = path or ("",)
        if not kind and not rest:
            return self._overview()
        if kind not in KINDS or len(rest) > 1:
            raise PageNotFoundError("There is no such page.")
        return self._one(KINDS[kind], rest[0]) if rest and rest[0] else self._list(KINDS[kind], query)

    def not_found(self, reason: str) -> str:
        """Return the page in place of one that does not exist."""
        return self._page("Not found", "", "", f"<p>{escaped(reason)}</p>")

    def _overview(self) -> str:
        parts = []
        for kind in KINDS.values():
            rows, token = kind.rows(self._session, status=None, name=None, token=None, count=_NEWEST)
            more = f'<p class="sm-note"><a href="{self._url(kind)}">all {escaped(kind.title.lower())}</a></p>'
            parts.append(card(kind.title, self._table(kind, rows) + (more if token else "")))
        note = f'<p class="sm-note">in {escaped(self._folder)}</p>'
        return self._page("The engine on this machine", self._root, "", note + "".join(parts))

    def _list(self, kind: PageKind, query: Mapping[str, str]) -> str:
        status, name, token = query.get("status"), query.get("name"), query.get("next")
        if status is not None and status not in kind.statuses:
            raise PageNotFoundError(f"{kind.title} have no status {status!r}.")
        rows, following = kind.rows(self._session, status=status, name=name, token=token)
        cells = "".join(
            f'<i class="{status_class(row.status)}" title="{escaped(row.name)}: {escaped(row.status)}"></i>'
            for row in rows
        )
        grid = f'<div class="sm-grid" aria-hidden="true">{cells}</div>' if rows else ""
        kept = {key: value for key, value in (("status", status), ("name", name)) if value}
        links = []
        if token:
            links.append(f'<a href="{escaped(self._url(kind, **kept))}">newest</a>')
        if following:
            links.append(f'<a href="{escaped(self._url(kind, **kept, next=following))}">older</a>')
        pager = f'<nav aria-label="Parts of the list">{"".join(links)}</nav>' if links else ""
        filters = self._filters(kind, status, name)
        return self._page(kind.title, self._url(kind), filters, grid + self._table(kind, rows) + pager)

    def _filters(self, kind: PageKind, status: str | None, name: str | None) -> str:
        kept = {"name": name} if name else {}
        links = [
            (None, self._url(kind, **kept)),
            *((each, self._url(kind, **kept, status=each)) for each in kind.statuses),
        ]
        shown = "".join(
            f'<a href="{escaped(url)}"{_current(each == status)}>{escaped(each or "any status")}</a>'
            for each, url in links
        )
        hidden = f'<input type="hidden" name="status" value="{escaped(status)}"/>' if status else ""
        return (
            f'<div role="search"><div class="sm-filter" role="group" aria-label="Status">{shown}</div>'
            f'<form method="get" action="{escaped(self._url(kind))}">{hidden}'
            f'<input name="name" aria-label="A part of the name" placeholder="a part of the name" '
            f'value="{escaped(name or "")}" maxlength="63" autocomplete="off"/><button>Find</button></form></div>'
        )

    def _one(self, kind: PageKind, name: str) -> str:
        try:
            description = described(self._session, kind.resource, name)
        except ConfigurationError as error:
            raise PageNotFoundError(str(error).partition(": ")[2]) from None
        shown = resource_card(self._session, kind.resource, name, description)
        known = settings(description)
        tags = kind.tags(self._session, description)
        tail = kind.last_lines(self._session, name)
        parts = [
            shown,
            card("Settings", fields(known)) if known else "",
            card("Tags", fields(tags)) if tags else "",
            card("Last lines", lines(tail)) if tail else "",
        ]
        return self._page(name, self._url(kind), "", "".join(parts))

    def _table(self, kind: PageKind, rows: Sequence[Row]) -> str:
        if not rows:
            return f'<p class="sm-note">No {escaped(kind.title.lower())}.</p>'
        heads = "".join(f'<th scope="col">{head}</th>' for head in ("Status", "Name", "Created", "Duration", "Message"))
        body = "".join(self._row(kind, row) for row in rows)
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"

    def _row(self, kind: PageKind, row: Row) -> str:
        took = "" if row.ended is None else duration((row.ended - row.created).total_seconds())
        return (
            f'<tr><td><b class="{status_class(row.status)}">{escaped(row.status)}</b></td>'
            f'<td><a href="{escaped(self._url(kind) + "/" + row.name)}">{escaped(row.name)}</a></td>'
            f'<td class="sm-when">{row.created.astimezone():%Y-%m-%d %H:%M:%S}</td>'
            f'<td class="sm-when">{took}</td><td class="sm-why">{escaped(row.note)}</td></tr>'
        )

    def _url(self, kind: PageKind, **query: str) -> str:
        fields = f"?{urlencode(query)}" if query else ""
        return f"{self._root}{kind.resource}{fields}"

    def _page(self, title: str, current: str, above: str, main: str) -> str:
        links = [(self._url(kind), kind.title) for kind in KINDS.values()]
        return page(title, self._root, links, current, above, main)


def _current(is_current: bool) -> str:
    return ' aria-current="true"' if is_current else ""

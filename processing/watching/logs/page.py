"""Pages of log lines: what is told of them without reading them, and their lines when they are asked for.

botocore looks at every member of every event of an answer, to find times and blobs; an event has none, and that takes
several times as long as parsing the JSON. And most pages of a second reading tell nothing new: their ids are enough to
know that, and found in a fraction of the time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, overload

import attrs

_EVENTS: Final = b'{"events":['
_PART: Final = 32_768  # bytes of an answer that are told of together, or a few more

Record: TypeAlias = dict[str, Any]
"""A line as FilterLogEvents answers it. Where there is no id, `identity` tells it from all others."""

# A quote within a text is written \" in JSON, so these are the members' names, whatever lines there are.
_ID: Final = re.compile(rb'"eventId": ?"(\d+)"')
_TIMESTAMP: Final = re.compile(rb'"timestamp"\s*:\s*(\d+)')
# The end of one event and the beginning of the next: in a text, the quote of `},{"` could only be its end.
_BETWEEN: Final = re.compile(rb'\}\s*,\s*(?=\{\s*"(?:eventId|ingestionTime|logStreamName|message|timestamp)")')
_TOKEN: Final = re.compile(rb'"nextToken"\s*:\s*("(?:[^"\\]|\\.)*")')


@attrs.frozen
class Part:
    """What is told of some lines of a page without reading them.

    Args:
        begins: where in the answer.
        ids: of all its lines; empty where that is not sure.
        first: the timestamp of the first line, in ms since the epoch.
        last: the timestamp of the last one.
    """

    begins: int
    ids: list[bytes]
    first: int
    last: int


class Page(Sequence[Record]):
    """The events of an answer, which are read when they are asked for.

    Args:
        body: FilterLogEvents' answer, whole.
        records: the events, where they have been read.
    """

    def __init__(self, body: bytes = b"", records: Sequence[Record] | None = None) -> None:
        self._body = body
        self._records = records

    def __len__(self) -> int:
        return len(self._read())

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return self._read()[index]

    @property
    def last(self) -> int | None:
        """The timestamp of the last line, in ms since the epoch; None where there is none."""
        if found := _TIMESTAMP.match(self._body, max(0, self._body.rfind(b'"timestamp"'))):
            return int(found[1])
        return self[-1]["timestamp"] if self._read() else None

    def parts(self) -> Iterator[Part]:
        """Yield what is told of the lines, some after others, up to the last; nothing of a page that has been read."""
        begins = 0
        while begins < len(self._body):
            found = _BETWEEN.search(self._body, begins + _PART)
            ends = found.end() if found else len(self._body)
            yield self._part(begins, ends)
            begins = ends

    def _part(self, begins: int, ends: int) -> Part:
        body = self._body
        ids = _ID.findall(body, begins, ends)
        first = _TIMESTAMP.search(body, begins, ends)
        last = _TIMESTAMP.match(body, max(begins, body.rfind(b'"timestamp"', begins, ends)))
        # Lines that are JSON have braces of their own; the other count takes longer.
        braces = body.count(b"{", begins, ends) - (not begins)
        has_all = len(ids) == braces or len(ids) == body.count(b'"timestamp"', begins, ends)
        return Part(begins, ids, int(first[1]), int(last[1])) if first and last and has_all else Part(begins, [], 0, 0)

    def beginning_with(self, part: Part) -> Page:
        """Return the page without what comes before a part of it, which is not read then."""
        return Page(_EVENTS + self._body[part.begins :]) if part.begins else self

    def _read(self) -> Sequence[Record]:
        if self._records is None:
            self._records = json.loads(self._body)["events"]
        return self._records


def install_page_parser(client: Any) -> None:
    """Let a client of CloudWatch Logs take the events of an answer as they are in its JSON.

    Where botocore has no such hook, it goes on as before.
    """
    for operation, take in {"FilterLogEvents": _take_page, "GetLogEvents": _take_events}.items():
        name = f"before-parse.cloudwatch-logs.{operation}"
        client.meta.events.register(name, take, unique_id=f"processing-{operation}")


def _take_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **rest: Any) -> None:
    """Keep the body of an answer that is whole; read one of which that is not sure."""
    body: bytes = response_dict["body"]
    if response_dict["status_code"] != 200:
        return
    events = body.find(b'"events"')
    at = body.find(b'"nextToken"', 0, max(0, events))
    if at < 0:  # it is none of the lines' members
        at = body.find(b'"nextToken"', max(0, body.rfind(b'"timestamp"')))
    token = _TOKEN.match(body, at) if at >= 0 else None
    if not _is_whole(response_dict["headers"], body) or events < 0 or (at >= 0 and token is None):
        _take_events(response_dict, customized_response_dict, **rest)
        return
    customized_response_dict["events"] = Page(body)
    response_dict["body"] = b"{}" if token is None else b'{"nextToken":%b}' % token[1]


def _take_events(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] != 200:
        return
    try:
        answer = json.loads(response_dict["body"])
        customized_response_dict["events"] = answer.pop("events")
    except (ValueError, KeyError, AttributeError, TypeError):
        return  # cut or otherwise odd: botocore shall say what it makes of it
    response_dict["body"] = json.dumps(answer).encode()


def _is_whole(headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether an answer is surely as long as it was sent: botocore does not look."""
    return headers.get("content-length") == str(len(body)) and "content-encoding" not in headers

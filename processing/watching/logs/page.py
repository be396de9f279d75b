"""Lazily parsed pages of log lines: ids and timestamps are scanned from the raw JSON, events are parsed on demand.

There are two shortcuts. Figures are CPU time per line that is shown, measured with benchmarks/log_lines.py.

- botocore walks over every member of every event in search of times and blobs, of which there are none. So its parser
  is bypassed for the events (`install_page_parser`). That takes 2.9 us instead of 5.8 for the log of an ended job. For
  a job that is followed for an hour it takes 7.5 us instead of 17.2. To switch it off, do not call
  `install_page_parser`: lines from botocore's parser are accepted too.
- Sweeps overlap, so most lines of a page are known, which their ids and timestamps suffice to find out. A page is cut
  into parts of 32 KiB, which regular expressions scan. The JSON before the first part with a new line is not parsed.
  That takes 5.2 us instead of 6.9 for a job that is followed for ten minutes, and 7.5 us instead of 8.3 for one of an
  hour. To switch it off, register `_parse_events` for both operations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, overload

import attrs

_EVENTS: Final = b'{"events":['
# The size of a part in bytes, at least. With 8 KiB or 128 KiB a line of a job that is followed for ten minutes takes
# 5.5 us instead of 4.9. Small parts need more searches, and large ones leave more known lines to parse.
_PART: Final = 32_768

Record: TypeAlias = dict[str, Any]
"""A line as FilterLogEvents returns it. A line without an id has a unique `identity` instead."""

# JSON escapes a quote within a text, so these patterns match names of members only, never the text of a line.
_ID: Final = re.compile(rb'"eventId": ?"(\d+)"')
_TIMESTAMP: Final = re.compile(rb'"timestamp"\s*:\s*(\d+)')
# The end of one event and the beginning of the next. The unescaped quote cannot be within a text.
_BETWEEN: Final = re.compile(rb'\}\s*,\s*(?=\{\s*"(?:eventId|ingestionTime|logStreamName|message|timestamp)")')
_TOKEN: Final = re.compile(rb'"nextToken"\s*:\s*("(?:[^"\\]|\\.)*")')


@attrs.frozen
class Part:
    """Consecutive lines of a page, scanned but not parsed.

    Args:
        begins: the index of its first byte in the response.
        ids: the ids of all its lines; empty if the scan was not sure to find them all.
        first: the timestamp of the first line, in ms since the epoch.
        last: the timestamp of the last line.
    """

    begins: int
    ids: list[bytes]
    first: int
    last: int


class Page(Sequence[Record]):
    """The lines of a response, which are parsed at the first access.

    Args:
        body: the complete response of FilterLogEvents.
        records: the lines, if they have been parsed.
    """

    def __init__(self, body: bytes = b"", records: Sequence[Record] | None = None) -> None:
        self._body = body
        self._records = records

    def __len__(self) -> int:
        return len(self._parsed())

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return self._parsed()[index]

    @property
    def last(self) -> int | None:
        """The timestamp of the last line, in ms since the epoch; None if the page is empty."""
        if found := _TIMESTAMP.match(self._body, max(0, self._body.rfind(b'"timestamp"'))):
            return int(found[1])
        return self[-1]["timestamp"] if self._parsed() else None

    def parts(self) -> Iterator[Part]:
        """Yield the parts of the page in order; none if only the parsed lines are there."""
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
        # The scan is complete if it found an id for each event. Braces are counted first, since that is faster; lines
        # that contain braces fail that test, and timestamps decide.
        braces = body.count(b"{", begins, ends) - (not begins)
        has_all = len(ids) == braces or len(ids) == body.count(b'"timestamp"', begins, ends)
        return Part(begins, ids, int(first[1]), int(last[1])) if first and last and has_all else Part(begins, [], 0, 0)

    def beginning_with(self, part: Part) -> Page:
        """Return the page without the lines before a part, which are not parsed."""
        return Page(_EVENTS + self._body[part.begins :]) if part.begins else self

    def _parsed(self) -> Sequence[Record]:
        if self._records is None:
            self._records = json.loads(self._body)["events"]
        return self._records


def install_page_parser(client: Any) -> None:
    """Let a client of CloudWatch Logs bypass botocore's parser for log events.

    Nothing changes if the version of botocore has no such hook.
    """
    for operation, handler in {"FilterLogEvents": _parse_lazily, "GetLogEvents": _parse_events}.items():
        name = f"before-parse.cloudwatch-logs.{operation}"
        client.meta.events.register(name, handler, unique_id=f"processing-{operation}")


def _parse_lazily(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **rest: Any) -> None:
    """Keep the body of a complete response for later; parse a response that may be incomplete."""
    body: bytes = response_dict["body"]
    if response_dict["status_code"] != 200:
        return
    events = body.find(b'"events"')
    at = body.find(b'"nextToken"', 0, max(0, events))
    if at < 0:  # after the events; lines have no member of that name
        at = body.find(b'"nextToken"', max(0, body.rfind(b'"timestamp"')))
    token = _TOKEN.match(body, at) if at >= 0 else None
    if not _is_whole(response_dict["headers"], body) or events < 0 or (at >= 0 and token is None):
        _parse_events(response_dict, customized_response_dict, **rest)
        return
    customized_response_dict["events"] = Page(body)
    response_dict["body"] = b"{}" if token is None else b'{"nextToken":%b}' % token[1]


def _parse_events(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] != 200:
        return
    try:
        answer = json.loads(response_dict["body"])
        customized_response_dict["events"] = answer.pop("events")
    except (ValueError, KeyError, AttributeError, TypeError):
        return  # cut off or otherwise unusual: botocore's parser reports it
    response_dict["body"] = json.dumps(answer).encode()


def _is_whole(headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether a response surely arrived complete, which botocore does not check."""
    return headers.get("content-length") == str(len(body)) and "content-encoding" not in headers

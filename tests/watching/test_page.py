"""Pages of log lines: the scan of the JSON text is right for all texts of lines."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from processing.aws.retry import RetryingApi
from processing.testing.clock import VirtualClock
from processing.testing.wire import JsonService, make_client
from processing.watching.logs import page as pages
from processing.watching.logs.page import Page, install_page_parser

NASTY = [
    '"timestamp"',
    "timestamp",
    '"timestamp": 7',
    '"eventId":"12"',
    '{"eventId":"12"}',
    "},{",
    "\\",
    '\\"',
    "é\u2028",
]
MESSAGES = st.lists(st.sampled_from(NASTY) | st.text(max_size=5), max_size=5).map(" ".join)


def body(messages: list[str], *, compact: bool = True, **more: Any) -> bytes:
    events = [
        {"message": message, "timestamp": number, "eventId": f"{number:056d}", "logStreamName": "clean/algo-1-1"}
        for number, message in enumerate(messages)
    ]
    return json.dumps({"events": events, **more}, separators=(",", ":") if compact else None).encode()


@hypothesis.given(st.lists(MESSAGES, max_size=9), st.booleans(), st.booleans(), st.integers(1, 400))
def test_parts_have_the_ids_and_times_of_their_lines(
    messages: list[str], compact: bool, searched: bool, size: int
) -> None:
    """The page that begins with a part has all lines from there on."""
    page = Page(body(messages, compact=compact, **({"searchedLogStreams": [{}]} if searched else {})))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "_PART", size)
        parts = list(page.parts())
    places = [len(messages) - len(page.beginning_with(part)) for part in parts]
    assert places[:1] == [0]
    for part, place, following in zip(parts, places, [*places[1:], len(messages)], strict=True):
        assert [record["message"] for record in page.beginning_with(part)] == messages[place:]
        if part.ids:
            assert [int(each) for each in part.ids] == list(range(place, following))
            assert (part.first, part.last) == (place, following - 1)
    assert page.last == (len(messages) - 1 if messages else None)
    assert [record["message"] for record in page] == messages


@pytest.mark.parametrize("compact", [True, False])
def test_ids_of_ordinary_pages_are_found(compact: bool) -> None:
    """Also if lines are JSON, with braces and quotes."""
    (part,) = Page(body(["one", '{"level": "info"}'], compact=compact)).parts()
    assert list(map(int, part.ids)) == [0, 1]


@pytest.mark.parametrize("missing", [[0], [1], [0, 1]])
def test_a_line_without_an_id_is_not_overlooked(missing: list[int]) -> None:
    """A part with a line without an id has no ids at all."""
    answer = json.loads(body(["one", "two"]))
    for number in missing:
        del answer["events"][number]["eventId"]
    (part,) = Page(json.dumps(answer).encode()).parts()
    assert not part.ids


@pytest.mark.parametrize("token", [None, "abc", 'quoted "\\ é'])
@pytest.mark.parametrize("message", ["hello", '"nextToken":"other"', "nextToken", '"nextToken"'])
def test_a_response_is_unchanged(token: str | None, message: str) -> None:
    """Its lines and its token are those that were sent, for all texts of lines."""
    answer = {**json.loads(body([message])), **({} if token is None else {"nextToken": token})}
    client = make_client("logs", JsonService({"FilterLogEvents": lambda _: answer}))
    install_page_parser(client)
    api = RetryingApi(lambda _: client, clock=VirtualClock())
    found = api.call("logs", "FilterLogEvents", {"logGroupName": "group"})
    assert isinstance(found["events"], Page) or message == "nextToken"  # which could be the member's name
    assert list(found["events"]) == answer["events"]
    assert found.get("nextToken") == token

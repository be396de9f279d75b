"""Pages of log lines: what is told of them without reading them is true, whatever the lines say."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from processing.retrying import RetryingApi
from processing.testing.clock import VirtualClock
from processing.testing.wire import JsonService, make_client
from processing.watching.pages import Page, keep_pages

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


def body(messages: list[str], **more: Any) -> bytes:
    events = [
        {"message": message, "timestamp": number, "eventId": f"{number:056d}", "logStreamName": "clean/algo-1-1"}
        for number, message in enumerate(messages)
    ]
    return json.dumps({"events": events, **more}).encode()


@hypothesis.given(st.lists(MESSAGES, max_size=5), st.booleans())
def test_an_outline_is_true(messages: list[str], searched: bool) -> None:
    """A page's outline has the ids of all its lines, and the times of the first and the last; or there is none."""
    page = Page(body(messages, **({"searchedLogStreams": [{}]} if searched else {})))
    outline, last = page.outline(), page.last
    assert [record["message"] for record in page] == messages
    assert last == (len(messages) - 1 if messages else None)
    if outline is not None:
        assert [int(each) for each in outline.ids] == list(range(len(messages)))
        assert (outline.first, outline.last) == (0, last)


def test_an_ordinary_page_has_an_outline() -> None:
    """Also where its lines are JSON, with braces and quotes."""
    assert Page(body(["one", '{"level": "info"}'])).outline() is not None
    assert Page(body([])).outline() is None


@pytest.mark.parametrize("missing", [[0], [1], [0, 1]])
def test_a_line_without_an_id_is_not_overlooked(missing: list[int]) -> None:
    """A page of which not every line has an id has no outline."""
    answer = json.loads(body(["one", "two"]))
    for number in missing:
        del answer["events"][number]["eventId"]
    assert Page(json.dumps(answer).encode()).outline() is None


@pytest.mark.parametrize("token", [None, "abc", 'quoted "\\ é'])
@pytest.mark.parametrize("message", ["hello", '"nextToken":"other"', "nextToken", '"nextToken"'])
def test_an_answer_is_what_it_was(token: str | None, message: str) -> None:
    """Its lines and its token come out as they went in, whatever the lines say."""
    answer = {**json.loads(body([message])), **({} if token is None else {"nextToken": token})}
    client = make_client("logs", JsonService({"FilterLogEvents": lambda _: answer}))
    keep_pages(client)
    api = RetryingApi(lambda _: client, clock=VirtualClock())
    found = api.call("logs", "FilterLogEvents", {"logGroupName": "group"})
    assert isinstance(found["events"], Page) or message == "nextToken"  # which could be the member's name
    assert list(found["events"]) == answer["events"]
    assert found.get("nextToken") == token

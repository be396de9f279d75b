"""Live Tail: sessions without a wait, through botocore's decoder, and through boto3."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError
from hypothesis import given
from hypothesis import strategies as st

from processing.local.errors import ApiError
from processing.local.handlers import livetail
from processing.local.handlers.livetail import LONGEST, LiveTail, downsample
from processing.local.protocols.event_stream import Events, EventStreamBody, message
from processing.local.stores.logs import LogStore
from processing.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from processing import LocalSession

GROUP = "/aws/sagemaker/ProcessingJobs"
NOW = int(time.time() * 1000)


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    """A store with two groups."""
    made = LogStore(tmp_path)
    made.append(GROUP, "old", [(1, "before")])
    made.create_group("other")
    return made


def tail(store: LogStore, clock: VirtualClock, groups: list[str] | None = None, **params: Any) -> LiveTail:
    """A session whose waits pass at once."""
    named = groups or [GROUP]
    params = {"logGroupIdentifiers": named, **params}
    return LiveTail(store, "000000000000", params, named, None, clock=clock, wait=clock.sleep)


def texts(update: Mapping[str, Any]) -> list[str]:
    """The messages of an update."""
    return [event["message"] for event in update["sessionUpdate"]["sessionResults"]]


def test_a_session_streams_new_events_once_a_second(store: LogStore) -> None:
    """The first item repeats the request. Each later one has the new events, with their groups."""
    clock = VirtualClock()
    session = tail(store, clock)
    start = next(session)["sessionStart"]
    assert start["logGroupIdentifiers"] == [GROUP]
    assert (start["logStreamNames"], start["logEventFilterPattern"]) == ([], "")
    store.append(GROUP, "s", [(5, "a"), (3, "b")])
    update = next(session)
    assert update["sessionUpdate"]["sessionMetadata"] == {"sampled": False}
    assert [
        (event["logStreamName"], event["logGroupIdentifier"], event["message"], event["timestamp"])
        for event in update["sessionUpdate"]["sessionResults"]
    ] == [("s", f"000000000000:{GROUP}", "a", 5), ("s", f"000000000000:{GROUP}", "b", 3)]
    assert texts(next(session)) == []
    store.append(GROUP, "new", [(1, "c")])
    store.append("other", "s", [(1, "elsewhere")])
    assert texts(next(session)) == ["c"]
    assert clock.sleeps == [1.0, 1.0]


def test_a_session_is_of_some_streams_or_groups(store: LogStore) -> None:
    """Streams are selected by name or prefix, or all streams of several groups."""
    clock = VirtualClock()
    named = tail(store, clock, logStreamNames=["a/1"])
    prefixed = tail(store, clock, logStreamNamePrefixes=["a/", "c"])
    both = tail(store, clock, groups=[GROUP, "other"])
    for stream in ("a/1", "a/2", "b", "c"):
        store.append(GROUP, stream, [(1, stream)])
    store.append("other", "o", [(1, "o")])
    for session, expected in ((named, ["a/1"]), (prefixed, ["a/1", "a/2", "c"]), (both, ["a/1", "a/2", "b", "c", "o"])):
        next(session)
        assert texts(next(session)) == expected


def test_many_events_are_sampled(store: LogStore) -> None:
    """An update has at most 500 events, and marks a sample as one."""
    session = tail(store, VirtualClock())
    next(session)
    store.append(GROUP, "s", [(number, str(number)) for number in range(501)])
    update = next(session)
    assert update["sessionUpdate"]["sessionMetadata"] == {"sampled": True}
    assert 250 <= len(texts(update)) <= 500
    assert texts(next(session)) == []


@given(count=st.integers(0, 300), most=st.integers(2, 20))
def test_a_sample_is_spread_over_all(count: int, most: int) -> None:
    """A sample is even and in order, and complete if all events fit."""
    kept, sampled = downsample(({"n": number} for number in range(count)), most)
    numbers = [event["n"] for event in kept]
    assert sampled == (count > most)
    assert len(numbers) <= most
    assert len({later - earlier for earlier, later in itertools.pairwise(numbers)}) <= 1
    assert sampled or numbers == list(range(count))


def test_a_session_ends_after_three_hours(store: LogStore) -> None:
    """The end is the service's exception. A client that pauses gets one update, not one for each second."""
    clock = VirtualClock()
    session = tail(store, clock)
    next(session)
    next(session)
    clock.advance(LONGEST - 2)
    next(session)
    next(session)
    with pytest.raises(ApiError, match="SessionTimeoutException"):
        next(session)
    assert clock.monotonic() == LONGEST


def test_closing_ends_the_wait(store: LogStore) -> None:
    """Another thread can end it, even during a long wait."""
    clock = VirtualClock()
    session = LiveTail(store, "0", {"logGroupIdentifiers": [GROUP]}, [GROUP], None, clock=clock)
    next(session)
    next(session)  # the next one would come in a second that does not pass
    ended = threading.Event()

    def read() -> None:
        assert list(session) == []
        ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    session.close()
    thread.join(30)
    assert ended.is_set()


class Given(Events):
    """Events that are known beforehand; an exception among them is raised."""

    def __init__(self, *events: Mapping[str, Any] | ApiError) -> None:
        self.events = list(events)
        self.closed = False

    def __next__(self) -> Mapping[str, Any]:
        if not self.events:
            raise StopIteration
        event = self.events.pop(0)
        if isinstance(event, ApiError):
            raise event
        return event

    def close(self) -> None:
        self.closed = True


NAMES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)


@given(
    messages=st.lists(
        st.tuples(st.dictionaries(NAMES, st.text(max_size=50), max_size=4), st.binary(max_size=200)), max_size=4
    ),
    size=st.integers(1, 60),
)
def test_messages_are_read_by_botocore(messages: list[tuple[dict[str, str], bytes]], size: int) -> None:
    """Lengths, headers and checksums, in pieces of any size."""
    written = b"".join(message(headers, payload) for headers, payload in messages)
    buffer: Any = EventStreamBuffer()
    read = []
    for start in range(0, len(written), size):
        buffer.add_data(written[start : start + size])
        read += [(event.headers, event.payload) for event in buffer]
    assert read == messages


def test_a_body_returns_available_data() -> None:
    """A read returns at most one message, or less if requested. Closing the body closes the events."""
    events = Given({"e": {}}, {"f": {}})
    body = EventStreamBody(events, {"a": 1}, lambda members: str(members).encode(), "text/plain")
    first = body.read(10)
    assert len(first) == 10
    whole = first + body.read()
    assert whole == message(
        {":event-type": "initial-response", ":content-type": "text/plain", ":message-type": "event"}, b"{'a': 1}"
    )
    buffer = bytearray(7)
    assert body.readinto(buffer) == 7
    body.read(-1)
    assert b"f" in body.read(None)
    assert body.read(5) == b""
    body.close()
    assert events.closed


@pytest.fixture
def logs(client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the engine whose sessions have short seconds."""
    monkeypatch.setattr(livetail, "PERIOD", 0.01)
    made = client("logs")
    made.create_log_group(logGroupName=GROUP)
    made.create_log_stream(logGroupName=GROUP, logStreamName="s")
    return made


def put(logs: Any, *messages: str) -> None:
    """Write events of now."""
    batch = [{"timestamp": NOW, "message": each} for each in messages]
    logs.put_log_events(logGroupName=GROUP, logStreamName="s", logEvents=batch)


def test_a_session_through_boto3(logs: Any) -> None:
    """Groups are named by ARN or name, and new events are filtered."""
    arn = logs.describe_log_groups()["logGroups"][0]["logGroupArn"]
    answer = logs.start_live_tail(logGroupIdentifiers=[arn], logEventFilterPattern="?a ?c")
    stream = answer["responseStream"]
    events = iter(stream)
    assert next(events)["sessionStart"]["logGroupIdentifiers"] == [arn]
    put(logs, "a", "b", "c")
    results: list[Any] = []
    while not results:
        results = next(events)["sessionUpdate"]["sessionResults"]
    assert [event["message"] for event in results] == ["a", "c"]
    stream.close()


def test_a_session_ends_with_its_client(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session ends when the stream is closed or the connection breaks."""
    closed = threading.Event()

    class Watched(LiveTail):
        def close(self) -> None:
            super().close()
            closed.set()

    monkeypatch.setattr("processing.local.handlers.logs.LiveTail", Watched)
    stream = logs.start_live_tail(logGroupIdentifiers=[GROUP])["responseStream"]
    next(iter(stream))
    assert not closed.is_set()
    stream.close()
    assert closed.wait(30)


def test_a_session_that_times_out_says_so(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is an exception in the stream."""
    monkeypatch.setattr(livetail, "LONGEST", 0.0)
    with contextlib.closing(logs.start_live_tail(logGroupIdentifiers=[GROUP])["responseStream"]) as stream:
        events = iter(stream)
        next(events)
        with pytest.raises(EventStreamError, match="SessionTimeoutException"):
            next(events)


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({"logGroupIdentifiers": ["none"]}, "ResourceNotFoundException", "log group does not exist"),
        ({"logStreamNames": ["a"], "logStreamNamePrefixes": ["a"]}, "InvalidParameterException", "Only one of"),
        (
            {"logGroupIdentifiers": [GROUP, "b"], "logStreamNames": ["a"]},
            "InvalidParameterException",
            "single log group",
        ),
        ({"logGroupIdentifiers": ["a"] * 11}, "InvalidParameterException", "less than or equal to 10"),
        ({"logEventFilterPattern": '"'}, "InvalidParameterException", "Invalid filter pattern"),
    ],
)
def test_sessions_are_refused(logs: Any, params: dict[str, Any], code: str, text: str) -> None:
    """The error is raised immediately, not in the stream."""
    with pytest.raises(ClientError, match=text) as caught:
        logs.start_live_tail(**{"logGroupIdentifiers": [GROUP], **params})
    assert caught.value.response["Error"]["Code"] == code


def test_the_prefix_of_the_host_does_not_matter(local_session: LocalSession) -> None:
    """A client in this process may put `stream-` before the host's name, as botocore does unless told not to."""
    logs = local_session.boto_session.client("logs", config=Config(inject_host_prefix=True))
    logs.create_log_group(logGroupName=GROUP)
    with contextlib.closing(logs.start_live_tail(logGroupIdentifiers=[GROUP])["responseStream"]) as stream:
        assert "sessionStart" in next(iter(stream))

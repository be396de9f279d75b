"""The log store: pages of one stream and of many, against a model."""

from __future__ import annotations

import itertools
import os
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.local.errors import ApiError
from processing.local.stores import log_paging
from processing.local.stores.logs import LogStore, StreamRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processing.local.stores.log_paging import LogEventRecord


class Ticking:
    """A clock that goes on by a second each time that it is read."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    """An empty store."""
    return LogStore(tmp_path, now=Ticking())


@pytest.fixture(scope="module")
def shared() -> Iterator[LogStore]:
    """A store for many examples, each in a group of its own."""
    with tempfile.TemporaryDirectory() as folder:
        yield LogStore(Path(folder), now=Ticking())


def texts(events: list[LogEventRecord]) -> list[str]:
    """The messages."""
    return [event.message for event in events]


BATCHES = st.lists(st.tuples(st.sampled_from(["a", "b/1", "b/2"]), st.lists(st.integers(0, 5), max_size=4)), max_size=8)


@given(batches=BATCHES, limit=st.integers(1, 5))
def test_pages_are_those_of_a_model(shared: LogStore, batches: list[tuple[str, list[int]]], limit: int) -> None:
    """Every event comes once, by (timestamp, ingestion, id): forwards, backwards, and of several streams."""
    group = os.urandom(8).hex()
    shared.create_group(group)
    model: list[tuple[int, int, str]] = []  # timestamp, order of writing, stream
    for stream, times in batches:
        shared.append(group, stream, [(time, str(len(model) + n)) for n, time in enumerate(times)])
        model += [(time, len(model) + n, stream) for n, time in enumerate(times)]

    def expected(prefix: str) -> list[str]:
        return [str(number) for _, number, stream in sorted(model) if stream.startswith(prefix)]

    for prefix, from_head in itertools.product(("", "a", "b/", "none"), (True, False)):
        found, token = [], None
        while True:
            events, token = shared.filter(group, prefix=prefix, limit=limit, token=token, from_head=from_head)
            found += texts(events)
            if token is None:
                break
            assert len(events) == limit
        assert found == expected(prefix)[:: 1 if from_head else -1]

    for stream in {stream for stream, _ in batches}:
        found, page = [], shared.read(group, stream, limit=limit, from_head=True)
        while page.events:
            found += texts(page.events)
            page = shared.read(group, stream, limit=limit, token=page.forward)
        assert found == expected(stream)
        assert shared.read(group, stream, token=page.forward).forward == page.forward
        back: list[str] = []
        page = shared.read(group, stream, limit=limit, token=page.backward)
        while page.events:
            back = texts(page.events) + back
            page = shared.read(group, stream, limit=limit, token=page.backward)
        assert back == expected(stream)
        assert texts(shared.read(group, stream, limit=limit).events) == expected(stream)[-limit:]


@given(
    batches=BATCHES, start=st.integers(0, 5), end=st.integers(0, 5), from_head=st.booleans(), limit=st.integers(1, 4)
)
def test_times_bound_pages_of_a_model(
    shared: LogStore, batches: list[tuple[str, list[int]]], start: int, end: int, from_head: bool, limit: int
) -> None:
    """Every event between them comes once, in either direction; a stream out of time is passed over."""
    group = os.urandom(8).hex()
    shared.create_group(group)
    for stream, times in batches:
        shared.append(group, stream, [(time, "x") for time in times])
    found: list[LogEventRecord] = []
    token: str | None = None
    while True:
        events, token = shared.filter(
            group, start_time=start, end_time=end, from_head=from_head, limit=limit, token=token
        )
        found += events
        if token is None:
            break
    positions = [event.position for event in found]
    assert positions == sorted(set(positions), reverse=not from_head)
    expected = [(time, stream) for stream, times in batches for time in times if start <= time <= end]
    assert sorted((event.timestamp, event.stream) for event in found) == sorted(expected)


def test_a_page_looks_at_so_many_events(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a page may have a token and no event. Matches follow on a later page."""
    monkeypatch.setattr(log_paging, "PAGE_EXAMINED", 10)
    store.append("g", "s", [(time, "hay") for time in range(25)] + [(25, "needle")])
    pages, token = [], None
    while True:
        events, token = store.filter("g", matches=lambda message: message == "needle", token=token)
        pages.append(texts(events))
        if token is None:
            break
    assert pages == [[], [], ["needle"]]


def test_what_comes_later_is_found_behind_the_token(store: LogStore) -> None:
    """This holds even if the stream was empty when the token was made."""
    for stream, from_head in (("head", True), ("tail", False)):
        store.append("g", stream, [])
        page = store.read("g", stream, from_head=from_head)
        assert page.events == []
        store.append("g", stream, [(1, "new")])
        assert texts(store.read("g", stream, token=page.forward).events) == ["new"]


def test_a_late_line_is_not_behind_the_token(store: LogStore) -> None:
    """As in the service, only reading from the head finds an older timestamp."""
    store.append("g", "s", [(10, "first")])
    page = store.read("g", "s", from_head=True)
    store.append("g", "s", [(5, "late")])
    assert store.read("g", "s", token=page.forward).events == []
    assert texts(store.read("g", "s", from_head=True).events) == ["late", "first"]


def test_times_bound_a_page(store: LogStore) -> None:
    """The end is excluded of one stream, and included of several, as the service documents it."""
    store.append("g", "s", [(time, str(time)) for time in range(5)])
    assert texts(store.read("g", "s", start_time=1, end_time=3, from_head=True).events) == ["1", "2"]
    assert texts(store.filter("g", start_time=1, end_time=3)[0]) == ["1", "2", "3"]


def test_a_page_ends_at_a_megabyte(store: LogStore) -> None:
    """The limit in bytes holds for any requested number, but one event always fits."""
    store.append("g", "s", [(time, "x" * 262_118) for time in range(6)])
    events, token = store.filter("g")
    assert (len(events), token is None) == (4, False)
    assert len(store.filter("g", token=token)[0]) == 2
    assert len(store.read("g", "s", from_head=True).events) == 4


def test_a_page_ends_at_ten_thousand_events(store: LogStore) -> None:
    """The next page has the rest."""
    store.append("g", "s", [(0, "") for _ in range(10_001)])
    events, token = store.filter("g", limit=20_000)
    assert len(events) == 10_000
    assert len(store.filter("g", token=token)[0]) == 1


def test_names_are_compared_letter_by_letter(store: LogStore) -> None:
    """A prefix is no pattern: `_` and `%` stand for themselves."""
    for name in ("a_b/1", "a%b/1", "axb/1", "A_b/1", "a_b", "a_c"):
        store.append("g", name, [(0, name)])
    assert texts(store.filter("g", prefix="a_b")[0]) == ["a_b/1", "a_b"]
    assert [stream.name for stream in store.streams("g", "a%")[0]] == ["a%b/1"]


def test_any_text_is_kept(store: LogStore) -> None:
    """Zero bytes, control characters and emoji stay; half of a surrogate pair cannot be written and becomes `?`."""
    store.append("g", "s", [(0, "a\0b\r\x1b[31m🎉"), (1, "\ud83d")])
    assert texts(store.filter("g")[0]) == ["a\0b\r\x1b[31m🎉", "?"]


def test_writers_in_parallel_lose_nothing(store: LogStore) -> None:
    """Ids are unique, and grow within a stream in the order of writing."""

    def write(number: int) -> None:
        for line in range(20):
            store.append("g", f"s{number}", [(line, f"{number}.{line}")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    events, _ = store.filter("g")
    assert len({event.id for event in events}) == 160
    for number in range(8):
        own = [event for event in events if event.stream == f"s{number}"]
        assert texts(own) == [f"{number}.{line}" for line in range(20)]
        assert [event.id for event in own] == sorted(event.id for event in own)


class Steps:
    """Counts how much SQLite does, in its own steps."""

    def __init__(self, store: LogStore) -> None:
        with store._database.read() as connection:
            self.connection = connection  # the idle one, which the store takes again
        self.count = 0

    def of(self, call: Callable[[], object]) -> int:
        self.count = 0
        self.connection.set_progress_handler(self.add, 1)
        call()
        self.connection.set_progress_handler(None, 1)
        assert self.count
        return self.count

    def add(self) -> int:
        self.count += 1
        return 0


def test_a_page_costs_the_same_wherever_it_is(store: LogStore) -> None:
    """SQLite takes as many steps for the last page as for the first one, whichever way they are read."""
    store.append("g", "s", [(time, str(time)) for time in range(3000)])
    steps = Steps(store)
    whole = store.read("g", "s", from_head=True)
    middle = store.read("g", "s", from_head=True, limit=10)

    def costs(limit: int, first: str, last: str) -> tuple[int, int, int, int]:
        return (
            steps.of(lambda: store.read("g", "s", token=first, limit=limit)),
            steps.of(lambda: store.read("g", "s", token=last, limit=limit)),
            steps.of(lambda: store.filter("g", token=first, limit=limit)),
            steps.of(lambda: store.filter("g", token=last, limit=limit)),
        )

    near_end = store.read("g", "s", limit=30)
    forward = costs(10, middle.forward, near_end.backward.replace("b", "f"))
    assert max(forward) < 1.5 * min(forward)
    backward = costs(
        10, near_end.backward, store.read("g", "s", token=middle.forward, limit=10).forward.replace("f", "b")
    )
    assert max(backward) < 1.5 * min(backward)
    assert len(whole.events) == 3000


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("by_last_event", [False, True])
def test_a_page_of_streams_costs_the_same_wherever_it_is(
    store: LogStore, by_last_event: bool, descending: bool
) -> None:
    """Streams are sorted, with and without a prefix."""
    for number in range(300):
        store.append("g", f"{number:03d}", [(number * 7 % 300, "x")] if number % 10 else [])
    steps = Steps(store)
    found, costs, after = [], [], None
    while True:
        page: list[tuple[list[StreamRecord], bool]] = []
        options: dict[str, Any] = {"by_last_event": by_last_event, "descending": descending, "limit": 10}

        def read(after: Any = after, page: Any = page, options: Any = options) -> None:
            page.append(store.streams("g", after=after, **options))

        costs.append(steps.of(read))
        ((streams, more),) = page
        found += streams
        if not more:
            break
        after = streams[-1].key
    key = (lambda stream: stream.key) if by_last_event else (lambda stream: stream.name)
    assert found == sorted(found, key=key, reverse=descending)
    assert len(found) == 300
    assert max(costs) < 1.5 * min(costs)
    assert [stream.name for stream in store.streams("g", "29", descending=descending, limit=3)[0]] == (
        ["299", "298", "297"] if descending else ["290", "291", "292"]
    )


def test_a_database_of_the_first_version_is_upgraded(tmp_path: Path) -> None:
    """Its content stays, and a process that has it open continues."""
    connection = sqlite3.connect(tmp_path / "logs.sqlite3")
    connection.executescript(
        """CREATE TABLE groups (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL);
        CREATE TABLE streams (
            id INTEGER PRIMARY KEY, log_group INTEGER NOT NULL REFERENCES groups, name TEXT NOT NULL,
            created INTEGER NOT NULL, first_event INTEGER, last_event INTEGER, last_ingestion INTEGER,
            UNIQUE (log_group, name)
        );
        CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL REFERENCES streams,
            timestamp INTEGER NOT NULL, ingestion INTEGER NOT NULL, message TEXT NOT NULL
        );
        CREATE INDEX events_in_order ON events (stream, timestamp, ingestion, id);
        INSERT INTO groups VALUES (1, 'g', 5);
        INSERT INTO streams VALUES (1, 1, 's', 5, 7, 7, 8);
        INSERT INTO events VALUES (1, 1, 7, 8, 'old');
        PRAGMA user_version=1;"""
    )
    store = LogStore(tmp_path)
    assert texts(store.filter("g")[0]) == ["old"]
    assert (store.group("g").retention, store.tags("g")) == (None, {})
    store.set_retention("g", 7)
    store.change_tags("g", add={"a": "b"})
    connection.execute("INSERT INTO groups (name, created) VALUES ('h', 6)")
    connection.commit()
    connection.close()
    assert [(group.name, group.retention) for group in store.groups()[0]] == [("g", 7), ("h", None)]


def test_unknown_names_and_tokens_are_errors(store: LogStore) -> None:
    """A missing group, a missing stream and a bad token have their own texts."""
    with pytest.raises(ApiError, match="log group does not exist"):
        store.filter("g")
    store.create_group("g")
    for call in (lambda: store.read("g", "s"), lambda: store.filter("g", streams=["s"])):
        with pytest.raises(ApiError, match="log stream does not exist"):
            call()
    with pytest.raises(ApiError, match="nextToken is invalid"):
        store.filter("g", token="f/x")
    assert store.filter("g", prefix="s") == ([], None)

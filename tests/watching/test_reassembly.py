"""Long lines: cut by their writers, and joined again."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from processing.container.lines import EVENT_LIMIT, LineSplitter
from processing.watching.events import LogEvent
from processing.watching.logs.reassembly import LONGEST, LineAssembler

DOCKER = 16_384


def event(message: str, number: int = 0, timestamp: int = 0, stream: str = "clean/algo-1-1") -> LogEvent:
    job, _, name = stream.partition("/")
    return LogEvent(job, name[:6], stream, timestamp, timestamp, str(number), message)


def add_event(assembler: LineAssembler, made: LogEvent, key: int, now: float = 0.0) -> list[LogEvent]:
    """Add an event to an assembler, as a reader does, and return the lines that result."""
    if assembler.can_skip([made.message], [made.stream]):
        return [made]
    return [line for line in (assembler.flush_before(made), assembler.add(made, key, now)) if line]


def joined(messages: list[str], *, gap: int = 0) -> list[str]:
    """Return the lines that messages of one stream make."""
    assembler = LineAssembler()
    lines: list[LogEvent] = []
    for number, message in enumerate(messages):
        made = event(message, number, number * gap)
        lines += add_event(assembler, made, number)
    return [line.message for line in [*lines, *assembler.flush()]]


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
    st.lists(st.tuples(st.sampled_from(["x", "é", "日", "🙂"]), st.integers(1, 300_000)), min_size=1, max_size=4)
)
def test_lines_cut_by_the_engine_are_joined(parts: list[tuple[str, int]]) -> None:
    """The lines come out as a program wrote them."""
    lines = [character * count for character, count in parts]
    messages = LineSplitter().feed(("\n".join(lines) + "\n").encode())
    assert joined(messages) == lines


@pytest.mark.parametrize("length", [DOCKER + 1, 3 * DOCKER, 10_000_000])
def test_lines_cut_by_docker_are_joined(length: int) -> None:
    """Pieces of 16 KiB with one timestamp make a line, even one of ten megabytes."""
    line = "x" * (length - 1) + "."
    pieces = [line[start : start + DOCKER] for start in range(0, length, DOCKER)]
    assert joined(["before", *pieces]) == ["before", line]


def test_a_character_that_was_cut_does_not_end_the_line() -> None:
    """Docker cuts between bytes: the rest of a cut character takes three bytes on either side."""
    first = "x" * (DOCKER - 1) + "\ufffd"  # one byte of two
    assert joined([first, "\ufffdrest"]) == [first + "\ufffdrest"]


@pytest.mark.parametrize("length", [DOCKER - 1, DOCKER + 1, EVENT_LIMIT - 10, 100_000])
def test_a_line_of_another_length_is_a_line(length: int) -> None:
    """Only an event with the length of a piece is a piece."""
    assert joined(["x" * length, "next"]) == ["x" * length, "next"]


def test_pieces_of_different_times_are_lines() -> None:
    """A line that happens to be as long as a piece is not joined with one that was written a while later."""
    assert joined(["x" * DOCKER, "next"], gap=1_001) == ["x" * DOCKER, "next"]
    assert joined(["x" * EVENT_LIMIT, "next"], gap=10_001) == ["x" * EVENT_LIMIT, "next"]


def test_streams_do_not_mix() -> None:
    """The rest of a line comes from the same stream."""
    assembler = LineAssembler()
    assert add_event(assembler, event("x" * DOCKER, 1), 1, 0.0) == []
    other = event("other", 2, stream="clean/algo-2-1")
    assert assembler.can_skip([other.message], [other.stream])
    assert not assembler.can_skip(["rest"], [event("rest", 3).stream])
    (line,) = add_event(assembler, event("rest", 3), 3, 0.0)
    assert line.message == "x" * DOCKER + "rest"
    assert line.event_id == "1"


def test_a_late_line_is_not_joined() -> None:
    """An event that was written before the first piece passes unchanged."""
    assembler = LineAssembler()
    assert add_event(assembler, event("x" * DOCKER, 1, timestamp=100), 1, 0.0) == []
    assert [line.message for line in add_event(assembler, event("late", 2, timestamp=50), 2, 0.0)] == ["late"]
    assert [line.message for line in add_event(assembler, event(".", 3, timestamp=100), 3, 0.0)] == ["x" * DOCKER + "."]


def test_a_line_without_end_is_bounded() -> None:
    """At most the bound is held of a line that never ends, and nothing is lost."""
    count = 2 * LONGEST // EVENT_LIMIT + 2
    lines = joined(["x" * EVENT_LIMIT] * count)
    assert len(lines) == 2
    assert max(map(len, lines)) < LONGEST + EVENT_LIMIT
    assert sum(map(len, lines)) == count * EVENT_LIMIT


def test_a_piece_without_continuation_is_flushed() -> None:
    """A line that is exactly as long as a piece is delivered unchanged if nothing follows."""
    assembler = LineAssembler()
    assert add_event(assembler, event("x" * DOCKER, 1, timestamp=7), 11, 5.0) == []
    assert assembler.held("clean") == ([11], 7)
    assert assembler.held("other") == ([], None)
    assert list(assembler.flush(before=5.0)) == []
    assert list(assembler.flush("other")) == []
    assert [line.message for line in assembler.flush(before=5.1)] == ["x" * DOCKER]
    assert list(assembler.flush()) == []

"""The renderer: every line is readable, none is dangerous, and a closed output does no harm."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from typing import TYPE_CHECKING

import pytest

from processing.container.terminal_text import safe_line
from processing.testing.clock import VirtualClock
from processing.watching.events import LogEvent, StatusChanged
from processing.watching.render.log_lines import Renderer

if TYPE_CHECKING:
    from collections.abc import Iterator


def line(message: str, host: str = "algo-1") -> LogEvent:
    return LogEvent("clean", host, f"clean/{host}-1", 1, 1, "1", message)


def shown(*messages: str, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    renderer = Renderer(out)
    for message in messages:
        renderer.show(line(message))
    renderer.flush()
    return raw.getvalue().decode(encoding)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_is_a_line() -> None:
    """One host's lines are written as they are."""
    assert shown("first", "second") == "first\nsecond\n"


def test_more_than_one_host_is_named() -> None:
    """With the second host, or by the job's description, lines name their host."""
    out = io.StringIO()
    renderer = Renderer(out)
    renderer.show(line("alone"))
    renderer.show(line("two", "algo-2"))
    renderer.show(line("one"))
    assert out.getvalue() == "alone\n[algo-2] two\n[algo-1] one\n"
    out = io.StringIO()
    renderer = Renderer(out)
    cluster = {"ProcessingResources": {"ClusterConfig": {"InstanceCount": 2}}}
    renderer.show(StatusChanged("clean", "InProgress", None, cluster))
    renderer.show(line("first\nsecond"))
    assert out.getvalue() == "[algo-1] first\n[algo-1] second\n"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("tab\tkept", "tab\tkept"),
        ("nul\x00", "nul\\x00"),
        ("back\rover", "back\\rover"),
        ("\x1b[2Jcleared", "\\x1b[2Jcleared"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("lone \ud800", "lone \\ud800"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("café — 日本", "café — 日本"),
    ],
)
def test_control_characters_are_escaped(message: str, text: str) -> None:
    """No character that moves the cursor, hides text or reverses it reaches the output."""
    assert shown(message) == text + "\n"


def test_colours_are_kept_on_a_terminal() -> None:
    """Colours pass, and end with their line; anything else is escaped there too."""
    out = Terminal()
    Renderer(out).show(line("\x1b[1;31mred\x1b[2J"))
    assert out.getvalue() == "\x1b[1;31mred\\x1b[2J\x1b[0m\n"
    assert safe_line("plain", colours=True) == "plain"


def test_what_the_encoding_lacks_is_escaped() -> None:
    """An output that knows only ASCII gets escapes, not an error."""
    assert shown("café", encoding="ascii") == "caf\\xe9\n"


def test_a_long_line_is_shown_whole() -> None:
    """Ten million characters are one line."""
    assert len(shown("x" * 10_000_000)) == 10_000_001


def test_a_closed_output_is_given_up() -> None:
    """After the output is closed, events are still accepted."""
    out = io.StringIO()
    renderer = Renderer(out)
    out.close()
    renderer.show(line("one"))
    renderer.show(line("two"))


def test_a_broken_pipe_is_given_up() -> None:
    """`| head` that has seen enough does not end the wait."""
    reading, writing = os.pipe()
    os.close(reading)
    renderer = Renderer(out := os.fdopen(writing, "w"))
    renderer.show(line("one"))
    renderer.show(line("two"))
    with pytest.raises(BrokenPipeError):
        out.close()


class FullPipe:
    """A pipe without a reader."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.out = os.fdopen(writing, "w")

    def read(self) -> str:
        """Return its content."""
        return os.read(self.reading, 1 << 20).decode()

    def close(self) -> None:
        os.close(self.reading)
        with contextlib.suppress(BrokenPipeError):
            self.out.close()


@pytest.fixture
def pipe() -> Iterator[FullPipe]:
    made = FullPipe()
    yield made
    made.close()


def test_a_blocked_output_does_not_block_the_caller(pipe: FullPipe) -> None:
    """Text that a full pipe does not take is buffered up to a bound; then no lines are requested, and none is lost."""
    renderer = Renderer(pipe.out)
    shown = 0
    while renderer.ready():
        renderer.show(line(f"{shown:099d}"))
        shown += 1
    assert 1 << 20 <= shown * 100 <= 2 << 20
    assert not renderer.ready()
    read = ""
    while len(read) < shown * 100:
        read += pipe.read()
        renderer.ready()
    assert read == "".join(f"{number:099d}\n" for number in range(shown))
    renderer.flush()


def test_a_blocked_output_is_given_up(pipe: FullPipe, caplog: pytest.LogCaptureFixture) -> None:
    """After five minutes one warning says how to get the lines; then events are accepted and dropped."""
    clock = VirtualClock()
    renderer = Renderer(pipe.out, clock=clock)
    renderer.show(line("x" * 3_000_000))
    with caplog.at_level(logging.WARNING, "processing"):
        while not renderer.ready():
            clock.advance(10)
        renderer.show(line("more"))
        renderer.flush()
    assert 300 < clock.monotonic() <= 330
    (record,) = caplog.records
    assert "processing.attach('clean').logs()" in record.getMessage()


def test_an_impatient_flush_does_not_wait(pipe: FullPipe) -> None:
    """A caller that leaves does not wait for a blocked output."""
    renderer = Renderer(pipe.out)
    renderer.show(line("x" * 1_000_000))
    renderer.flush(patient=False)
    assert 0 < len(pipe.read()) < 1_000_000


def test_lines_are_written_in_batches(pipe: FullPipe) -> None:
    """The first line is written at once, the others together: at the next `ready`, or soon."""
    clock = VirtualClock()
    renderer = Renderer(pipe.out, clock=clock)
    for number in range(9):
        renderer.show(line(str(number)))
    assert pipe.read() == "0\n"
    assert renderer.ready()
    assert pipe.read() == "".join(f"{number}\n" for number in range(1, 9))
    clock.advance(1)
    renderer.show(line("later"))
    assert pipe.read() == "later\n"


def test_several_jobs_are_named() -> None:
    """With more than one job, each line names its job."""
    out = io.StringIO()
    Renderer(out, several_jobs=True).show(line("text"))
    assert out.getvalue() == "[clean/algo-1] text\n"


def test_standard_output_is_looked_up_when_it_is_written_to(capsys: pytest.CaptureFixture[str]) -> None:
    """A renderer writes to the standard output of that moment, and works without one."""
    renderer = Renderer()
    renderer.show(line("here"))
    assert capsys.readouterr().out == "here\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", None)
        renderer.show(line("nowhere"))

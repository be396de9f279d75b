"""Bytes cut into log messages."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.container.lines import LineSplitter, split_text


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6), st.integers(4, 40))
def test_nothing_is_lost_however_the_bytes_arrive(data: bytes, cuts: list[int], limit: int) -> None:
    """The messages hold every character, none is longer than the limit, and the cuts of the stream do not matter."""
    splitter = LineSplitter(limit)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    messages = [m for start, end in itertools.pairwise(places) for m in splitter.feed(data[start:end])]
    messages += splitter.close()
    text = data.decode(errors="replace")
    assert "".join(messages) == text.replace("\n", "")
    assert all(len(message.encode()) <= limit for message in messages)
    if all(len(line.encode()) <= limit for line in text.split("\n")):
        lines = text.split("\n")
        assert messages == (lines if lines[-1] else lines[:-1])


@given(st.text(max_size=100), st.integers(4, 20))
def test_pieces_make_up_the_text(text: str, limit: int) -> None:
    """Pieces are as long as they may be and join to the text."""
    pieces = split_text(text, limit)
    assert "".join(pieces) == text
    assert all(limit - 4 < len(piece.encode()) <= limit for piece in pieces[:-1])


@pytest.mark.parametrize("count", [1, 3])
def test_a_message_ends_at_the_newline_alone(count: int) -> None:
    """Carriage returns and blank lines are kept."""
    assert LineSplitter().feed(b"a\r\n\n" * count) == ["a\r", ""] * count

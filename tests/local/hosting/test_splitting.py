"""The payloads of a transform job, and their records."""

from __future__ import annotations

import struct

import pytest

from processing.local.hosting.transforms.splitting import SplitError, assembled, payloads


def _recordio(content: bytes, flag: int = 0) -> bytes:
    return struct.pack("<II", 0xCED7230A, len(content) | flag << 29) + content + b"\0" * (-len(content) % 4)


def _tfrecord(content: bytes) -> bytes:
    return struct.pack("<QI", len(content), 1) + content + struct.pack("<I", 2)


def _pieces(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("content", [b"", b"a", b"a\n", b"a\nbb\n\nccc", b"\n\n", b"a\r\nb\r\n"])
def test_lines_in_any_pieces_are_the_content(content: bytes, size: int) -> None:
    """However an object arrives, its payloads together are the object, and a record is a line without its newline."""
    several = list(payloads(_pieces(content, size), "Line", 6, several=True))
    assert b"".join(several) == content
    assert all(len(payload) <= 6 for payload in several)
    single = list(payloads(_pieces(content, size), "Line", 6, several=False))
    assert single == content.removesuffix(b"\n").split(b"\n") if content else not single


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_records_of_binary_formats_are_whole(size: int) -> None:
    """A RecordIO record of several parts is one record, and MultiRecord keeps the padding that SingleRecord removes."""
    records = [_recordio(b"hello"), _recordio(b"part", 1) + _recordio(b"x", 3), _recordio(b"")]
    content = b"".join(records)
    assert b"".join(payloads(_pieces(content, size), "RecordIO", 100, several=True)) == content
    single = list(payloads(_pieces(content, size), "RecordIO", 100, several=False))
    assert single == [records[0][:-3], records[1][:-3], records[2]]
    content = _tfrecord(b"hello") + _tfrecord(b"")
    single = list(payloads(_pieces(content, size), "TFRecord", 100, several=False))
    assert single == [_tfrecord(b"hello"), _tfrecord(b"")]


def test_payloads_are_filled_up_to_the_limit() -> None:
    """MultiRecord sends as many records as fit."""
    assert list(payloads([b"a\nb\nc\nd\n"], "Line", 4, several=True)) == [b"a\nb\n", b"c\nd\n"]
    assert list(payloads([b"a\nb\nc\n"], "Line", None, several=True)) == [b"a\nb\nc\n"]
    assert list(payloads([b"ab", b"cd"], "None", 4, several=True)) == [b"abcd"]


@pytest.mark.parametrize(
    ("content", "split_type", "message"),
    [
        (b"x" * 41, "None", "the object exceeds MaxPayloadInMB"),
        (b"a\n" + b"x" * 41, "Line", "exceeds MaxPayloadInMB"),
        (b"a\n" + b"x" * 41 + b"\n", "Line", "exceeds MaxPayloadInMB"),
        (b"not recordio", "RecordIO", "not in RecordIO format"),
        (_recordio(b"hello")[:-4], "RecordIO", "incomplete"),
        (_recordio(b"a" * 40), "RecordIO", "exceeds MaxPayloadInMB"),
        (_tfrecord(b"x")[:-1], "TFRecord", "incomplete"),
        (b"abc", "TFRecord", "incomplete"),
        (b"no records, but text", "TFRecord", "exceeds MaxPayloadInMB"),
    ],
)
def test_content_that_cannot_be_divided_is_an_error(content: bytes, split_type: str, message: str) -> None:
    """A record above the limit, and content in another format, have an error that says so."""
    with pytest.raises(SplitError, match=message):
        list(payloads([content], split_type, 40, several=True))  # type: ignore[arg-type]


def test_answers_are_assembled_as_lines() -> None:
    """With AssembleWith=Line each answer ends with exactly one newline."""
    assert assembled(b"1", lines=True) == assembled(b"1\n", lines=True) == b"1\n"
    assert assembled(b"1", lines=False) == b"1"

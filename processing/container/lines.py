"""Splitter that turns a stream of bytes into log messages without losing any of them."""

from __future__ import annotations

import codecs
from typing import List

EVENT_LIMIT = 262_144 - 26
"""The UTF-8 bytes of one message: CloudWatch Logs counts 26 bytes of overhead per event towards its limit of 256 KiB.
"""


class LineSplitter:
    """Splits the output of a program into messages of at most `limit` bytes of UTF-8.

    A message ends at a newline, which is dropped. A line longer than the limit becomes several messages, split between
    two characters. Bytes that are not UTF-8 become U+FFFD; NUL and every other control character are kept. Memory stays
    bounded for lines of any length.

    Args:
        limit: the longest message in bytes of UTF-8; at least 4, so that every character fits.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._parts: List[str] = []
        self._size = 0

    def feed(self, data: bytes) -> List[str]:
        """Return the messages that `data` completes."""
        return self._split_lines(self._decoder.decode(data))

    def close(self) -> List[str]:
        """Return the rest: a last line without a newline."""
        messages = self._split_lines(self._decoder.decode(b"", final=True))
        if self._parts:
            messages.extend(self._end_line())
        return messages

    def _split_lines(self, text: str) -> List[str]:
        messages: List[str] = []
        lines = text.split("\n")
        for line in lines[:-1]:
            messages.extend(self._add(line))
            messages.extend(self._end_line())
        messages.extend(self._add(lines[-1]))
        return messages

    def _add(self, text: str) -> List[str]:
        """Add to the current line; return the messages that are full."""
        if not text:
            return []
        size = len(text) if text.isascii() else len(text.encode("utf-8"))
        if self._size + size <= self._limit:
            self._parts.append(text)
            self._size += size
            return []
        pieces = split_text("".join(self._parts) + text, self._limit)
        self._parts = [pieces[-1]]
        self._size = len(pieces[-1].encode("utf-8"))
        return pieces[:-1]

    def _end_line(self) -> List[str]:
        line = "".join(self._parts)
        self._parts = []
        self._size = 0
        return [line]


def split_text(text: str, limit: int) -> List[str]:
    """Split a text between characters into pieces of at most `limit` bytes of UTF-8. Return at least one piece."""
    data = text.encode("utf-8")
    pieces = []
    start = 0
    while len(data) - start > limit:
        end = start + limit
        while data[end] & 0xC0 == 0x80:  # inside a character: go back to its first byte
            end -= 1
        pieces.append(data[start:end].decode("utf-8"))
        start = end
    pieces.append(data[start:].decode("utf-8"))
    return pieces

"""A pseudo-terminal in the test's process, and the screen that a person would see."""

from __future__ import annotations

import contextlib
import os
import pty
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Terminal:
    """A pseudo-terminal, and the screen that a person would see."""

    def __init__(self, columns: int = 80) -> None:
        import pyte

        self.screen = pyte.Screen(columns, 24)
        self._stream = pyte.ByteStream(self.screen)
        self._reader, writer = pty.openpty()
        import fcntl
        import struct
        import termios

        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.out = os.fdopen(writer, "w")
        self._marks = 0

    def lines(self) -> list[str]:
        """Return the lines that are on the screen now.

        The kernel passes text to the reader a moment later, so an invisible mark is written last: a title.
        """
        self._marks += 1
        mark = f"\x1b]0;mark {self._marks}\x07".encode()
        os.write(self.out.fileno(), mark)
        read = b""
        while mark not in read:
            read += os.read(self._reader, 1 << 16)
        self._stream.feed(read)
        return [line.rstrip() for line in self.screen.display if line.strip()]

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Let the terminal take nothing within the block: it is full of characters that a screen does not show."""
        os.set_blocking(self.out.fileno(), False)
        unread = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                unread += os.write(self.out.fileno(), b"\0" * 1024)
        os.set_blocking(self.out.fileno(), True)
        yield
        while unread > 0:
            read = os.read(self._reader, 1 << 16)
            self._stream.feed(read)
            unread -= len(read)

    def close(self) -> None:
        self.out.close()
        os.close(self._reader)


@contextlib.contextmanager
def outputs(out: Any) -> Iterator[None]:
    """Let an output be the standard output and the standard error. pytest sets them again before each test."""
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        yield

"""An output that never holds up its writer.

A terminal that is paused or a pipe whose reader is slow blocks a writer. A blocked wait would miss its deadline and the
job's end. So a pipe or a terminal is asked first (select) and written in pieces that it can take; the rest is buffered.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from typing import TYPE_CHECKING, Final, TextIO

from processing.watching.render.live_line import above_live_line, colours_allowed, note_mid_line

if TYPE_CHECKING:
    from processing.clock import Clock

# Lines are written in batches of this many characters, or after this many seconds, if lines keep coming.
_BATCH: Final = 1 << 16
_FLUSH_EVERY: Final = 0.1
# This many characters are buffered for a slow output before no more lines are read. It bounds the memory.
_MOST_BUFFERED: Final = 1 << 20
# A pipe that select reports as writable takes this many bytes without blocking (POSIX PIPE_BUF on Linux).
_PIPE_BUF: Final = 4096
# A reader that is only slow makes room within this many seconds. One that has stopped is not waited for again.
_ROOM_WITHIN: Final = 0.05
# An output that has taken nothing for this many seconds is given up: a paused terminal gets five minutes.
PATIENCE: Final = 300.0


class BlockedError(Exception):
    """The output has taken nothing for too long."""


class TextOutput:
    """An output that is written in batches, and never more at once than it can take.

    Args:
        out: the stream.
        clock: measures the time for which it has taken nothing.

    Attributes:
        out: the stream.
        is_terminal: True if the stream is a terminal.
        colours: True if colours may be written.
    """

    def __init__(self, out: TextIO, clock: Clock) -> None:
        self.out = out
        self.is_terminal = out.isatty()
        self.colours = self.is_terminal and colours_allowed()
        self._clock = clock
        self._descriptor = _may_block(out)
        self._parts: list[str] = []
        self._size = 0  # characters
        self._last_push = float("-inf")
        self._blocked_since: float | None = None

    def add(self, text: str) -> None:
        """Write a text now or soon."""
        if self._descriptor is None:
            with self._above_live_line():
                self.out.write(text)
        else:
            self._parts.append(text)
            self._size += len(text)
        if self._size >= _BATCH or self._clock.monotonic() - self._last_push > _FLUSH_EVERY:
            self.push()

    @property
    def is_full(self) -> bool:
        """True if more is buffered than ever happens if the caller heeds the result of `push`."""
        return self._size > 4 * _MOST_BUFFERED

    def push(self, *, everything: bool = False) -> bool:
        """Write what the output takes now, and return whether the caller may go on.

        Args:
            everything: True to go on only once the buffer is empty; by default it may hold `_MOST_BUFFERED` characters.
        """
        self._last_push = self._clock.monotonic()
        if self._descriptor is None:
            self.out.flush()
            return True
        if not self._parts:
            self._note_progress(progress=True)
        elif self._has_room():  # for the live line's erasure, too
            with self._above_live_line():
                self._push_parts()
        else:
            self._note_progress(progress=False)
        return self._size == 0 if everything else self._size < _MOST_BUFFERED

    def _push_parts(self) -> None:
        text, done = "".join(self._parts), 0
        step = _PIPE_BUF if text.isascii() else _PIPE_BUF // 4  # a character has four bytes at most
        while done < len(text) and self._has_room():
            # A piece ends with a line, so that the live line can be drawn although the terminal takes no more.
            end = text.rfind("\n", done, done + step) + 1 or done + step
            with contextlib.suppress(BlockingIOError):  # the text is then in Python's buffer
                self.out.write(text[done:end])
                self.out.flush()
            done = end
        self._parts, self._size = ([text[done:]], len(text) - done) if done < len(text) else ([], 0)
        if self.is_terminal and done:
            note_mid_line(mid_line=text[min(done, len(text)) - 1] != "\n")
        self._note_progress(progress=done > 0)

    def _above_live_line(self) -> contextlib.AbstractContextManager[None]:
        return above_live_line() if self.is_terminal else contextlib.nullcontext()

    def await_room(self, seconds: float) -> bool:
        """Wait until the output can take `_PIPE_BUF` bytes, and return whether it can."""
        assert self._descriptor is not None
        try:
            return bool(select.select([], [self._descriptor], [], seconds)[1])
        except ValueError:  # the descriptor is too high for select
            return True

    def _has_room(self) -> bool:
        return self.await_room(_ROOM_WITHIN if self._blocked_since is None else 0.0)

    def _note_progress(self, *, progress: bool) -> None:
        if progress:
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = self._last_push
        elif self._last_push - self._blocked_since > PATIENCE:
            raise BlockedError


def _may_block(out: TextIO) -> int | None:
    """Return the descriptor of an output that may block a writer; None for a file or an output without a descriptor."""
    if os.name != "posix":
        return None
    try:
        descriptor = out.fileno()
        return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor
    except (AttributeError, OSError, ValueError):
        return None

"""The live line: the last line of the terminal, on standard error, which changes while a job runs.

A terminal has one last line, so a process has one live line at a time. All that is written to the terminal meanwhile
goes above it: the line is erased before, and drawn again afterwards. A thread draws it once a second, so it goes on
while the caller waits for an answer or an upload. It writes only if the terminal takes text at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import threading
from typing import TYPE_CHECKING, Final, TextIO

from processing._utils.forks import ForkSafeLock, reset_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_ERASE: Final = "\r\x1b[K"
# A person sees that the seconds advance, and a draw takes about a tenth of a millisecond.
_DRAW_EVERY: Final = 1.0
# The writer of a line goes on at once if the terminal takes text. After that many seconds it has given the line up.
_LINE_GOES_ON_WITHIN: Final = 2


def colours_allowed() -> bool:
    """Return whether the environment allows colours: NO_COLOR is not set, and the terminal is not a dumb one."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def fitting(texts: Sequence[str], columns: int) -> str:
    """Return the first text that fits into a line of that many columns; if no one does, the beginning of the last."""
    room = max(1, columns - 1)  # a character in the last column would wrap
    for text in texts:
        if len(text) <= room:
            return text
    return texts[-1][:room]


class LiveLine:
    """The live line of a terminal, from `start` to `stop`.

    Args:
        out: the terminal.
        texts: returns the line in several lengths, the longest first. It is called from a thread, and must be quick.
    """

    def __init__(self, out: TextIO, texts: Callable[[], Sequence[str]]) -> None:
        self._out = out
        self._texts = texts
        self._drawn = False
        self._waited = 0  # ticks in which the terminal takes text, and is in the middle of a line all the same
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Draw the line from now on; return False if another live line has the terminal."""
        with _terminal.lock:
            if _terminal.line is not None:
                return False
            _terminal.line = self
            self.draw()
        self._thread = threading.Thread(target=self._draw_again, name="processing-live-line", daemon=True)
        self._thread.start()
        return True

    def stop(self) -> None:
        """Erase the line for good."""
        self._stopped.set()
        with _terminal.lock:
            self.erase()
            if _terminal.line is self:
                _terminal.line = None

    def draw(self) -> None:
        """Draw the line in its present form, unless the terminal is paused or in the middle of another line."""
        with _terminal.lock:
            if _terminal.line is self and not _terminal.mid_line:
                columns = shutil.get_terminal_size().columns
                with contextlib.suppress(OSError, AttributeError, ValueError):
                    columns = os.get_terminal_size(self._out.fileno()).columns or columns
                self._drawn = self._write(_ERASE + fitting(self._texts(), columns)) or self._drawn

    def tick(self) -> None:
        """Draw the line as once a second. End a line that its writer has given up, and draw below it."""
        with _terminal.lock:
            waits = _terminal.mid_line and self._takes_text()
            self._waited = self._waited + 1 if waits else 0
            if self._waited > _LINE_GOES_ON_WITHIN and self._write("\n"):
                _terminal.mid_line = False
            self.draw()

    def erase(self) -> None:
        """Erase the line until it is drawn again."""
        with _terminal.lock:
            if self._drawn:
                self._drawn = not self._write(_ERASE)

    def _write(self, text: str) -> bool:
        """Write a text if the terminal takes it at once, and return whether it did."""
        with contextlib.suppress(OSError, ValueError):  # a closed terminal
            if self._takes_text():
                self._out.write(text)
                self._out.flush()
                return True
        return False

    def _takes_text(self) -> bool:
        try:
            return os.name != "posix" or bool(select.select([], [self._out.fileno()], [], 0)[1])
        except (AttributeError, OSError, ValueError):  # no descriptor, or one that is too high for select
            return not self._out.closed

    def _draw_again(self) -> None:
        while not self._stopped.wait(_DRAW_EVERY):
            self.tick()


class _Terminal:
    """The process's terminal: its live line, if there is one, and whether its cursor is in the middle of a line."""

    def __init__(self) -> None:
        self.lock = ForkSafeLock()
        self.line: LiveLine | None = None
        self.mid_line = False
        reset_after_fork(self)

    def _after_fork(self) -> None:
        self.line = None  # the parent goes on drawing it


_terminal = _Terminal()


@contextlib.contextmanager
def above_live_line() -> Iterator[None]:
    """Write to the terminal within the block: the live line is away meanwhile, and is drawn again below."""
    if _terminal.line is None:
        yield
        return
    with _terminal.lock:
        line = _terminal.line
        if line is not None:
            line.erase()
        try:
            yield
        finally:
            if line is not None:
                line.draw()


def note_mid_line(*, mid_line: bool) -> None:
    """Record whether the terminal has taken a part of a line only. The live line is not drawn then."""
    _terminal.mid_line = mid_line

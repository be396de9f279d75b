"""The output of a status: a live line on a terminal, an output that changes in a notebook, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

from processing.watching.render.live_line import LiveLine
from processing.watching.render.notebook import NotebookStatus, in_notebook
from processing.watching.render.output import BlockedError, TextOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from processing.clock import Clock

# Programs that record a terminal's output, and often give their jobs a terminal.
_RECORDING: Final = ("CI", "AIRFLOW_CTX_DAG_ID")


class StatusOutput:
    """The standard error, or the output of a notebook's cell. It never raises, and never holds up its writer.

    Args:
        clock: measures the time for which the output has taken nothing.
        texts: returns the present state in several lengths, the longest first; a thread calls it once a second.
        quiet: True to show nothing.
    """

    def __init__(self, clock: Clock, texts: Callable[[], Sequence[str]], *, quiet: bool) -> None:
        self._live: LiveLine | None = None
        self._notebook: NotebookStatus | None = None
        self._out: TextOutput | None = None
        if quiet:
            return
        if in_notebook():
            self._notebook = NotebookStatus(lambda: texts()[0])
            self._notebook.start()
            return
        with contextlib.suppress(AttributeError, OSError, ValueError):  # no standard error, or a closed one
            self._out = TextOutput(sys.stderr, clock)
            if self._out.is_terminal and not _is_recorded():
                live = LiveLine(sys.stderr, texts)
                self._live = live if live.start() else None

    @property
    def changes_in_place(self) -> bool:
        """True if the present state is shown all the time, so that its changes need no lines."""
        return self._live is not None or self._notebook is not None

    def update(self) -> None:
        """Show the present state now, not at the next second. Plain lines do not show it."""
        if self._live is not None:
            self._live.draw()
        elif self._notebook is not None:
            self._notebook.update()

    def write(self, lines: Sequence[str]) -> None:
        """Write lines that stay. What a closed or paused output does not take is dropped."""
        if self._notebook is not None:
            self._notebook.write(lines)
        elif self._out is not None:
            try:
                self._out.add("".join(f"{line}\n" for line in lines))
                self._out.push()
            except (BlockedError, OSError, ValueError):  # paused for long, or closed
                self._out = None

    @contextlib.contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close the output if the block fails, or is left by Ctrl-C: no later block does it."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Show the present state no longer. Lines stay."""
        if self._live is not None:
            self._live.stop()
        if self._notebook is not None:
            self._notebook.stop()
        self._live = self._notebook = self._out = None


def _is_recorded() -> bool:
    """Return whether a program records the terminal, so that a line that changes would be of no use."""
    return os.environ.get("TERM") == "dumb" or any(os.environ.get(name) for name in _RECORDING)

"""The status of a run in a notebook: one output of the cell that is updated in place."""

from __future__ import annotations

import contextlib
import html
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from processing._utils.forks import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_UPDATE_EVERY: Final = 1.0
_LINK: Final = re.compile(r"https://[\w./?=#&%-]+")


def in_notebook() -> bool:
    """Return whether the code runs in the kernel of a notebook."""
    ipython: Any = sys.modules.get("IPython")  # a kernel has imported it
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and getattr(shell, "kernel", None) is not None


class NotebookStatus:
    """A part of a cell's output that shows the permanent lines and, below them, the present state.

    Args:
        state: returns the present state, which is shown once there is a permanent line.
    """

    def __init__(self, state: Callable[[], str]) -> None:
        self._state = state
        self._lines: list[str] = []
        self._handle: Any = None
        self._shown = ""
        self._stopped = threading.Event()
        self._lock = ForkSafeLock()

    def start(self) -> None:
        """Show the state from now on, and update it once a second."""
        threading.Thread(target=self._update_again, name="processing-notebook-status", daemon=True).start()

    def write(self, lines: Sequence[str]) -> None:
        """Add permanent lines."""
        with self._lock:
            self._lines.extend(lines)
        self.update()

    def stop(self) -> None:
        """Show the permanent lines alone."""
        self._stopped.set()
        self.update()

    def update(self) -> None:
        """Show the lines and the state as they are now."""
        display = sys.modules["IPython.display"].display  # the kernel has imported it

        with self._lock, contextlib.suppress(OSError, ValueError, RuntimeError):  # the kernel shuts down
            state = "" if self._stopped.is_set() else self._state()
            text = "\n".join([*self._lines, *([state] if state else [])])
            if text == self._shown or not self._lines:  # a run that is not known yet has failed or is announced soon
                return
            self._shown = text
            data = {"text/plain": text, "text/html": f"<pre>{_linked(text)}</pre>"}
            if self._handle is None:
                self._handle = display(data, raw=True, display_id=True)
            else:
                self._handle.update(data, raw=True)

    def _update_again(self) -> None:
        while not self._stopped.wait(_UPDATE_EVERY):
            self.update()


def _linked(text: str) -> str:
    """Return a text as HTML, with its links to the console as links."""
    parts, end = [], 0
    for match in _LINK.finditer(text):
        link = html.escape(match[0])
        parts += [html.escape(text[end : match.start()]), f'<a href="{link}" target="_blank" rel="noopener">{link}</a>']
        end = match.end()
    return "".join([*parts, html.escape(text[end:])])

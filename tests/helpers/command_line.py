"""The command `processing` as a user runs it: in a pipe, or in a pseudo-terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING, Any

import pyte

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

COMMAND = (sys.executable, "-m", "processing")
# A job of a test takes seconds on a busy machine.
PATIENCE = 60


def run(*words: str, environment: Mapping[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, its output in pipes."""
    return subprocess.run(
        [*COMMAND, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, **(environment or {})},
        **options,
    )


class InTerminal:
    """The command in a pseudo-terminal of its own.

    Args:
        words: the arguments of the command.
        columns: the width of the terminal.
        command: the words that run the command.

    Attributes:
        written: all that the command has written so far.
    """

    def __init__(
        self,
        *words: str,
        columns: int = 100,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.screen = pyte.Screen(columns, 40)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self._changed = threading.Condition()
        self._reader, writer = pty.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        unset = {"CI", "AIRFLOW_CTX_DAG_ID", "NO_COLOR", "COLUMNS"}
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        self.process = subprocess.Popen(
            [*command, *words],
            stdin=writer,
            stdout=writer,
            stderr=writer,
            env={**kept, "TERM": "xterm", **(environment or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(writer, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - it only makes a system call
        )
        os.close(writer)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # Linux: the last process has closed the terminal
            while data := os.read(self._reader, 1 << 16):
                with self._changed:
                    self.written += data
                    self._stream.feed(data)
                    self._changed.notify_all()

    def wait_for(self, shown: str | Callable[[str], bool]) -> None:
        """Wait until the command has written a text."""
        found = shown if callable(shown) else lambda text: shown in text
        with self._changed:
            assert self._changed.wait_for(lambda: found(self.written.decode()), PATIENCE), self.written.decode()

    def press_ctrl_c(self) -> None:
        """Type Ctrl-C, which the terminal turns into SIGINT."""
        os.write(self._reader, b"\x03")

    def end(self) -> int:
        """Wait for the command's end, and return its exit code."""
        try:
            code = self.process.wait(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self._thread.join(PATIENCE)
        os.close(self._reader)
        return code

    def lines(self) -> list[str]:
        """Return the lines on the screen that are not empty."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

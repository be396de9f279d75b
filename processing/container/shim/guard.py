"""Guard of the program: a process that kills it, with its children, after a SIGKILL of the shim.

A container ends with its first process, so the first process needs no guard. Elsewhere the program would run on as an
orphan. A signal for the death of a parent (PR_SET_PDEATHSIG) would reach the program alone, not its children.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import warnings
from pathlib import Path

NAME = "shim-guard"
"""The name of the process. The launcher of the static shim spares a process of this name for a moment."""
_MOST_DESCRIPTORS = 65_536


class Guard:
    """A guard of one program at a time. It has a session of its own, and holds no file of the shim's open."""

    def __init__(self) -> None:
        self._process = 0
        self._pipe = -1

    @property
    def active(self) -> bool:
        """True from the start of the process to its end."""
        return bool(self._process)

    def start(self) -> None:
        """Start the process, unless this is the first process of a container, or has threads.

        Without a further process on this machine there is no guard.
        """
        if os.getpid() == 1 or threading.active_count() > 1:
            return
        read, self._pipe = map(_above_standard, os.pipe())
        try:
            with warnings.catch_warnings():
                # Threads of C libraries, as in tests, are no danger: the new process makes system calls alone.
                warnings.simplefilter("ignore", DeprecationWarning)
                process = os.fork()
        except OSError:
            os.close(read)
            os.close(self._pipe)
            return
        if not process:
            try:
                _wait(read)
            finally:
                os._exit(0)
        os.close(read)
        self._process = process

    def watch_this_process(self) -> None:
        """Name the present process, which becomes the program and leads its group."""
        # It has the program's signals already: if someone has killed the guard, the pipe would end it.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.watch(os.getpid())
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    def watch(self, group: int) -> None:
        """Name the process group to kill; 0 for no program."""
        if self._process:
            with contextlib.suppress(OSError):  # someone has killed the guard
                os.write(self._pipe, b"%d\n" % group)

    def close(self) -> None:
        """End the process. The program lives on."""
        if self._process:
            self.watch(0)
            os.close(self._pipe)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._process, 0)
            self._process = 0


def _above_standard(descriptor: int) -> int:
    """Return the descriptor under a number above 2: the new process of the program has its own files at the others."""
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


def _wait(pipe: int) -> None:
    """Read the program's process group from a pipe until its end, and kill that group."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(NAME, encoding="ascii")
    os.closerange(0, pipe)
    os.closerange(pipe + 1, _MOST_DESCRIPTORS)
    data = b""
    while True:
        piece = os.read(pipe, 4_096)
        if not piece:
            break
        data = (data + piece)[-64:]
    group = int(data.split(b"\n")[-2:][0] or b"0")
    if group:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)

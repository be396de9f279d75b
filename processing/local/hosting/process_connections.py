"""Connections of a supervisor to its own program."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from processing.local.hosting.program_client import Answer, Call, NotConnectedError, ProgramConnection, connected

if TYPE_CHECKING:
    from processing.local.hosting.program_process import ProgramProcess


class ProcessConnections:
    """Kept-alive connections to the process of a program, for several threads.

    Args:
        process: the process.
    """

    def __init__(self, process: ProgramProcess) -> None:
        self._process = process
        self._idle: deque[ProgramConnection] = deque()

    def ask(self, call: Call) -> Answer:
        """Return the program's answer.

        Raises:
            ProgramError: there is none.
        """
        connection = self._take() or self._open(call.seconds)
        answer = connection.ask(call)
        if not connection.closed:
            self._idle.append(connection)
        return answer

    def _take(self) -> ProgramConnection | None:
        with contextlib.suppress(IndexError):  # other threads take connections too
            while True:
                connection = self._idle.pop()
                if connection.is_idle():
                    return connection
                connection.close()
        return None

    def _open(self, seconds: float) -> ProgramConnection:
        made = self._process.connection()
        if made is None:
            raise NotConnectedError("The program has ended.")
        return ProgramConnection(connected(made, time.monotonic() + seconds))

"""Connections of a supervisor to its own program."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from processing.local.hosting.program_client import Answer, Call, NotConnectedError, ProgramConnection, connected

if TYPE_CHECKING:
    from processing.local.hosting.program_run import ProgramRun


class RunConnections:
    """Kept-alive connections to the program of a run, for several threads.

    Args:
        run: the run.
    """

    def __init__(self, run: ProgramRun) -> None:
        self._run = run
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
        made = self._run.connection()
        if made is None:
            raise NotConnectedError("The program has ended.")
        return ProgramConnection(connected(made, time.monotonic() + seconds))

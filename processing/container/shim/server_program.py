"""Long-lived program: a web server of the user's that stays up from task to task, by Grand Challenge's contract."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Callable, List, Mapping, Optional, Sequence

from processing.container.shim.errors import ShimError
from processing.container.shim.logs import Log, ProgramOutput
from processing.container.shim.program import ProgramEnd, ShimProgram
from processing.container.shim.upstream import UpstreamError, UpstreamRequest, ask

if TYPE_CHECKING:
    from processing.container.shim.guard import Guard
    from processing.container.shim.settings import Settings

_HEALTH_PAUSE = 0.1
"""The seconds between two calls of /health."""
_TICK = 0.05
"""The seconds between two looks for a stop or an end of the server during a task."""
_LAST_LINES = 0.2
"""The seconds after an answer during which lines of stderr still belong to its task."""
_HEALTHY, _DONE = 200, 201
_FOREVER = float("inf")


class ServerProgram(ShimProgram):
    """A web server with GET /health, which answers 200, and POST /invoke, which answers 201 after success.

    It listens on 127.0.0.1. A server that exceeds the time of a task is unhealthy, and gets no further task.
    """

    def __init__(
        self,
        argv: Sequence[str],
        settings: Settings,
        environment: Mapping[str, str],
        log: Log,
        should_stop: Callable[[], bool] = lambda: False,
        guard: Optional[Guard] = None,
    ) -> None:
        super().__init__(argv, settings, environment, log, should_stop, guard)
        self._timed_out = False
        self._server = self.make_server(should_stop)

    @property
    def healthy(self) -> bool:
        """True while the server runs and has exceeded the time of no task."""
        return not self._timed_out and not self._server.ended.is_set()

    def start(self) -> None:
        """Start the server and wait until it is healthy.

        Raises:
            ShimError: the server cannot be started, ends, or is not healthy in time.
        """
        self._server.start()
        deadline = time.monotonic() + self._settings.start_seconds
        while self._status("GET", "/health", self._settings.health_seconds) != _HEALTHY:
            if self._server.ended.wait(_HEALTH_PAUSE):
                raise ShimError("setup", "Could not start server: %s" % self._server.end)
            if self._should_stop():
                raise ShimError("setup", "The shim was stopped before the server was healthy")
            if time.monotonic() > deadline:
                seconds = self._settings.start_seconds
                raise ShimError("setup", "Health check failed: no status 200 within %d seconds" % seconds)

    def run(self, timeout: Optional[float] = None, task: Optional[str] = None) -> ProgramEnd:
        """Have the server do a task.

        Args:
            timeout: the longest call in seconds; None for no limit.
            task: the task's name, for the log.

        Raises:
            ShimError: the server has ended, or was too slow in an earlier task.
        """
        if not self.healthy:
            raise ShimError("start", self._server.end or "The server exceeded the time of an earlier task")
        self._server.output = output = ProgramOutput(self._log, task)
        statuses: List[int] = []
        answered = threading.Event()

        def call() -> None:
            # Without a time limit of its own: `_wait` has it, and knows a stop and an end of the server too.
            statuses.append(self._status("POST", "/invoke", _FOREVER))
            answered.set()

        started = time.monotonic()
        threading.Thread(target=call, daemon=True).start()
        message = self._wait(answered, None if timeout is None else started + timeout)
        seconds = time.monotonic() - started
        self._server.ended.wait(_LAST_LINES)
        if not message and statuses == [0]:
            message = self._server.end or "The server gave no answer to POST /invoke"
        code = 0 if not message and statuses == [_DONE] else 1
        if code and not message:
            self._log.write("ERROR", "POST /invoke: status %d, not 201" % statuses[0], task)
        return ProgramEnd(code, message, seconds, output.last_stderr_lines, invoked=True)

    def close(self) -> None:
        """Stop the server."""
        self._server.close()

    def _wait(self, answered: threading.Event, deadline: Optional[float]) -> str:
        """Wait for the answer; return the reason of an earlier end, or an empty text."""
        while not answered.wait(_TICK):
            if self._should_stop():
                return "The shim was stopped"
            if self._server.ended.is_set():
                return self._server.end
            if deadline is not None and time.monotonic() > deadline:
                self._timed_out = True
                return "Time limit exceeded"
        return ""

    def _status(self, method: str, path: str, seconds: float) -> int:
        """Return the status of an answer; 0 if there is none."""
        try:
            with ask(self._settings.server_port, UpstreamRequest(method, path), seconds) as answer:
                for _ in answer.pieces():
                    pass
                return answer.head.status
        except (OSError, UpstreamError):
            return 0

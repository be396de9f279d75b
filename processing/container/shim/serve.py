"""Web server of tasks, by SageMaker's contract of hosting and batch transform."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from processing.container.shim.errors import TaskError
from processing.container.shim.http1 import HttpError
from processing.container.shim.tasks import parse_task
from processing.container.shim.web_server import WebServer

if TYPE_CHECKING:
    from processing.container.shim.logs import Log
    from processing.container.shim.settings import Settings
    from processing.container.shim.task_runner import TaskRunner
    from processing.container.shim.tasks import Task
    from processing.container.shim.web_server import Exchange

_TICK = 0.2
"""The seconds between two looks for a stop. A wait without a limit may miss a signal that comes before it."""


class TaskHandler:
    """Answers to requests of SageMaker by tasks. One task runs at a time; pings are answered meanwhile.

    Args:
        runner: the runner of tasks.
        settings: the settings.
        stop: the event that stops the server.
    """

    def __init__(self, runner: TaskRunner, settings: Settings, stop: threading.Event) -> None:
        self._runner = runner
        self._settings = settings
        self._stop = stop
        self._turn = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        """Answer a request."""
        asked = (exchange.head.method, exchange.head.path)
        if asked == ("GET", "/ping"):
            healthy = self._runner.healthy and not self._stop.is_set()
            exchange.answer(200 if healthy else 503)
        elif asked == ("GET", "/execution-parameters"):
            exchange.answer(200, self._parameters())
        elif asked == ("POST", "/invocations"):
            self._invoke(exchange)
        else:
            exchange.problem(404, "there is no %s %s" % asked)

    def _parameters(self) -> bytes:
        parameters = {
            "MaxConcurrentTransforms": 1,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": self._settings.max_payload >> 20,
        }
        return json.dumps(parameters).encode("ascii")

    def _invoke(self, exchange: Exchange) -> None:
        exchange.open_body(self._settings.max_payload)
        try:
            task = parse_task(exchange.read_all())
        except TaskError as error:
            exchange.problem(400, str(error), error.field)
        else:
            self._run(exchange, task)

    def _run(self, exchange: Exchange, task: Task) -> None:
        if not self._turn.acquire(blocking=self._settings.busy == "wait"):
            raise HttpError(429, "another task runs; try again later")
        try:
            stopped = self._stop.is_set()
            body = b"" if stopped else self._runner.run(task).body
        finally:
            self._turn.release()
        if stopped:
            raise HttpError(503, "the server is being stopped")
        exchange.answer(200, body)
        if not self._runner.healthy:
            # A server that hangs or has gone does no other task; SageMaker starts another container.
            self._stop.set()


def serve_tasks(runner: TaskRunner, settings: Settings, log: Log, stop: threading.Event) -> int:
    """Serve until the event is set; return the exit code.

    A task that runs is stopped, and its client gets the result.
    """
    handler = TaskHandler(runner, settings, stop)
    web = WebServer("0.0.0.0", settings.port, handler, lambda text: log.write("ERROR", text))  # noqa: S104 - the contract
    web.start()
    log.write("INFO", "Listening on port %d" % web.port)
    while not stop.wait(_TICK):
        pass
    web.stop()
    if not runner.healthy:
        log.write("ERROR", "The program's server is unhealthy, so the shim ends", internal=False)
        return 1
    log.write("INFO", "The server has stopped")
    return 0

"""The web server: SageMaker's contract, and the answers to bad requests."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from processing.container.shim.serve import TaskHandler
from processing.container.shim.settings import read_settings
from processing.container.shim.web_server import WebServer
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from processing import LocalSession


class Client:
    """A client with a connection of its own for each request."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def serve(shim: Any) -> Callable[..., Any]:
    """Serve a program on a free port."""

    @contextmanager
    def serving(source: str, stop: threading.Event | None = None, **variables: str) -> Iterator[Client]:
        settings = read_settings({f"PROCESSING_SHIM_{name}": value for name, value in variables.items()})
        stop = stop or threading.Event()
        server = WebServer("127.0.0.1", 0, TaskHandler(shim.runner(source), settings, stop))
        server.start()
        try:
            yield Client(server.port)
        finally:
            server.stop()

    return serving


def test_the_contract(shim: Any, serve: Callable[..., Any]) -> None:
    """A ping is empty, parameters are SageMaker's, and a task of any Content-Type gets its result."""
    with serve("import sys; sys.exit(4)") as client:
        assert client.ask("GET", "/ping") == (200, b"")
        status, body = client.ask("GET", "/execution-parameters")
        assert status == 200
        assert json.loads(body) == {
            "MaxConcurrentTransforms": 1,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": 6,
        }
        for pk, headers in (("a", {}), ("b", {"Content-Type": "text/csv"})):
            status, body = client.ask("POST", "/invocations", json.dumps(shim.task(pk)), headers)
            assert status == 200
            assert json.loads(body) == shim.result(pk)
            assert json.loads(body)["return_code"] == 4


def test_a_bad_request_runs_nothing(shim: Any, serve: Callable[..., Any]) -> None:
    """A wrong task gets 400 with its field, a large body 413, an unknown path 404; the server goes on."""
    with serve("pass") as client:
        status, body = client.ask("POST", "/invocations", json.dumps(shim.task(pk=1)))
        assert (status, json.loads(body)["field"]) == (400, "pk")
        assert client.ask("POST", "/invocations", "{")[0] == 400
        assert client.ask("POST", "/invocations", None, {"Content-Length": "x"})[0] == 400
        assert client.ask("POST", "/invocations", None, {"Content-Length": str((6 << 20) + 1)})[0] == 413
        assert client.ask("POST", "/elsewhere", "{}")[0] == 404
        assert client.ask("GET", "/elsewhere")[0] == 404
        assert client.ask("GET", "/ping")[0] == 200
    assert shim.client.list_objects_v2(Bucket="shim")["KeyCount"] == 0


def test_a_body_in_chunks_is_read(shim: Any, serve: Callable[..., Any]) -> None:
    """A chunked body is a task too, and one above the limit gets 413."""
    with serve("pass") as client:
        text = json.dumps(shim.task()).encode()
        assert client.ask("POST", "/invocations", iter([text[:9], text[9:]]))[0] == 200
        for start, status in ((b"7000000\r\n", 413), (b"-1\r\n", 400), (b"x\r\n", 400), (b"1\r\nabc\r\n", 400)):
            assert client.ask("POST", "/invocations", start, {"Transfer-Encoding": "chunked"})[0] == status


def test_a_second_task_waits_or_is_refused(shim: Any, serve: Callable[..., Any], tmp_path: Path) -> None:
    """With "refuse", a second task gets 429 while one runs, and pings are answered."""
    for name in ("started", "go"):
        os.mkfifo(tmp_path / name)
    source = f"""
open({str(tmp_path / "started")!r}, "w").close()
open({str(tmp_path / "go")!r}).close()
"""
    statuses = []
    with serve(source, BUSY="refuse") as client:
        first = threading.Thread(
            target=lambda: statuses.append(client.ask("POST", "/invocations", json.dumps(shim.task()))[0])
        )
        first.start()
        (tmp_path / "started").read_text()
        assert client.ask("POST", "/invocations", json.dumps(shim.task("two")))[0] == 429
        assert client.ask("GET", "/ping")[0] == 200
        (tmp_path / "go").write_text("")
        first.join()
    assert statuses == [200]


def test_a_stop_ends_the_task_that_runs(shim: Any, local_session: LocalSession, tmp_path: Path) -> None:
    """SIGTERM ends the program of the task that runs; its client gets the result, and the server ends."""
    os.mkfifo(tmp_path / "started")
    source = f"open({str(tmp_path / 'started')!r}, 'w').close(); import time; time.sleep(60)"
    command = [sys.executable, "-m", "processing.container.shim", "serve", "--port", "0", "--plain", "--"]
    answers = []
    with Server(local_session.engine) as s3:
        environment = {**os.environ, **s3.environment()}
        program = [*command, sys.executable, "-c", source]
        with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = int(next(line for line in process.stdout if "port" in line).split()[-1])
            client = Client(port)
            text = json.dumps(shim.task())
            asking = threading.Thread(target=lambda: answers.append(client.ask("POST", "/invocations", text)))
            asking.start()
            (tmp_path / "started").read_text()
            process.terminate()
            asking.join()
            assert process.wait(timeout=60) == 0
    assert [(status, json.loads(body)) for status, body in answers] == [(200, shim.result())]
    assert shim.result()["user_safe_error_message"] == "The shim was stopped"

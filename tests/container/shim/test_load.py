"""`serve` under load: many invocations, slow clients, large bodies, random bytes, and kills."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import random
import re
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processing.container.shim import web_server
from processing.container.shim.http1 import has_ended
from processing.container.shim.logs import Log
from processing.container.shim.program import ShimProgram
from processing.container.shim.proxy import ProxyHandler
from processing.container.shim.serve import TaskHandler
from processing.container.shim.settings import Proxy, read_settings
from processing.container.shim.web_server import WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMPLETE = os.environ.get("PROCESSING_TEST_COMPLETE") == "1"
INVOCATIONS = 1_000 if COMPLETE else 60
TASKS = 300 if COMPLETE else 10
ECHO = """
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Server(ThreadingHTTPServer):
    request_queue_size = 128

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        body = b""
        if "Content-Length" in self.headers:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        else:
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size); self.rfile.readline()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass

Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Served:
    """A server of the shim in this process, and the defects that it has reported."""

    def __init__(self, handle: Callable[[Any], None]) -> None:
        self.defects: list[str] = []
        self.web = WebServer("127.0.0.1", 0, handle, self.defects.append)
        self.web.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.web.port), timeout=60)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.web.port, timeout=60)) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()


@pytest.fixture(scope="module")
def echo() -> Iterator[Served]:
    """A proxy before a server that answers with the body."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    log = Log(stdout=io.StringIO(), stderr=io.StringIO())
    argv = [sys.executable, "-c", ECHO, str(port)]
    server = ShimProgram(argv, read_settings({}), os.environ, log).make_server(lambda: False)
    server.start()
    served = Served(ProxyHandler(server, Proxy(port, "/health", ("/",), 60, 0, None), log))
    while served.ask("GET", "/ping")[0] != 200:
        assert not server.ended.wait(0.05)
    yield served
    served.web.stop()
    server.close()


@pytest.fixture
def tasks(shim: Any) -> Iterator[Served]:
    """A server of tasks whose program copies its input."""
    source = f"import shutil; shutil.copytree({str(shim.input)!r}, {str(shim.output)!r}, dirs_exist_ok=True)"
    served = Served(TaskHandler(shim.runner(source), read_settings({}), threading.Event()))
    yield served
    served.web.stop()
    assert served.defects == []


def test_many_invocations_have_their_own_answers(echo: Served) -> None:
    """Each of many invocations at a time gets its own body back, of up to 7 MB."""

    def invoke(number: int) -> bool:
        body = b"%d." % number * random.Random(number).choice([1, 100, 10_000])
        return echo.ask("POST", "/invocations", body if number % 3 else iter([body])) == (200, body)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(invoke, range(INVOCATIONS)))
    large = os.urandom(7 << 20)
    assert echo.ask("POST", "/invocations", large) == (200, large)


def test_many_tasks_at_a_time_are_done_one_by_one(shim: Any, tasks: Served) -> None:
    """Each task has its own output, whatever the others do; bad ones and disconnected clients disturb nothing."""

    def invoke(number: int) -> bool:
        name = f"t{number}"
        if number % 5 == 4:
            return tasks.ask("POST", "/invocations", b"{")[0] == 400
        if number % 5 == 3:  # a client that goes
            with tasks.connect() as gone:
                gone.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            return True
        shim.put(name, name.encode())
        body = json.dumps(shim.task(name, inputs={"x": name})).encode()
        status, answer = tasks.ask("POST", "/invocations", body)
        return (status, json.loads(answer)["return_code"], shim.body(f"out/{name}/x")) == (200, 0, name.encode())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(invoke, range(TASKS)))


@pytest.mark.parametrize(
    "start", [b"", b"GET /ping HT", b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"]
)
def test_slow_clients_do_not_keep_others_out(start: bytes, echo: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more connections than there may be, of clients that send no more, pings are answered."""
    monkeypatch.setattr(web_server, "MOST_CONNECTIONS", 20)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(echo.connect()) for _ in range(60)]
        for each in slow:
            with contextlib.suppress(ConnectionError):
                each.sendall(start)
        for _ in range(100):
            assert echo.ask("GET", "/ping")[0] == 200
            if sum(map(has_ended, slow)) >= 40:
                break
        else:
            pytest.fail("too many connections stay")
        assert echo.ask("POST", "/invocations", b"x" * 100_000)[0] == 200


def test_a_head_and_a_body_have_limits_of_time(echo: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that does not end closes its connection; a body that stops gets 408."""
    monkeypatch.setattr(web_server, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(web_server, "STALL_SECONDS", 0.1)
    with echo.connect() as slow:
        slow.sendall(b"GET /ping HTTP/1.1\r\n")
        assert slow.recv(100) == b""
    with echo.connect() as slow:
        slow.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")


def test_the_end_of_the_server_waits_for_no_slow_client(shim: Any) -> None:
    """A stop ends idle connections and those within a request that does not go on."""
    served = Served(TaskHandler(shim.runner("pass"), read_settings({}), threading.Event()))
    with served.connect() as idle, served.connect() as slow:
        slow.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        idle.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(100).startswith(b"HTTP/1.1 200 ")
        served.web.stop()
        assert idle.recv(100) == b""
    assert served.defects == []


# fmt: off
pieces = st.sampled_from([
    b"GET", b"POST", b" ", b"/", b"/ping", b"/invocations", b"/execution-parameters", b"HTTP/1.1", b"HTTP/1.0",
    b"\r\n", b"\n", b"\r", b"\0", b"\xff", b":", b"Host: x", b"Content-Length: 3", b"Content-Length: 99999999999",
    b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Connection: close", b"Connection: host", b"3\r\nabc\r\n",
    b"0\r\n\r\n", b"{}", b"[]", b"A" * 20_000, b"a: b\r\n" * 300, b"X-Amzn-SageMaker-Custom-Attributes: route=/x",
    b'{"pk": "p", "inputs": [], "output_bucket_name": "shim", "output_prefix": "o"}',
])
# fmt: on
LINES = [
    *[b"A: b"] * 3,
    b"Content-Length: 3",
    b"Transfer-Encoding: chunked",
    b"Expect: 100-continue",
    b"Connection: close",
    b"X-Amzn-SageMaker-Custom-Attributes: route=/x",
]
requests = st.lists(
    st.builds(
        lambda first, lines, body: (
            first + b"\r\nHost: x\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body
        ),
        st.sampled_from([b"GET /ping HTTP/1.1", b"POST /invocations HTTP/1.1", b"POST /invocations HTTP/1.0"]),
        st.lists(st.sampled_from(LINES) | pieces, max_size=4),
        st.lists(pieces, max_size=3).map(b"".join),
    ),
    max_size=3,
).map(b"".join)


@pytest.mark.parametrize("kind", ["echo", "tasks"])
def test_any_bytes_get_an_answer_or_an_end(kind: str, request: pytest.FixtureRequest) -> None:
    """To any bytes the server answers with a status of its own, or ends the connection; it never fails itself."""
    served: Served = request.getfixturevalue(kind)

    @settings(
        max_examples=400 if COMPLETE else 80,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(data=requests | st.lists(pieces | st.binary(max_size=10), max_size=20).map(b"".join))
    def send(data: bytes) -> None:
        with served.connect() as wire:
            with contextlib.suppress(ConnectionError):
                wire.sendall(data)
                wire.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionError):  # but no time-out: the server never hangs
                while piece := wire.recv(1 << 16):
                    answer += piece
        assert not {b"500"} & set(re.findall(rb"HTTP/1\.1 (\d{3}) ", answer))
        assert served.defects == []

    send()
    assert served.ask("GET", "/ping")[0] == 200

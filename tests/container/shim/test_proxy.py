"""The proxy: any web server behind SageMaker's contract."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from processing.container.shim import web_server
from processing.container.shim.commands import main
from processing.container.shim.logs import Log
from processing.container.shim.program import ShimProgram
from processing.container.shim.proxy import ProxyHandler
from processing.container.shim.settings import Proxy, read_settings
from processing.container.shim.web_server import WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROGRAM = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def body(self):
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        return data
    def piece(self, data):
        self.wfile.write(b"%x\\r\\n%b\\r\\n" % (len(data), data))
        self.wfile.flush()
    def do_POST(self):
        if self.path == "/early":
            self.send_response(401)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"no")
            self.close_connection = True
            return
        if self.path == "/junk":
            self.wfile.write(b"nonsense\\r\\n\\r\\n")
            self.close_connection = True
            return
        body = self.body()
        if self.path == "/die":
            os._exit(9)
        if self.path == "/gone":
            self.close_connection = True
            return
        if self.path == "/silent":
            time.sleep(60)
        self.send_response_only(103)
        self.end_headers()
        self.send_response(201 if self.path == "/echo" else 200)
        name = "X-Amzn-SageMaker-Custom-Attributes"
        self.send_header(name, self.headers.get(name, ""))
        self.send_header("Connection", "X-Private")
        self.send_header("X-Private", "1")
        if self.path == "/echo":
            text = json.dumps([self.path, {k.lower(): v for k, v in self.headers.items()}, len(body)]).encode()
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.piece(b"data: 1\\n\\n")
        with open(sys.argv[2]) as go:
            go.read()
        if self.path == "/break":
            self.connection.close()
            return
        self.piece(b"data: 2\\n\\n")
        self.wfile.write(b"0\\r\\n\\r\\n")
    def log_message(self, *args): pass

server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("listens", file=sys.stderr, flush=True)
server.serve_forever()
"""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Behind:
    """A proxy that runs in this process, and its program."""

    def __init__(self, port: int, server: Any, go: Path) -> None:
        self.port = port
        self.server = server
        self.go = go

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def invoke(self, body: Any = b"x", headers: dict[str, str] | None = None) -> Answer:
        return self.ask("POST", "/invocations", body, headers)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def behind(tmp_path: Path) -> Callable[..., Any]:
    """Put the program behind a proxy."""
    go = tmp_path / "go"
    os.mkfifo(go)

    @contextlib.contextmanager
    def running(
        *routes: str, seconds: float = 30, refuse: bool = False, ping: str = "/health", **fields: Any
    ) -> Iterator[Behind]:
        port = free_port()
        proxy = Proxy(port, ping, routes, seconds, fields.get("concurrency", 0), fields.get("max_payload"))
        log = Log(stdout=io.StringIO(), stderr=io.StringIO())
        argv = [sys.executable, "-c", PROGRAM, str(port), str(go)]
        server = ShimProgram(argv, read_settings({}), os.environ, log).make_server(lambda: False)
        web = WebServer("127.0.0.1", 0, ProxyHandler(server, proxy, log, refuse=refuse))
        server.start()
        web.start()
        try:
            found = Behind(web.port, server, go)
            while found.ask("GET", "/ping").status != 200:
                assert not server.ended.wait(0.05)
            yield found
        finally:
            server.close()
            web.stop()

    return running


def test_requests_reach_the_route(behind: Callable[..., Any]) -> None:
    """Status, headers and bodies pass both ways, but not the headers of one connection."""
    with behind("/echo") as proxy:
        sent = {"Content-Type": "text/csv", "X-Amzn-SageMaker-Custom-Attributes": "a=1", "TE": "gzip"}
        answer = proxy.invoke(b"a,b", sent)
        assert answer.status == 201
        assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "a=1"
        assert "x-private" not in answer.headers
        path, headers, length = json.loads(answer.body)
        assert (path, length) == ("/echo", 3)
        assert (headers["content-type"], headers["x-amzn-sagemaker-custom-attributes"]) == ("text/csv", "a=1")
        assert "te" not in headers
        assert headers["connection"] == "close"
        assert proxy.ask("GET", "/echo").status == 404
        assert proxy.ask("GET", "/invocations").status == 404
        assert proxy.ask("HEAD", "/ping")[::2] == (404, b"")
        assert json.loads(proxy.ask("GET", "/execution-parameters").body)["BatchStrategy"] == "SINGLE_RECORD"


@pytest.mark.parametrize("size", [0, 1, 7 << 20])
def test_bodies_of_any_size_pass(size: int, behind: Callable[..., Any]) -> None:
    """A body passes with its length, or in chunks."""
    with behind("/echo") as proxy:
        assert json.loads(proxy.invoke(b"x" * size).body)[2] == size
        chunks = iter([b"x" * size]) if size else iter(())
        path, headers, length = json.loads(proxy.invoke(chunks).body)
        assert (path, length, headers["transfer-encoding"]) == ("/echo", size, "chunked")


def test_answers_are_streamed(behind: Callable[..., Any]) -> None:
    """A client has a piece before the program sends the next one."""
    with behind("/stream") as proxy, contextlib.closing(proxy.connect()) as connection:
        connection.request("POST", "/invocations", b"x")
        answer = connection.getresponse()
        assert answer.read1(100) == b"data: 1\n\n"
        proxy.go.write_text("go")
        assert answer.read() == b"data: 2\n\n"
        connection.request("GET", "/ping")  # the same connection
        assert connection.getresponse().status == 200


def test_a_broken_stream_is_not_a_whole_one(behind: Callable[..., Any]) -> None:
    """If the program ends within its answer, the client sees that the end is missing."""
    with behind("/break") as proxy, contextlib.closing(proxy.connect()) as connection:
        connection.request("POST", "/invocations", b"x")
        answer = connection.getresponse()
        answer.read1(100)
        proxy.go.write_text("go")
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()


@pytest.mark.parametrize(
    ("route", "status", "text"),
    [
        ("/gone", 502, "without an answer"),
        ("/junk", 502, "not HTTP"),
        ("/silent", 504, "silent for 0.3 seconds"),
        ("/die", 502, "The server ended with exit code 9"),
    ],
)
def test_failures_have_a_status_and_a_reason(route: str, status: int, text: str, behind: Callable[..., Any]) -> None:
    """A program that gives no answer is 502, one that takes too long 504."""
    with behind(route, seconds=0.3 if route == "/silent" else 30) as proxy:
        answer = proxy.invoke()
        assert answer.status == status
        if route == "/die":
            proxy.server.ended.wait()
            assert proxy.ask("GET", "/ping").status == 503
            answer = proxy.invoke()
            assert answer.status == 503
        assert text in json.loads(answer.body)["error"]


def test_an_early_answer_passes(behind: Callable[..., Any]) -> None:
    """A program that refuses a request before it has read the body is heard."""
    with behind("/early") as proxy:
        answer = proxy.invoke(b"x" * (20 << 20))
        assert (answer.status, answer.body) == (401, b"no")


def test_custom_attributes_choose_among_several_routes(behind: Callable[..., Any]) -> None:
    """`route=` in CustomAttributes chooses a listed route; with one route it has no meaning."""
    name = "X-Amzn-SageMaker-Custom-Attributes"
    with behind("/gone", "/echo") as proxy:
        assert proxy.invoke(b"", {name: "a=b; route=/echo"}).status == 201
        assert proxy.invoke(b"").status == 502
        answer = proxy.invoke(b"", {name: "route=/admin"})
        assert (answer.status, json.loads(answer.body)["error"].split(":")[0]) == (400, "CustomAttributes")
    with behind("/echo") as proxy:
        assert proxy.invoke(b"", {name: "route=/admin"}).status == 201


def test_a_client_that_goes_ends_its_request(behind: Callable[..., Any]) -> None:
    """With a concurrency of 1, a client that goes away makes room for the next one."""
    chosen = {"X-Amzn-SageMaker-Custom-Attributes": "route=/echo"}
    with behind("/stream", "/echo", concurrency=1, refuse=True) as proxy:
        with contextlib.closing(proxy.connect()) as connection:
            connection.request("POST", "/invocations", b"x")
            with connection.getresponse() as answer:
                answer.read1(100)
                assert proxy.invoke(b"", chosen).status == 429
        for _ in range(2):
            while (status := proxy.invoke(b"", chosen).status) == 429:
                pass  # the place of an invocation is free a moment after its answer
            assert status == 201


def test_an_invocation_that_waits_is_not_slow(behind: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for another invocation does not count against the client that sends a small body."""
    monkeypatch.setattr(web_server, "SLOW_SECONDS", 0.05)
    chosen = {"X-Amzn-SageMaker-Custom-Attributes": "route=/echo"}
    with behind("/stream", "/echo", concurrency=1) as proxy, ThreadPoolExecutor(1) as pool:
        with contextlib.closing(proxy.connect()) as connection:
            connection.request("POST", "/invocations", b"x")
            answer = connection.getresponse()
            answer.read1(100)
            waiting = pool.submit(proxy.invoke, iter([b"a", b"b"]), chosen)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            proxy.go.write_text("go")
            answer.read()
        assert waiting.result().status == 201


def test_a_body_that_arrives_slowly_is_refused(behind: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a byte now and then does not hold the program for long."""
    monkeypatch.setattr(web_server, "SLOW_SECONDS", 0.05)
    with behind("/echo") as proxy, socket.create_connection(("127.0.0.1", proxy.port), 30) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                client.sendall(b"x")
                if select.select([client], [], [], 0.02)[0]:
                    break
        assert client.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_server_without_a_path_for_its_health(behind: Callable[..., Any]) -> None:
    """With "tcp" a server that accepts connections is healthy, until it ends."""
    with behind("/die", ping="tcp") as proxy:
        assert proxy.invoke().status in {502, 503}
        proxy.server.ended.wait()
        assert proxy.ask("GET", "/ping").status == 503


def test_a_body_above_the_limit_is_refused(behind: Callable[..., Any]) -> None:
    """A limit holds for a length that is told, and for chunks."""
    with behind("/echo", max_payload=1 << 20) as proxy:
        assert proxy.invoke(b"x" * (1 << 20)).status == 201
        assert proxy.invoke(b"x" * ((1 << 20) + 1)).status == 413
        chunks = iter([b"x" * (1 << 19)] * 3)
        assert proxy.invoke(chunks).status == 413


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_shim_and_the_program_end_together(end: str, tmp_path: Path) -> None:
    """After SIGTERM running invocations get their answers and the exit code is 0; a killed program ends the shim."""
    os.mkfifo(tmp_path / "go")
    port = free_port()
    command = [sys.executable, "-m", "processing.container.shim", "serve", "--port", "0", "--proxy", str(port)]
    command += ["--ping", "/health", "--route", "/stream", "--plain", "--", sys.executable, "-c"]
    command += [f"import os; print('pid', os.getpid(), flush=True)\n{PROGRAM}", str(port), str(tmp_path / "go")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found: dict[str, str] = {}
        while len(found) < 2:
            words = process.stdout.readline().split()
            found[words[0]] = words[-1]
            if words[0] == "info:":
                found["info:"] = words[4].rstrip(",")
        assert process.stderr.readline() == "listens\n"
        behind = Behind(int(found["info:"]), None, tmp_path / "go")
        with contextlib.closing(behind.connect()) as connection:
            connection.request("POST", "/invocations", b"x")
            answer = connection.getresponse()
            if end == "kill":
                os.kill(int(found["pid"]), signal.SIGKILL)
            else:
                process.terminate()
                threading.Thread(target=behind.go.write_text, args=("go",), daemon=True).start()
                assert answer.read().endswith(b"data: 2\n\n")
            answer.close()
        assert process.wait(timeout=60) == (137 if end == "kill" else 0)
        assert ("exit code 137" in process.stderr.read()) == (end == "kill")
    with pytest.raises(ProcessLookupError):
        os.kill(int(found["pid"]), 0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--proxy", "0"], "--proxy: 0"),
        (["--proxy", "8080"], "--proxy: 8080 is the port of the shim"),
        (["--proxy", "70000"], "--proxy: 70000"),
        (["--proxy", "8000", "--port", "-1"], "--port: -1"),
        (["--proxy", "8000", "--ping", "health"], "--ping: 'health'"),
        (["--proxy", "8000", "--route", "/a b"], "--route: '/a b'"),
        (["--proxy", "8000", "--timeout", "0"], "--timeout"),
        (["--proxy", "8000", "--timeout", "nan"], "--timeout"),
        (["--proxy", "8000", "--concurrency", "-1"], "--concurrency"),
    ],
    ids=range(9),
)
def test_wrong_options_are_named(options: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An impossible option is refused by its name, and nothing starts."""
    assert main(["serve", *options, "--", "no-such-program"]) == 2
    assert text in capsys.readouterr().err


def test_a_port_that_is_taken_is_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """The shim ends with a sentence, and its program does not start."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for options in ([], ["--proxy", str(free_port())]):
            assert main(["serve", "--port", port, *options, "--", "no-such-program"]) == 1
            assert f"The port {port} cannot be bound: Address already in use" in capsys.readouterr().err

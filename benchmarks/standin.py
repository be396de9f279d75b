"""A stand-in for AWS in measurements: it answers at once, plus a latency that it adds to every answer.

It is one process with one thread and asyncio. A latency is a timer, so the server continues with other requests in the
meantime. `Expect: 100-continue` is answered after the same latency, because it costs a round trip to AWS too. The
lateness of the timers (`Statistics.lag_p99`) and the processor time show whether the server slowed a measurement down.

    python benchmarks/standin.py [--latency 0.03] [--port 0]     # prints its endpoint
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import http.client
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

import attrs
from standin_services import REGION, Answer, Request, Services, as_json

LATENCY = 0.03
"""Seconds of every answer, as of a request over some distance."""

_OWN = "/-/"  # requests about the stand-in itself: no bucket has such a name
_SCRATCH = 1 << 18  # bytes: heads, and bodies that arrived with them
_SLICE = 1 << 18  # bytes of an answer that are handed to the transport at once
_MOST_LAGS = 100_000


class State:
    """The state of the server: the services, and the counts since the last reset."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.services = Services()
        self.reset()

    def reset(self) -> None:
        self.calls: Counter[str] = Counter()
        self.lags: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self._cpu = time.process_time()

    def answer(self, request: Request) -> Answer:
        if request.path.startswith(_OWN):
            return self._about_itself(request)
        operation = self.services.operation_of(request)
        self.calls[operation] += 1
        return self.services.answer(operation, request)

    def _about_itself(self, request: Request) -> Answer:
        lags = sorted(self.lags) or [0.0]
        answer = as_json(
            {
                "calls": self.calls,
                "cpu_seconds": time.process_time() - self._cpu,
                "lag_p99": lags[len(lags) * 99 // 100],
                "most_in_flight": self.most_in_flight,
            }
        )
        if request.method != "GET":
            self.reset()
        if request.method == "DELETE":
            self.services.clear()
        return answer


class Connection(asyncio.BufferedProtocol):
    """One connection with one request at a time: received, then answered after the latency."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._filled = 0
        self._request: Request | None = None  # its head has arrived, its body has not
        self._received = 0
        self._rest: list[memoryview] = []  # of an answer, not sent yet
        self._writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=4 * _SLICE)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Receive a body in its final place, anything else in the scratch buffer."""
        if self._request is not None:
            return memoryview(self._request.body)[self._received :]
        return self._scratch[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._request is None:
            self._filled += nbytes
            self._look_for_head()
        else:
            self._received += nbytes
        if self._request is not None and self._received == len(self._request.body):
            request, self._request = self._request, None
            self._answer(request)

    def _look_for_head(self) -> None:
        data = bytes(self._scratch[: self._filled])
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            return
        self._filled = 0  # clients do not send the next request before the answer to this one
        self._request = request = _parse(head)
        length = int(request.headers.get("content-length", "0"))
        self._received = len(rest)
        if len(rest) == length:
            request.body = rest
            return
        body = bytearray(length)
        body[: len(rest)] = rest
        request.body = body
        if "expect" in request.headers and not rest:
            self._loop.call_later(self._state.latency, self._transport.write, b"HTTP/1.1 100 Continue\r\n\r\n")

    def _answer(self, request: Request) -> None:
        state = self._state
        state.in_flight += 1
        state.most_in_flight = max(state.most_in_flight, state.in_flight)
        answer = state.answer(request)
        if request.path.startswith(_OWN):
            self._send(answer, 0.0)
        else:
            due = self._loop.time() + state.latency
            self._loop.call_at(due, self._send, answer, due)

    def _send(self, answer: Answer, due: float) -> None:
        state = self._state
        state.in_flight -= 1
        if due and len(state.lags) < _MOST_LAGS:
            state.lags.append(self._loop.time() - due)
        length = sum(map(len, answer.pieces)) if answer.length is None else answer.length
        own = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        head = f"HTTP/1.1 {answer.status} -\r\nContent-Length: {length}\r\n{_date(int(time.time()))}{own}\r\n".encode()
        if not answer.pieces:
            self._transport.write(head)
        elif length <= _SLICE:
            self._transport.write(b"".join([head, *answer.pieces]))
        else:
            self._rest = [memoryview(head), *(memoryview(piece) for piece in answer.pieces)]
            self._send_rest()

    def _send_rest(self) -> None:
        """Send as much of a large answer as the client accepts."""
        while self._rest and self._writable:
            piece = self._rest[0]
            self._transport.write(piece[:_SLICE])
            self._rest[:1] = [piece[_SLICE:]] if len(piece) > _SLICE else []

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._send_rest()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._rest = []


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    path, _, query = target.partition("?")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "transfer-encoding" in headers:  # no client sends one to a server without TLS
        raise NotImplementedError(f"{method} with transfer-encoding: {headers['transfer-encoding']}")
    parsed = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
    return Request(method, target, unquote(path), parsed, headers)


@lru_cache(2)
def _date(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}\r\nx-amz-request-id: {second}\r\nServer: standin\r\n"


async def serve(latency: float, port: int) -> None:
    state = State(latency)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(state), "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    gc.disable()  # nothing here makes reference cycles, and a collection would look like latency
    await server.serve_forever()


# The benchmarks' side.


@attrs.frozen
class Statistics:
    """The counts of the stand-in since the last reset.

    Attributes:
        calls: requests by operation.
        cpu_seconds: the processor time of the server.
        lag_p99: the 99th percentile of the seconds by which an answer was later than its latency.
        most_in_flight: the largest number of requests that waited for their answers at one time.
    """

    calls: Counter[str]
    cpu_seconds: float
    lag_p99: float
    most_in_flight: int

    def __str__(self) -> str:
        late = f"99 % of its answers at most {self.lag_p99 * 1000:.0f} ms late"
        return f"the stand-in: {self.cpu_seconds:.2f} s of CPU, {late}, {self.most_in_flight} in flight"


@attrs.frozen
class StandIn:
    """A stand-in that is running."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that lead an AWS client, in any language, to this server only."""
        ours = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "standin",
            "AWS_SECRET_ACCESS_KEY": "standin",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        others = ("AWS_", "SAGEMAKER_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE")
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(others)}
        return {**kept, **ours}

    def count_anew(self) -> Statistics:
        """Reset the counts, and return them."""
        return self._ask("POST")

    def reset(self) -> Statistics:
        """Remove all objects and jobs, and reset the counts."""
        return self._ask("DELETE")

    def _ask(self, method: str) -> Statistics:
        connection = http.client.HTTPConnection(self.endpoint.removeprefix("http://"))
        with contextlib.closing(connection):
            connection.request(method, f"{_OWN}statistics")
            found: dict[str, Any] = json.loads(connection.getresponse().read())
        return Statistics(**{**found, "calls": Counter(found["calls"])})


@contextlib.contextmanager
def running(latency: float = LATENCY) -> Iterator[StandIn]:
    """Run a stand-in in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--latency", str(latency)]
    # glibc keeps freed memory, so that objects of a second round cost no page faults (2/3 of the server's time).
    kept = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **kept}) as process:
        assert process.stdout is not None
        try:
            yield StandIn(process.stdout.readline().strip())
        finally:
            process.terminate()


def capacity(server: StandIn, requests: int, size: int, connections: int) -> tuple[float, Statistics]:
    """Return the seconds that the server itself needs for a number of PUTs, which are signed before the clock starts.

    Args:
        server: the server under test; it is empty afterwards.
        requests: the number of PUTs, a multiple of the connections.
        size: bytes of each.
        connections: the number of PUTs in flight at one time.
    """
    load = Path(__file__).parent / "load.py"
    words = map(str, (server.endpoint, "key", "secret", "bench", "PUT", requests, connections, size))
    done = subprocess.run([sys.executable, load, *words], check=True, capture_output=True, text=True)
    return requests / float(done.stdout), server.reset()


def main() -> None:
    parser = argparse.ArgumentParser(description="A server that stands in for AWS in measurements.")
    parser.add_argument("--latency", type=float, default=LATENCY, help="seconds that every answer takes")
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(asked.latency, asked.port))


if __name__ == "__main__":
    main()

"""Proxy: puts any web server behind SageMaker's contract of hosting.

The shim starts the server and ends with it. GET /ping is the server's own health, and POST /invocations goes to a route
of its own. Bodies are streamed both ways.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from typing import TYPE_CHECKING, Iterator

from processing.container.shim.http1 import CutOffError, Headers, HttpError, PeerLostError, header
from processing.container.shim.settings import CONNECTS
from processing.container.shim.upstream import UpstreamError, UpstreamRequest, ask, end_to_end, require_listening
from processing.container.shim.web_server import WebServer

if TYPE_CHECKING:
    from processing.container.shim.logs import Log
    from processing.container.shim.running_server import RunningServer
    from processing.container.shim.settings import Proxy, Settings
    from processing.container.shim.upstream import UpstreamAnswer
    from processing.container.shim.web_server import Exchange

CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
"""The header with the parameter CustomAttributes of an invocation, forwarded both ways as it is."""
PING_SECONDS = 1.9
"""The longest time of one check of the server's health: SageMaker waits for 2 seconds."""
DRAIN_SECONDS = 20.0
"""The longest time for running invocations after SIGTERM. SageMaker sends SIGKILL after 30 seconds."""
_PATIENCE = 0.1
"""The seconds after which an invocation is refused. An answer reaches its client before its place is free."""
_TICK = 0.05
"""The seconds between two looks for a stop."""
_ROUTE = re.compile(r"(?:^|[,;])\s*route=([^,;]*?)\s*(?:$|[,;])")


class ProxyHandler:
    """Answers to requests of SageMaker, by a server of the user's.

    Args:
        server: the server.
        proxy: the settings of the proxy.
        log: the log.
        refuse: whether an invocation above the concurrency is refused; otherwise it waits.
    """

    def __init__(self, server: RunningServer, proxy: Proxy, log: Log, *, refuse: bool = False) -> None:
        self._server = server
        self._proxy = proxy
        self._log = log
        self._refuse = refuse
        self._slots = threading.BoundedSemaphore(proxy.concurrency) if proxy.concurrency else None
        self._was_healthy = False

    def __call__(self, exchange: Exchange) -> None:
        """Answer a request."""
        asked = (exchange.head.method, exchange.head.path)
        if asked == ("GET", "/ping"):
            exchange.answer(200 if self._is_healthy() else 503)
        elif asked == ("GET", "/execution-parameters"):
            exchange.answer(200, self._parameters())
        elif asked == ("POST", "/invocations"):
            self._invoke(exchange)
        else:
            exchange.problem(404, "there is no %s %s" % asked)

    def _is_healthy(self) -> bool:
        problem = self._server.end or self._ping()
        if problem and self._was_healthy:
            self._log.write("WARNING", "GET %s: %s" % (self._proxy.ping, problem), internal=False)
        self._was_healthy = not problem
        return not problem

    def _ping(self) -> str:
        """Return the reason for which the server is not healthy; empty if it is."""
        try:
            if self._proxy.ping == CONNECTS:
                require_listening(self._proxy.port)
                return ""
            with ask(self._proxy.port, UpstreamRequest("GET", self._proxy.ping), PING_SECONDS) as answer:
                status = answer.head.status
        except UpstreamError as error:
            return str(error)
        return "" if 200 <= status < 300 else "status %d" % status

    def _parameters(self) -> bytes:
        parameters = {
            "MaxConcurrentTransforms": self._proxy.concurrency or 1,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": (self._proxy.max_payload or 6 << 20) >> 20,
        }
        return json.dumps(parameters).encode("ascii")

    def _invoke(self, exchange: Exchange) -> None:
        exchange.open_body(self._proxy.max_payload)
        route = self._route(exchange.head.headers)
        with self._slot():
            started = time.monotonic()
            try:
                status = self._forward(exchange, route)
            except UpstreamError as error:
                text = self._server.end or str(error)
                self._log.write("ERROR", "POST %s: %s" % (route, text), internal=False)
                if exchange.answered:
                    raise CutOffError(text) from None  # the client notices the missing end
                raise HttpError(error.status, text) from None
            except PeerLostError:
                self._log.write("WARNING", "POST %s: the client went away" % route)
                raise CutOffError from None
            seconds = time.monotonic() - started
            self._log.write("DEBUG", "POST %s: %d in %.3f s" % (route, status, seconds))

    def _forward(self, exchange: Exchange, route: str) -> int:
        head = exchange.head
        pieces = iter(exchange.read, b"")
        request = UpstreamRequest("POST", route, end_to_end(head.headers, "host", "expect"), head.length, pieces)
        with ask(self._proxy.port, request, self._proxy.seconds, exchange.client) as answer:
            if answer.early:
                exchange.keep_alive = False
            self._send(exchange, answer)
            return answer.head.status

    @staticmethod
    def _send(exchange: Exchange, answer: UpstreamAnswer) -> None:
        exchange.begin(answer.head.status, end_to_end(answer.head.headers), answer.head.length)
        for piece in answer.pieces():
            exchange.write(piece)
        exchange.end()

    def _route(self, headers: Headers) -> str:
        """Return the route of an invocation. If there are several, custom attributes such as `route=/x` choose one.

        Raises:
            HttpError: there is no such route (status 400).
        """
        routes = self._proxy.routes
        found = _ROUTE.search(header(headers, CUSTOM_ATTRIBUTES)) if len(routes) > 1 else None
        if found is None:
            return routes[0]
        if found.group(1) not in routes:
            raise HttpError(
                400, "CustomAttributes: the route %r is not one of %s" % (found.group(1), ", ".join(routes))
            )
        return found.group(1)

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        """Wait for the server to have room for an invocation.

        Raises:
            HttpError: it has none, and invocations do not wait (status 429).
        """
        if self._slots is None:
            yield
            return
        if not self._slots.acquire(timeout=_PATIENCE if self._refuse else None):
            raise HttpError(429, "%d invocations run already; try again later" % self._proxy.concurrency)
        try:
            yield
        finally:
            self._slots.release()


def serve_proxy(server: RunningServer, settings: Settings, log: Log, stop: threading.Event) -> int:
    """Serve until the event is set, or the user's server ends; return the exit code.

    Running invocations may end before the user's server gets SIGTERM.
    """
    handler = ProxyHandler(server, settings.proxy, log, refuse=settings.busy == "refuse")
    web = WebServer("0.0.0.0", settings.port, handler, lambda text: log.write("ERROR", text))  # noqa: S104 - the contract
    server.start()
    web.start()
    log.write("INFO", "Listening on port %d, before port %d" % (web.port, settings.proxy.port))
    while not stop.is_set() and not server.ended.wait(_TICK):
        pass
    timer = threading.Timer(DRAIN_SECONDS, server.close)
    timer.daemon = True
    timer.start()
    web.stop()
    timer.cancel()
    if stop.is_set():
        server.close()
        log.write("INFO", "The server has stopped")
        return 0
    log.write("ERROR", "%s, so the shim ends" % server.end, internal=False)
    return server.exit_code or 1

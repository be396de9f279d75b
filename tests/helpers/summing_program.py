"""A program that serves a model: it answers the sum of each CSV line.

A body of more than LIMIT bytes is refused with 413. The first FAILURES requests are answered with 500. DROP leaves out
the last line of each answer. LATENCY delays it by so many seconds.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_numbers = itertools.count(1)


class Handler(BaseHTTPRequestHandler):
    """GET /ping and POST /invocations."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer that the program is ready."""
        self._answer(200, b"")

    def do_POST(self) -> None:
        """Answer the sums."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(float(os.environ.get("LATENCY", "0")))
        if len(body) > int(os.environ.get("LIMIT", "1000000")):
            self._answer(413, b"too large")
        elif next(_numbers) <= int(os.environ.get("FAILURES", "0")):
            self._answer(500, b"not now")
        else:
            sums = [sum(map(float, line.split(b","))) for line in body.split()]
            lines = [f"{each!r}\n" for each in sums]
            self._answer(200, "".join(lines[:-1] if os.environ.get("DROP") else lines).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()

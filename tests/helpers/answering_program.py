"""A program that serves a model, and trains one: its answer follows from the first word of the body.

`version` answers the variable VERSION. `model PATH` answers the files below a path, which may name variables. `env
NAME` answers a variable. `headers` answers the headers. `buckets` asks the engine for its buckets, with boto3. `engine`
answers the status of the engine for a request without a signature, or the error. `sleep SECONDS` answers late, and
`wait PATH` as soon as a path exists, which may name variables; `sleeping` answers the number of such requests that run.
`status CODE` answers an error. `die CODE` ends the process, with 3 unless it says otherwise. `stream` answers in five
pieces, and `cut` ends within them. `fat` answers more than AWS allows. `count` answers the number of requests of this
process. Everything else is answered as it is.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_numbers = itertools.count(1)
_sleeping: list[str] = []


def _die(code: str) -> bytes:
    _log("the last words")
    os._exit(int(code or 3))


def _sleep(seconds: str) -> bytes:
    _sleeping.append(seconds)
    time.sleep(float(seconds))
    _sleeping.pop()
    return b"late"


def _wait(path: str) -> bytes:
    _sleeping.append(path)
    while not Path(os.path.expandvars(path)).exists():
        time.sleep(0.01)
    _sleeping.pop()
    return b"late"


def _buckets(_: str) -> bytes:
    import boto3

    found = boto3.client("s3").list_buckets()["Buckets"]
    return json.dumps([bucket["Name"] for bucket in found]).encode()


def _engine(_: str) -> bytes:
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        urlopen(os.environ["AWS_ENDPOINT_URL"], timeout=30)
    except HTTPError as error:
        return str(error.code).encode()
    except (URLError, KeyError) as error:
        return repr(error).encode()
    return b"200"


_ANSWERS: dict[str, Callable[[str], bytes]] = {
    "version": lambda _: os.environ.get("VERSION", "").encode(),
    "model": lambda path: json.dumps(sorted(each.name for each in Path(os.path.expandvars(path)).rglob("*"))).encode(),
    "env": lambda name: os.environ.get(name, "").encode(),
    "buckets": _buckets,
    "engine": _engine,
    "sleep": _sleep,
    "wait": _wait,
    "sleeping": lambda _: str(len(_sleeping)).encode(),
    "die": _die,
    "count": lambda _: str(next(_numbers)).encode(),
    "fat": lambda _: b"x" * ((6 << 20) + 1),
}


class Handler(BaseHTTPRequestHandler):
    """The answers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/execution-parameters" and "PARAMETERS" in os.environ:
            self.answer(200, os.environ["PARAMETERS"].encode())
            return
        self.answer(200 if self.path == "/ping" and "UNHEALTHY" not in os.environ else 404, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        word, _, rest = body[:200].decode("latin-1").strip().partition(" ")
        if word in {"stream", "cut"}:
            self.stream(whole=word == "stream")
        elif word == "status":
            self.answer(int(rest), b"no good")
        elif word == "headers":
            self.answer(200, json.dumps(dict(self.headers)).encode())
        else:
            self.answer(200, _ANSWERS[word](rest) if word in _ANSWERS else body)

    def stream(self, *, whole: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(5):
            self.wfile.write(b"7\r\npiece %d\r\n" % number)
            self.wfile.flush()
        if whole:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = not whole

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", f"seen={self.headers.get('Accept')}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _log(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    if sys.argv[1:2] == ["train"]:
        Path("/opt", "ml", "model", "weights.txt").write_text("trained")
        return
    if sys.argv[1:2] != ["serve"]:
        sys.exit(f"the command is not serve: {sys.argv[1:]}")
    _log("serving")
    if "STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "EXIT" in os.environ:
        _log(os.environ.get("LAST_WORDS", "no such weights"))
        sys.exit(int(os.environ["EXIT"]))
    if "WAIT_FOR" in os.environ:  # a file outside
        while not Path(os.environ["WAIT_FOR"]).exists():
            time.sleep(0.01)
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()


if __name__ == "__main__":
    main()

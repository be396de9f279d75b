"""A job's own way to the engine: its boto3, and every other client, reaches it at AWS_ENDPOINT_URL without a setting.

The supervisor binds a port of the loopback interface, which costs next to nothing. Only when the job connects for the
first time is a process started that serves at it, with the keys of the job's role; it ends with its supervisor, however
that ends. One that is killed is replaced at the next connection. What it says to stderr, and that it ended, is for the
job's log: who runs the job would not learn of it otherwise. A job with network isolation has no gateway.
"""

from __future__ import annotations

import _socket  # what `socket` itself is made of: importing that takes longer than all that a supervisor does here
import collections
import json
import os
import select
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_BOOT = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order['path']; "
    "from processing.local.transports.gateway import serve; serve(order)"
)
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_ENDED = "The local engine cannot be reached from this job any more: its server ended {}"
_KILLED = "The local engine's server for this job was killed (signal {}): the next connection starts another one"
_BACKLOG = 128
_STARTS = 10
"""So many servers are killed before the gateway is given up."""
_CLOSE_SECONDS = 5.0
_LINE_BYTES = 8192
_MAX_LINES = 1000
"""What is kept of a server's words until they are asked for."""


class Gateway:
    """The gateway of one host.

    Args:
        home: the engine's folder.
        decided: what `gateway_options.plan` decided.
    """

    def __init__(self, home: Path, decided: Mapping[str, Any]) -> None:
        self._home = home
        self._decided = decided
        self._listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(_BACKLOG)
        self._port = self._listener.getsockname()[1]
        self._wake_read, self._wake_write = os.pipe()
        self._server: subprocess.Popen[bytes] | None = None
        self._closing = False
        self._starting = threading.Lock()
        self._words: collections.deque[str] = collections.deque(maxlen=_MAX_LINES)
        self._waiter = threading.Thread(target=self._serve, daemon=True)
        self._waiter.start()

    def environment(self, requested: Mapping[str, str]) -> dict[str, str]:
        """Return the variables by which clients find the engine, and may use it.

        Args:
            requested: what the job's request sets: with an access key of its own, none of ours is given, nor any part.
        """
        environment: dict[str, str] = dict(self._decided["environment"])
        if _KEYS[0] in requested:
            environment = {name: value for name, value in environment.items() if name not in _KEYS}
        return {**environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}"}

    def said(self) -> list[str]:
        """Return the lines that servers wrote to stderr since the last call, and how they ended."""
        lines = []
        while self._words:
            lines.append(self._words.popleft())
        return lines

    def close(self) -> None:
        """End it: nobody listens afterwards."""
        with self._starting:
            self._closing = True
            if self._server is not None:
                self._server.kill()
        os.close(self._wake_write)
        self._waiter.join(_CLOSE_SECONDS)  # not longer, if something that a server started still holds its stderr
        os.close(self._wake_read)
        self._listener.close()

    def _serve(self) -> None:
        """In a thread: start a server whenever there is a connection and no server, and read what it says."""
        for _ in range(_STARTS):
            ready, _, _ = select.select([self._listener.fileno(), self._wake_read], [], [])
            if self._wake_read in ready:
                return
            try:
                server = self._start()
            except OSError as error:  # too many processes
                self._words.append(f"The local engine cannot be reached from this job: {error}")
                break
            if server is None:
                return
            with server:
                self._read(server)
            if self._closing:
                return
            if server.returncode >= 0:  # it ended by itself, and so would the next one
                self._words.append(_ENDED.format(f"with exit code {server.returncode}"))
                break
            self._words.append(_KILLED.format(-server.returncode))
        self._listener.close()  # connections are refused from here on, where they would wait for ever

    def _start(self) -> subprocess.Popen[bytes] | None:
        """Start a server, unless this is being closed."""
        order = {
            "home": str(self._home),
            "listener": self._listener.fileno(),
            **{name: self._decided[name] for name in ("region", "settings", "masks", "path")},
        }
        with self._starting:
            if self._closing:
                return None
            self._server = subprocess.Popen(  # noqa: S603 -- this module itself
                [sys.executable, "-I", "-S", "-c", _BOOT, json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                pass_fds=(self._listener.fileno(),),
            )
            return self._server

    def _read(self, server: subprocess.Popen[bytes]) -> None:
        assert server.stderr is not None
        while line := server.stderr.readline(_LINE_BYTES):
            self._words.append(line.decode(errors="replace").rstrip("\n"))

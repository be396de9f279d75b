"""A job's gateway to the engine: its clients, boto3 among them, reach the engine at AWS_ENDPOINT_URL without a setting.

The supervisor binds a port of the loopback interface, which costs next to nothing. A process that serves at the port is
started when the job connects for the first time. It uses the keys of the job's role, and it ends with its supervisor,
however the supervisor ends. A server that is killed is replaced at the next connection. The server's stderr and its end
go to the job's log, the only place where the job's user can learn of them. A job with network isolation has no gateway.

The server belongs to a higher layer, `transports`. The supervisor never imports that layer: it names
`transports.gateway.serve` in the program text of the server's process (`_SERVER_PROGRAM`), as a command line would.
"""

from __future__ import annotations

import _socket  # the base of `socket`, whose import takes longer than everything a supervisor does here
import collections
import json
import os
import select
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from processing.local.jobs.execution_plan import GatewayOptions

_SERVER_PROGRAM = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order['path']; "
    "from processing.local.transports.gateway import serve; serve(order)"
)
"""The program of a server's process, the only place that names the server."""
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_ENDED = "The local engine cannot be reached from this job any more: its server ended {}"
_KILLED = "The local engine's server for this job was killed (signal {}): the next connection starts another one"
_BACKLOG = 128
_CLOSE_SECONDS = 5.0
"""The longest wait for the serving thread at the end. A process that a server started may still hold its stderr."""
_LINE_BYTES = 8192
_MAX_LINES = 1000
"""The number of log lines that are kept until the supervisor takes them."""


class Gateway:
    """The gateway of one host.

    Args:
        home: the engine's folder.
        options: the gateway's parameters.
        listener: the listening socket, such as one in the network of the program alone; None for a new one in this
            machine's network.
    """

    def __init__(self, home: Path, options: GatewayOptions, listener: _socket.socket | None = None) -> None:
        self._home = home
        self._options = options
        if listener is None:
            listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
            listener.bind(("127.0.0.1", 0))
            listener.listen(_BACKLOG)
        self._listener = listener
        self._port = self._listener.getsockname()[1]
        self._wake_read, self._wake_write = os.pipe()
        self._server: subprocess.Popen[bytes] | None = None
        self._closing = False
        self._starting = threading.Lock()
        self._lines: collections.deque[str] = collections.deque(maxlen=_MAX_LINES)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def environment(self, requested: Mapping[str, str]) -> dict[str, str]:
        """Return the variables by which clients find the engine and sign their requests.

        Args:
            requested: the variables of the job's request. If they have an access key, the job gets no part of ours.
        """
        return {
            **signing_environment(self._options, requested),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
        }

    def take_lines(self) -> list[str]:
        """Return the lines for the job's log since the last call: the servers' stderr, and how servers ended."""
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        return lines

    def close(self) -> None:
        """End the server and close the port."""
        with self._starting:
            self._closing = True
            if self._server is not None:
                self._server.kill()
        os.close(self._wake_write)
        self._thread.join(_CLOSE_SECONDS)
        os.close(self._wake_read)
        self._listener.close()

    def _serve(self) -> None:
        """Start a server whenever there is a connection and no server, and collect its stderr. Runs in a thread.

        Killed servers are replaced without a limit: an endpoint lives for weeks, and each start needs a connection.
        """
        while True:
            ready, _, _ = select.select([self._listener.fileno(), self._wake_read], [], [])
            if self._wake_read in ready:
                return
            try:
                server = self._start()
            except OSError as error:  # too many processes
                self._lines.append(f"The local engine cannot be reached from this job: {error}")
                break
            if server is None:
                return
            with server:
                self._collect_stderr(server)
            if self._closing:
                return
            if server.returncode >= 0:  # it ended by itself, and so would the next one
                self._lines.append(_ENDED.format(f"with exit code {server.returncode}"))
                break
            self._lines.append(_KILLED.format(-server.returncode))
        self._listener.close()  # connections are refused from now on; with an open port they would wait forever

    def _start(self) -> subprocess.Popen[bytes] | None:
        """Start a server; return None if the gateway is being closed."""
        order = {
            "home": str(self._home),
            "listener": self._listener.fileno(),
            "region": self._options.region,
            "settings": self._options.settings,
            "masks": self._options.masks,
            "path": self._options.path,
        }
        with self._starting:
            if self._closing:
                return None
            self._server = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [sys.executable, "-I", "-S", "-c", _SERVER_PROGRAM, json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                pass_fds=(self._listener.fileno(),),
            )
            return self._server

    def _collect_stderr(self, server: subprocess.Popen[bytes]) -> None:
        assert server.stderr is not None
        while line := server.stderr.readline(_LINE_BYTES):
            self._lines.append(line.decode(errors="replace").rstrip("\n"))


def signing_environment(options: GatewayOptions, requested: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which clients sign requests to the engine, and find nothing else.

    Args:
        options: the gateway's parameters.
        requested: the variables of the job's request. If they have an access key, the job gets no part of ours.
    """
    variables: dict[str, str] = {
        name: value
        for name, value in options.environment.items()
        if name != "AWS_ENDPOINT_URL" and not (name in _KEYS and _KEYS[0] in requested)
    }
    return variables

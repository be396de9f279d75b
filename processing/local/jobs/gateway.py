"""A job's own way to the engine: its boto3, and every other client, reaches it at AWS_ENDPOINT_URL without a setting.

The supervisor binds a port of the loopback interface, which costs next to nothing. Only when the job connects for the
first time is a process started that serves at it, with the keys of the job's role; it ends with its supervisor, however
that ends. A job with network isolation has no gateway.
"""

from __future__ import annotations

import _socket  # what `socket` itself is made of: importing that takes longer than all that a supervisor does here
import contextlib
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
_BACKLOG = 128


class Gateway:
    """The gateway of one host.

    Args:
        home: the engine's folder.
        decided: what `gateway_plan.plan` decided.
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
        self._waiter = threading.Thread(target=self._wait_for_connection, daemon=True)
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

    def close(self) -> None:
        """End it: nobody listens afterwards."""
        os.close(self._wake_write)
        self._waiter.join()
        os.close(self._wake_read)
        self._listener.close()
        if self._server is not None:
            self._server.kill()
            self._server.communicate()

    def _wait_for_connection(self) -> None:
        ready, _, _ = select.select([self._listener.fileno(), self._wake_read], [], [])
        if self._wake_read in ready:
            return
        order = {
            "home": str(self._home),
            "listener": self._listener.fileno(),
            **{name: self._decided[name] for name in ("region", "settings", "masks", "path")},
        }
        with contextlib.suppress(OSError):  # too many processes: the job's connections are refused
            self._server = subprocess.Popen(  # noqa: S603 -- this module itself
                [sys.executable, "-I", "-S", "-c", _BOOT, json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                pass_fds=(self._listener.fileno(),),
            )
        self._listener.close()  # only the server listens from here on: if it dies, clients learn of it

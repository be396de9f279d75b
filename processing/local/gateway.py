"""A job's own way to the engine: its boto3, and every other client, reaches it at AWS_ENDPOINT_URL without a setting.

The supervisor binds a port of the loopback interface, which costs next to nothing. Only when the job connects for the
first time is a process started that serves at it, with the keys of the job's role; it ends with its supervisor, however
that ends. A job with network isolation has no gateway.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.settings import EngineSettings

PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_BOOT = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order['path']; "
    "from processing.local.gateway import serve; serve(order)"
)
MASKS_VARIABLE = "PROCESSING_LOCAL_MASKS"
"""Tells a gateway's server what the creator of its job keeps from jobs: a list in JSON."""
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_BACKLOG = 128
_SLACK_SECONDS = 86_400
"""For how long a job's keys hold beyond its longest runtime: for its inputs, its outputs, and clocks that are set."""


def plan(
    home: Path, region: str, settings: EngineSettings, request: Mapping[str, Any], masks: list[str]
) -> dict[str, Any]:
    """Decide how a job reaches the engine.

    Args:
        home: the engine's folder.
        region: the engine's region.
        settings: the engine's settings, which also hold for jobs that this job creates.
        request: the job's request.
        masks: the files that such jobs shall not see either.

    Returns:
        what `Gateway` needs, in JSON's types.
    """
    from attrs import evolve

    from processing.local.credentials import job_credentials
    from processing.local.server import client_environment
    from processing.local.settings import PYTHON_VARIABLE

    longest = request["StoppingCondition"]["MaxRuntimeInSeconds"]
    keys = job_credentials(home, _session_of(request["RoleArn"]), time.time() + longest + _SLACK_SECONDS)
    python = settings.python or os.environ.get(PYTHON_VARIABLE) or sys.executable
    return {
        "region": region,
        "settings": evolve(settings, python=python).to_json(),
        "masks": masks,
        # Where the creator's modules come from: the server needs botocore, wherever that is.
        "path": [*dict.fromkeys([*filter(os.path.isabs, sys.path), PACKAGE_ROOT])],
        "environment": client_environment("", keys, region),
    }


def _session_of(role: str) -> str:
    """Return who a job with that role is: what GetCallerIdentity answers in a job on AWS."""
    prefix, _, name = role.partition(":role/")
    return f"{prefix.replace(':iam:', ':sts:', 1)}:assumed-role/{name.rpartition('/')[2]}/SageMaker"


class Gateway:
    """The gateway of one host.

    Args:
        home: the engine's folder.
        decided: what `plan` decided.
    """

    def __init__(self, home: Path, decided: Mapping[str, Any]) -> None:
        self._home = home
        self._decided = decided
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
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


def serve(order: Mapping[str, Any]) -> None:
    """Serve the engine at the listener that was inherited, until the supervisor is gone."""
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    from processing.local.engine import Engine
    from processing.local.server import Server
    from processing.local.settings import EngineSettings

    os.environ[MASKS_VARIABLE] = json.dumps(order["masks"])
    engine = Engine(Path(order["home"]), EngineSettings.from_json(order["settings"]), region=order["region"])
    Server(engine, listener=socket.socket(fileno=order["listener"])).serve_forever()


def _end_with_supervisor() -> None:
    """End when the other end of stdin is closed, which the kernel does when the supervisor ends, however it ends."""
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(0)

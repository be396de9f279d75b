"""The process that serves the engine to one job, at a listener that the job's supervisor opened."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing.local.engine import REGION, Engine
from processing.local.jobs.gateway_options import MASKS_VARIABLE
from processing.local.settings import EngineSettings
from processing.local.transports.server import Server, logging_to

if TYPE_CHECKING:
    from collections.abc import Mapping


def serve(order: Mapping[str, Any]) -> None:
    """Serve the engine at the inherited listener until the supervisor ends."""
    threading.Thread(target=_exit_with_supervisor, daemon=True).start()
    os.environ[MASKS_VARIABLE] = json.dumps(order["masks"])
    home = Path(order["home"])
    with logging_to(home, logging.getLogger("processing")):  # not on stderr, which is the job's log
        region = None if order["region"] == REGION else order["region"]  # the default region accepts any image
        engine = Engine(home, EngineSettings.from_json(order["settings"]), region=region)
        Server(engine, listener=socket.socket(fileno=order["listener"])).serve_forever()


def _exit_with_supervisor() -> None:
    """Exit when stdin ends. The kernel closes its other end when the supervisor ends, even if it is killed."""
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(0)

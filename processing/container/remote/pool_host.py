"""The program of a pool's job: runs calls that come through a queue, in worker processes, until the pool ends.

It ends when the owner closes the pool, and when the owner gives no sign of life: a job that waits costs money.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from typing import Any, Dict, List, Optional, Tuple, Union

from . import call, channel, packing
from .boot import write_message
from .channel import ABANDON, CALL, CLOSE, ENDED, NO_BOTO3, FrameReader, PoolPlaces, ReceivedCall, send_frame
from .map_host import outcome_of, packed_error, read_hosts
from .worker import ERROR, Executed, LoadedFunction
from .workers import CallLimits, CallOutcome, Workers

LIFE_SECONDS = 90.0
"""The longest time without a sign of life of the owner, which sends one every twenty seconds."""
_LAST_RESULTS_SECONDS = 60.0
"""The longest wait for the last results to be sent."""
_FUNCTIONS = 8
"""The functions that a worker keeps loaded."""


def main(places: Any, manifest: Dict[str, Any], _folder: str) -> None:
    """Run the calls of a pool, and end the process.

    Args:
        places: the paths of the job, `boot.Places`.
        manifest: the verified manifest. Its member `pool` has the fields of `PoolPlaces`, `workers` and `life`.
        _folder: the folder of the unpacked bundle.
    """
    pool = dict(manifest["pool"])
    workers, life = pool.pop("workers"), pool.pop("life")
    host, number, _ = read_hosts(places.resources)
    with tempfile.TemporaryDirectory() as folder:
        member = _Member(PoolPlaces(**pool), host, number, folder, life)
        reason = member.run(CallLimits(workers=workers))
    print("remote-function pool: %s" % reason, flush=True)  # noqa: T201 - the job's log
    if reason == NO_BOTO3:
        text = "a RemotePool needs boto3 in the image of its job"
        write_message(places.message, {"slot": "refused", "text": text})
        sys.exit("remote function: %s" % text)
    sys.exit(0 if reason in {"closed", "the owner is gone"} else 1)


class _Member:
    """One host of a pool."""

    def __init__(self, settings: PoolPlaces, host: str, number: int, folder: str, life: float) -> None:
        self._host = host
        self._folder = folder
        self._life = life
        self._keys: Dict[int, bytes] = {}
        self._seen: Dict[int, None] = {}
        self._reason: Optional[str] = None
        self._abandoned = False
        self._last_sign = time.monotonic()
        self._connection, far = socket.socketpair()
        if os.fork() == 0:
            self._connection.close()
            channel.run(far, settings, number, folder)
        far.close()
        self._reader = FrameReader(self._connection)

    def run(self, limits: CallLimits) -> str:
        """Run calls until the pool ends. Return the reason."""
        signal.signal(signal.SIGTERM, self._stop)
        workers = Workers(_load, limits, self._send, self._folder)
        workers.watch(self._connection.fileno())
        with contextlib.suppress(OSError):  # `_receive` has the reason
            self._send_frame({"kind": "ready", "host": self._host, "workers": workers.count})
        while self._reason is None or (self._reason == "closed" and workers.unfinished):
            if workers.step(max(0.0, self._last_sign + self._life - time.monotonic())):
                self._receive(workers)
            if self._owner_is_silent():
                self._reason, self._abandoned = "the owner is gone", True
                break
        workers.close()
        with contextlib.suppress(OSError):  # the other process is gone
            self._send_frame({"kind": ENDED, "host": self._host, "abandoned": self._abandoned})
            self._connection.shutdown(socket.SHUT_WR)
            self._connection.settimeout(_LAST_RESULTS_SECONDS)
            while not self._reader.read()[1]:  # until the last results are sent
                pass
        return self._reason or ""

    def _send_frame(self, message: Dict[str, Any], key: bytes = b"", data: bytes = b"", path: Any = None) -> None:
        send_frame(self._connection, (message, key, data, path))

    def _stop(self, _number: int, _frame: object) -> None:
        self._reason = "stopped"

    def _receive(self, workers: Workers) -> None:
        frames, closed = self._reader.read()
        for kind, value in frames:
            self._last_sign = time.monotonic()
            if kind == CALL:
                self._add(workers, value)
            elif kind in {CLOSE, ABANDON, NO_BOTO3}:
                self._reason = NO_BOTO3 if kind == NO_BOTO3 else "closed"
                self._abandoned = kind == ABANDON
        if closed and self._reason is None:
            self._reason = "the connection to SQS is lost"

    def _owner_is_silent(self) -> bool:
        """Return whether the owner gives no sign of life for too long."""
        if time.monotonic() - self._last_sign <= self._life:
            return False
        try:  # a step may have waited for the upload of a result, and signs wait for this process
            return not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:  # nothing waits, or the other process is gone
            return True

    def _add(self, workers: Workers, received: ReceivedCall) -> None:
        """Add a call, unless a message was delivered twice."""
        if received.number not in self._seen:
            self._seen[received.number] = None
            self._keys[received.number] = received.key
            workers.add(received.number, received)

    def _send(self, outcome: CallOutcome) -> None:
        message = {"kind": "result", "number": outcome.call, "outcome": outcome.kind, "seconds": outcome.seconds}
        key = self._keys.pop(outcome.call)
        with contextlib.suppress(OSError):  # `_receive` has the reason
            self._send_frame(message, key, outcome.data, outcome.path)


def _load() -> Union[LoadedFunction, bytes]:
    functions: "collections.OrderedDict[str, Any]" = collections.OrderedDict()

    def execute(received: ReceivedCall) -> Executed:
        if received.problem:
            return Executed(ERROR, packed_error(ValueError(received.problem)))
        try:
            function = functions.get(received.function)
            if function is None:
                function = packing.unpack(_read(received.function_parts))
                functions[received.function] = function
                while len(functions) > _FUNCTIONS:
                    functions.popitem(last=False)
        except BaseException as error:  # noqa: BLE001 - code of the user runs while it is loaded
            return Executed(ERROR, packed_error(error, call.LOADING))

        def load() -> Tuple[Any, Any, Any]:
            args, kwargs = packing.unpack(_read(received.arguments))
            return function, args, kwargs

        return outcome_of("call %d" % received.number, load, "pickle", ())

    return LoadedFunction(execute)


def _read(parts: List[Any]) -> bytearray:
    """Return a packed value from its parts. It is a copy, so a call may change its arguments."""
    value = bytearray()
    for part in parts:
        if isinstance(part, str):
            with open(part, "rb") as file:  # noqa: PTH123 - a host uses no pathlib
                value += file.read()
        else:
            value += part
    return value

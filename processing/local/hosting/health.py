"""The check whether the program of a host serves: GET /ping, again and again until the answer is 200."""

from __future__ import annotations

import _socket  # the base of `socket`, whose import takes longer than everything a supervisor does here
import contextlib
import select
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PING_SECONDS = 2.0
"""The time in which a program has to answer, as on AWS."""
_PAUSE, _LONGEST_PAUSE = 0.005, 0.5
"""The pauses between two checks. Each pause is a twentieth of the time since the start, within these bounds: a quick
start is noticed at once, and a slow one costs little."""
_PAUSE_SHARE = 0.05
_REQUEST = b"GET /ping HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\nConnection: close\r\n\r\n"
_HEALTHY = (b"HTTP/1.1 200", b"HTTP/1.0 200")


class HealthCheck:
    """The check of one run of a program.

    Args:
        connect: returns a socket that connects to the program; None if the program is gone.
        seconds: the time after which the check gives up.

    Attributes:
        gave_up: whether the program did not become healthy in time.
        last_answer: the last sign of life of a program that is not healthy, as the end of a sentence.
    """

    def __init__(self, connect: Callable[[], _socket.socket | None], seconds: float) -> None:
        self._connect = connect
        self._seconds = seconds
        self._stopped = threading.Event()
        self.gave_up = False
        self.last_answer = "it accepted no connection at port 8080"

    def wait(self) -> bool:
        """Return whether the program is healthy, as soon as it is, or the time is over, or the check is stopped."""
        start = time.monotonic()
        pause = _PAUSE
        while not self._stopped.wait(pause):
            elapsed = time.monotonic() - start
            if elapsed > self._seconds:
                self.gave_up = True
                return False
            pause = min(max(_PAUSE, elapsed * _PAUSE_SHARE), _LONGEST_PAUSE)
            connection = None
            with contextlib.suppress(OSError):  # there are too many open files
                connection = self._connect()
            if connection is None:
                continue
            with contextlib.closing(connection):
                answer = ping(connection)
            if answer.startswith(_HEALTHY):
                return not self._stopped.is_set()
            if answer:
                self.last_answer = f"it answered GET /ping with {answer[:80].decode(errors='replace')!r}"
        return False

    def stop(self) -> None:
        """End the check."""
        self._stopped.set()


def ping(connection: _socket.socket) -> bytes:
    """Return the first line of the answer to GET /ping; empty if there is none in time.

    Args:
        connection: a socket that connects to the program.
    """
    deadline = time.monotonic() + PING_SECONDS
    received = b""
    with contextlib.suppress(OSError):
        if not can_connect(connection):
            return b""
        connection.setblocking(True)  # noqa: FBT003 - the method has no keyword
        connection.send(_REQUEST)
        while b"\r\n" not in received and _wait(connection, select.POLLIN, deadline):
            piece = connection.recv(1024)
            if not piece:
                break
            received += piece
    return received.partition(b"\r\n")[0]


def can_connect(connection: _socket.socket) -> bool:
    """Return whether a socket that connects reaches a program in time."""
    ready = _wait(connection, select.POLLOUT, time.monotonic() + PING_SECONDS)
    return ready and connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR) == 0


def _wait(connection: _socket.socket, event: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), event)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))

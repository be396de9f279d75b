"""The broker of connections to the program of a host, in the host's supervisor.

A client connects to a Unix socket in the host's folder and receives a socket that connects to the program. From then on
it talks to the program directly. As long as the program is not healthy, clients wait in the queue of the Unix socket.
If the supervisor ends, the kernel closes that socket, and the clients learn of it.
"""

# Two functions of `os.path` cost less than pathlib in each invocation.
# ruff: noqa: PTH112, PTH118

from __future__ import annotations

import _socket  # the base of `socket`, whose import takes longer than everything a supervisor does here
import contextlib
import errno
import os
import select
import sys
import threading
from typing import TYPE_CHECKING

from processing.container import relay as relay_script
from processing.container.relay import (
    CONNECT,
    GATEWAY,
    IN_NEW_NETWORK,
    ISOLATED,
    LISTENING,
    connecting_socket,
    send_socket,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SOCKET = "connect.sock"
"""The name of the Unix socket in a host's folder."""
LEASE = "lease"
"""The name of the file in a host's folder that its callers lock: see `HostConnections`."""
_BACKLOG = 4096
_INTEGER = 4
"""The bytes of a descriptor in a control message."""
_CLOSED_BY_PROGRAMS = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)
"""The flag by which a received descriptor is not inherited by other programs."""


@contextlib.contextmanager
def socket_path(folder: str) -> Iterator[str]:
    """Yield a short path of the Unix socket in a folder: a socket's path has 107 bytes at most."""
    if not os.path.isdir("/proc/self/fd"):
        yield os.path.join(folder, SOCKET)
        return
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{SOCKET}"
    finally:
        os.close(directory)


class Relay:
    """The supervisor's end of a relay (see `processing.container.relay`).

    Args:
        gateway: whether the program's clients may reach the engine.

    Attributes:
        gateway: whether the program's clients may reach the engine.
    """

    def __init__(self, *, gateway: bool) -> None:
        self.gateway = gateway
        self._ours, self._theirs = _socket_pair()
        self._lock = threading.Lock()

    def command(self, python: str, argv: Sequence[str], *, makes_network: bool = False) -> list[str]:
        """Return the command line that runs a program beside the relay.

        Args:
            python: the interpreter that runs the relay.
            argv: the program and its arguments.
            makes_network: whether the relay makes the program's network, because the sandbox makes none.
        """
        mode = (GATEWAY if self.gateway else ISOLATED) + (IN_NEW_NETWORK if makes_network else "")
        return [python, "-I", "-S", relay_script.__file__, str(self._theirs.fileno()), mode, *argv]

    @property
    def inherited(self) -> int:
        """The descriptor that the command line inherits."""
        return self._theirs.fileno()

    def started(self) -> None:
        """Close the inherited descriptor here. Then the end of the relay can be noticed."""
        self._theirs.close()

    def listener(self) -> _socket.socket | None:
        """Return the socket that listens in the program's network; None if the relay ended before it sent one."""
        try:
            text, descriptor = _receive_socket(self._ours)
        except OSError:
            return None
        return None if descriptor is None or text != LISTENING else _socket.socket(fileno=descriptor)

    def connection(self) -> _socket.socket | None:
        """Return a socket that connects to the program; None if the relay has ended.

        Raises:
            OSError: this process has too many open files.
        """
        try:
            with self._lock:
                self._ours.send(CONNECT)
                text, descriptor = _receive_socket(self._ours)
        except OSError:
            return None
        if text and descriptor is None:  # the kernel drops a socket for which this process has no number
            raise OSError(errno.EMFILE, "Too many open files")
        return None if descriptor is None else _socket.socket(fileno=descriptor)

    def close(self) -> None:
        """Close both ends, which ends the relay."""
        self._ours.close()
        self._theirs.close()


class ConnectionBroker:
    """A thread that hands out connections to the host's program.

    Args:
        folder: the host's folder, for the Unix socket.
    """

    def __init__(self, folder: str) -> None:
        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        with socket_path(folder) as path:
            self._listener.bind(path)
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)  # noqa: FBT003 - the method has no keyword
        self._wake_read, self._wake_write = os.pipe()
        self._lock = threading.Lock()
        self._connect: Callable[[], _socket.socket | None] | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def open(self, connect: Callable[[], _socket.socket | None]) -> None:
        """Serve the waiting clients and those that follow, because the program is healthy.

        Args:
            connect: returns a socket that connects to the program; None if the program is gone.
        """
        self._set(connect)

    def hold(self) -> None:
        """Let clients wait, because the program has ended."""
        self._set(None)

    def close(self) -> None:
        """End the thread and turn away the clients that still wait."""
        self._closing = True
        self._set(None)
        self._thread.join()
        self._listener.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _set(self, connect: Callable[[], _socket.socket | None] | None) -> None:
        with self._lock:  # after this the thread does not use an old function
            self._connect = connect
        os.write(self._wake_write, b"\0")

    def _serve(self) -> None:
        while not self._closing:
            listening = [self._listener.fileno()] if self._connect is not None else []
            ready, _, _ = select.select([*listening, self._wake_read], [], [])
            if self._wake_read in ready:
                os.read(self._wake_read, 512)
            elif not self._closing:
                self._serve_one()

    def _serve_one(self) -> None:
        with self._lock:
            if self._connect is None:
                return
            try:
                client = _socket.socket(fileno=self._listener._accept()[0])  # type: ignore[attr-defined]  # noqa: SLF001 - `socket.accept` without `socket`
            except OSError:  # it has gone, or there are too many open files
                return
            try:
                try:
                    connection = self._connect()
                except OSError:  # there are too many open files: the client is turned away, and tries again
                    return
                if connection is None:
                    self._connect = None
                else:
                    with contextlib.suppress(OSError):  # the client has gone
                        send_socket(client, CONNECT, connection)
                    connection.close()
            finally:
                client.close()


def direct_connection() -> _socket.socket:
    """Return a socket that connects to a program in this machine's network."""
    return connecting_socket()


def receive_connection(broker: _socket.socket) -> int | None:
    """Return the descriptor of the connection that a broker sends; None if it has gone.

    Raises:
        OSError: it has gone, or nothing arrives within the time-out of the socket.
    """
    return _receive_socket(broker)[1]


def _receive_socket(source: _socket.socket) -> tuple[bytes, int | None]:
    text, ancillary, _, _ = source.recvmsg(1, _socket.CMSG_SPACE(_INTEGER), _CLOSED_BY_PROGRAMS)
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            return text, int.from_bytes(data[:_INTEGER], sys.byteorder)
    return text, None


def _socket_pair() -> tuple[_socket.socket, _socket.socket]:
    first, second = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return first, second

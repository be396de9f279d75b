"""The kept-alive connections of this process to the programs of hosts.

A call holds a shared lock on the host's lease file. A supervisor that has to end takes that lock exclusively, and so
waits for running calls. The kernel releases the lock of a process that is killed.
"""

# Few system calls in each invocation.
# ruff: noqa: PTH118

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from processing.local.hosting.broker import LEASE
from processing.local.hosting.program_client import (
    Answer,
    Call,
    NoAnswerError,
    NotConnectedError,
    ProgramConnection,
    ProgramError,
    connect,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE_SECONDS = 2.0
"""The time after which an idle connection is closed. A program that serves one connection at a time can then serve
another process."""
_RETRY_SECONDS = 1.0
"""The time for a second connection after a kept-alive one was found closed."""


class _Leased(NamedTuple):
    """A connection, and the descriptor of its host's lease file."""

    connection: ProgramConnection
    lease: int

    def close(self) -> None:
        self.connection.close()
        os.close(self.lease)


class HostConnections:
    """Connections to any number of hosts, for one call at a time each. Safe for threads and forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[tuple[float, _Leased]]] = {}
        self._closer: threading.Thread | None = None
        self._pid = os.getpid()

    def ask(self, folder: str, call: Call) -> Answer:
        """Return the answer of a host's program.

        Args:
            folder: the host's folder.
            call: the request.

        Raises:
            NotConnectedError: the host is gone or is ending; another host may take its place.
            ProgramError: the program did not answer.
        """
        self._check_process()
        deadline = time.monotonic() + call.seconds
        leased = self._take(folder) or self._open(folder, deadline)
        try:
            with self._lending(folder, leased):
                return leased.connection.ask(call)
        except NoAnswerError:
            again = self._open_again(folder, leased)
            if again is None:
                raise
        with self._lending(folder, again):
            return again.connection.ask(call)

    @contextlib.contextmanager
    def stream(self, folder: str, call: Call) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Yield the head of the program's answer and the pieces of its body, on a connection of their own.

        Raises:
            NotConnectedError: the host is gone or is ending; another host may take its place.
            ProgramError: the program did not answer.
        """
        self._check_process()
        leased = self._open(folder, time.monotonic() + call.seconds)
        with self._lending(folder, leased), leased.connection.stream(call) as answer:
            yield answer

    def close(self) -> None:
        """Close all idle connections."""
        self._close_older_than(0)

    def _take(self, folder: str) -> _Leased | None:
        """Return an idle connection that is still open, with its lease; None if there is none."""
        while True:
            with self._lock:
                waiting = self._idle.get(folder)
                if not waiting:
                    return None
                leased = waiting.pop()[1]
            if leased.connection.is_idle() and _share(leased.lease):
                return leased
            leased.close()

    def _open(self, folder: str, deadline: float, *, patient: bool = True) -> _Leased:
        try:
            lease = os.open(os.path.join(folder, LEASE), os.O_RDONLY)
        except OSError:
            raise NotConnectedError("The host of the program is gone.") from None
        if not _share(lease):
            os.close(lease)
            raise NotConnectedError("The host of the program is ending.")
        try:
            return _Leased(ProgramConnection(connect(folder, deadline, patient=patient)), lease)
        except BaseException:
            os.close(lease)
            raise

    def _open_again(self, folder: str, failed: _Leased) -> _Leased | None:
        """Return a new connection in place of a kept-alive one that the program had just closed.

        Return None if the connection was new, or if the program has ended: then the call may have been its end.
        """
        if not failed.connection.reused:
            return None
        with contextlib.suppress(ProgramError):
            return self._open(folder, time.monotonic() + _RETRY_SECONDS, patient=False)
        return None

    @contextlib.contextmanager
    def _lending(self, folder: str, leased: _Leased) -> Iterator[None]:
        """Keep the connection afterwards if it can serve another call."""
        try:
            yield
        finally:
            if leased.connection.closed:
                os.close(leased.lease)
            else:
                _release(leased.lease)
                self._keep(folder, leased)

    def _keep(self, folder: str, leased: _Leased) -> None:
        with self._lock:
            if self._closer is None:
                closer = threading.Thread(target=self._close_idle, name="host-connections", daemon=True)
                try:
                    closer.start()
                except RuntimeError:  # there are too many threads, and nothing would close the connection later
                    leased.close()
                    return
                self._closer = closer
            self._idle.setdefault(folder, []).append((time.monotonic(), leased))

    def _close_idle(self) -> None:
        """Close connections that have been idle for long, until there is none. Runs in a thread of its own."""
        while True:
            time.sleep(IDLE_SECONDS / 2)
            self._close_older_than(IDLE_SECONDS)
            with self._lock:
                if not self._idle:
                    self._closer = None
                    return

    def _close_older_than(self, seconds: float) -> None:
        limit = time.monotonic() - seconds
        old: list[_Leased] = []
        with self._lock:
            for folder, waiting in list(self._idle.items()):
                old += [leased for since, leased in waiting if since <= limit]
                waiting[:] = [(since, leased) for since, leased in waiting if since > limit]
                if not waiting:
                    del self._idle[folder]
        for leased in old:
            leased.close()

    def _check_process(self) -> None:
        """Close the connections that a fork copied: only the parent may use them."""
        if self._pid != os.getpid():
            self._lock = threading.Lock()
            self._pid, self._closer = os.getpid(), None
            self._close_older_than(0)


def _share(lease: int) -> bool:
    """Take the shared lock of a lease file, and return whether the host's supervisor allows that."""
    import fcntl  # absent on Windows, where public names import this module all the same

    try:
        fcntl.flock(lease, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _release(lease: int) -> None:
    import fcntl

    fcntl.flock(lease, fcntl.LOCK_UN)

"""The meeting of a job's hosts: files in a folder that all of them see.

Ports are chosen by the system, since jobs run side by side on one machine. The first host writes the address of its
master. The others write their names once they have joined. The first host holds a lock as long as it lives, and the
kernel releases it however the host ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_MASTER, _LOCK, _READY = "master.json", "{}.lock", "{}.ready"
_POLL = 0.1
_LIMIT = 600.0
"""Seconds for which hosts wait for each other, as in AWS's images."""


class MeetingError(Exception):
    """Hosts that do not find each other."""


class Master(NamedTuple):
    """The master of the cluster.

    Attributes:
        url: its address, such as `spark://127.0.1.1:7077`.
        secret: the secret that every member of the cluster knows.
    """

    url: str
    secret: str


class Rendezvous:
    """The meeting of the hosts of one job, for one application.

    Args:
        folder: the folder, which any host may create.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None
        folder.mkdir(mode=0o700, exist_ok=True)

    def announce(self, master: Master) -> None:
        """Tell the other hosts the master, and hold a lock until this process ends.

        Each application has a lock of its own, so that a later one in the same job cannot take it over.
        """
        for path in self._folder.glob(_READY.format("*")):
            path.unlink()
        name = _LOCK.format(secrets.token_hex(8))
        self._lock = os.open(self._folder / name, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._write(_MASTER, json.dumps({**master._asdict(), "lock": name}))

    def retire(self) -> None:
        """Take the master back: the hosts of a later application wait for a new one."""
        (self._folder / _MASTER).unlink(missing_ok=True)

    def find_master(self) -> Master:
        """Wait for the master, and return it.

        Raises:
            MeetingError: it does not come in time.
        """
        path = self._folder / _MASTER
        _wait_until(path.exists, "the first host has started no master")
        found = json.loads(path.read_text(encoding="utf-8"))
        self._lock = os.open(self._folder / found.pop("lock"), os.O_RDWR)
        return Master(**found)

    def join(self, host: str) -> None:
        """Tell the first host that this one has joined."""
        self._write(_READY.format(host), "")

    def wait_for(self, hosts: Sequence[str]) -> None:
        """Wait until all hosts have joined.

        Raises:
            MeetingError: some have not joined in time.
        """
        for host in hosts:
            _wait_until((self._folder / _READY.format(host)).exists, f"{host} has not joined the cluster")

    def wait_for_end(self) -> None:
        """Wait until the first host has ended."""
        assert self._lock is not None
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _write(self, name: str, text: str) -> None:
        partial = self._folder / f".{name}"
        with open(partial, "w", encoding="utf-8", opener=_private) as file:
            file.write(text)
        partial.replace(self._folder / name)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _wait_until(condition: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + _LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise MeetingError(f"{problem} within {_LIMIT:.0f} seconds")
        time.sleep(_POLL)

"""Hosts seen from outside: starting their supervisors, and noticing those that died.

Each host has a lock file that its supervisor keeps locked as long as it lives, however it ends. Whoever asks for a job
looks at the locks of its hosts first.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

from processing.container import contract
from processing.local import file_trees as trees
from processing.local import limits, processes
from processing.local.errors import disk_full
from processing.local.import_path import PACKAGE_ROOT
from processing.local.jobs import events
from processing.local.sandboxes import restore
from processing.local.sandboxes.base import container_key
from processing.local.stores.jobs import HostEnd, HostRecord, JobRecord, JobStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); from processing.local.jobs.supervisor import main; main(sys.argv[2:])"
)
_ENVIRONMENT = ("PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH")  # without the last, some a Python does not start
_children: list[_Supervisor] = []
_open_locks: weakref.WeakSet[HostLocks] = weakref.WeakSet()
_opening = threading.RLock()
"""Held while a lock is opened and while the process forks, so that a child knows every lock that it has inherited."""


class _Supervisor(subprocess.Popen[bytes]):
    """A process that outlives this one by design, so that its being alive at the end is no reason to warn."""

    def __del__(self) -> None:
        """Do nothing: there is nothing to release."""


def machine_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of this machine that a job may see: a short list of harmless ones."""
    return {name: value for name, value in environ.items() if name in _ENVIRONMENT or name.startswith("LC_")}


class HostLocks:
    """The locks of a new job's hosts, taken before anybody can see the job, and handed to its supervisors.

    Args:
        folder: the job's folder, which is made here.
        count: how many hosts it has.

    Raises:
        ApiError: the disk is full.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._fds: dict[int, int] = {}
        _open_locks.add(self)
        unnamed = folder.with_name(f".{folder.name}")
        try:
            folder.parent.mkdir(exist_ok=True)
            unnamed.mkdir()
            for number in range(1, count + 1):
                with _opening:
                    fd = self._fds[number] = os.open(_lock_path(unnamed, number), os.O_CREAT | os.O_RDWR, 0o600)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unnamed.rename(folder)  # only now: a folder of that name without a lock has lost its processes
        except BaseException as error:
            self.close()
            trees.remove_tree(unnamed)
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise disk_full(folder) from error
            raise

    def fd(self, number: int) -> int:
        """Return the descriptor that holds a host's lock."""
        return self._fds[number]

    def close(self) -> None:
        """Let go: each lock is then held by the supervisor alone, if it was started."""
        while self._fds:
            os.close(self._fds.popitem()[1])


def _after_fork() -> None:
    """In a forked child: let go of what its parent is about to hand to supervisors, or the locks would be kept."""
    for locks in list(_open_locks):
        locks.close()
    _opening.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_after_fork)


def _lock_path(folder: Path, number: int) -> Path:
    return folder / f"{contract.host_name(number)}.lock"


def start_supervisors(home: Path, job: JobRecord, count: int, locks: HostLocks, environment: Mapping[str, str]) -> None:
    """Start the supervisor of every host; each is a session of its own, so that no Ctrl-C of ours reaches it.

    One that cannot be started is not an error here, since the job exists: it is found dead at the next look.
    """
    _reap_children()
    python = sys.executable or shutil.which("python3") or "python3"
    for number in range(1, count + 1):
        lock = locks.fd(number)
        arguments = [PACKAGE_ROOT, str(home), str(job.id), str(number), str(lock)]
        with (home / job.folder / f"{contract.host_name(number)}.err").open("wb") as errors:
            try:
                supervisor = _Supervisor(
                    [python, "-I", "-S", "-c", _BOOT, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    cwd="/",
                    env=dict(environment),
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            except OSError as error:
                errors.write(f"it could not be started: {error}\n".encode())
            else:
                _children.append(supervisor)


def _reap_children() -> None:
    """Let ended supervisors of this process go, which would stay in the process table as zombies."""
    for child in list(_children):
        if child.poll() is not None:
            with contextlib.suppress(ValueError):
                _children.remove(child)


def reap_dead_hosts(store: JobStore, home: Path, jobs: Iterable[JobRecord]) -> bool:
    """Fail the hosts whose supervisor died without noting an end, and kill what their programs left.

    Events that a killed process did not deliver are delivered, too.

    Args:
        store: the job store.
        home: the engine's folder.
        jobs: those to look at.

    Returns:
        whether there was one.
    """
    _reap_children()
    found = False
    for job in jobs:
        if job.finished:
            continue
        for host in store.hosts(job.id):
            if host.outcome is None:
                found |= _bury_if_dead(store, home, job, host)
    events.deliver(store, home)
    return found


def _bury_if_dead(store: JobStore, home: Path, job: JobRecord, host: HostRecord) -> bool:
    folder = home / job.folder
    try:
        fd = os.open(_lock_path(folder, host.number), os.O_RDWR)
    except FileNotFoundError:
        fd = None
    try:
        if fd is not None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return _bury(store, folder, job, host.number)
    finally:
        if fd is not None:
            os.close(fd)


def _bury(store: JobStore, folder: Path, job: JobRecord, number: int) -> bool:
    # Looked at again now that the lock is ours: it may have ended properly in between.
    current: Sequence[HostRecord] = [host for host in store.hosts(job.id) if host.number == number]
    if not current or current[0].outcome is not None:
        return True
    host = current[0]
    work = folder / contract.host_name(number)
    sandbox = store.execution_plan(job.id).get("sandbox")
    if sandbox is not None:  # first: a client of a container ends by itself then, and is better not killed
        restore(sandbox).remove(container_key(job.folder, number), str(work / "ml"))
    if host.process_group is not None:
        processes.kill_group(host.process_group, host.group_started)
    processes.kill_processes_of(work)  # killed before it could note the group of what it had started
    limits.remove_orphaned_group(work)
    reason = "InternalServerError: the supervisor of the job's host is gone"
    said = _last_words(folder / f"{contract.host_name(number)}.err")
    end = HostEnd("failed", reason=f"{reason}: {said}" if said else f"{reason} (killed, or the machine was restarted)")
    trees.remove_tree(work)
    if store.record_host_end(job.id, number, end, time.time()):
        trees.remove_tree(folder)
    return True


def _last_words(path: Path) -> str:
    """Return the last line that a supervisor wrote to its stderr."""
    with contextlib.suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""

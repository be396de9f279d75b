"""The processes of hosts, seen from other processes: starts supervisors, and detects dead ones.

Each host has a lock file. Its supervisor holds the lock as long as it lives, and the kernel releases it however the
supervisor ends. A process that reads a job's status checks the locks of its hosts first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

from processing.container import contract
from processing.local import file_trees, limits, processes
from processing.local.errors import ApiError, disk_full, is_full
from processing.local.import_path import PACKAGE_ROOT
from processing.local.jobs import events
from processing.local.sandboxes import restore
from processing.local.sandboxes.base import container_key
from processing.local.stores.jobs import HostEnd, HostRecord, JobRecord, JobStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

SUPERVISOR = "processing.local.jobs.supervisor"
"""The module of the supervisors of jobs."""
_SUPERVISOR_PROGRAM = (
    "import gc, sys; gc.disable(); sys.path.append(sys.argv[1]); from {} import main; main(sys.argv[2:])"
)
"""The program of a supervisor's process, with a place for its module."""
# Some builds of Python do not start without LD_LIBRARY_PATH.
_ENVIRONMENT = ("PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "JAVA_HOME", "SPARK_HOME")
_LOST = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
"""The errors for a job's folder or lock that was removed, replaced or locked. The job cannot go on without them."""
_unrecorded: set[int] = set()
"""The jobs whose end could not be recorded for lack of space, so that a warning is logged once."""
_children: list[_Supervisor] = []
_open_locks: weakref.WeakSet[HostLocks] = weakref.WeakSet()
_opening = threading.RLock()
"""Held while a lock is opened and while the process forks, so that a child knows every lock that it inherits."""


class _Supervisor(subprocess.Popen[bytes]):
    """A supervisor's process. It outlives this process by design, so no ResourceWarning is due at the end."""

    def __del__(self) -> None:
        """Do nothing, in place of the check that warns of a running child."""


def machine_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of this machine that a job may see: a short list of harmless ones."""
    return {name: value for name, value in environ.items() if name in _ENVIRONMENT or name.startswith("LC_")}


class HostLocks:
    """The locks of a new job's hosts. They are taken before the job is visible, and passed to its supervisors.

    Args:
        folder: the job's folder, which is made here.
        count: the number of its hosts.

    Raises:
        ApiError: the disk is full.
    """

    def __init__(self, folder: Path, count: int) -> None:
        import fcntl  # absent on Windows, where public names import this module all the same

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
            # The folder gets its name last: a folder with that name and without a held lock has lost its processes.
            unnamed.rename(folder)
        except BaseException as error:
            self.close()
            file_trees.remove_tree(unnamed)
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise disk_full(folder) from error
            raise

    def fd(self, number: int) -> int:
        """Return the descriptor that holds a host's lock."""
        return self._fds[number]

    def close(self) -> None:
        """Close the locks here. Each lock is then held by its supervisor alone, if that was started."""
        while self._fds:
            os.close(self._fds.popitem()[1])


def _after_fork() -> None:
    """Close the inherited locks in a forked child, which would otherwise keep them locked."""
    for locks in list(_open_locks):
        locks.close()
    _opening.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_after_fork)


def _lock_path(folder: Path, number: int) -> Path:
    return folder / f"{contract.host_name(number)}.lock"


def start_supervisors(
    home: Path,
    job: JobRecord,
    count: int,
    locks: HostLocks,
    environment: Mapping[str, str],
    module: str = SUPERVISOR,
) -> None:
    """Start the supervisor of every host, in a session of its own, which Ctrl-C in this terminal does not reach.

    A supervisor that cannot be started is not an error here, since the job exists. The next check finds it dead.

    Args:
        home: the engine's folder.
        job: the job.
        count: the number of its hosts.
        locks: the locks of its hosts.
        environment: the supervisors' environment.
        module: the module whose `main` the supervisors run.
    """
    _reap_children()
    python = sys.executable or shutil.which("python3") or "python3"
    for number in range(1, count + 1):
        lock = locks.fd(number)
        arguments = [PACKAGE_ROOT, str(home), str(job.id), str(number), str(lock)]
        with (home / job.folder / f"{contract.host_name(number)}.err").open("wb") as errors:
            try:
                supervisor = _Supervisor(
                    [python, "-I", "-S", "-c", _SUPERVISOR_PROGRAM.format(module), *arguments],
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
    """Reap the ended supervisors of this process, which would stay in the process table as zombies."""
    for child in list(_children):
        if child.poll() is not None:
            with contextlib.suppress(ValueError):
                _children.remove(child)


def reap_dead_hosts(store: JobStore, home: Path, jobs: Iterable[JobRecord]) -> bool:
    """Record a failure for each host whose supervisor died, and kill the processes that its program left.

    Also deliver the events that a killed process did not deliver. On a full disk nothing can be recorded, and the call
    has no effect but a warning: the status can be read nevertheless.

    Args:
        store: the job store.
        home: the engine's folder.
        jobs: the jobs to check.

    Returns:
        whether a dead host was found.
    """
    _reap_children()
    found = False
    for job in jobs:
        if job.finished:
            continue
        for host in store.hosts(job.id):
            if host.outcome is None:
                try:
                    found |= _reap_if_dead(store, home, job, host)
                except ApiError as error:
                    if not is_full(error):
                        raise
                    _warn_once(job, error)
    events.deliver(store, home)
    return found


def _warn_once(job: JobRecord, error: ApiError) -> None:
    if job.id not in _unrecorded:
        _unrecorded.add(job.id)
        import logging  # here, because a supervisor starts without it

        text = "The end of job %s cannot be recorded: %s"
        logging.getLogger(__name__).warning(text, job.name, error.message)


def _reap_if_dead(store: JobStore, home: Path, job: JobRecord, host: HostRecord) -> bool:
    import fcntl

    folder = home / job.folder
    try:
        fd = os.open(_lock_path(folder, host.number), os.O_RDWR)
    except _LOST:
        fd = None
    try:
        if fd is not None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return _reap(store, folder, job, host.number)
    finally:
        if fd is not None:
            os.close(fd)


def _reap(store: JobStore, folder: Path, job: JobRecord, number: int) -> bool:
    # Read again now that this process holds the lock: the host may have ended normally in between.
    current: Sequence[HostRecord] = [host for host in store.hosts(job.id) if host.number == number]
    if not current or current[0].outcome is not None:
        return True
    host = current[0]
    work = folder / contract.host_name(number)
    sandbox = store.execution_plan(job.id).get("sandbox")
    if sandbox is not None:  # first: the client of a removed container ends by itself, and must not be killed
        restore(sandbox).remove(container_key(job.folder, number), str(work / "ml"))
    if host.process_group is not None:
        processes.kill_group(host.process_group, host.group_started)
    processes.kill_processes_of(work)  # the supervisor may have been killed before it recorded the program's group
    limits.remove_orphaned_group(work)
    reason = "InternalServerError: the supervisor of the job's host is gone"
    cause = _last_error_line(folder / f"{contract.host_name(number)}.err")
    end = HostEnd(
        "failed", reason=f"{reason}: {cause}" if cause else f"{reason} (killed, or the machine was restarted)"
    )
    file_trees.remove_tree(work)
    if store.record_host_end(job.id, number, end, time.time()):
        file_trees.remove_tree(folder)
    return True


def _last_error_line(path: Path) -> str:
    """Return the last line that a supervisor wrote to its stderr."""
    with contextlib.suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""

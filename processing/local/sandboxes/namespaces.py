"""The second choice of a sandbox: a launcher of our own that makes namespaces with ctypes, without bubblewrap."""

from __future__ import annotations

import marshal
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing.local.sandboxes.base import (
    Check,
    HostCommand,
    HostSpec,
    OwnPrograms,
    children_of_opt,
    existing_masks,
    make_mount_points,
    try_out,
)
from processing.local.sandboxes.private_folders import SHM, TMP, private_folders, visible_masks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The launcher is imported alone, without the packages above it, and as bytecode, which a script never is.
_START_LAUNCHER = "import sys; sys.path.append(sys.argv[1]); from launcher import main; main(sys.argv[2:])"
_FOLDER = str(Path(__file__).parent)


class Namespaces(OwnPrograms):
    """A sandbox of `launcher.py`, a Python process that unshares, mounts and waits.

    The launcher is a process of its own because a process with threads cannot make a user namespace.

    Args:
        python: the interpreter of the launcher.
        users: whether to make a user namespace. Root does not need one, and keeps access to all users' files without.
        processes: whether to make a process namespace.
    """

    name = "namespaces"
    isolates_network = True
    mounts = True
    reports = True

    def __init__(self, python: str, users: bool = True, processes: bool = True) -> None:
        self._python = python
        self._users = users
        self._processes = processes

    @classmethod
    def probe(cls) -> tuple[Namespaces | None, str]:
        """Return a sandbox that works on this machine, or None and the reason."""
        if not sys.platform.startswith("linux"):
            return None, "only Linux has namespaces"
        if not Path("/opt").is_dir() or Path("/opt").is_symlink():
            return None, "there is no directory /opt to mount on"
        variants = [(False, True), (False, False)] if os.geteuid() == 0 else []
        reason = ""
        for users, processes in [*variants, (True, True), (True, False)]:
            sandbox = cls(sys.executable, users, processes)
            reason = try_out(sandbox)
            if not reason:
                return sandbox, ""
        return None, reason

    def state(self) -> dict[str, Any]:
        """Return the name and the arguments of this sandbox for `restore`."""
        return {"name": self.name, "python": self._python, "users": self._users, "processes": self._processes}

    def prepare(self, host: HostSpec, check: Check = lambda: None) -> None:
        """Create the mount points."""
        del check
        make_mount_points(host)

    def command(
        self, argv: Sequence[str], host: HostSpec, *, env: Mapping[str, str], cwd: str, report_fd: int | None
    ) -> HostCommand:
        """Return the command line of the launcher."""
        masks = existing_masks(host.masks)
        folders = {} if host.tmp is None else private_folders()
        order = {
            "cwd": cwd,
            "ml_root": host.ml_root,
            "opt": children_of_opt(),
            "binds": [list(bind) for bind in host.binds],
            "hostname": host.name,
            "hosts_file": host.hosts_file if Path("/etc/hosts").exists() else None,
            "masks": visible_masks(masks, host.kept) if folders else masks,
            "tmp": [host.tmp, folders[TMP]] if TMP in folders else None,
            "shm": folders.get(SHM),
            "kept": list(host.kept) if folders else [],
            "network": host.network,
            "users": self._users,
            "processes": self._processes,
            "report_fd": report_fd,
        }
        # The program's arguments are separate, not part of the order: Linux limits one argument to 128 KiB.
        command = [self._python, "-I", "-S", "-c", _START_LAUNCHER, _FOLDER, marshal.dumps(order).hex(), *argv]
        return HostCommand(command, dict(env), "/", report_fd is not None)

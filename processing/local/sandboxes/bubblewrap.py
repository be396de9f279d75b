"""The preferred sandbox: bubblewrap (`bwrap`), if it is installed and may make namespaces."""

from __future__ import annotations

import itertools
import os
import shutil
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


class Bubblewrap(OwnPrograms):
    """A sandbox of `bwrap`: mount, process and host-name namespaces of the program's own.

    With a process namespace, every descendant dies with the program, and the program with its supervisor. The program
    has a session of its own below bwrap, so a signal to its group does not hit bwrap.

    Args:
        executable: the path of `bwrap`.
        processes: whether to make a process namespace, which needs the right to mount /proc.
        modes: whether `bwrap` can make a folder with a mode, which it can from version 0.5 on.
    """

    name = "bubblewrap"
    isolates_network = True
    mounts = True
    reports = True

    def __init__(self, executable: str, processes: bool = True, modes: bool = True) -> None:
        self._executable = executable
        self._processes = processes
        self._modes = modes

    @classmethod
    def probe(cls) -> tuple[Bubblewrap | None, str]:
        """Return a sandbox that works on this machine, or None and the reason."""
        executable = shutil.which("bwrap")
        if executable is None:
            return None, "bwrap is not installed"
        reason = ""
        for modes, processes in itertools.product((True, False), repeat=2):
            sandbox = cls(executable, processes, modes)
            reason = try_out(sandbox)
            if not reason:
                return sandbox, ""
        return None, reason

    def state(self) -> dict[str, Any]:
        """Return the name and the arguments of this sandbox for `restore`."""
        return {"name": self.name, "executable": self._executable, "processes": self._processes, "modes": self._modes}

    def prepare(self, host: HostSpec, check: Check = lambda: None) -> None:
        """Create the mount points."""
        del check
        make_mount_points(host)

    def command(
        self, argv: Sequence[str], host: HostSpec, *, env: Mapping[str, str], cwd: str, report_fd: int | None
    ) -> HostCommand:
        """Return the command line of bwrap."""
        options = [*self._namespaces(host, report_fd), *_file_tree()]
        options += self._private_folders(host)
        options += ["--bind", host.ml_root, "/opt/ml"]
        for bind in host.binds:
            options += ["--ro-bind" if bind.read_only else "--bind", bind.source, bind.target]
        if host.hosts_file is not None and Path("/etc/hosts").exists():
            options += ["--ro-bind", host.hosts_file, os.path.realpath("/etc/hosts")]
        masks = existing_masks(host.masks)
        for path, is_directory in masks if host.tmp is None else visible_masks(masks, host.kept):
            options += ["--tmpfs", path] if is_directory else ["--ro-bind", "/dev/null", path]
        if self._processes:
            options += ["--proc", "/proc"]
        options += ["--chdir", cwd, "--"]
        return HostCommand([self._executable, *options, *argv], dict(env), "/", report_fd is not None)

    def _private_folders(self, host: HostSpec) -> list[str]:
        """Return the options for the host's own /tmp and /dev/shm, with the paths in them that it needs."""
        if host.tmp is None:
            return []
        folders = private_folders()
        options = ["--bind", host.tmp, folders[TMP]] if TMP in folders else []
        if SHM in folders:
            options += [*(["--perms", "1777"] if self._modes else []), "--tmpfs", folders[SHM]]
        for path in host.kept:
            options += ["--dev-bind", path, path]
        return options

    def _namespaces(self, host: HostSpec, report_fd: int | None) -> list[str]:
        options = ["--die-with-parent", "--new-session", "--unshare-uts", "--hostname", host.name]
        if self._processes:
            options.append("--unshare-pid")
        if not host.network:
            options.append("--unshare-net")
        if report_fd is not None:
            options += ["--info-fd", str(report_fd)]
        return options


def _file_tree() -> list[str]:
    """Return the options for the whole machine's files, with an /opt in which `ml` can be created.

    Without a directory /opt, the root itself is assembled from the machine's top-level entries. In either case nothing
    is created on the machine.
    """
    if Path("/opt").is_dir() and not Path("/opt").is_symlink():
        options = ["--dev-bind", "/", "/", "--tmpfs", "/opt"]
        entries = children_of_opt()
    else:
        options = []
        entries = [f"/{name}" for name in sorted(os.listdir("/")) if name != "opt"]  # noqa: PTH208 - a path as text
    for path in entries:
        options += ["--symlink", os.readlink(path), path] if Path(path).is_symlink() else ["--dev-bind", path, path]  # noqa: PTH115 - a path as text
    return options

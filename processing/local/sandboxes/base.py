"""The protocol of sandboxes, their common values, and helpers that several of them use."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from processing.container import contract

if TYPE_CHECKING:
    from processing.local.stores.jobs import HostEnd

_PROBE_SECONDS = 20
"""The longest time that a trivial program may take in a working sandbox; a loaded machine needs seconds."""

Check = Callable[[], None]
"""Called during long operations; raises if the host has to end."""


class SandboxError(Exception):
    """A host whose sandbox cannot be prepared. The message is the job's FailureReason."""


class Bind(NamedTuple):
    """A file or directory of this machine that a job uses in place.

    Attributes:
        source: its absolute path here.
        target: its path in the job, below /opt/ml.
        read_only: whether the job may not change it.
    """

    source: str
    target: str
    read_only: bool


class HostSpec(NamedTuple):
    """The properties of one host that its sandbox has to provide.

    Attributes:
        ml_root: the directory that the job sees as /opt/ml.
        binds: the files and directories that it uses in place.
        name: its host name, such as `algo-1`.
        hosts_file: the file that the job sees as /etc/hosts.
        masks: files and directories that the job sees as empty.
        network: whether it may use the network.
        hosts: the number of hosts of the job.
        key: its unique name on this machine; every process derives the same one (see `container_key`).
        image: the job's image.
        entrypoint: whether the command begins with an entrypoint, which replaces the image's.
        gpus: whether it may use this machine's GPUs.
        tmp: the directory that the job sees as /tmp; None for this machine's /tmp and /dev/shm.
        kept: the paths below this machine's /tmp and /dev/shm that the job sees all the same.
        passed: the names of variables that an image's program gets from the environment of the sandbox's own command.
    """

    ml_root: str
    binds: Sequence[Bind] = ()
    name: str = "algo-1"
    hosts_file: str | None = None
    masks: Sequence[str] = ()
    network: bool = True
    hosts: int = 1
    key: str = ""
    image: str = ""
    entrypoint: bool = True
    gpus: bool = False
    tmp: str | None = None
    kept: Sequence[str] = ()
    passed: Sequence[str] = ()


class HostCommand(NamedTuple):
    """The command that runs a program in a sandbox.

    Attributes:
        argv: the command and its arguments.
        env: the environment.
        cwd: the working directory.
        reports: whether the command writes `{"child-pid": N}` to the report descriptor.
        signal: sends a signal to a program outside the command's process group, and returns whether the program
            exists; None if the program is in that group.
        process: finds the id of the program's first process if that is not a descendant of the command, and returns
            0 as long as it does not exist; None if it is a descendant.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    reports: bool
    signal: Callable[[int], bool] | None = None
    process: Callable[[], int] | None = None


class Sandbox(Protocol):
    """An environment in which a program sees its own /opt/ml."""

    name: str
    isolates_network: bool
    """True if the sandbox can keep a program from the network (`HostSpec.network=False`)."""
    mounts: bool
    """True if the program itself sees /opt/ml; False if only its arguments and environment are rewritten."""
    reports: bool
    """True if the command writes the program's id to the report descriptor."""
    runs_image: bool
    """True if the job's image runs, with its own programs, environment and user, in place of this machine's."""
    network_command: Sequence[str] | None
    """The words before a command that makes a network around the program, for a sandbox that shares its own network.
    None if this is not possible, or if the sandbox itself makes a network."""

    def state(self) -> dict[str, Any]:
        """Return the name and the arguments from which `restore` makes the same sandbox in another process."""

    def prepare(self, host: HostSpec, check: Check = lambda: None) -> None:
        """Create the places for the binds below `ml_root`, and everything else that the program needs.

        Raises:
            SandboxError: the sandbox cannot be prepared.
        """

    def command(
        self, argv: Sequence[str], host: HostSpec, *, env: Mapping[str, str], cwd: str, report_fd: int | None
    ) -> HostCommand:
        """Return the command that runs `argv` in the sandbox.

        Args:
            argv: the program and its arguments.
            host: the host.
            env: the program's environment.
            cwd: the program's working directory.
            report_fd: the descriptor to which the command writes the program's id; None for no report.
        """

    def problem(self, host: HostSpec, exit_code: int, last_lines: Sequence[str]) -> HostEnd | None:
        """Return the end of a host whose exit code is the sandbox's own; None if it is the program's.

        Args:
            host: the host.
            exit_code: the exit code of the command.
            last_lines: the last lines of the host's log, which may have the reason.
        """

    def remove(self, key: str, ml_root: str) -> None:
        """Remove the parts of a host outside its process group, and make its files this user's own.

        Args:
            key: the host's `HostSpec.key`.
            ml_root: the directory that the job saw as /opt/ml.
        """


class OwnPrograms:
    """The common part of the sandboxes that run this machine's programs, in a process group that can be killed."""

    runs_image = False
    network_command: Sequence[str] | None = None

    def problem(self, host: HostSpec, exit_code: int, last_lines: Sequence[str]) -> HostEnd | None:
        """Return None: every exit code is the program's."""

    def remove(self, key: str, ml_root: str) -> None:
        """Do nothing: all processes of the host are in its group, or die with it."""


def try_out(sandbox: Sandbox) -> str:
    """Run a trivial program in a sandbox, and return the problem; empty if there is none."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory(prefix="processing-probe-") as folder:
        tmp = Path(folder, "tmp")
        tmp.mkdir()
        host = HostSpec(folder, tmp=str(tmp))
        command = sandbox.command(["/bin/sh", "-c", "test -d /opt/ml"], host, env={}, cwd="/", report_fd=None)
        try:
            done = subprocess.run(  # noqa: S603 - a fixed command
                command.argv,
                env=command.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    return "" if done.returncode == 0 else done.stderr.decode(errors="replace").strip() or "it failed"


def make_mount_points(host: HostSpec) -> None:
    """Create an empty file or directory below `ml_root` for each bind, as its mount point."""
    for bind in host.binds:
        place = Path(contract.resolve_path(host.ml_root, bind.target))
        if Path(bind.source).is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()


def addresses(count: int) -> list[tuple[str, str]]:
    """Return name and loopback address of each host of a job."""
    return [(contract.host_name(number), f"127.0.1.{number}") for number in range(1, count + 1)]


def container_key(folder: str, number: int) -> str:
    """Return the name of a host's container, which is unique on this machine, across the folders of all engines.

    Args:
        folder: the job's folder, whose name ends in random letters and digits.
        number: the host's number.
    """
    return f"processing-{posixpath.basename(folder)}-{contract.host_name(number)}"


def children_of_opt() -> list[str]:
    """Return the entries of this machine's /opt that must stay visible: all but `ml`."""
    with contextlib.suppress(OSError):
        return [f"/opt/{name}" for name in sorted(os.listdir("/opt")) if name != "ml"]  # noqa: PTH208 - a path as text
    return []


def existing_masks(masks: Sequence[str]) -> list[tuple[str, bool]]:
    """Return the masks that exist, with links resolved, as pairs of a path and whether it is a directory.

    A mask inside another one is left out, since the outer one hides it.
    """
    resolved = {os.path.realpath(path) for path in masks}
    outer = [path for path in resolved if not any(path.startswith(f"{other}{os.sep}") for other in resolved)]
    return [(path, os.path.isdir(path)) for path in sorted(outer) if os.path.exists(path)]  # noqa: PTH110, PTH112 - a path as text

"""What a sandbox is."""

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

Check = Callable[[], None]
"""Called while something takes long; raises where the work shall end."""


class SandboxError(Exception):
    """A host cannot have its sandbox. The message is the job's FailureReason."""


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
    """One host of a job, as a sandbox needs to know it.

    Attributes:
        ml_root: the directory that the job sees as /opt/ml.
        binds: what it uses in place.
        name: its host name, such as `algo-1`.
        hosts_file: the file that the job sees as /etc/hosts.
        masks: files and directories that the job sees as empty.
        network: whether it may use the network.
        hosts: how many hosts the job has.
        key: a name of its own on this machine, the same for whoever has to clear away after it.
        image: the job's image.
        entrypoint: whether the command begins with an entrypoint, which replaces the image's.
        gpus: whether it is to have this machine's GPUs.
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


class HostCommand(NamedTuple):
    """What to start so that a program runs in a sandbox.

    Attributes:
        argv: the command.
        env: the environment.
        cwd: the working directory.
        reports: whether the command writes `{"child-pid": N}` to the report descriptor.
        signal: sends a signal to the program, where that is not in the command's process group; returns whether
            there was a program to take it.
        process: finds the id of the program's first process, where that is no descendant of the command; 0 while it
            is not there.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    reports: bool
    signal: Callable[[int], bool] | None = None
    process: Callable[[], int] | None = None


class Sandbox(Protocol):
    """A way to let a program see its own /opt/ml."""

    name: str
    isolates_network: bool
    """Whether `HostSpec.network=False` is kept."""
    mounts: bool
    """Whether /opt/ml is there for the program itself; False where only its command line is translated."""
    reports: bool
    """Whether the command writes the program's id to the report descriptor."""
    runs_image: bool
    """Whether the job's image runs, with its own programs, environment and user, in place of this machine's."""

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to make the same sandbox in another process."""

    def prepare(self, host: HostSpec, check: Check = lambda: None) -> None:
        """Make ready, below `ml_root`, the places where the binds go, and whatever else the program needs.

        Raises:
            SandboxError: the host cannot have its sandbox.
        """

    def command(
        self, argv: Sequence[str], host: HostSpec, *, env: Mapping[str, str], cwd: str, report_fd: int | None
    ) -> HostCommand:
        """Return the command that runs `argv` in the sandbox."""

    def problem(self, host: HostSpec, exit_code: int, said: Sequence[str]) -> HostEnd | None:
        """Return how a host ended if the exit code means that no program was started; `said` are its last lines."""

    def remove(self, key: str, ml_root: str) -> None:
        """Remove what is left of a host outside its process group, and make its files ours."""


class OwnPrograms:
    """What the sandboxes have in common that run this machine's programs, in a process group that can be killed."""

    runs_image = False

    def problem(self, host: HostSpec, exit_code: int, said: Sequence[str]) -> HostEnd | None:
        """Return nothing: every exit code is taken for the program's."""

    def remove(self, key: str, ml_root: str) -> None:
        """Do nothing: what is left dies with the group."""


def try_out(sandbox: Sandbox) -> str:
    """Run a trivial program in a sandbox; return what went wrong, or nothing."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory(prefix="processing-probe-") as folder:
        launch = sandbox.command(
            ["/bin/sh", "-c", "test -d /opt/ml"], HostSpec(folder), env={}, cwd="/", report_fd=None
        )
        try:
            done = subprocess.run(  # noqa: S603 -- a fixed command
                launch.argv,
                env=launch.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    return "" if done.returncode == 0 else done.stderr.decode(errors="replace").strip() or "it failed"


def make_mount_points(host: HostSpec) -> None:
    """Create an empty file or directory below `ml_root` for each bind to be mounted on."""
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
    """Return the name of a host's container: no other job's on this machine, whatever the engine's folder.

    Args:
        folder: the job's folder, whose name ends in letters and digits of its own.
        number: the host's number.
    """
    return f"processing-{posixpath.basename(folder)}-{contract.host_name(number)}"


def children_of_opt() -> list[str]:
    """Return what is in /opt of this machine and must stay visible: everything but `ml`."""
    with contextlib.suppress(OSError):
        return [f"/opt/{name}" for name in sorted(os.listdir("/opt")) if name != "ml"]  # noqa: PTH208
    return []


def existing_masks(masks: Sequence[str]) -> list[tuple[str, bool]]:
    """Return the masks that exist, links followed, each with whether it is a directory.

    What is below another mask is hidden by that one.
    """
    found = {os.path.realpath(path) for path in masks}
    outer = [path for path in found if not any(path.startswith(f"{other}{os.sep}") for other in found)]
    return [(path, os.path.isdir(path)) for path in sorted(outer) if os.path.exists(path)]  # noqa: PTH110, PTH112

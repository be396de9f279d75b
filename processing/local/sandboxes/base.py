"""What a sandbox is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from processing.container import contract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_PROBE_SECONDS = 20


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


class Host(NamedTuple):
    """One host of a job, as a sandbox needs to know it.

    Attributes:
        ml_root: the directory that the job sees as /opt/ml.
        binds: what it uses in place.
        name: its host name, such as `algo-1`.
        hosts_file: the file that the job sees as /etc/hosts.
        masks: files and directories that the job sees as empty.
        network: whether it may use the network.
    """

    ml_root: str
    binds: Sequence[Bind] = ()
    name: str = "algo-1"
    hosts_file: str | None = None
    masks: Sequence[str] = ()
    network: bool = True


class Launch(NamedTuple):
    """What to start so that a program runs in a sandbox.

    Attributes:
        argv: the command.
        env: the environment.
        cwd: the working directory.
        reports: whether the command writes `{"child-pid": N}` to the report descriptor.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    reports: bool


class Sandbox(Protocol):
    """A way to let a program see its own /opt/ml."""

    name: str
    isolates_network: bool
    """Whether `Host.network=False` is kept."""
    mounts: bool
    """Whether /opt/ml is there for the program itself; False where only its command line is translated."""

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to make the same sandbox in another process."""

    def prepare(self, host: Host) -> None:
        """Make ready, below `ml_root`, the places where the binds go."""

    def command(
        self, argv: Sequence[str], host: Host, *, env: Mapping[str, str], cwd: str, report_fd: int | None
    ) -> Launch:
        """Return the command that runs `argv` in the sandbox."""


def try_out(sandbox: Sandbox) -> str:
    """Run a trivial program in a sandbox; return what went wrong, or nothing."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory(prefix="processing-probe-") as folder:
        launch = sandbox.command(["/bin/sh", "-c", "test -d /opt/ml"], Host(folder), env={}, cwd="/", report_fd=None)
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


def make_mount_points(host: Host) -> None:
    """Create an empty file or directory below `ml_root` for each bind to be mounted on."""
    for bind in host.binds:
        place = Path(contract.inside(host.ml_root, bind.target))
        if Path(bind.source).is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()


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

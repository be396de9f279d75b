"""The sandbox that runs the job's image itself, with podman or docker. Only the setting `container` selects it.

The client, `podman run` or `docker run`, is a child of the supervisor; the container is not. So signals go to the
container by its name. The supervisor removes the container by its name at the end. If the supervisor dies, the process
that detects its death removes the container.
"""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH101, PTH111, PTH118, PTH119

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.container import relay
from processing.local import file_trees, processes
from processing.local.limits import OUT_OF_MEMORY
from processing.local.sandboxes.base import Check, HostCommand, HostSpec, SandboxError, addresses, make_mount_points
from processing.local.stores.jobs import HostEnd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CLIENT_SECONDS = 60
"""The longest time for a command of the client that moves no data."""
_START_SECONDS = 20
"""The time for a client whose supervisor was killed to finish its current operation."""
_POLL_SECONDS = 0.05
_KILLED = 137
_NO_CONTAINER, _NO_START = 125, (126, 127)
"""The exit codes of `run` if no program was started, in podman and docker. A program may exit with them, too."""
_CLIENT_NAMES = frozenset({"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS"})
_CLIENT_PREFIXES = ("XDG_", "DOCKER_", "CONTAINER", "REGISTRY_", "PODMAN_", "STORAGE_", "SSL_CERT_")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_LOADER_PREFIXES = ("LD_", "GO", "NOTIFY_", "LISTEN_", "_")
_MARK = "PROCESSING_ML_ROOT"
"""A variable of the client alone that names its host's folder: see `processes.kill_processes_of`."""
_MAKE_NETWORK = "import sys; sys.path.insert(0, sys.argv[1]); from relay import make_network; make_network()"
_SELINUX = Path("/sys/fs/selinux/enforce")


class Container:
    """A sandbox that runs the image of a job with `podman run` or `docker run`.

    Args:
        program: the path of podman, docker or a compatible client.
        kind: the client whose options it understands: `podman` or `docker`.
        environment: the client's own environment, which no job sees.
        options: further options of `run`.
        cpus: the CPUs that a host may use; None for all.
        memory_gb: the memory that a host may use, in GiB; None for no limit.
        reclaim: the way in which files of the container's users become this user's own: `unshare`, `chown`, or empty
            if this user may remove them already.
        network_command: the words before a command whose network a container can share: see `Sandbox`.
    """

    name = "container"
    isolates_network = True
    mounts = True
    reports = False
    runs_image = True

    def __init__(
        self,
        program: str,
        kind: str,
        environment: Mapping[str, str],
        options: Sequence[str] = (),
        cpus: int | None = None,
        memory_gb: float | None = None,
        reclaim: str = "",
        network_command: Sequence[str] | None = None,
    ) -> None:
        self._program = program
        self._kind = kind
        self._environment = dict(environment)
        self._options = list(options)
        self._cpus = cpus
        self._memory_gb = memory_gb
        self._reclaim = reclaim
        self.network_command = network_command

    @classmethod
    def probe(
        cls,
        program: str | None = None,
        options: Sequence[str] = (),
        cpus: int | None = None,
        memory_gb: float | None = None,
    ) -> tuple[Container | None, str]:
        """Return a sandbox that works on this machine, or None and the reason."""
        environment = _client_environment(os.environ)
        reasons = []
        for name in [program] if program is not None else ["podman", "docker"]:
            path = shutil.which(os.path.expanduser(name))
            if path is None:
                reasons.append(f"{name} is not installed")
                continue
            version = _run([path, "--version"], environment)
            kind = "podman" if "podman" in version.stdout.lower() else "docker"
            query = ["info", "--format", "json"]
            if kind == "docker":
                query = ["version", "--format", "{{.Server.Version}}"]
            answer = _run([path, *query], environment)
            if answer.returncode == 0:
                podman = _PodmanInfo.of(answer.stdout if kind == "podman" else "")
                reclaim = _reclaim_method(kind, rootless=podman.rootless)
                network = _network_command(path, environment, rootless=podman.rootless) if podman.local else None
                return cls(path, kind, environment, options, cpus, memory_gb, reclaim, network), ""
            reasons.append(f"{name} does not work: {_error_line(answer.stderr)}")
        advice = "install podman, start docker, or name a program that works in the setting container_program"
        return None, f"{'; '.join(reasons)} ({advice})"

    def state(self) -> dict[str, Any]:
        """Return the name and the arguments of this sandbox for `restore`."""
        return {
            "name": self.name,
            "program": self._program,
            "kind": self._kind,
            "environment": self._environment,
            "options": self._options,
            "cpus": self._cpus,
            "memory_gb": self._memory_gb,
            "reclaim": self._reclaim,
            "network_command": self.network_command,
        }

    # Before the start

    def prepare(self, host: HostSpec, check: Check = lambda: None) -> None:
        """Create the mount points, let every user of the image write to /opt/ml, and pull the image if it is missing.

        Raises:
            SandboxError: the image cannot be pulled.
        """
        make_mount_points(host)
        _allow_all_users(host.ml_root)
        if self._run_client("image", "inspect", "--format", "{{.Id}}", *_image_words(host.image)).returncode != 0:
            self._pull(host.image, host.ml_root, check)

    def _pull(self, image: str, ml_root: str, check: Check) -> None:
        with tempfile.TemporaryFile("w+") as errors:
            client = subprocess.Popen(  # noqa: S603 - the client that the settings name
                [self._program, "pull", *_image_words(image)],
                env={**self._environment, _MARK: ml_root},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            try:
                while client.poll() is None:
                    check()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        client.wait(_POLL_SECONDS)
            finally:
                if client.poll() is None:  # podman without root works in a child, which outlives a kill of the client
                    os.killpg(client.pid, signal.SIGKILL)
                client.wait()
            errors.seek(0)
            if client.returncode != 0:
                raise SandboxError(
                    f"ClientError: the image {image} is not on this machine, and {self._kind} could not pull it: "
                    f"{_error_line(errors.read())}"
                )

    def command(
        self, argv: Sequence[str], host: HostSpec, *, env: Mapping[str, str], cwd: str, report_fd: int | None
    ) -> HostCommand:
        """Return the command line of `run`. The image defines the working directory."""
        del cwd, report_fd
        arguments = list(argv)
        options = ["--name", host.key, *self._limits(host), *self._network(host)]
        options += ["--log-driver", "none", *_mount(host.ml_root, "/opt/ml", read_only=False)]
        for bind in host.binds:
            options += _mount(bind.source, bind.target, read_only=bind.read_only)
        if _SELINUX.exists():
            options += ["--security-opt", "label=disable"]
        if self._kind == "podman":
            options += ["--http-proxy=false", "--stop-timeout", "0"]
        inherited = {**self._environment, _MARK: host.ml_root}
        for name, value in env.items():
            if _affects_client(name):
                options += ["--env", f"{name}={value}"]
            else:  # by name alone, so that a list of this machine's processes does not show the value
                options += ["--env", name]
                inherited[name] = value
        for name in host.passed:
            options += [] if name in env else ["--env", name]
        if host.entrypoint:
            first = arguments.pop(0)
            options += ["--entrypoint", json.dumps([first]) if self._kind == "podman" else first]
        command = [self._program, "run", *options, *self._options, *_image_words(host.image), *arguments]
        return HostCommand(
            command,
            inherited,
            "/",
            reports=False,
            signal=lambda number: self._signal(host.key, number),
            process=lambda: int(self._inspect(host.key, "{{.State.Pid}}") or 0),
        )

    def _limits(self, host: HostSpec) -> list[str]:
        options = []
        if self._cpus is not None:
            options += ["--cpus", str(self._cpus)]
        if self._memory_gb is not None:
            options += ["--memory", f"{int(self._memory_gb * 1024)}m"]
        if host.gpus:
            options += ["--gpus", "all"] if self._kind == "docker" else ["--device", "nvidia.com/gpu=all"]
        return options

    @staticmethod
    def _network(host: HostSpec) -> list[str]:
        # With the machine's network the job's hosts reach each other, and the engine, at loopback addresses.
        options = ["--network", "host" if host.network else "none", "--hostname", host.name]
        for name, address in addresses(host.hosts):
            options += ["--add-host", f"{name}:{address}"]
        return options

    # During the run and after it

    def _signal(self, key: str, number: int) -> bool:
        """Send a signal to the container's process 1, and return whether it runs."""
        return self._run_client("kill", "--signal", signal.Signals(number).name, key).returncode == 0

    def problem(self, host: HostSpec, exit_code: int, last_lines: Sequence[str]) -> HostEnd | None:
        """Return the end of a host whose program was not started, or was killed because memory ran out.

        If the program was not started, the exit code is the client's. Otherwise return None.
        """
        if exit_code == _KILLED and self._inspect(host.key, "{{.State.OOMKilled}}") == "true":
            return HostEnd("failed", exit_code, OUT_OF_MEMORY)
        if exit_code not in {_NO_CONTAINER, *_NO_START}:
            return None
        started = self._inspect(host.key, "{{.State.StartedAt}}")
        if started and not started.startswith("0001-"):
            return None
        line = _error_line("\n".join(last_lines))
        if exit_code == _NO_CONTAINER:
            return HostEnd("failed", reason=f"ClientError: {self._kind} cannot make the container: {line}")
        reason = f"AlgorithmError: the entrypoint cannot be started: {line}, exit code: {exit_code}"
        return HostEnd("failed", exit_code, reason)

    def remove(self, key: str, ml_root: str) -> None:
        """Remove the container in any state, and make its users' files this user's own."""
        image = self._inspect(key, "{{.Image}}") if self._reclaim == "chown" else ""
        self._remove_container(key)
        if self._reclaim == "unshare" and _has_foreign_files(ml_root):
            self._run_client("unshare", "chown", "-hR", "0:0", ml_root)
        if image and _has_foreign_files(ml_root):
            options = ["--rm", "--name", f"{key}-chown", "--user", "0:0", "--network", "none", "--entrypoint", "chown"]
            options += [*_mount(ml_root, "/opt/ml", read_only=False), *self._options]
            self._run_client("run", *options, image, "-hR", f"{os.getuid()}:{os.getgid()}", "/opt/ml")

    def _remove_container(self, key: str) -> None:
        """Remove the container, again and again as long as its client still works on it.

        The client must not be killed. If it was, at an unlucky moment, it leaves a monitor process and a program that
        is about to start. podman has no record of them. So monitors that are left are killed at the end.
        """
        deadline = time.monotonic() + _START_SECONDS
        while True:
            working = any("run" in line for line in processes.command_lines_with(key).values())
            self._run_client("rm", "--force", "--volumes", key)
            if not working or time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        for pid, line in processes.command_lines_with(key).items():
            if os.path.basename(line[0]) == "conmon":
                processes.kill_tree(pid)

    def _inspect(self, key: str, template: str) -> str:
        """Return a property of a container by a Go template; empty if the container does not exist."""
        return self._run_client("inspect", "--type", "container", "--format", template, key).stdout.strip()

    def _run_client(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run([self._program, *arguments], self._environment)


class _PodmanInfo(NamedTuple):
    """Facts of `podman info`.

    Attributes:
        rootless: whether it works without root.
        local: whether containers are descendants of the client, unlike docker's and those of another machine.
    """

    rootless: bool
    local: bool

    @classmethod
    def of(cls, text: str) -> _PodmanInfo:
        """Return the facts of an output; for an output that is not podman's, those of docker."""
        try:
            host = json.loads(text)["host"]
            return cls(bool(host["security"]["rootless"]), host.get("serviceIsRemote") is False)
        except (ValueError, LookupError, TypeError):
            return cls(rootless=False, local=False)


def _client_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which the client finds its configuration, its daemon and its registries."""
    return {
        name: value
        for name, value in environ.items()
        if name in _CLIENT_NAMES or name.startswith(_CLIENT_PREFIXES) or name.lower() in _PROXIES
    }


def _network_command(program: str, environment: Mapping[str, str], *, rootless: bool) -> list[str] | None:
    """Return the words before a command that makes a network for podman; None if that does not work here.

    Podman without root works in a user namespace of its own, and so has the network to be.
    """
    words = [program, "unshare"] if rootless else []
    made = _run(
        [*words, sys.executable, "-I", "-S", "-c", _MAKE_NETWORK, str(Path(relay.__file__).parent)], environment
    )
    return words if made.returncode == 0 else None


def _affects_client(name: str) -> bool:
    """Return whether a job's variable could change the client's behaviour if it were in the client's environment."""
    return name in _CLIENT_NAMES or name.startswith((*_CLIENT_PREFIXES, *_LOADER_PREFIXES)) or name.lower() in _PROXIES


def _run(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the client. If it cannot be run, return a failed result with the reason on stderr."""
    try:
        return subprocess.run(  # noqa: S603 - the client that the settings name
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CLIENT_SECONDS,
            check=False,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _image_words(image: str) -> list[str]:
    """Return the words for an image. After `--`, a name that begins with `-` is not an option of the client."""
    return ["--", image] if image.startswith("-") else [image]


def _error_line(text: str) -> str:
    """Return the last line of a client's stderr that is an error, or the last line if there is no error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("Error", "docker:"))]
    return (errors or lines or ["it gave no reason"])[-1]


def _mount(source: str, target: str, *, read_only: bool) -> list[str]:
    """Return the option for a bind mount. Its value is a line of CSV, since a path may contain any character."""
    fields = ["type=bind", f"source={source}", f"destination={target}", *(["readonly"] if read_only else [])]
    quoted = ['"' + each.replace('"', '""') + '"' if set(each) & set(',"') else each for each in fields]
    return ["--mount", ",".join(quoted)]


def _allow_all_users(ml_root: str) -> None:
    """Let every user read and write below /opt/ml: the container's users are not those of this machine."""

    def fail(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(ml_root, onerror=fail):
        os.chmod(folder, 0o777)  # noqa: S103 - only this user has access to the folder above
        for name in names:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                os.chmod(path, stat.S_IMODE(mode) | 0o666)  # noqa: S103 - as above


def _reclaim_method(kind: str, *, rootless: bool) -> str:
    """Return the way in which files of a container's users become this user's own; root needs none."""
    if not sys.platform.startswith("linux") or os.geteuid() == 0:
        return ""
    if kind == "docker":
        return "chown"
    return "unshare" if rootless else ""


def _has_foreign_files(ml_root: str) -> bool:
    """Return whether an entry below a directory belongs to another user, or may do so in a locked directory."""
    own = os.geteuid()
    locked: list[OSError] = []
    for entry in file_trees.entries_below(ml_root, locked.append):
        with contextlib.suppress(FileNotFoundError):
            if entry.stat(follow_symlinks=False).st_uid != own:
                return True
    return bool(locked)

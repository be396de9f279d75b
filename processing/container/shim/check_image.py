"""Image to check: a container of podman or docker, with a folder of its own at /opt/ml."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Iterator, List, Mapping, NamedTuple, Optional, Sequence

from processing.container.runner import Program
from processing.container.shim.check import CheckTarget
from processing.container.shim.errors import SettingError
from processing.container.shim.listeners import listeners_in_network_of

OPTIONS = "PROCESSING_LOCAL_CONTAINER_OPTIONS"
"""The variable with further options of `run`, as for the embedded engine."""
_CLIENT_SECONDS = 60
_FOLDERS = (
    "config",
    "processing/input",
    "processing/output",
    "input/config",
    "input/data",
    "model",
    "output/data",
    "checkpoints",
    "code",
)


class ImageOptions(NamedTuple):
    """The settings of a container.

    Attributes:
        image: the image.
        client: podman, docker or a compatible program; None for the first that is installed.
        words: the words after the image.
        variables: variables as `NAME=VALUE`.
        model: a folder for /opt/ml/model; None for an empty one.
    """

    image: str
    client: Optional[str]
    words: Sequence[str]
    variables: Sequence[str]
    model: Optional[str]


@contextlib.contextmanager
def image_target(options: ImageOptions, word: str, port: int, environment: Mapping[str, str]) -> Iterator[CheckTarget]:
    """Yield an image as the target of a check, and remove its container at the end.

    Args:
        options: the settings.
        word: "serve", "train", or empty for a processing job.
        port: the port of SageMaker's contract.
        environment: the environment of the client.

    Raises:
        SettingError: there is no client, or a setting is impossible.
    """
    client = _find_client(options.client)
    name = "processing-check-%d-%d" % (os.getpid(), time.monotonic_ns())
    with tempfile.TemporaryDirectory(prefix="processing-check-") as folder:
        root = Path(folder, "ml")
        _make_folders(root)
        container = _Container(client, name, port, environment)
        argv = [client, "run", "--name", name, "--publish", "127.0.0.1::%d" % port, *_mounts(root, options.model)]
        for each in options.variables:
            argv += ["--env", each]
        argv += [*shlex.split(environment.get(OPTIONS, "")), options.image, *options.words]
        program = Program(argv, environment, "/", signal=container.signal)
        outputs = {"train": [root / "model", root / "output"], "": [root / "processing"]}
        try:
            yield CheckTarget(
                shlex.join(["docker", "run", options.image, *options.words]),
                word,
                program,
                lambda _group: listeners_in_network_of(container.pid()),
                port,
                container.published_port,
                outputs.get(word, ()),
            )
        finally:
            container.remove()


class _Container:
    """A container by its name."""

    def __init__(self, client: str, name: str, port: int, environment: Mapping[str, str]) -> None:
        self._client = client
        self._name = name
        self._inner_port = port
        self._environment = environment
        self._port: Optional[int] = None

    def signal(self, number: int) -> bool:
        """Signal its process 1; return whether it runs."""
        return self._call("kill", "--signal", signal.Signals(number).name, self._name) is not None

    def pid(self) -> int:
        """Return the id of its process 1 on this machine; 0 if it does not run."""
        return int(self._call("inspect", "--format", "{{.State.Pid}}", self._name) or 0)

    def published_port(self) -> Optional[int]:
        """Return the port of this machine that leads to the contract's port; None before the start."""
        if self._port is None:
            text = (self._call("port", self._name, "%d/tcp" % self._inner_port) or "").partition("\n")[0]
            port = text.rpartition(":")[2]
            self._port = int(port) if port.isdigit() else None
        return self._port

    def remove(self) -> None:
        """Remove it in any state."""
        self._call("rm", "--force", "--volumes", self._name)

    def _call(self, *words: str) -> Optional[str]:
        """Return the output of a command of the client; None if it fails."""
        try:
            done = subprocess.run(  # noqa: S603 - the client that the user names
                [self._client, *words],
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                universal_newlines=True,
                timeout=_CLIENT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None


def _find_client(given: Optional[str]) -> str:
    names = [given] if given else ["podman", "docker"]
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return found
    raise SettingError("--image needs %s on the PATH; name another client with --client" % " or ".join(names))


def _make_folders(root: Path) -> None:
    """Make the folders that SageMaker makes, for all users of the image to write to."""
    for name in _FOLDERS:
        (root / name).mkdir(parents=True)
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"]}
    for name, content in (
        ("config/resourceconfig", hosts),
        ("input/config/resourceconfig", {**hosts, "network_interface_name": "eth0"}),
        ("input/config/hyperparameters", {}),
        ("input/config/inputdataconfig", {}),
    ):
        (root / (name + ".json")).write_text(json.dumps(content))
    root.parent.chmod(0o755)
    for parent, _, _ in os.walk(str(root)):
        Path(parent).chmod(0o777)


def _mounts(root: Path, model: Optional[str]) -> List[str]:
    mounts = ["--volume", "%s:/opt/ml" % root]
    if model is not None:
        folder = Path(model).resolve()
        if not folder.is_dir():
            raise SettingError("--model: %s is not a folder" % model)
        mounts += ["--volume", "%s:/opt/ml/model:ro" % folder]
    return mounts

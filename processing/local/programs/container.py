"""The folders of a training container: `/opt/ml` with its configuration, its channels and its model."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

JOB_KEY = "PROCESSING_LOCAL_JOB"
"""The variable with a name that this job alone has, among the jobs of all engines of this machine."""
_FAILURE_BYTES = 1024  # SageMaker reads no more of the failure


class ContainerError(ValueError):
    """The container lacks something that the program needs, or the data are wrong. The message is the job's failure."""


class Channel(NamedTuple):
    """The data of one name.

    Attributes:
        name: the name.
        folder: the folder of its files.
        content_type: its ContentType; empty if the request has none.
        is_pipe: True if the data come through a pipe instead of files.
        is_sharded: True if each host has some of the objects.
    """

    name: str
    folder: Path
    content_type: str
    is_pipe: bool
    is_sharded: bool

    def contents(self) -> list[bytes]:
        """Return the data: of each file below the folder in the order of their names, or of the pipe's first epoch.

        Files whose name begins with a dot or an underscore are left out, such as Spark's `_SUCCESS`.

        Raises:
            ContainerError: there are no data.
        """
        if self.is_pipe:
            parts = [Path(f"{self.folder}_0").read_bytes()]
        else:
            files = [path for path in sorted(self.folder.rglob("*")) if path.is_file() and path.name[0] not in "._"]
            parts = [path.read_bytes() for path in files]
        if not any(parts):
            raise ContainerError(f"there are no data in the channel {self.name}")
        return [part for part in parts if part]


class TrainingContainer:
    """The input of a training container, and the places of its results.

    Args:
        root: the folder, `/opt/ml` in a container.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @property
    def model_folder(self) -> Path:
        """The folder of the model."""
        return self.root / "model"

    def hyperparameters(self) -> dict[str, str]:
        """Return the hyperparameters."""
        return {name: str(value) for name, value in self._config("hyperparameters").items()}

    def hosts(self) -> tuple[str, list[str]]:
        """Return this host's name, and those of all."""
        config = self._config("resourceconfig")
        return config["current_host"], sorted(config["hosts"])

    def channel(self, name: str) -> Channel | None:
        """Return a channel, or None if the job has none of that name."""
        config = self._config("inputdataconfig").get(name)
        if config is None:
            return None
        return Channel(
            name,
            self.root / "input/data" / name,
            config.get("ContentType") or "",
            config.get("TrainingInputMode") == "Pipe",
            config.get("S3DistributionType") == "ShardedByS3Key",
        )

    def required_channel(self, name: str) -> Channel:
        """Return a channel.

        Raises:
            ContainerError: the job has none of that name.
        """
        channel = self.channel(name)
        if channel is None:
            raise ContainerError(f"the channel {name} is required")
        return channel

    def checkpoint_folder(self) -> Path | None:
        """Return the folder whose files survive the job, or None if the job has none."""
        if not (self.root / "input/config/checkpointconfig.json").exists():
            return None
        local = self._config("checkpointconfig").get("LocalPath")
        return self.root / PurePosixPath(local or "/opt/ml/checkpoints").relative_to("/opt/ml")

    def write_failure(self, message: str) -> None:
        """Write the reason of the job's failure."""
        path = self.root / "output/failure"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(message.encode(errors="replace")[:_FAILURE_BYTES])

    def _config(self, name: str) -> dict[str, Any]:
        path = self.root / f"input/config/{name}.json"
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise ContainerError(f"{path} is missing: this program runs in a training job") from None
        except ValueError as error:
            raise ContainerError(f"{path} is not JSON: {error}") from error
        return dict(content)

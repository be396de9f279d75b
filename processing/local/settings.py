"""How the embedded engine runs jobs: its settings, and which Python stands in for a container image."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Literal, get_args

from attrs import asdict, converters, field, frozen, validators

from processing.exceptions import ConfigurationError

SandboxSetting = Literal["auto", "bubblewrap", "namespaces", "rewriting", "container"]
PYTHON_VARIABLE = "PROCESSING_LOCAL_PYTHON"


def _pairs(images: Any) -> tuple[tuple[str, str], ...]:
    pairs = images.items() if hasattr(images, "items") else images
    return tuple((str(image), str(python)) for image, python in pairs)


def _optional_text(value: Any) -> str | None:
    return None if value is None else os.fspath(value)


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


@frozen
class EngineSettings:
    """How jobs run on this machine.

    Attributes:
        tick: seconds between two looks of a host at whether its job was stopped. The end of the program is noticed
            at once, whatever the tick.
        grace: seconds between SIGTERM and SIGKILL when a job is stopped. SageMaker is assumed to give 120.
        sandbox: how a job gets to see its own /opt/ml; `auto` takes the first of bubblewrap, namespaces and rewriting
            that works here. `container` really runs the image, with podman or docker.
        python: the interpreter, or the directory of a virtual environment, that runs `python` and `python3` of a
            job's entrypoint. None: the environment variable PROCESSING_LOCAL_PYTHON, else the Python of the process
            that creates the job.
        images: pairs of an image URI and the `python` for jobs with that image; a mapping is accepted.
        container_program: the program that runs containers, its name or path. None: podman, else docker.
        container_options: further options of its `run`, such as `("--runtime", "runc")`.
        cpus: how many CPUs each host of a job may use; None for all.
        memory_gb: how much memory each host may use, in GiB; None for no limit.
        events_file: a file to which each state change of a job is appended, as a line with EventBridge's JSON.
        events_queue: the name of a queue in the engine's SQS that gets the same events.
        s3_endpoint: the URL of another S3 to use instead of the engine's own; None for the environment's
            AWS_ENDPOINT_URL_S3, if it is set.
        sample: seconds between two samples of a host's CPU, memory and disk.
    """

    tick: float = field(default=0.05, converter=float, validator=validators.gt(0))
    grace: float = field(default=120.0, converter=float, validator=validators.ge(0))
    sandbox: SandboxSetting = field(default="auto", validator=validators.in_(get_args(SandboxSetting)))
    python: str | None = field(default=None, converter=_optional_text)
    images: tuple[tuple[str, str], ...] = field(default=(), converter=_pairs)
    container_program: str | None = field(default=None, converter=_optional_text)
    container_options: tuple[str, ...] = field(default=(), converter=_texts)
    cpus: int | None = field(
        default=None, validator=validators.optional([validators.instance_of(int), validators.ge(1)])
    )
    memory_gb: float | None = field(
        default=None, converter=converters.optional(float), validator=validators.optional(validators.gt(0))
    )
    events_file: str | None = field(default=None, converter=_optional_text)
    events_queue: str | None = field(default=None, converter=_optional_text)
    s3_endpoint: str | None = field(default=None, converter=_optional_text)
    sample: float = field(default=1.0, converter=float, validator=validators.gt(0))

    def to_json(self) -> str:
        """Return the settings as a JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> EngineSettings:
        """Return the settings that `to_json` wrote."""
        return cls(**json.loads(text))

    def interpreter(self, image: str) -> Interpreter:
        """Return the Python that stands in for `image`.

        Raises:
            ConfigurationError: what the settings name is neither an interpreter nor a virtual environment.
        """
        for known, python in self.images:
            if known == image:
                return Interpreter.find(python, f"images[{image!r}]")
        if self.python is not None:
            return Interpreter.find(self.python, "python")
        variable = os.environ.get(PYTHON_VARIABLE)
        if variable:
            return Interpreter.find(variable, PYTHON_VARIABLE)
        return Interpreter.find(sys.executable, "python")


@frozen
class Interpreter:
    """A Python on this machine.

    Attributes:
        executable: its path.
        venv: the virtual environment that it belongs to, if any.
    """

    executable: str
    venv: str | None = None

    @property
    def bin(self) -> str:
        """The directory of the executable: the first on a job's PATH."""
        return str(Path(self.executable).parent)

    @classmethod
    def find(cls, path: str, setting: str) -> Interpreter:
        """Return the interpreter at `path`, or the one of the virtual environment at `path`.

        Raises:
            ConfigurationError: there is none; the message begins with `setting`.
        """
        # Made absolute but not resolved: the executable of a virtual environment is a link out of it.
        place = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100
        if place.is_dir():
            candidates = [place / "bin" / "python3", place / "bin" / "python", place / "Scripts" / "python.exe"]
            place = next((each for each in candidates if each.exists()), place)
        if not place.is_file() or not os.access(place, os.X_OK):
            raise ConfigurationError(f"{setting}: {path} is neither a Python interpreter nor a virtual environment")
        root = place.parent.parent
        return cls(str(place), str(root) if (root / "pyvenv.cfg").is_file() else None)

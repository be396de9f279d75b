"""How the embedded engine runs jobs: its settings, and which Python stands in for a container image."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Literal, get_args

from attrs import asdict, field, frozen, validators

from processing.exceptions import ConfigurationError

SandboxSetting = Literal["auto", "bubblewrap", "namespaces", "rewriting"]
PYTHON_VARIABLE = "PROCESSING_LOCAL_PYTHON"


def _pairs(images: Any) -> tuple[tuple[str, str], ...]:
    pairs = images.items() if hasattr(images, "items") else images
    return tuple((str(image), str(python)) for image, python in pairs)


def _optional_text(value: Any) -> str | None:
    return None if value is None else os.fspath(value)


@frozen
class EngineSettings:
    """How jobs run on this machine.

    Attributes:
        tick: seconds between two looks of a host at whether its job was stopped. The end of the program is noticed
            at once, whatever the tick.
        grace: seconds between SIGTERM and SIGKILL when a job is stopped. SageMaker is assumed to give 120.
        sandbox: how a job gets to see its own /opt/ml; `auto` takes the first of the others that works here.
        python: the interpreter, or the directory of a virtual environment, that runs `python` and `python3` of a
            job's entrypoint. None: the environment variable PROCESSING_LOCAL_PYTHON, else the Python of the process
            that creates the job.
        images: pairs of an image URI and the `python` for jobs with that image; a mapping is accepted.
    """

    tick: float = field(default=0.05, converter=float, validator=validators.gt(0))
    grace: float = field(default=120.0, converter=float, validator=validators.ge(0))
    sandbox: SandboxSetting = field(default="auto", validator=validators.in_(get_args(SandboxSetting)))
    python: str | None = field(default=None, converter=_optional_text)
    images: tuple[tuple[str, str], ...] = field(default=(), converter=_pairs)

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

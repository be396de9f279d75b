"""The Python on this machine that stands in for a container image.

Standard library only: supervisors read it from their execution plan.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from processing._utils import NO_WORKING_DIRECTORY, absolute
from processing.exceptions import ConfigurationError


class Interpreter(NamedTuple):
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

    def version(self) -> str | None:
        """Return the version, such as `3.11`, without running the interpreter; None if it is not known."""
        if self.executable == sys.executable:
            return f"{sys.version_info[0]}.{sys.version_info[1]}"
        if self.venv is not None:
            with contextlib.suppress(OSError):
                settings = Path(self.venv, "pyvenv.cfg").read_text(encoding="utf-8")
                found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", settings, re.MULTILINE)
                if found:
                    return found[1]
        found = re.fullmatch(r"python(\d+\.\d+)", os.path.basename(os.path.realpath(self.executable)))  # noqa: PTH119 - a path as text
        return None if found is None else found[1]

    @classmethod
    def find(cls, path: str, setting: str) -> Interpreter:
        """Return the interpreter at `path`, or the interpreter of the virtual environment at `path`.

        Args:
            path: the path of an interpreter or a virtual environment.
            setting: the name of the setting that holds the path: errors begin with it.

        Raises:
            ConfigurationError: there is no interpreter at that path.
        """
        # Absolute but not resolved: the executable of a virtual environment is a link to a Python outside it.
        place = absolute(Path(path).expanduser())
        if place is None:
            raise ConfigurationError(f"{setting}: {path!r} {NO_WORKING_DIRECTORY}")
        place = Path(os.path.normpath(place))
        if place.is_dir():
            candidates = [place / "bin" / "python3", place / "bin" / "python", place / "Scripts" / "python.exe"]
            place = next((each for each in candidates if each.exists()), place)
        if not place.is_file() or not os.access(place, os.X_OK):
            raise ConfigurationError(f"{setting}: {path} is neither a Python interpreter nor a virtual environment")
        root = place.parent.parent
        return cls(str(place), str(root) if (root / "pyvenv.cfg").is_file() else None)

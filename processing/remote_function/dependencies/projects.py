"""Dependencies of a project: its pyproject.toml, or the exact versions in the uv.lock beside it."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

LOCK = "uv.lock"

_REGISTRY = re.compile(r'^source = \{ registry = "([^"]+)" \}', re.MULTILINE)
_PYPI = "https://pypi.org/simple"
_LONGEST_REASON = 2000  # characters of uv's output in an error


def project_requirements(path: Path) -> str:
    """Return the dependencies of a project as the text of a requirements file.

    With a uv.lock beside the file, it has the locked versions and their hashes. Dependency groups, such as `dev`, and
    optional dependencies are left out.

    Args:
        path: the pyproject.toml.

    Raises:
        ConfigurationError: the file cannot be read, it lists no dependencies, or uv is needed and missing.
    """
    lock = path.with_name(LOCK)
    return _locked(lock) if lock.is_file() else "\n".join(_listed(path))


def _listed(path: Path) -> list[str]:
    document = _load(path)
    project = document.get("project")
    if not isinstance(project, dict):
        raise ConfigurationError(
            f"dependencies: {str(path)!r} has no [project] table; give a requirements.txt with the project's packages"
        )
    if "dependencies" in project.get("dynamic", ()):
        raise ConfigurationError(
            f"dependencies: {str(path)!r} computes its dependencies (`dynamic`); give a requirements.txt instead"
        )
    if document.get("tool", {}).get("uv", {}).get("sources"):
        raise ConfigurationError(
            f"dependencies: {str(path)!r} has [tool.uv.sources], which only uv applies; run `uv lock` beside it"
        )
    listed = project.get("dependencies", [])
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise ConfigurationError(f"dependencies: {str(path)!r}: project.dependencies must be a list of strings")
    return listed


def _load(path: Path) -> dict[str, Any]:
    try:
        toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError as error:
        raise ConfigurationError(
            f"dependencies: reading {str(path)!r} on Python 3.10 needs tomli: pip install 'sm-processing[remote]'"
        ) from error
    try:
        document: dict[str, Any] = toml.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"dependencies: {str(path)!r} cannot be read: {error}") from error
    return document


def _locked(lock: Path) -> str:
    """Return the locked packages, with the options of the indexes that they come from."""
    packages = _export(lock)
    if " @ " in packages:  # pip cannot compare a repository with a hash, and refuses a list in which only some have one
        packages = _export(lock, "--no-hashes")
    return "\n".join([*_index_options(lock), packages])


def _index_options(lock: Path) -> list[str]:
    """Return the options for the indexes of a lock file, unless PyPI is the only one."""
    registries = list(dict.fromkeys(_REGISTRY.findall(lock.read_text(encoding="utf-8"))))
    if registries in ([], [_PYPI]):
        return []  # the image's own setting decides, such as a mirror of PyPI
    folders = [each for each in registries if "://" not in each]
    options = ["--index-url", *["--extra-index-url"] * len(registries)]
    indexes = sorted((each for each in registries if "://" in each), key=lambda each: each != _PYPI)
    lines = [f"{option} {index}" for option, index in zip(options, indexes, strict=False)]
    return lines + [f"--find-links {folder}" for folder in folders]


def _export(lock: Path, *options: str) -> str:
    """Return the packages of a lock file as a requirements file."""
    command = [
        *_uv(lock),
        "export",
        "--frozen",
        "--no-dev",
        "--no-emit-workspace",
        "--no-header",
        "--quiet",
        "--offline",
    ]
    done = subprocess.run(  # noqa: S603 - uv
        [*command, *options, "--project", str(lock.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = done.stderr.strip()[-_LONGEST_REASON:]
        raise ConfigurationError(f"dependencies: {str(lock)!r} cannot be read by uv: {reason}")
    return done.stdout


def _uv(lock: Path) -> list[str]:
    program = shutil.which("uv")
    if program is not None:
        return [program]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    raise ConfigurationError(
        f"dependencies: {str(lock)!r} is read by uv, which is not on the PATH; pip install uv, or give a "
        "requirements.txt made by `uv export`"
    )

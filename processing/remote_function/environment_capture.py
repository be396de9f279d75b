"""Capture of the environment that a function needs in its job: dependencies, and commands that run before it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from processing._utils import NO_WORKING_DIRECTORY, absolute
from processing._utils.validation import FLAG, ITERABLE, NAME, PATH, require
from processing.container import overlay
from processing.container.remote.environment import FOLDER, OVERLAY
from processing.exceptions import ConfigurationError
from processing.remote_function.dependencies import conda, installed, projects
from processing.remote_function.dependencies.requirements import MAIN, RequirementsFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

AUTO_CAPTURE = "auto_capture"
"""The value of `dependencies` that stands for the packages of this Python's environment."""

_SCRIPT = "pre_execution.sh"
_CONDA_FILE = "environment.yml"
_WHEELS = "wheels"
_CONDA_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_FORMS = (
    "a requirements.txt, a pyproject.toml, a conda environment.yml, a folder of wheels, or 'auto_capture' for the "
    "packages that are installed here"
)


@attrs.frozen
class Environment:
    """The environment of a function in its job.

    Args:
        files: files of the bundle by their name in it, each as a path of this machine or as its content.
        spec: the settings for `processing.container.remote.environment.prepare` in the job, as JSON has them. Empty if
            there is nothing to prepare.
    """

    files: Mapping[str, Path | bytes] = attrs.field(factory=dict, repr=False)
    spec: Mapping[str, Any] = attrs.field(factory=dict)


def capture_environment(
    dependencies: Any = None,
    *,
    pre_execution_commands: Iterable[str] | None = None,
    pre_execution_script: Any = None,
    job_conda_env: str | None = None,
    network_isolation: bool = False,
) -> Environment:
    """Return the environment that a function needs in its job.

    The files of this machine are read now, wheels and the pre-execution script when the bundle is made.

    Args:
        dependencies: the path of a requirements.txt, of a pyproject.toml (with the exact versions of a uv.lock beside
            it), of a conda environment.yml or of a folder of wheels; `auto_capture` for the exact versions of this
            Python's environment, be it made by pip, uv or conda; None for the packages of the image alone.
        pre_execution_commands: shell commands that run before the dependencies are installed.
        pre_execution_script: the path of a shell script in their place.
        job_conda_env: the name of a conda environment of the image that runs the function.
        network_isolation: True if the job has no network. Only a folder of wheels can be installed then.

    Raises:
        ConfigurationError: a parameter cannot be used. The message names it and the remedy.
    """
    require("network_isolation", network_isolation, FLAG)
    spec: dict[str, Any] = {}
    files: dict[str, Path | bytes] = {}
    script = _script(pre_execution_commands, pre_execution_script)
    if script is not None:
        files[_SCRIPT] = script
        spec["pre_execution"] = f"{FOLDER}/{_SCRIPT}"
    if dependencies is not None:
        found, settings = _dependencies(dependencies, network_isolation=network_isolation)
        files.update(found)
        spec["dependencies"] = settings
    named = {f"{FOLDER}/{name}": content for name, content in files.items()}
    if named:
        named[OVERLAY] = Path(overlay.__file__)
    if job_conda_env is not None:
        spec["conda_env"] = _conda_name(job_conda_env)
    return Environment(named, spec)


def _script(commands: Any, script: Any) -> Path | bytes | None:
    """Return the script that runs before the function; None for no script."""
    if commands is not None and script is not None:
        raise ConfigurationError(
            "pre_execution_commands: only one of pre_execution_commands and pre_execution_script can be given; put the "
            "commands into the script"
        )
    if script is not None:
        return _existing("pre_execution_script", script)
    if commands is None:
        return None
    require("pre_execution_commands", commands, ITERABLE)
    lines = list(commands)
    for index, line in enumerate(lines):
        require(f"pre_execution_commands[{index}]", line, NAME)
    return "".join(f"{line}\n" for line in lines).encode() if lines else None


def _dependencies(dependencies: Any, *, network_isolation: bool) -> tuple[dict[str, Path | bytes], dict[str, str]]:
    """Return the files of the dependencies by their name, and the settings to install them."""
    if isinstance(dependencies, str) and dependencies == AUTO_CAPTURE:
        _refuse_without_network(dependencies, isolated=network_isolation)
        return _captured()
    if not PATH.accepts(dependencies):
        raise ConfigurationError(f"dependencies: must be the path of {_FORMS}, not {dependencies!r}")
    path = _path("dependencies", dependencies)
    if path.is_dir():
        return _wheels(path)
    suffix = path.suffix.lower()
    if suffix not in {".txt", ".in", ".toml", ".yml", ".yaml"} or (suffix == ".toml" and path.name != "pyproject.toml"):
        raise ConfigurationError(f"dependencies: {str(dependencies)!r} must be {_FORMS}")
    path = _existing("dependencies", dependencies)
    _refuse_without_network(dependencies, isolated=network_isolation)
    if suffix in {".yml", ".yaml"}:
        return {_CONDA_FILE: conda.environment_file(path)}, _settings("conda", _CONDA_FILE)
    if suffix == ".toml":
        requirements = RequirementsFiles(own_projects=True)
        requirements.add_text(projects.project_requirements(path), path)
    else:
        requirements = RequirementsFiles()
        requirements.add_file(path)
    return requirements.files, _settings("requirements", MAIN)


def _settings(kind: str, name: str) -> dict[str, str]:
    return {"kind": kind, "path": f"{FOLDER}/{name}"}


def _refuse_without_network(dependencies: Any, *, isolated: bool) -> None:
    if isolated:
        raise ConfigurationError(
            f"dependencies: {str(dependencies)!r} cannot be installed under network isolation; give a folder of wheels "
            "(`pip wheel -r requirements.txt -w wheels`, then dependencies='wheels/'), or an image that has them"
        )


def _wheels(folder: Path) -> tuple[dict[str, Path | bytes], dict[str, str]]:
    wheels = sorted(path for path in folder.iterdir() if path.suffix == ".whl")
    if not wheels:
        raise ConfigurationError(
            f"dependencies: the folder {str(folder)!r} has no wheel in it; give {_FORMS}. `pip wheel -r "
            "requirements.txt -w wheels` makes wheels"
        )
    for path in wheels:
        if path.name.count("-") < 4:  # name, version, Python, ABI and platform
            raise ConfigurationError(f"dependencies: {str(path)!r} does not have the name of a wheel")
    return {f"{_WHEELS}/{path.name}": path for path in wheels}, _settings("wheels", _WHEELS)


def _captured() -> tuple[dict[str, Path | bytes], dict[str, str]]:
    """Return the packages that are installed here, and as a conda environment too if this Python belongs to one."""
    packages = list(installed.installed_packages())
    archives = RequirementsFiles()
    lines = [
        each if isinstance(each, str) else f"./{archives.add_archive(each)}"
        for each in installed.requirements_of(packages)
    ]
    files: dict[str, Path | bytes] = {**archives.files, MAIN: "".join(f"{line}\n" for line in lines).encode()}
    settings = _settings("captured", MAIN)
    by_pip = installed.requirements_of(each for each in packages if each.installer != "conda")
    environment = conda.current_environment(each for each in by_pip if isinstance(each, str))
    if environment is not None:
        files[_CONDA_FILE] = environment
        settings["conda"] = f"{FOLDER}/{_CONDA_FILE}"
    return files, settings


def _conda_name(name: Any) -> str:
    require("job_conda_env", name, NAME)
    if not _CONDA_NAME.fullmatch(name):
        raise ConfigurationError(
            f"job_conda_env: {name!r} is not the name of a conda environment: letters, digits, hyphens, periods and "
            "underscores are allowed"
        )
    return str(name)


def _existing(field: str, value: Any) -> Path:
    path = _path(field, value)
    if not path.is_file():
        problem = "is not a file" if path.exists() else "does not exist"
        raise ConfigurationError(f"{field}: {str(value)!r} {problem} (looked for {path})")
    return path


def _path(field: str, value: Any) -> Path:
    """Return the absolute path that a parameter names."""
    require(field, value, PATH)
    path = absolute(Path(value).expanduser())
    if path is None:
        raise ConfigurationError(f"{field}: {str(value)!r} {NO_WORKING_DIRECTORY}")
    return path

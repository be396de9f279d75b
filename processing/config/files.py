"""Where the config files are, and what they say.

There are two: the administrator's, and the user's, which wins. Each has a standard place
(https://sagemaker.readthedocs.io/en/stable/overview.html#default-configuration-file-location), and an environment
variable that names another file, directory or S3 URI.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from processing.config.schema import validate_config
from processing.exceptions import ConfigurationError
from processing.request.s3_uri import S3Uri, is_s3

ReadS3 = Callable[[S3Uri], bytes | None]
"""Reads an object; None where there is none."""

_NAME = "config.yaml"
_APPLICATION = "sagemaker"
_VARIABLES = {"admin": "SAGEMAKER_ADMIN_CONFIG_OVERRIDE", "user": "SAGEMAKER_USER_CONFIG_OVERRIDE"}

LOCATION_VARIABLES = (*_VARIABLES.values(), "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "HOME", "PROGRAMDATA", "LOCALAPPDATA")
"""The environment variables that say where the files are."""


@attrs.frozen
class ConfigSource:
    """Where a config file may be.

    Args:
        owner: `admin` or `user`.
        location: a path or an S3 URI.
        variable: the environment variable that says so; None for the standard place, where a file need not be.
    """

    owner: str
    location: str
    variable: str | None = None

    @property
    def in_s3(self) -> bool:
        """Whether it takes calls to read it."""
        return is_s3(self.location)


def config_sources() -> tuple[ConfigSource, ...]:
    """Return where the config files may be, the one that wins last."""
    found = []
    for owner, variable in _VARIABLES.items():
        location = os.environ.get(variable)
        if location:
            found.append(ConfigSource(owner, location, variable))
        else:
            found.append(ConfigSource(owner, os.path.join(_standard_directory(owner), _NAME)))  # noqa: PTH118 - text as given
    return tuple(found)


def read(place: ConfigSource, read_s3: ReadS3, hint: str) -> tuple[str, dict[str, Any]]:
    """Return where exactly the file is, and what it says: nothing if it is empty, or missing and need not be there.

    Args:
        place: where it may be.
        read_s3: reads an object.
        hint: what to say where S3 has none.

    Raises:
        ConfigurationError: it is missing, cannot be read, or is not valid.
    """
    where, content = _from_s3(place, read_s3, hint) if place.in_s3 else _from_disk(place)
    document = None if content is None else _parsed(content, where)
    return where, {} if document is None else validate_config(document, where)


def _standard_directory(owner: str) -> str:
    try:
        import platformdirs
    except ImportError:
        return _directory_without_platformdirs(owner)
    if owner == "admin":
        return platformdirs.site_config_dir(_APPLICATION)
    return platformdirs.user_config_dir(_APPLICATION)


def _directory_without_platformdirs(owner: str) -> str:
    """Return what platformdirs would: a file that is there must not be overlooked for want of an extra."""
    home, admin = Path.home(), owner == "admin"
    if sys.platform == "darwin":
        folder = Path("/") if admin else home
        return str(folder / "Library" / "Application Support" / _APPLICATION)
    if sys.platform == "win32":
        folder = Path(os.environ.get("PROGRAMDATA" if admin else "LOCALAPPDATA") or home)
        return str(folder / _APPLICATION / _APPLICATION)
    if admin:
        first = os.environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep)[0]
        return str(Path(first or "/etc/xdg") / _APPLICATION)
    return str(Path(os.environ.get("XDG_CONFIG_HOME", "").strip() or home / ".config") / _APPLICATION)


def _from_disk(place: ConfigSource) -> tuple[str, bytes | None]:
    path = Path(place.location).expanduser()
    try:
        if path.is_dir():
            path /= _NAME
        return str(path), path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        if place.variable is None:
            return str(path), None
        raise ConfigurationError(f"{place.variable}: there is no file {path}") from error
    except OSError as error:
        raise ConfigurationError(f"{place.variable or path}: cannot be read: {error}") from error


def _from_s3(place: ConfigSource, read_s3: ReadS3, hint: str) -> tuple[str, bytes]:
    """Read the object, or the config.yaml below it: the likelier first."""
    uri = S3Uri.parse(place.location)
    candidates = [uri, uri / _NAME]
    if not uri.key.endswith((".yaml", ".yml")):
        candidates.reverse()
    for candidate in candidates:
        content = read_s3(candidate) if candidate.key and not candidate.key.endswith("/") else None
        if content is not None:
            return str(candidate), content
    raise ConfigurationError(f"{place.variable}: there is neither an object {uri} nor a {_NAME} below it, {hint}")


def _parsed(content: bytes, where: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError(
            f"{where}: to read the SageMaker config file, install the extra: pip install 'sm-processing[config]'"
        ) from error
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigurationError(f"{where}: is no YAML: {error}") from error

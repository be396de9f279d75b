"""Finds and reads the config files.

The user's file has priority over the administrator's. Each has a standard location
(https://sagemaker.readthedocs.io/en/stable/overview.html#default-configuration-file-location), and an environment
variable that can name another file, directory or S3 URI.
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
from processing.request.bucket_names import is_s3
from processing.request.s3_uri import S3Uri

ReadS3 = Callable[[S3Uri], bytes | None]
"""A function that reads an object from S3, and returns None if it does not exist."""

_NAME = "config.yaml"
_APPLICATION = "sagemaker"
_VARIABLES = {"admin": "SAGEMAKER_ADMIN_CONFIG_OVERRIDE", "user": "SAGEMAKER_USER_CONFIG_OVERRIDE"}

LOCATION_VARIABLES = (*_VARIABLES.values(), "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "HOME", "PROGRAMDATA", "LOCALAPPDATA")
"""The environment variables that determine the locations of the files."""


@attrs.frozen
class ConfigSource:
    """A possible location of a config file.

    Args:
        owner: `admin` or `user`.
        location: a path or an S3 URI.
        variable: the environment variable that names the location; None for the standard location, where the file is
            optional.
    """

    owner: str
    location: str
    variable: str | None = None

    @property
    def in_s3(self) -> bool:
        """True if the file is in S3, so that reading it takes calls."""
        return is_s3(self.location)


def config_sources() -> tuple[ConfigSource, ...]:
    """Return the possible locations of the config files, the one with priority last."""
    found = []
    for owner, variable in _VARIABLES.items():
        location = os.environ.get(variable)
        if location:
            found.append(ConfigSource(owner, location, variable))
        else:
            found.append(ConfigSource(owner, os.path.join(_standard_directory(owner), _NAME)))  # noqa: PTH118 - keeps the text as it is
    return tuple(found)


def read_source(source: ConfigSource, read_s3: ReadS3, hint: str) -> tuple[str, dict[str, Any]]:
    """Return the exact location of a file and its content, which is empty if an optional file does not exist.

    Args:
        source: the location.
        read_s3: reads an object from S3.
        hint: the end of the error message if S3 does not have the object.

    Raises:
        ConfigurationError: the file is missing, cannot be read, or is not valid.
    """
    location, content = _read_s3_source(source, read_s3, hint) if source.in_s3 else _read_disk_source(source)
    document = None if content is None else _parse_yaml(content, location)
    return location, {} if document is None else validate_config(document, location)


def _standard_directory(owner: str) -> str:
    try:
        import platformdirs
    except ImportError:
        return _directory_without_platformdirs(owner)
    if owner == "admin":
        return platformdirs.site_config_dir(_APPLICATION)
    return platformdirs.user_config_dir(_APPLICATION)


def _directory_without_platformdirs(owner: str) -> str:
    """Return the directory that platformdirs returns.

    Without it, an existing file would be ignored on a machine that lacks the extra.
    """
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


def _read_disk_source(source: ConfigSource) -> tuple[str, bytes | None]:
    path = Path(source.location).expanduser()
    try:
        if path.is_dir():
            path /= _NAME
        return str(path), path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        if source.variable is None:
            return str(path), None
        raise ConfigurationError(f"{source.variable}: there is no file {path}") from error
    except OSError as error:
        raise ConfigurationError(f"{source.variable or path}: cannot be read: {error}") from error


def _read_s3_source(source: ConfigSource, read_s3: ReadS3, hint: str) -> tuple[str, bytes]:
    """Read the object, or the config.yaml below it. Try the more likely one first."""
    uri = S3Uri.checked(source.location, source.variable or "config")
    candidates = [uri, uri / _NAME]
    if not uri.key.endswith((".yaml", ".yml")):
        candidates.reverse()
    for candidate in candidates:
        content = read_s3(candidate) if candidate.key and not candidate.key.endswith("/") else None
        if content is not None:
            return str(candidate), content
    raise ConfigurationError(f"{source.variable}: there is neither an object {uri} nor a {_NAME} below it, {hint}")


def _parse_yaml(content: bytes, location: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError(
            f"{location}: to read the SageMaker config file, install the extra: pip install 'sm-processing[config]'"
        ) from error
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{location}: is not valid YAML: {error}") from error

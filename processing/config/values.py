"""The merged values of the config files, each with the file that it comes from."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from processing._utils.validation import require, with_attributes
from processing.config.files import ConfigSource, ReadS3, config_sources, read_source
from processing.config.schema import validate_config
from processing.exceptions import ConfigurationError

_SESSION, _JOB = "SageMaker.PythonSDK.Modules.Session", "SageMaker.ProcessingJob"
REMOTE_FUNCTION = "SageMaker.PythonSDK.Modules.RemoteFunction"
BUCKET, PREFIX = f"{_SESSION}.DefaultS3Bucket", f"{_SESSION}.DefaultS3ObjectKeyPrefix"
ENVIRONMENT = f"{_JOB}.Environment"
_ENVIRONMENTS = (f"{ENVIRONMENT}.", f"{REMOTE_FUNCTION}.EnvironmentVariables.")

_SECRET = re.compile("secret|password|key|token", re.IGNORECASE)


@attrs.frozen
class Setting:
    """One value of the configuration.

    Attributes:
        path: its key, such as `SageMaker.ProcessingJob.RoleArn`.
        value: the value in the file.
        origin: the path or the S3 URI of the file.
    """

    path: str
    value: Any
    origin: str

    @property
    def shown(self) -> str:
        """The value as Python writes it; `***` for an environment variable whose name suggests a secret."""
        variable = next((self.path[len(each) :] for each in _ENVIRONMENTS if self.path.startswith(each)), "")
        return "***" if _SECRET.search(variable) else repr(self.value)

    def __str__(self) -> str:
        return f"{self.path} = {self.shown} ({self.origin})"


@attrs.frozen
class ConfigFile:
    """A location that was searched for a config file.

    Attributes:
        owner: `admin`, `user`, or `session` for a dictionary that was passed to a session.
        location: a path or an S3 URI.
        variable: the environment variable that names the location; None for the standard location.
        found: True if the file exists and is not empty.
    """

    owner: str
    location: str
    variable: str | None
    found: bool

    def __str__(self) -> str:
        named = f", named by {self.variable}" if self.variable else ""
        return f"{self.owner}: {self.location} ({'read' if self.found else 'nothing there'}{named})"


@attrs.frozen
class _Leaf:
    """A value in the merged tree of the files. A list is one value."""

    value: Any
    origin: str


@attrs.frozen
class Config:
    """The SageMaker configuration: the defaults for parameters that are left out.

    `str()` and `explain` show every value with the file that it comes from.

    Attributes:
        files: the locations that were searched; a later one has priority.
    """

    files: tuple[ConfigFile, ...] = ()
    _tree: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any], origin: str = "sagemaker_config") -> Config:
        """Return the configuration of a dictionary in the form of the file, which may be empty.

        Raises:
            ConfigurationError: the dictionary is not valid.
        """
        file = ConfigFile("session", origin, None, bool(document))
        return _merge_documents([(file, copy.deepcopy(validate_config(dict(document), origin)) if document else {})])

    def get(self, path: str) -> Any:
        """Return a copy of the value at a path such as `SageMaker.ProcessingJob.Tags`, or None if there is no value."""
        return _values(self._at(path))

    def origin(self, path: str) -> str | None:
        """Return the file that the value at a path comes from. Return None if there is no value, or a section."""
        found = self._at(path)
        return found.origin if isinstance(found, _Leaf) else None

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every value for sessions, processing jobs and remote functions, with its origin. A list is one value."""
        return tuple(
            setting for path in (_SESSION, _JOB, REMOTE_FUNCTION) for setting in _settings(path, self._at(path))
        )

    def explain(self) -> str:
        """Return the locations that were searched, and every value with its origin, one per line.

        The value of an environment variable is hidden if its name suggests a secret.
        """
        return "\n".join(map(str, (*self.files, *self.settings)))

    def __str__(self) -> str:
        return self.explain()

    def _at(self, path: str) -> Any:
        found: Any = self._tree
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


def read_config(read_s3: ReadS3, hint: str) -> Config:
    """Read the config files and merge them. For each key the user's file has priority over the administrator's.

    Args:
        read_s3: reads an object, if a file is in S3.
        hint: the end of the error message if the object does not exist.

    Raises:
        ConfigurationError: a file that a variable names is missing, or a file cannot be read or is not valid.
    """
    documents = []
    for source in config_sources():
        location, document = read_source(source, read_s3, hint)
        documents.append((ConfigFile(source.owner, location, source.variable, bool(document)), document))
    return _merge_documents(documents)


def load(session: Any = None) -> Config:
    """Return the configuration of a session, or of the config files on this machine.

    Args:
        session: a `processing.Session`; required to read a file in S3.

    Raises:
        ConfigurationError: a file is missing, cannot be read or is not valid.
    """
    require("session", session, with_attributes("a processing.Session", "config"), optional=True)
    if session is not None:
        config: Config = session.config
        return config
    remote = next((source for source in config_sources() if source.in_s3), None)
    if remote is not None:
        raise _needs_session(remote)
    return read_config(lambda _uri: None, "")


def explain(session: Any = None) -> str:
    """Return the locations that were searched, and every value with the file that it comes from.

    Args:
        session: a `processing.Session`; required to read a file in S3.

    Raises:
        ConfigurationError: a file is missing, cannot be read or is not valid.
    """
    return load(session).explain()


def _needs_session(source: ConfigSource) -> ConfigurationError:
    return ConfigurationError(
        f"{source.variable}: {source.location} is in S3; give the session that reads it: "
        "processing.config.load(processing.Session())"
    )


def _merge_documents(documents: list[tuple[ConfigFile, dict[str, Any]]]) -> Config:
    tree: dict[str, Any] = {}
    for file, document in documents:
        _merge(tree, document, file.location)
    return Config(tuple(file for file, _ in documents), tree)


def _merge(tree: dict[str, Any], document: Mapping[Any, Any], origin: str) -> None:
    """Merge a document over the values in the tree."""
    for key, value in document.items():
        if not isinstance(value, dict):
            tree[str(key)] = _Leaf(value, origin)
            continue
        if not isinstance(tree.get(str(key)), dict):
            tree[str(key)] = {}
        _merge(tree[str(key)], value, origin)


def _values(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {key: _values(value) for key, value in found.items()}
    return copy.deepcopy(found.value) if isinstance(found, _Leaf) else None


def _settings(path: str, found: Any) -> Iterator[Setting]:
    if isinstance(found, _Leaf):
        yield Setting(path, copy.deepcopy(found.value), found.origin)
    elif isinstance(found, Mapping):
        for key, value in found.items():
            yield from _settings(f"{path}.{key}", value)

"""What the config files say together, and which of them says what."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from processing.config.files import ConfigSource, ReadS3, config_sources, read
from processing.config.schema import validate_config
from processing.exceptions import ConfigurationError

_SESSION, _JOB = "SageMaker.PythonSDK.Modules.Session", "SageMaker.ProcessingJob"
BUCKET, PREFIX = f"{_SESSION}.DefaultS3Bucket", f"{_SESSION}.DefaultS3ObjectKeyPrefix"
ENVIRONMENT = f"{_JOB}.Environment"

_SECRET = re.compile("secret|password|key|token", re.IGNORECASE)


@attrs.frozen
class Setting:
    """One value of the configuration.

    Attributes:
        path: its key, such as `SageMaker.ProcessingJob.RoleArn`.
        value: what the file says.
        origin: the file: a path or an S3 URI.
    """

    path: str
    value: Any
    origin: str

    def __str__(self) -> str:
        secret = self.path.startswith(f"{ENVIRONMENT}.") and _SECRET.search(self.path[len(ENVIRONMENT) :])
        return f"{self.path} = {'***' if secret else repr(self.value)} ({self.origin})"


@attrs.frozen
class ConfigFile:
    """A place that was looked at.

    Attributes:
        owner: `admin`, `user`, or `session` for what was given to a session.
        location: a path or an S3 URI.
        variable: the environment variable that named it, or None for the standard place.
        found: whether it says anything.
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
    """A value in the tree of what the files say together; a list is one value."""

    value: Any
    origin: str


@attrs.frozen
class Config:
    """The SageMaker configuration: what is used where a parameter is left out.

    `str()` of it, and `explain`, show every value with the file that it comes from.

    Attributes:
        files: the places that were looked at; a later one wins.
    """

    files: tuple[ConfigFile, ...] = ()
    _tree: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any], origin: str = "sagemaker_config") -> Config:
        """Return the configuration of a dictionary in the form of the file; an empty one says nothing.

        Raises:
            ConfigurationError: it is not valid.
        """
        file = ConfigFile("session", origin, None, bool(document))
        return _merged([(file, validate_config(copy.deepcopy(dict(document)), origin) if document else {})])

    def get(self, path: str) -> Any:
        """Return a copy of the value at a path such as `SageMaker.ProcessingJob.Tags`; None where there is none."""
        return _values(self._at(path))

    def origin(self, path: str) -> str | None:
        """Return the file that the value at a path comes from; None where no value is there, or a section."""
        found = self._at(path)
        return found.origin if isinstance(found, _Leaf) else None

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every value that is for processing jobs, with its origin; lists in one piece."""
        return tuple(setting for path in (_SESSION, _JOB) for setting in _settings(path, self._at(path)))

    def explain(self) -> str:
        """Return which places were looked at, and every value with its origin, a line each.

        The value of an environment variable that may be a secret, going by its name, is not shown.
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
    """Read the config files and return what they say together; the user's wins over the administrator's, key by key.

    Args:
        read_s3: reads an object, where a file is in S3.
        hint: what to say where there is none.

    Raises:
        ConfigurationError: a file that was named is missing, or a file cannot be read or is not valid.
    """
    documents = []
    for place in config_sources():
        where, document = read(place, read_s3, hint)
        documents.append((ConfigFile(place.owner, where, place.variable, bool(document)), document))
    return _merged(documents)


def load(session: Any = None) -> Config:
    """Return the configuration: that of a session, or of the config files of this machine.

    Args:
        session: a `processing.Session`. Without one a file in S3 cannot be read.

    Raises:
        ConfigurationError: a file is missing, cannot be read or is not valid.
    """
    if session is not None:
        config: Config = session.config
        return config
    remote = next((place for place in config_sources() if place.in_s3), None)
    if remote is not None:
        raise _needs_session(remote)
    return read_config(lambda _uri: None, "")


def explain(session: Any = None) -> str:
    """Return which config files were looked at, and every value with the file that it comes from.

    Args:
        session: as for `load`.
    """
    return load(session).explain()


def _needs_session(place: ConfigSource) -> ConfigurationError:
    return ConfigurationError(
        f"{place.variable}: {place.location} is in S3; give the session that reads it: "
        "processing.config.load(processing.Session())"
    )


def _merged(documents: list[tuple[ConfigFile, dict[str, Any]]]) -> Config:
    tree: dict[str, Any] = {}
    for file, document in documents:
        _merge(tree, document, file.location)
    return Config(tuple(file for file, _ in documents), tree)


def _merge(tree: dict[str, Any], document: Mapping[Any, Any], origin: str) -> None:
    """Put what a document says over what is in the tree."""
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

"""The session behind a call: the user's, the default one for AWS, or the one for the embedded engine.

`instance_type="local"` selects the engine. A session of this package is used as it is. A `sagemaker.Session` (v2 or v3)
is read once; a `Session` with its client, bucket and prefix stands in for it.
"""

from __future__ import annotations

import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

from processing._utils.forks import ForkSafeLock
from processing.container.contract import LOCAL_INSTANCE_TYPES
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from processing.session.session import Session

LOCAL_ROLE = "arn:aws:iam::000000000000:role/processing-local"
"""The role of a job on the embedded engine if the user gives none. It is never assumed."""

LOCAL_IMAGE = "local/processing-job:latest"
"""The image of a job on the embedded engine if the user gives none. No such image exists: a local Python runs."""

# A default session depends on these environment variables, and on all whose names begin with one of the prefixes. If
# one of them changes, a new session is made. So does a change of the files that they locate.
_PREFIXES: Final = ("AWS_", "PROCESSING_", "SAGEMAKER_")
_VARIABLES: Final = frozenset(
    {
        "BOTO_CONFIG",
        "REQUESTS_CA_BUNDLE",
        "USERPROFILE",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
        *("ALL_PROXY", "FTP_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"),
        *("all_proxy", "ftp_proxy", "https_proxy", "http_proxy", "no_proxy"),
    }
)
_CREDENTIAL_FILES: Final = (
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ("AWS_CONFIG_FILE", "~/.aws/config"),
)

_lock = ForkSafeLock()
_defaults: dict[str, tuple[Hashable, Session]] = {}
_adapted: weakref.WeakKeyDictionary[Any, Session] = weakref.WeakKeyDictionary()


class SessionLike(Protocol):
    """Any session that a processor accepts: a session of this package, or a `sagemaker.Session` of version 2 or 3."""

    @property
    def boto_session(self) -> Any:
        """The boto3 session."""

    def default_bucket(self) -> str:
        """Return the name of the default bucket."""
        ...


def resolve_session(sagemaker_session: Any, instance_type: Any) -> Session:
    """Return the session that a processor's parameters select.

    Args:
        sagemaker_session: a `Session`, a `LocalSession`, a `sagemaker.Session`, or None for the default one.
        instance_type: `local` and `local_gpu` select the embedded engine.

    Raises:
        ConfigurationError: the two contradict each other, or the first is not a session.
    """
    local = isinstance(instance_type, str) and instance_type in LOCAL_INSTANCE_TYPES
    if sagemaker_session is None:
        return default_local_session() if local else default_session()
    session = _session_of(sagemaker_session)
    if local and not session.is_local:
        if session.yields_to_engine:
            return default_local_session()
        raise ConfigurationError(
            f"instance_type: {instance_type!r} runs the job on this machine, and sagemaker_session reaches AWS; "
            "leave sagemaker_session out, or give a processing.LocalSession"
        )
    return session


def session_for_attach(session: Any = None, field: str = "sagemaker_session") -> Session:
    """Return the session for a job that is known by its name alone: by default the one for AWS.

    Args:
        session: as `sagemaker_session` of a processor. None selects AWS, or the engine if the environment sets
            PROCESSING_TARGET=local.
        field: the parameter's name in error messages.

    Raises:
        ConfigurationError: it is not a session, or PROCESSING_TARGET is neither `aws` nor `local`.
    """
    if session is not None:
        return _session_of(session, field)
    target = os.environ.get("PROCESSING_TARGET") or "aws"
    if target not in {"aws", "local"}:
        raise ConfigurationError(f"PROCESSING_TARGET: must be 'aws' or 'local', not {target!r}")
    return default_local_session() if target == "local" else default_session()


def default_session() -> Session:
    """Return the process's session for AWS. It is made from the environment, and made again if that changes."""
    from processing.session.session import Session

    boto3 = sys.modules.get("boto3")  # without boto3, the user cannot have set a default session
    return _default("aws", _Identity(getattr(boto3, "DEFAULT_SESSION", None)), Session)


def default_local_session() -> Session:
    """Return the process's session for the embedded engine. It is made again if the environment changes."""

    def make() -> Session:
        from processing.local.session import LocalSession

        return LocalSession()

    return _default("local", None, make)


class _Identity:
    """The identity of an object, which exists at least as long as this value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _default(name: str, given: Hashable, make: Callable[[], Session]) -> Session:
    settings = (given, _environment(), _files())
    with _lock:
        known = _defaults.get(name)
        if known is None or known[0] != settings:
            known = _defaults[name] = (settings, make())
        return known[1]


def _environment() -> Hashable:
    """Return the environment variables that a default session depends on."""
    from processing.config.files import LOCATION_VARIABLES

    names = _VARIABLES.union(LOCATION_VARIABLES)
    return frozenset((name, text) for name, text in os.environ.items() if name in names or name.startswith(_PREFIXES))


def _files() -> Hashable:
    """Return the states of the files that a default session depends on."""
    from processing.config.files import config_sources

    paths = [os.environ.get(variable) or default for variable, default in _CREDENTIAL_FILES]
    paths += [source.location for source in config_sources() if not source.in_s3]
    return tuple(_state(os.path.expanduser(path)) for path in paths)  # noqa: PTH111 - botocore's own way


def _state(path: str) -> tuple[int, int, int] | None:
    """Return a value that changes with the content of a file; None if it cannot be read."""
    try:
        state = os.stat(path)  # noqa: PTH116 - this is part of every run
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def _session_of(given: Any, field: str = "sagemaker_session") -> Session:
    from processing.session.session import Session

    if isinstance(given, Session):
        return given
    if (
        isinstance(given, type)
        or not hasattr(given, "boto_session")
        or not callable(getattr(given, "default_bucket", None))
    ):
        raise ConfigurationError(
            f"{field}: must be a processing.Session, a processing.LocalSession or a sagemaker.Session, "
            f"not {_described(given)}"
        )
    if getattr(given, "local_mode", False):
        raise ConfigurationError(
            f"{field}: sagemaker's local mode runs containers; to run on this machine without them, leave "
            f'{field} out and give instance_type="local"'
        )
    if "Pipeline" in type(given).__name__:
        raise ConfigurationError(
            "sagemaker_session: a pipeline session records steps instead of running jobs; give a sagemaker.Session"
        )
    with _lock:
        session = _adapted.get(given)
        if session is None:
            session = _adapted[given] = _adapt(given)
        return session


def _adapt(given: Any) -> Session:
    """Return a `Session` that calls AWS as a `sagemaker.Session` does."""
    from processing.session.session import Session

    bucket = getattr(given, "_default_bucket_name_override", None)
    if bucket is None and not getattr(given, "_default_bucket_set_by_sdk", False):
        bucket = getattr(given, "_default_bucket", None)
    # The user's own client keeps its endpoint. Without one, a client for the same region is made.
    return Session(
        given.boto_session,
        getattr(given, "sagemaker_client", None),
        default_bucket=bucket,
        default_bucket_prefix=getattr(given, "default_bucket_prefix", None) or None,
        region_name=getattr(given, "boto_region_name", None),
        sagemaker_config=getattr(given, "sagemaker_config", None),  # the session has read it already
    )


def _described(given: Any) -> str:
    kind = type(given)
    hint = "; Session(boto_session=...) takes it" if kind.__module__.startswith("boto3") else ""
    return f"{kind.__module__}.{kind.__qualname__}{hint}"

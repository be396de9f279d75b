"""The boto3 session and the clients of one session: made at first use, again in a forked child, and with renewed keys.

Credentials are renewed by programs beside this one: a sign-in, a cron job, a user who edits a file. boto3 reads keys
once for each session, so a client keeps expired ones for ever. `BotoClients.renew` reads them again.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

from processing._utils.forks import ForkSafeLock, reset_after_fork
from processing._utils.garbage import collection_paused
from processing.aws import connections
from processing.exceptions import ConfigurationError
from processing.session.travel import FOUND_BY_BOTOCORE, SEARCHED

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10
"""Seconds to wait for a connection."""

_CONNECTIONS: Final = 80  # per client: more than a transfer has threads, so that none waits for a connection

Keys = tuple[str, str, "str | None"]
"""An access key, its secret, and a session token."""


class BotoClients:
    """The boto3 session and the clients of one session in this process.

    Args:
        boto_session: the user's boto3 session; None to make one.
        sagemaker_client: the user's client of SageMaker; None to make one.
        make_session: makes a boto3 session from the environment.
        region: returns the region of the clients.
        read_timeout: returns the seconds to wait for an answer.
        endpoint: the URL of SageMaker; None for that of the environment.

    Attributes:
        lock: guards everything here, and what the owner makes of the clients. It is re-entrant, because making a client
            asks for the boto session and for the region.
    """

    def __init__(
        self,
        boto_session: Any,
        sagemaker_client: Any,
        make_session: Callable[[], Any],
        region: Callable[[], str],
        read_timeout: Callable[[], float],
        endpoint: str | None = None,
    ) -> None:
        self.lock = ForkSafeLock()
        self.given_session = boto_session
        self.given_client = sagemaker_client
        self._make_session = make_session
        self._region = region
        self._read_timeout = read_timeout
        self.endpoint = endpoint
        self._session = boto_session
        self._is_own = False  # True if `_make_session` has made the session, from the environment
        self._keys: Keys | None = None  # renewed keys, in place of those of a session of the user's
        self._made: dict[str, Any] = {}
        self._forked = False
        reset_after_fork(self)

    def _after_fork(self) -> None:
        self._forked = True
        self._made = {}
        self._session = self.given_session
        if self._session is not None:
            connections.reconnect_credentials(self._session)

    @property
    def session(self) -> Any:
        """The boto3 session; made on first use."""
        with self.lock:
            if self._session is None:
                with collection_paused():
                    self._session = self._make_session()
                self._is_own = self._session is not boto3_default_session()
                if not self._is_own:
                    self._keys = _newer_keys(self._session, None)
            return self._session

    def given_region(self) -> str | None:
        """Return the region of the user's objects, or of the environment; None if no region is set."""
        if self.given_session is None and self.given_client is not None:
            return str(self.given_client.meta.region_name)
        region = self.session.region_name or environment_region()
        return None if region is None else str(region)

    def client(self, service: str) -> Any:
        """Return the client of a service. It does not retry."""
        with self.lock:
            if service not in self._made:
                given = service == "sagemaker" and self.given_client is not None
                with collection_paused():
                    self._made[service] = self._users_client() if given else self._make_client(service)
            return self._made[service]

    def renew(self) -> bool:
        """Read the credentials again, and return whether they are others. New clients are then made with them."""
        with self.lock:
            try:
                renewed = self._renew()
            except Exception as error:  # noqa: BLE001 - the caller reports the error of the call that failed
                logger.debug("the credentials cannot be read again: %s", error)
                return False
            if renewed:
                logger.info("the AWS credentials were renewed")
                self._made = {}
            return renewed

    def _renew(self) -> bool:
        session = self.session
        if self._is_own:
            fresh = self._make_session()
            if _keys_of(fresh) in {None, _keys_of(session)}:
                return False
            self._session = fresh
            return True
        keys = _newer_keys(session, self._keys)
        if keys is None:
            return False
        self._keys = keys
        return True

    def _users_client(self) -> Any:
        client = self.given_client
        if self._forked:
            client = connections.reconnected_client(client, "sagemaker_client")
        # A client of another session than the given one may be of another account.
        if self._keys is not None and connections.uses_credentials_of(client, self.session):
            return connections.client_with_keys(client, self._keys)
        return client

    def _make_client(self, service: str) -> Any:
        from botocore.config import Config
        from botocore.exceptions import UnknownServiceError

        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=self._read_timeout(),
            max_pool_connections=_CONNECTIONS,
        )
        session = self.session  # before the keys, which may replace its own
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        options: dict[str, Any] = dict(zip(names, self._keys, strict=True)) if self._keys else {}
        if service == "sagemaker" and self.endpoint is not None:
            options["endpoint_url"] = self.endpoint
        try:
            client = session.client(service, region_name=self._region(), config=config, **options)
        except UnknownServiceError as error:
            raise ConfigurationError(f"service: {service!r} is not the name of a service of AWS") from error
        if service == "s3":
            without_expect_header(client)
        return client


def environment_region() -> str | None:
    """Return the region of the environment variable AWS_REGION, which botocore does not read; None without it."""
    return os.environ.get("AWS_REGION") or None


def boto3_default_session() -> Any:
    """Return the session that the user set with `boto3.setup_default_session`; None if there is none.

    `boto3.client` sets one by itself, with the settings of the environment at that moment. That one does not count.
    """
    import boto3

    session: Any = boto3.DEFAULT_SESSION
    return session if session is not None and _is_users(session) else None


def new_boto_session(profile: str | None, region_name: str | None) -> Any:
    """Return a boto3 session that shares the service models of this process with others.

    Args:
        profile: the profile; None for that of the environment.
        region_name: the region; None for that of the environment.
    """
    import boto3
    import botocore.session

    from processing.request.service_model import shared_loader

    core = botocore.session.Session(profile=profile)
    loader = shared_loader()
    core.register_component("data_loader", loader)
    session = boto3.Session(botocore_session=core, region_name=region_name or environment_region())
    # Every boto3 session adds its data folder to the shared loader. Once is enough.
    loader.search_paths[:] = dict.fromkeys(loader.search_paths)
    return session


def _is_users(session: Any) -> bool:
    """Return whether a boto3 session has settings that are not those of the environment."""
    import botocore.session

    core = getattr(session, "_session", None)
    if type(core) is not botocore.session.Session:
        return True
    return bool(core.instance_variables()) or (getattr(core, "_credentials", None) is not None and _is_explicit(core))


def _is_explicit(core: Any) -> bool:
    return core._credentials.method not in FOUND_BY_BOTOCORE  # noqa: SLF001 - it has no public name


def _keys_of(boto_session: Any) -> Keys | None:
    """Return the keys of a boto3 session; None if it has none."""
    credentials = boto_session.get_credentials()
    if credentials is None:
        return None
    frozen = credentials.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key, frozen.token


def _newer_keys(boto_session: Any, known: Keys | None) -> Keys | None:
    """Return the keys that a user's boto3 session would find now; None if they are the known ones, or its own objects.

    Args:
        boto_session: the session.
        known: the keys that replace the session's own; None if those are in use.
    """
    import boto3
    import botocore.session

    core = boto_session._session  # noqa: SLF001 - boto3 has no public access to it
    credentials = core.get_credentials()
    if credentials is None or credentials.method not in SEARCHED:
        return None
    fresh = boto3.Session(botocore_session=botocore.session.Session(profile=core.instance_variables().get("profile")))
    keys = _keys_of(fresh)
    return None if keys == (known or _keys_of(boto_session)) else keys


def without_expect_header(client: Any) -> None:
    """Make an S3 client send bodies at once: `Expect: 100-continue` costs a round trip per upload."""
    from botocore import handlers

    handler = getattr(handlers, "add_expect_header", None)
    if handler is not None:
        client.meta.events.unregister("before-call.s3", handler)

"""The HTTP connections of boto3 objects that the user made: replaced in a forked child.

A client has a pool of connections, which parent and child would share after a fork. The clients of this package are
made anew in the child. An object of the user's keeps its settings, credentials and event handlers, and gets a pool of
its own.
"""

# botocore and urllib3 have no public way to replace a pool of connections.
# ruff: noqa: SLF001

from __future__ import annotations

import copy
import threading
from typing import Any

from processing.exceptions import ConfigurationError


def reconnected_client(client: Any, field: str) -> Any:
    """Return a copy of a boto3 client with connections of its own.

    Args:
        client: the client.
        field: the parameter that the user gave it as.

    Raises:
        ConfigurationError: the object is not a client of the installed botocore, so its connections are not known.
    """
    try:
        renewed = _bare_copy(client)
        renewed._endpoint = copy.copy(client._endpoint)
        renewed._endpoint.http_session = _reconnected(client._endpoint.http_session)
        _free_refresh_lock(client._request_signer._credentials)
    except AttributeError as error:
        raise ConfigurationError(
            f"{field}: was made before this process was forked, and its connections cannot be replaced; "
            "make the client after the fork"
        ) from error
    return renewed


def uses_credentials_of(client: Any, boto_session: Any) -> bool:
    """Return whether a client was made by a boto3 session, with the session's own credentials."""
    signer = getattr(client, "_request_signer", None)
    theirs = getattr(getattr(boto_session, "_session", None), "_credentials", None)
    return theirs is not None and getattr(signer, "_credentials", None) is theirs


def client_with_keys(client: Any, keys: tuple[str, str, str | None]) -> Any:
    """Return a copy of a boto3 client that signs with other keys. It shares the connections of the client."""
    from botocore.credentials import Credentials

    copied, old = _bare_copy(client), client._request_signer
    events = copy.copy(client.meta.events)
    signer = copy.copy(old)
    signer._credentials, signer._event_emitter, signer._cache = Credentials(*keys), events, {}
    # The client of botocore signs in this handler.
    event = f"request-created.{client.meta.service_model.service_id.hyphenize()}"
    events.unregister(event, old.handler)
    events.register(event, signer.handler)
    copied.meta, copied._endpoint = copy.copy(client.meta), copy.copy(client._endpoint)
    copied.meta.events = copied._endpoint._event_emitter = events
    copied._request_signer = signer
    return copied


def _bare_copy(client: Any) -> Any:
    copied = object.__new__(type(client))  # `copy.copy` asks a client without attributes for one, for ever
    vars(copied).update(vars(client))
    return copied


def reconnect_credentials(boto_session: Any) -> None:
    """Replace the lock and the connections by which a boto3 session refreshes its credentials."""
    core: Any = getattr(boto_session, "_session", None)
    _free_refresh_lock(getattr(core, "_credentials", None))
    # The component exists only once credentials have been searched.
    resolver = getattr(getattr(core, "_components", None), "_components", {}).get("credential_provider")
    for provider in getattr(resolver, "providers", ()):
        for name in ("_role_fetcher", "_fetcher"):  # of the instance's and the container's metadata service
            fetcher: Any = getattr(provider, name, None)
            if hasattr(fetcher, "_session"):
                fetcher._session = _reconnected(fetcher._session)


def _reconnected(http_session: Any) -> Any:
    """Return a copy of botocore's HTTP session with a new pool. To close the old one could wait for a lock for ever."""
    from urllib3 import PoolManager

    renewed = copy.copy(http_session)
    renewed._proxy_managers = {}
    renewed._manager = PoolManager(**http_session._get_pool_manager_kwargs())
    renewed._manager.pool_classes_by_scheme = http_session._pool_classes_by_scheme
    return renewed


def _free_refresh_lock(credentials: Any) -> None:
    if hasattr(credentials, "_refresh_lock"):
        credentials._refresh_lock = threading.Lock()

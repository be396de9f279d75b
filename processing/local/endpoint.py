"""The HTTP address of the engine, and the environment variables that point a client at it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processing.local.credentials import Keys

ADDRESS = "127.0.0.1"
"""The loopback interface, so that other machines cannot reach the engine."""


def client_environment(endpoint: str, keys: Keys, region: str) -> dict[str, str]:
    """Return the environment variables that point any client at an endpoint, and at no other.

    Args:
        endpoint: the URL of the endpoint.
        keys: the keys to sign with.
        region: the clients' region.
    """
    variables = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "false",
        "AWS_USE_FIPS_ENDPOINT": "false",
    }
    if keys.token is not None:
        variables["AWS_SESSION_TOKEN"] = keys.token
    for name in ("NO_PROXY", "no_proxy"):  # a proxy cannot reach this machine's loopback
        known = [part for part in os.environ.get(name, "").split(",") if part and part not in {ADDRESS, "localhost"}]
        variables[name] = ",".join([*known, ADDRESS, "localhost"])
    return variables

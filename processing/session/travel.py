"""The travel of a session to another process: as profile, region and endpoint, never with keys.

A boto3 session and its clients cannot be pickled, and their keys must not be. The other process makes them again from
its own environment and files. Keys that the user gave as arguments exist in this process only, so a session with such
keys does not travel.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Final

import attrs

from processing.aws import connections
from processing.exceptions import ConfigurationError

SEARCHED: Final = frozenset(
    {
        "assume-role",
        "config-file",
        "custom-process",
        "env",
        "login",
        "shared-credentials-file",
        "sso",
    }
)
"""botocore's names of the sources of credentials that it searches by itself, and that users renew."""

FOUND_BY_BOTOCORE: Final = SEARCHED | {"assume-role-with-web-identity", "container-role", "iam-role"}
"""botocore's names of all sources that it searches by itself. Other credentials are the user's own objects."""


@attrs.frozen
class SessionOrigin:
    """The values from which another process makes the boto3 objects of a session.

    Args:
        profile: the profile of the AWS CLI's files; None for that of the environment.
        endpoint: the URL of SageMaker; None for that of the environment.
    """

    profile: str | None = None
    endpoint: str | None = None


def origin_of(boto_session: Any, given_client: Any, endpoint: str | None) -> SessionOrigin:
    """Return the origin of a session's boto3 objects.

    Args:
        boto_session: the boto3 session.
        given_client: the user's client of SageMaker; None if there is none.
        endpoint: the URL of SageMaker, if it is known.

    Raises:
        ConfigurationError: they have keys that exist in this process only.
    """
    profile = _profile(boto_session, "boto_session")
    if given_client is None:
        return SessionOrigin(profile, endpoint)
    _check_client(given_client, boto_session)
    return SessionOrigin(profile, given_client.meta.endpoint_url)


def _profile(boto_session: Any, field: str) -> str | None:
    import botocore.session

    core = getattr(boto_session, "_session", None)
    if type(core) is not botocore.session.Session:
        raise _stays_here(field)
    selected = core.instance_variables().get("profile")
    method = getattr(getattr(core, "_credentials", None), "method", None)
    if selected is not None:
        return str(selected)
    if method is not None and method not in FOUND_BY_BOTOCORE:
        raise _stays_here(field)
    # Keys of the environment come before the profile that the environment selects.
    has_keys = method == "env" or (method is None and bool(os.environ.get("AWS_ACCESS_KEY_ID")))
    return None if has_keys else core.profile


def _check_client(client: Any, boto_session: Any) -> None:
    if connections.uses_credentials_of(client, boto_session):
        return
    theirs: Any = getattr(getattr(client, "_request_signer", None), "_credentials", None)
    with contextlib.suppress(Exception):  # no credentials here, so they are the client's alone
        if theirs is not None and theirs.access_key == boto_session.get_credentials().access_key:
            return
    raise _stays_here("sagemaker_client")


def _stays_here(field: str) -> ConfigurationError:
    return ConfigurationError(
        f"{field}: its keys exist in this process only, and no secret is copied to another one; make the Session in "
        'the other process, or from a profile: Session(boto3.Session(profile_name="..."))'
    )

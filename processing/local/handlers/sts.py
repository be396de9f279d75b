"""STS: who the caller is. Everybody is the same role of the engine's one account."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

ROLE = "processing-local"
"""The role that callers are taken for."""

_ROLE_ID = "AROA" + ROLE.upper().replace("-", "")
_DEFAULT_DURATION = 3600


class Surroundings(Protocol):
    """What the handler needs to know of the engine."""

    account: str


class StsHandler:
    """GetCallerIdentity and AssumeRole, by their names in the API.

    Args:
        engine: the engine that it belongs to.

    Attributes:
        operations: the function for each operation.
    """

    def __init__(self, engine: Surroundings) -> None:
        self._engine = engine
        self.operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "GetCallerIdentity": self.get_caller_identity,
            "AssumeRole": self.assume_role,
        }

    def get_caller_identity(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 — it has none
        """Answer the one identity."""
        account = self._engine.account
        return {
            "UserId": f"{_ROLE_ID}:local",
            "Account": account,
            "Arn": f"arn:aws:sts::{account}:assumed-role/{ROLE}/local",
        }

    def assume_role(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer credentials for any role; the engine asks nobody for credentials, so they are mere placeholders."""
        name, session = params["RoleArn"].rpartition("/")[2], params["RoleSessionName"]
        end = time.time() + params.get("DurationSeconds", _DEFAULT_DURATION)
        return {
            "Credentials": {
                "AccessKeyId": "ASIALOCALPROCESSING0",
                "SecretAccessKey": "local",
                "SessionToken": "local",
                "Expiration": dt.datetime.fromtimestamp(int(end), dt.timezone.utc),
            },
            "AssumedRoleUser": {
                "AssumedRoleId": f"{_ROLE_ID}:{session}",
                "Arn": f"arn:aws:sts::{self._engine.account}:assumed-role/{name}/{session}",
            },
        }

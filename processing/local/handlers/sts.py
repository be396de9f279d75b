"""Handler for STS: the caller's identity, and keys for roles. Every caller may assume every role of the one account."""

from __future__ import annotations

import datetime as dt
import re
import time
from typing import TYPE_CHECKING, Any

from processing.local.credentials import ROLE, assumed_role, caller, install_credentials
from processing.local.errors import ApiError

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.credentials import Identity
    from processing.local.handlers import Operation

_ROLE = re.compile(r"arn:[\w-]+:iam::\d{12}:role/(?:[\x21-\x7e]*/)?([\w+=,.@-]{1,64})", re.ASCII)
_SESSION = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
# STS's bounds of DurationSeconds: of any key, of a role's, and of a session token.
_SHORTEST, _LONGEST_ROLE, _LONGEST_TOKEN = 900, 43_200, 129_600


class StsHandler:
    """Handler for GetCallerIdentity, AssumeRole and GetSessionToken.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self.operations: dict[str, Operation] = {
            "GetCallerIdentity": self.get_caller_identity,
            "AssumeRole": self.assume_role,
            "GetSessionToken": self.get_session_token,
        }

    def get_caller_identity(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the operation has no parameters
        """Return the identity of the signer: the engine's own role, or the role of a temporary key."""
        identity = self._caller()
        return {"UserId": identity.user_id, "Account": self._engine.account, "Arn": identity.arn}

    def assume_role(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a temporary key for any role, in the engine's account even if the ARN names another one."""
        arn, session = str(params.get("RoleArn", "")), str(params.get("RoleSessionName", ""))
        role = _ROLE.fullmatch(arn)
        if role is None:
            raise ApiError("ValidationError", f"{arn} is invalid")
        if not _SESSION.fullmatch(session):
            raise ApiError(
                "ValidationError",
                f"1 validation error detected: Value '{session}' at 'roleSessionName' failed to satisfy constraint: "
                "Member must satisfy regular expression pattern: [\\w+=,.@-]*",
            )
        identity = assumed_role(f"arn:aws:sts::{self._engine.account}:assumed-role/{role[1]}/{session}")
        return {
            "Credentials": self._keys(identity, params, 3600, _LONGEST_ROLE),
            "AssumedRoleUser": {"AssumedRoleId": identity.user_id, "Arn": identity.arn},
        }

    def get_session_token(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a temporary key for the caller itself."""
        return {"Credentials": self._keys(self._caller(), params, 43_200, _LONGEST_TOKEN)}

    def _caller(self) -> Identity:
        identity = caller()
        return (
            identity if identity.arn else assumed_role(f"arn:aws:sts::{self._engine.account}:assumed-role/{ROLE}/local")
        )

    def _keys(self, identity: Identity, params: dict[str, Any], default: int, longest: int) -> dict[str, Any]:
        duration = params.get("DurationSeconds", default)
        if not _SHORTEST <= duration <= longest:
            bound = (
                f"greater than or equal to {_SHORTEST}" if duration < _SHORTEST else f"less than or equal to {longest}"
            )
            raise ApiError(
                "ValidationError",
                f"1 validation error detected: Value '{duration}' at 'durationSeconds' failed to satisfy constraint: "
                f"Member must have value {bound}",
            )
        end = int(time.time()) + duration
        keys = install_credentials(self._engine.home).temporary(identity, end)
        return {
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret_key,
            "SessionToken": keys.token,
            "Expiration": dt.datetime.fromtimestamp(end, dt.timezone.utc),
        }

"""Handler for IAM. Every role exists in the engine's account, so that code with a role's name runs unchanged."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_CREATED = dt.datetime(2017, 11, 29, tzinfo=dt.timezone.utc)  # the day that SageMaker was announced
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


class IamHandler:
    """Handler for IAM's GetRole.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self.operations: dict[str, Operation] = {"GetRole": self.get_role}

    def get_role(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the role with a name."""
        name = params.get("RoleName", "")
        if not _NAME.fullmatch(name):
            raise ApiError(
                "ValidationError",
                "The specified value for roleName is invalid. It must contain only alphanumeric characters and/or the "
                "following: +=,.@_-",
            )
        role = {
            "Path": "/",
            "RoleName": name,
            "RoleId": "AROALOCALPROCESSING00",
            "Arn": f"arn:aws:iam::{self._engine.account}:role/{name}",
            "CreateDate": _CREATED,
            "AssumeRolePolicyDocument": quote(json.dumps(_TRUST)),
            "MaxSessionDuration": 3600,
        }
        return {"Role": role}

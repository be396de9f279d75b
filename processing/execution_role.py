"""The role that a job runs as by default: the role of the caller or of the SageMaker notebook."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing.default_sessions import LOCAL_ROLE, session_for_attach
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from processing.default_sessions import SessionLike
    from processing.session.session import Session

logger = logging.getLogger(__name__)

METADATA = Path("/opt/ml/metadata/resource-metadata.json")
"""The file that identifies a notebook instance or a Studio space
(https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-metadata.html)."""

_ASSUMED = re.compile(r"(arn:[^:]+:)sts::(\d+):assumed-role/([^/]+)/.*")
_CONSOLE = "AmazonSageMaker-ExecutionRole"  # roles of this name come from the console, with the path service-role


def get_execution_role(sagemaker_session: SessionLike | None = None, use_default: bool = False) -> str:
    """Return the ARN of the role whose credentials are in use; in a SageMaker notebook, the notebook's role.

    Args:
        sagemaker_session: as for a processor. None asks AWS, or the embedded engine if the environment sets
            PROCESSING_TARGET=local.
        use_default: `sagemaker` 2.x creates a role for a caller that is not a role. This package creates none, so that
            the error remains.

    Raises:
        ConfigurationError: the caller is a user, not a role.
    """
    session = session_for_attach(sagemaker_session)
    if session.is_local:
        return LOCAL_ROLE
    notebook = _role_of_notebook(session)
    if notebook is not None:
        return notebook
    caller = session.caller_identity_arn()
    match = _ASSUMED.fullmatch(caller)
    if match is not None:
        return _with_path(session, caller, f"{match[1]}iam::{match[2]}:role/", match[3])
    if ":role/" in caller:
        return caller
    instead = "this package makes no default role; " if use_default else ""
    raise ConfigurationError(
        f"role: The current AWS identity is not a role: {caller}, therefore it cannot be used as a SageMaker execution "
        f"role; {instead}give the ARN of a role that SageMaker can assume"
    )


def _role_of_notebook(session: Session) -> str | None:
    """Return the role of the surrounding notebook; None outside a notebook, or if AWS refuses to describe it."""
    from botocore.exceptions import ClientError

    try:
        metadata = json.loads(METADATA.read_bytes())
    except (OSError, ValueError):
        return None
    if metadata.get("ExecutionRoleArn"):
        return str(metadata["ExecutionRoleArn"])
    try:
        return _described_role(session, metadata)
    except ClientError as error:
        logger.warning("the role of %s is not known: %s", metadata.get("ResourceName"), error)
        return None


def _described_role(session: Session, metadata: dict[str, Any]) -> str | None:
    domain, profile = metadata.get("DomainId"), metadata.get("UserProfileName")
    if domain is None:
        name = {"NotebookInstanceName": metadata.get("ResourceName")}
        return str(session.api.call("sagemaker", "DescribeNotebookInstance", name)["RoleArn"])
    if profile is not None:
        params = {"DomainId": domain, "UserProfileName": profile}
        settings = session.api.call("sagemaker", "DescribeUserProfile", params).get("UserSettings", {})
        if settings.get("ExecutionRole"):
            return str(settings["ExecutionRole"])
    described = session.api.call("sagemaker", "DescribeDomain", {"DomainId": domain})
    role = described.get("DefaultUserSettings", {}).get("ExecutionRole")
    return None if role is None else str(role)


def _with_path(session: Session, caller: str, beginning: str, name: str) -> str:
    """Return the role's ARN with its path, which the ARN of an assumed role lacks. IAM knows it."""
    from botocore.exceptions import ClientError

    try:
        return str(session.api.call("iam", "GetRole", {"RoleName": name})["Role"]["Arn"])
    except ClientError as error:
        path = "service-role/" if _CONSOLE in name else ""
        logger.warning("the path of the role of %s is not known (%s): it is taken to be /%s", caller, error, path)
        return f"{beginning}{path}{name}"

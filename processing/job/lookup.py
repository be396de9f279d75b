"""The lookup of an existing job by its name or its ARN."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from processing.exceptions import ConfigurationError
from processing.request.job_names import JOB_NAME

if TYPE_CHECKING:
    from processing.session.session import Session


def job_name_of_arn(session: Session, arn: str, field: str) -> str:
    """Return the job's name in an ARN.

    Args:
        session: the session that reaches the job.
        arn: the ARN.
        field: the parameter's name in error messages.

    Raises:
        ConfigurationError: it is not the ARN of a processing job, or the job is in another region.
    """
    match = re.fullmatch(r"arn:[^:]+:sagemaker:([^:]+):\d{12}:processing-job/([^/]+)", arn)
    if match is None:
        raise ConfigurationError(f"{field}: {arn!r} is not the ARN of a processing job")
    region, name = match.groups()
    check_region(session, region, field)
    return name


def check_region(session: Session, region: str, field: str) -> None:
    """Check that a job's region is the session's.

    Raises:
        ConfigurationError: it is another one.
    """
    if region != session.boto_region_name:
        raise ConfigurationError(
            f"{field}: the job is in {region}, the session in {session.boto_region_name}; "
            f"give a Session(region_name={region!r})"
        )


def describe_existing(session: Session, name: str, field: str) -> dict[str, Any]:
    """Return the description of the job of that name.

    Raises:
        ConfigurationError: there is no such job, or no job can have the name.
    """
    from processing.aws.retry import is_not_found

    if not JOB_NAME.accepts(name):
        raise ConfigurationError(f"{field}: must be a job's name, not {name!r}")
    try:
        return session.describe_processing_job(name)
    except Exception as error:
        if not is_not_found(error):
            raise
        place = "the embedded engine" if session.is_local else session.boto_region_name
        raise ConfigurationError(f"{field}: no processing job {name!r} in {place}") from None

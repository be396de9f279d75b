"""The start of a job under a free name: a generated one, or the user's own.

Each name that is tried makes one launch (`processing.job.launch`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from processing.exceptions import CredentialsError, NameTakenError, SubmissionError
from processing.job.job import ProcessingJob
from processing.request.job_names import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.job.launch import Launch
    from processing.request.build import ProcessingRequest
    from processing.session.session import Session

    Prepare = Callable[[str | None], Launch]
    """Makes a launch for a job name; None lets the processor generate the name."""

IfExists = Literal["fail", "attach", "suffix"]
"""The reaction to a job name that is taken: raise an error, attach to the job, or append a number to the name."""

# A generated name has the milliseconds of its moment, so even one collision is rare. Five in a row have another cause.
_NAME_TRIES = 5


def start_generated(prepare: Prepare) -> ProcessingJob:
    """Start a job under a generated name; try another name if that one is taken.

    Two machines can generate the same name in the same millisecond. The first job then keeps the name and its files.
    """
    from processing.staging.objects import ClaimedError

    tried: set[str] = set()
    for _ in range(_NAME_TRIES):
        launch = prepare(None)
        if launch.request.job_name in tried:  # a subclass generates its own names, and always the same one
            return ProcessingJob.from_launch(launch)
        tried.add(launch.request.job_name)
        with contextlib.suppress(ClaimedError, NameTakenError):
            return ProcessingJob.from_launch(launch.claimed())
    return ProcessingJob.from_launch(prepare(None))


def start_named(session: Session, prepare: Prepare, job_name: str, if_exists: IfExists) -> ProcessingJob:
    """Start a job under the user's name if no other job has it.

    The name is looked up before any upload. The uploads go to a prefix of that name, and would replace the files of a
    running job.

    Args:
        session: the session that the job is submitted through.
        prepare: makes the launch for a name.
        job_name: the name.
        if_exists: the reaction to a name that is taken: `fail`, `attach` or `suffix`.

    Without the permission to look names up, the uploads replace no object instead.

    Raises:
        NameTakenError: another job has the name, and `if_exists` is `fail`.
        SubmissionError: the name could not be looked up, or the job to attach to could not be read.
    """
    from processing.staging.objects import ClaimedError

    number, name = 1, job_name
    while True:
        launch = prepare(name)
        # Another process may take the name between the look-up and the submission.
        with contextlib.closing(launch.staging), contextlib.suppress(ClaimedError, NameTakenError):
            exists = _looked_up(session, name) if _needs_lookup(launch) else False
            if not exists:
                return ProcessingJob.from_launch(launch.claimed() if exists is None else launch)
        if if_exists == "attach":
            return _attached(session, name)
        if if_exists == "fail":
            raise _name_taken(job_name, "give another name, or if_exists='attach' or 'suffix'")
        number += 1
        name = f"{job_name[: LONGEST_NAME - len(str(number)) - 1]}-{number}"


def stage(session: Session, prepare: Prepare, job_name: str | None) -> ProcessingRequest:
    """Upload the files of a job that is not created yet, and return its request.

    Args:
        session: the session that the files are uploaded through.
        prepare: makes the launch for a name.
        job_name: the user's name; None for a generated one.

    Raises:
        NameTakenError: a job has the user's name, so its files could be replaced.
    """
    from processing.staging.objects import ClaimedError

    if job_name is not None:
        launch = prepare(job_name)
        with contextlib.closing(launch.staging), contextlib.suppress(ClaimedError):
            exists = _looked_up(session, job_name) if _needs_lookup(launch) else False
            if not exists:
                return (launch.claimed() if exists is None else launch).stage()
        raise _name_taken(job_name, "give another name")
    for _ in range(_NAME_TRIES):
        with contextlib.suppress(ClaimedError):
            return prepare(None).claimed().stage()
    return prepare(None).stage()


def _name_taken(job_name: str, advice: str) -> NameTakenError:
    return NameTakenError(
        f"job_name: a job named {job_name!r} exists; {advice}", job_name=job_name, code="ResourceInUse"
    )


def _looked_up(session: Session, job_name: str) -> bool | None:
    """Return whether there is a job of that name; None if the caller may not look."""
    from processing.aws.retry import is_denied

    try:
        return job_exists(session, job_name)
    except CredentialsError:
        raise
    except Exception as error:
        if is_denied(error):
            return None
        raise SubmissionError(
            f"job {job_name} was not created: the name could not be looked up ({error})", job_name=job_name
        ) from error


def _attached(session: Session, job_name: str) -> ProcessingJob:
    from processing.aws.retry import error_code, is_denied

    try:
        return ProcessingJob.from_processing_name(session, job_name)
    except Exception as error:
        if not is_denied(error):
            raise
        raise SubmissionError(
            f"job_name: {job_name!r} is taken, and if_exists='attach' needs the permission "
            f"sagemaker:DescribeProcessingJob ({error})",
            job_name=job_name,
            code=error_code(error),
        ) from error


def job_exists(session: Session, job_name: str) -> bool:
    """Return whether there is a job of that name, by one DescribeProcessingJob."""
    from processing.aws.retry import is_not_found

    try:
        session.describe_processing_job(job_name)
    except Exception as error:
        if is_not_found(error):
            return False
        raise
    return True


def _needs_lookup(launch: Launch) -> bool:
    """Return False if the name is unlisted and no upload can replace another job's file.

    A listing lags, so it alone does not prove that the name is free.
    """
    harmless = all(upload.content_addressed for upload in launch.staging.uploads)
    return not (launch.options.name_is_unlisted and harmless)

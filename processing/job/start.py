"""Under which name a job starts: a generated one that is free, or the one that the user gave."""

from __future__ import annotations

import contextlib
import contextvars
from typing import TYPE_CHECKING, Literal

from processing.job.job import ProcessingJob, describe_if_exists, start
from processing.request.job_names import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processing.job.launch import Launch
    from processing.session.session import Session

    Prepare = Callable[[str | None], Launch]
    """Makes a job ready to start under a name; under a generated one for None."""

IfExists = Literal["fail", "attach", "suffix"]

_listed: contextvars.ContextVar[bool] = contextvars.ContextVar("listed", default=False)


@contextlib.contextmanager
def names_listed() -> Iterator[None]:
    """Say that the names given in the block were not among the jobs that AWS has just listed.

    A listing lags, so a name is still looked up by itself where uploads could replace the files of the job that has it.
    Where none could, CreateProcessingJob is what finds it taken: one call less.
    """
    token = _listed.set(True)
    try:
        yield
    finally:
        _listed.reset(token)


_NAME_TRIES = 5  # a generated name is unique to the millisecond: a second collision is next to impossible


def start_generated(prepare: Prepare) -> ProcessingJob:
    """Start the job under a generated name, and under another where that one is taken.

    Two machines can come upon the same name in the same millisecond. Then the first job keeps it, and its files.
    """
    from processing.exceptions import NameTakenError
    from processing.staging.objects import ClaimedError

    tried: set[str] = set()
    for _ in range(_NAME_TRIES):
        launch = prepare(None)
        if launch.request.job_name in tried:  # a subclass makes its own names, and this is the one that it has
            return start(launch)
        tried.add(launch.request.job_name)
        with contextlib.suppress(ClaimedError, NameTakenError):
            return start(launch.claimed())
    return start(prepare(None))


def start_named(session: Session, prepare: Prepare, job_name: str, if_exists: IfExists) -> ProcessingJob:
    """Start the job under the name that the user gave, if it is free.

    The name is looked up before anything is uploaded: the uploads go to a prefix of that name, and would replace the
    files of a job that is running already.

    Args:
        session: where the job goes.
        prepare: makes the job ready.
        job_name: the name.
        if_exists: what to do where a job has it: `fail`, `attach` or `suffix`.

    Raises:
        NameTakenError: a job has the name, and `if_exists` is `fail`.
    """
    from processing.exceptions import NameTakenError

    number, name = 1, job_name
    while True:
        launch = prepare(name)
        with contextlib.closing(launch.staging), contextlib.suppress(NameTakenError):  # where somebody is quicker
            if not _has_to_be_looked_up(launch) or describe_if_exists(session, name) is None:
                return start(launch)
        if if_exists == "attach":
            return ProcessingJob.from_processing_name(session, name)
        if if_exists == "fail":
            raise NameTakenError(
                f"job_name: a job named {job_name!r} exists; give another name, or if_exists='attach' or 'suffix'",
                job_name=job_name,
                code="ResourceInUse",
            )
        number += 1
        name = f"{job_name[: LONGEST_NAME - len(str(number)) - 1]}-{number}"


def _has_to_be_looked_up(launch: Launch) -> bool:
    return not (_listed.get() and all(upload.content_addressed for upload in launch.staging.uploads))

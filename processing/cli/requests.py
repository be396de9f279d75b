"""The request that a command is about: that of an existing job, or of a script or job file that is not run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from processing.cli import job_file
from processing.cli.run_options import run_of

if TYPE_CHECKING:
    from processing.cli.options import Target
    from processing.request.build import ProcessingRequest

_SUFFIXES: Final = (".py", *job_file.SUFFIXES)


def request_for(
    target: Target, code: str, arguments: tuple[str, ...], options: dict[str, Any], *, upload: bool = False
) -> ProcessingRequest:
    """Return the request of a job, or of a script or job file.

    Args:
        target: the place of the jobs.
        code: the name or ARN of a job, or the path of a script or job file.
        arguments: the arguments of the script.
        options: the options of `run_options`.
        upload: True to upload the files of a script.

    Raises:
        ConfigurationError: the job does not exist, or the request is not valid.
    """
    if not is_path(code):
        from processing.job.job import attach
        from processing.job.rerun import request_of

        job = attach(code, session=target.session())
        return request_of(job.sagemaker_session, job.job_name)
    run = run_of(target, code, arguments, {**options, "if_exists": None})
    make = run.processor.stage if upload else run.processor.request
    made: ProcessingRequest = make(**run.arguments, **({"quiet": True} if upload else {}))
    return made


def is_path(code: str) -> bool:
    """Return whether a word is the path of a script or job file, and not the name of a job."""
    return code.lower().endswith(_SUFFIXES) or Path(code).is_file()

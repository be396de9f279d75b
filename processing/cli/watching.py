"""The wait for a job, and Ctrl-C during it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from processing.cli import exit_codes
from processing.exceptions import JobError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processing.job.job import ProcessingJob


def wait_for(
    job: ProcessingJob, wait: Callable[[], object], *, stop_on_interrupt: bool, shows_lines: bool = True
) -> int:
    """Wait for a job's end, and return the exit code.

    Args:
        job: the job.
        wait: waits, and raises the error of a job that has not completed.
        stop_on_interrupt: True to stop the job at Ctrl-C; False leaves it running.
        shows_lines: True if the job's lines were shown, so that the error need not repeat the last of them.
    """
    try:
        wait()
    except KeyboardInterrupt:
        return interrupted(job, stop=stop_on_interrupt)
    except JobError as error:
        return failed(error, shows_lines=shows_lines)
    return exit_codes.COMPLETED


def failed(error: JobError, *, shows_lines: bool) -> int:
    """Report the error of a job, and return the exit code.

    Args:
        error: the error.
        shows_lines: True if the job's lines were shown, so that the report need not repeat the last of them.
    """
    text = str(error)
    exit_codes.report(text.partition("\nlast log lines:")[0] if shows_lines else text)
    return exit_codes.code_of(error)


def interrupted(job: ProcessingJob, *, stop: bool) -> int:
    """Leave or stop a job after Ctrl-C, and return the exit code. A second Ctrl-C ends the process."""
    if not stop:
        return leave([job], "attach")
    exit_codes.report(f"Stopping {job.job_name}; Ctrl-C again leaves it to itself.", prefix="")
    job.stop()
    job.wait(logs=False, on_stop="return", quiet=True)
    status = job.status
    exit_codes.report(f"{job.job_name}: {status}", prefix="")
    return exit_codes.OF_STATUS.get(status, exit_codes.STOPPED)


def advice(jobs: Sequence[ProcessingJob], command: str = "attach") -> str:
    """Return the commands that go on with jobs of one session, and stop them.

    Args:
        jobs: the jobs.
        command: the command that goes on, with its options.
    """
    session = jobs[0].sagemaker_session
    if session.is_local:
        place = "--local"
    else:
        place = f"--region {session.boto_region_name}"
        profile = session.boto_session.profile_name
        place += "" if profile == "default" else f" --profile {shlex.quote(profile)}"
    names = " ".join(job.job_name for job in jobs)
    subject = f"{names} goes on" if len(jobs) == 1 else "the jobs go on"
    title = f"{command.partition(' ')[0]}:"
    return (
        f"Detached: {subject}.\n"
        f"  {title:7} processing {command} {names} {place}\n"
        f"  stop:   processing stop {names} {place}"
    )


def leave(jobs: Sequence[ProcessingJob], command: str) -> int:
    """Report that jobs go on after Ctrl-C, and return the exit code."""
    exit_codes.report(advice(jobs, command), prefix="")
    return exit_codes.INTERRUPTED

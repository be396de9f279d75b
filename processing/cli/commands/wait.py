"""`processing wait`: wait for the end of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from processing.cli import exit_codes, output
from processing.cli.options import Target, output_option, target_options
from processing.cli.watching import leave

if TYPE_CHECKING:
    from processing.job.job import ProcessingJob
    from processing.job.wait import WaitResult


@click.command("wait")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="The longest wait; the jobs go on after it."
)
@click.option("-q", "--quiet", is_flag=True, help="Show only the result.")
@output_option
@target_options
def command(target: Target, names: tuple[str, ...], timeout: float | None, quiet: bool, form: str) -> int:
    """Wait until the jobs have ended, and show the status of each. Ctrl-C leaves them running.

    The exit code is that of the worst job: 1 failed, 5 cannot be watched, 3 stopped, 4 not ended in time.
    """
    from processing.job.job import attach
    from processing.job.wait import wait

    session = target.session()
    jobs = [attach(name, session=session) for name in dict.fromkeys(names)]
    try:
        return _show(jobs, wait(jobs, timeout, quiet=quiet), form)
    except KeyboardInterrupt:
        return leave(jobs, "wait")


def _show(jobs: list[ProcessingJob], result: WaitResult, form: str) -> int:
    rows: list[dict[str, Any]] = []
    codes = set()
    for job in jobs:
        error = result.failed.get(job)
        if error is not None:
            codes.add(exit_codes.code_of(error))
            status = getattr(error, "status", None) or "not known"
        else:
            codes.add(exit_codes.COMPLETED if job in result.done else exit_codes.TIMED_OUT)
            status = "Completed" if job in result.done else "InProgress"
        rows.append({"name": job.job_name, "status": status, "reason": getattr(error, "failure_reason", None)})
    if form == "json":
        output.write_json(jobs=rows)
    else:
        output.write_table(["NAME", "STATUS", "REASON"], [list(row.values()) for row in rows])
    worst = (exit_codes.FAILED, exit_codes.NOT_WATCHED, exit_codes.STOPPED, exit_codes.TIMED_OUT)
    return next((code for code in worst if code in codes), exit_codes.COMPLETED)

"""`processing ls`: list jobs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import click

from processing.cli import output
from processing.cli.options import Age, Pair, Target, output_option, target_options
from processing.job.fleet.search import STATUSES

if TYPE_CHECKING:
    from processing.job.job import ProcessingJob


@click.command("ls")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only jobs with this status.")
@click.option("--name", metavar="PREFIX", help="Only jobs whose names begin with this text.")
@click.option("--tag", "tags", type=Pair(), multiple=True, help="Only jobs with this tag; an empty value is any.")
@click.option("--since", type=Age(), help="Only jobs that were created since, such as 2h or 2026-11-30.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most this many jobs.")
@output_option
@target_options
def command(
    target: Target,
    status: str | None,
    name: str | None,
    tags: tuple[tuple[str, str], ...],
    since: Any,
    limit: int | None,
    form: str,
) -> None:
    """List jobs, the oldest first."""
    from processing.job.fleet.search import jobs

    found = jobs(
        name,
        tags={key: value or None for key, value in tags} or None,
        status=status,
        created_after=since,
        session=target.session(),
    )
    rows = [_row(job) for job in itertools.islice(found, limit)]
    _show(rows, form)


def _row(job: ProcessingJob) -> dict[str, Any]:
    summary = job.summary or {}
    return {
        "name": job.job_name,
        "status": summary.get("ProcessingJobStatus"),
        "created": summary.get("CreationTime"),
        "ended": summary.get("ProcessingEndTime"),
        "reason": summary.get("FailureReason"),
        "exit_message": summary.get("ExitMessage"),
        "arn": summary.get("ProcessingJobArn"),
    }


def _show(rows: list[dict[str, Any]], form: str) -> None:
    if form == "json":
        output.write_json(jobs=rows)
        return
    output.write_table(
        ["NAME", "STATUS", "CREATED", "REASON"],
        [[row["name"], row["status"], output.moment(row["created"]), row["reason"]] for row in rows],
    )

"""`processing fleet`: show, stop or repeat the jobs of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from processing.cli import exit_codes, output
from processing.cli.options import Target, output_option, target_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processing.job.fleet.fleet import Fleet
    from processing.job.fleet.results import FleetResult

_REPEATED = ("Failed", "Stopped")


@click.command("fleet")
@click.argument("name")
@click.argument("action", type=click.Choice(["status", "stop", "failures", "retry"]), default="status")
@click.option("--untagged", is_flag=True, help="The fleet was submitted with tagged=False.")
@output_option
@target_options
def command(target: Target, name: str, action: str, untagged: bool, form: str) -> int:
    """Show the jobs of the fleet NAME, its failures, or stop or repeat them.

    `status` counts the jobs in each status. `failures` lists those that failed or were stopped, and `retry` runs them
    again under a new name.
    """
    from processing.job.fleet.fleet import Fleet

    fleet = Fleet.attach(name, session=target.session(), tagged=not untagged)
    if action == "status":
        _show_statuses(fleet.statuses(), form)
    elif action == "stop":
        fleet.stop()
    else:
        failed = [each for each in fleet.results() if each.status in _REPEATED]
        if action == "failures":
            _show_failures(failed, form)
            return exit_codes.FAILED if failed else exit_codes.COMPLETED
        _retry(fleet, failed)
    return exit_codes.COMPLETED


def _show_statuses(statuses: dict[str, int], form: str) -> None:
    if form == "json":
        output.write_json(statuses=statuses)
    else:
        output.write_table(["STATUS", "JOBS"], [list(pair) for pair in statuses.items()])


def _show_failures(failed: Sequence[FleetResult], form: str) -> None:
    if form == "json":
        output.write_json(failures=[attrs.asdict(each) for each in failed])
    else:
        output.write_table(["KEY", "STATUS", "REASON"], [[each.key, each.status, each.reason] for each in failed])


def _retry(fleet: Fleet, failed: Sequence[FleetResult]) -> None:
    from processing.job.fleet.attempts import next_attempt
    from processing.job.rerun import rerun

    for each in failed:
        job = fleet[each.key]
        again = rerun(job, job_name=next_attempt(f"{fleet.name}-{each.key}", job.job_name))
        output.write(again.job_name)

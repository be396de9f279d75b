"""`processing attach`: follow a job to its end."""

from __future__ import annotations

import click

from processing.cli.options import Target, target_options
from processing.cli.watching import wait_for


@click.command("attach")
@click.argument("name")
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="The longest wait; the job goes on after it."
)
@click.option("--no-logs", is_flag=True, help="Show no log lines.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing.")
@click.option("--stop-on-interrupt", is_flag=True, help="Ctrl-C stops the job instead of leaving it.")
@target_options
def command(
    target: Target, name: str, timeout: float | None, no_logs: bool, quiet: bool, stop_on_interrupt: bool
) -> int:
    """Follow the job NAME to its end: its log lines and its status. Ctrl-C leaves the job running."""
    from processing.job.job import attach

    job = attach(name, session=target.session())
    return wait_for(
        job,
        lambda: job.wait(logs=not no_logs, timeout=timeout, quiet=quiet),
        stop_on_interrupt=stop_on_interrupt,
    )

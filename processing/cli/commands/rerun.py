"""`processing rerun`: run a job again, with changes."""

from __future__ import annotations

from typing import Any

import click

from processing.cli import output
from processing.cli.options import Pair, Target, target_options
from processing.cli.spelling import in_options
from processing.cli.values import parsed
from processing.cli.watching import wait_for
from processing.exceptions import ConfigurationError


@click.command("rerun")
@click.argument("name")
@click.option(
    "--set",
    "changes",
    type=Pair(),
    multiple=True,
    help="A parameter with another value, such as instance_type=ml.m5.xlarge, env.KEY=VALUE or "
    'arguments=\'["--day", "1"]\'.',
)
@click.option("--name", "new_name", metavar="NAME", help="The name of the new job.")
@click.option("--detach", is_flag=True, help="Return once the job is created, and print its name.")
@click.option("--stop-on-interrupt", is_flag=True, help="Ctrl-C stops the job instead of leaving it.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing.")
@target_options
def command(
    target: Target,
    name: str,
    changes: tuple[tuple[str, str], ...],
    new_name: str | None,
    detach: bool,
    stop_on_interrupt: bool,
    quiet: bool,
) -> int:
    """Run the job NAME again with its code, data and settings, and those that `--set` changes."""
    from processing.job.job import attach
    from processing.job.rerun import rerun

    old = attach(name, session=target.session())
    values: dict[str, Any] = {}
    for key, text in changes:
        parameter, dot, member = key.partition(".")
        if dot:
            values.setdefault(parameter, {})[member] = text
        else:
            values[parameter] = parsed(text)
    try:
        job = rerun(old, job_name=new_name, **values)
    except ConfigurationError as error:
        options = {key: f"--set {key}" for key in values}
        raise ConfigurationError(*(in_options(text, options) for text in error.problems)) from error
    if detach:
        output.write(job.job_name)
        return 0
    return wait_for(job, lambda: job.wait(quiet=quiet), stop_on_interrupt=stop_on_interrupt)

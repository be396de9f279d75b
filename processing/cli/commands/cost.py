"""`processing cost`: show the price of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from processing.cli import output
from processing.cli.options import Target, output_option, target_options

if TYPE_CHECKING:
    from processing.job.cost import JobCost


@click.command("cost")
@click.argument("name")
@output_option
@target_options
def command(target: Target, name: str, form: str) -> None:
    """Show the price of the job NAME: the highest one, and after its end the actual one."""
    from processing.job.job import attach

    _show(attach(name, session=target.session()).cost, form)


def _show(cost: JobCost, form: str) -> None:
    if form == "json":
        output.write_json(**attrs.asdict(cost))
    else:
        output.write(str(cost))

"""`processing config`: show the defaults and their origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from processing.cli import output
from processing.cli.options import Target, output_option, target_options

if TYPE_CHECKING:
    from processing.config.values import Config


@click.group("config")
def command() -> None:
    """Show the values of the SageMaker config files."""


@command.command("show")
@click.option("--origin", is_flag=True, help="Show the file that each value comes from, and the files that were read.")
@output_option
@target_options
def show(target: Target, origin: bool, form: str) -> None:
    """Show each value of the SageMaker config files."""
    from processing import config

    _show(config.load(target.session()), form, origin=origin)


@command.command("schema")
def schema() -> None:
    """Print the JSON schema of job files, for editors that check and complete them."""
    import json

    from processing.cli import job_file

    output.write(json.dumps(job_file.schema(), indent=2))


def _show(found: Config, form: str, *, origin: bool) -> None:
    settings = found.settings
    if form == "json":
        rows = [{"path": each.path, "value": each.shown, "origin": each.origin} for each in settings]
        output.write_json(settings=rows)
    elif origin:
        output.write(str(found))
    else:
        for each in settings:
            output.write(f"{each.path} = {each.shown}")

"""`processing rm`: delete jobs that have ended."""

from __future__ import annotations

import click

from processing.cli.options import Target, target_options


@click.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@target_options
def command(target: Target, names: tuple[str, ...]) -> None:
    """Delete jobs that have ended. Their outputs and their log lines stay."""
    from processing.job.job import attach

    session = target.session()
    for job in [attach(name, session=session) for name in dict.fromkeys(names)]:
        job.delete()

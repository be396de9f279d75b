"""`processing stop`: stop jobs."""

from __future__ import annotations

import click

from processing.cli.options import Target, target_options


@click.command("stop")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@target_options
def command(target: Target, names: tuple[str, ...]) -> None:
    """Ask AWS to stop the jobs, and return at once. A job that has ended stays as it is."""
    from processing.job.job import attach

    session = target.session()
    for job in [attach(name, session=session) for name in dict.fromkeys(names)]:
        job.stop()

"""`processing report`: write the cards of jobs into one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from processing.cli import output
from processing.cli.options import target_options

if TYPE_CHECKING:
    from processing.cli.options import Target


@click.command("report")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-o", "--output", "file", required=True, metavar="FILE", help="The HTML file, which is replaced.")
@target_options
def command(target: Target, names: tuple[str, ...], file: str) -> None:
    """Write the cards of jobs into one HTML file, which loads nothing and runs nothing."""
    from processing.job.job import attach
    from processing.report.markup import document

    session = target.session()
    jobs = [attach(name, session=session) for name in names]
    title = jobs[0].job_name if len(jobs) == 1 else f"{len(jobs)} processing jobs"
    Path(file).write_text(document(title, [job.card() for job in jobs]), encoding="utf-8")
    output.write(file)

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
    """Write the cards of jobs into one HTML file, which loads nothing and runs nothing.

    NAME is a processing job, training-job/NAME, transform-job/NAME, endpoint/NAME, or the ARN of any of them.
    """
    from processing.job.cards import card
    from processing.report.markup import document

    path = Path(file)
    if path.is_dir():
        raise click.BadParameter(f"{file} is a folder; name a file", param_hint="-o")
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}", param_hint="-o")
    session = target.session()
    cards = [card(name, session=session) for name in names]
    title = cards[0].title if len(cards) == 1 else f"{len(cards)} cards"
    path.write_text(document(title, [each.html for each in cards]), encoding="utf-8")
    output.write(file)

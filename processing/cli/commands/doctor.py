"""`processing doctor`: its entry in the help. `processing.cli.main` runs it without click."""

from __future__ import annotations

import click

from processing.cli import main


@click.command("doctor", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def command(words: tuple[str, ...]) -> int:
    """Find obstacles for a script on this machine. AWS is not called."""
    return main(["doctor", *words])

"""`processing local`: the engine on this machine."""

from __future__ import annotations

import click

from processing.cli import output
from processing.cli.commands import ls

_PASSED_ON = {"ignore_unknown_options": True, "help_option_names": []}


@click.group("local")
def command() -> None:
    """Serve, list and clean the engine on this machine."""


def _run(words: list[str]) -> int:
    from processing.local.__main__ import main

    try:
        main(words, prog="processing local")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@command.command("serve", add_help_option=False, context_settings=_PASSED_ON)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def serve(words: tuple[str, ...]) -> int:
    """Serve the engine over HTTP; the options are those of `python -m processing.local serve`."""
    return _run(["serve", *words])


@command.command("clean", add_help_option=False, context_settings=_PASSED_ON)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def clean(words: tuple[str, ...]) -> int:
    """Remove old data; the options are those of `python -m processing.local clean`."""
    return _run(["clean", *words])


@command.command("ls", add_help_option=False, context_settings=_PASSED_ON)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def list_jobs(ctx: click.Context, words: tuple[str, ...]) -> None:
    """List the engine's jobs; the options are those of `processing ls`."""
    with ls.command.make_context("ls", [*words, "--local"], parent=ctx) as inner:
        ls.command.invoke(inner)


@command.command("path")
def path() -> None:
    """Print the engine's folder."""
    from processing.local.session import LocalSession

    output.write(str(LocalSession().home))

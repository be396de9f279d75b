"""`processing local`: the engine on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from processing.cli import output
from processing.cli.commands import ls

_PASSED_ON = {"ignore_unknown_options": True, "help_option_names": []}


@click.group("local")
def command() -> None:
    """Serve, show, list and clean the engine on this machine."""


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


@command.command("ui")
@click.option("--home", type=click.Path(path_type=Path), metavar="DIR", help="The engine's folder.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="The port; by default a free one.")
def ui(home: Path | None, port: int) -> None:
    """Show the engine's jobs and endpoints in a browser, until Ctrl-C.

    The address on standard output has a token, which every page needs. The pages are live, and only read.
    """
    from processing.cli.ui.server import UiServer
    from processing.exceptions import EngineError
    from processing.local.session import LocalSession
    from processing.local.transports.server import serve_until_signal

    try:
        session = LocalSession(home)
        session.engine.check()
    except EngineError as error:
        if home is None:
            raise
        raise click.BadParameter(str(error), param_hint="--home") from error
    try:
        server = UiServer(session, port=port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.BadParameter(f"cannot serve on 127.0.0.1:{port}: {reason}", param_hint="--port") from error

    def announce() -> None:
        output.write(server.url)
        sys.stdout.flush()
        click.echo("Open this address in a browser of this machine. Ctrl-C ends it.", err=True)

    serve_until_signal(server, on_start=announce)


@command.command("path")
def path() -> None:
    """Print the engine's folder."""
    from processing.local.session import LocalSession

    output.write(str(LocalSession().home))

"""`processing completion`: print the completion script of a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from processing.cli import output


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in SHELL: bash, zsh or fish.

    For bash, put `eval "$(processing completion bash)"` into ~/.bashrc.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    output.write(kind(ctx.find_root().command, {}, "processing", "_PROCESSING_COMPLETE").source())

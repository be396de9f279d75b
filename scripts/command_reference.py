#!/usr/bin/env python
"""Write the help of every command to docs/reference/commands.md, and the schema of job files beside it."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING

import click

from processing.cli import job_file
from processing.cli.app import COMMANDS, app

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "docs" / "reference"
PAGE = FOLDER / "commands.md"
SCHEMA = FOLDER / "job.schema.json"
BEGINNING = """\
# The commands of `processing`

This page has the help of each command. [The command line](command-line.md) describes what they have
in common: exit codes, JSON, Ctrl-C and the place of the jobs.
"""
COLUMNS = 88


def page() -> str:
    """Return the text of the page."""
    parts = [BEGINNING]
    with click.Context(app, info_name="processing", terminal_width=COLUMNS, help_option_names=["-h", "--help"]) as root:
        for name in COMMANDS:
            command = app.get_command(root, name)
            assert command is not None
            if name == "doctor":  # another page describes it
                parts.append("## `doctor`\n\nSee [the doctor](doctor.md).\n")
                continue
            for path, each in below(name, command):
                words = path.split()
                with click.Context(
                    each, info_name=words[-1], parent=parent(root, words[:-1]), terminal_width=COLUMNS
                ) as ctx:
                    text = "\n".join(line.rstrip() for line in each.get_help(ctx).splitlines())
                parts.append(f"## `{path}`\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def below(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and those of its group."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, each in command.commands.items():
        yield from below(f"{path} {name}", each)


def parent(root: click.Context, words: list[str]) -> click.Context:
    """Return the context of a group."""
    for word in words:
        root = click.Context(click.Command(word), info_name=word, parent=root)
    return root


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    SCHEMA.write_text(json.dumps(job_file.schema(), indent=2) + "\n", encoding="utf-8")
    print(f"{PAGE}: {len(COMMANDS)} commands")

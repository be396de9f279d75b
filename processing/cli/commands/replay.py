"""`processing replay`: make the call of a remote function again, here."""

from __future__ import annotations

import click

from processing.cli import output
from processing.cli.options import Target, target_options


@click.command("replay")
@click.argument("name")
@click.option("--s3-root-uri", metavar="URI", help="The prefix of the call's files, if it is not the default bucket.")
@target_options
def command(target: Target, name: str, s3_root_uri: str | None) -> None:
    """Make the call of the job NAME, which runs a remote function, again in this process, and print its result.

    The stored function is verified with the digest in the job's request, and then runs here.
    """
    from processing.remote_function import get_future

    future = get_future(name, target.session(), s3_root_uri=s3_root_uri)
    output.write(repr(future.replay()))

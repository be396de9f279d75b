"""`processing images`: list AWS's images for frameworks."""

from __future__ import annotations

import click

from processing.cli import output
from processing.cli.options import output_option


@click.command("images")
@click.argument("framework", required=False)
@output_option
def command(framework: str | None, form: str) -> None:
    """List the frameworks, or the versions of FRAMEWORK, that AWS has images for; the newest first."""
    from processing import images

    names = images.frameworks() if framework is None else images.versions(framework)
    _show("frameworks" if framework is None else "versions", names, form)


def _show(title: str, names: list[str], form: str) -> None:
    if form == "json":
        output.write_json(**{title: names})
    else:
        for name in names:
            output.write(name)

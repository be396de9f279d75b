"""`processing outputs`: show or download a job's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from processing.cli import output
from processing.cli.options import Target, output_option, target_options

if TYPE_CHECKING:
    from processing.job.job import ProcessingJob


@click.command("outputs")
@click.argument("name")
@click.option(
    "--download",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Download the files, those of each output to a folder of its name in DIR.",
)
@output_option
@target_options
def command(target: Target, name: str, folder: Path | None, form: str) -> None:
    """Show where the outputs of the job NAME are, or download them."""
    from processing.job.job import attach

    job = attach(name, session=target.session())
    _show(job, folder, form)


def _show(job: ProcessingJob, folder: Path | None, form: str) -> None:
    rows: list[dict[str, Any]] = []
    for position, each in enumerate(job.outputs, 1):
        name = each.output_name or f"output-{position}"
        row: dict[str, Any] = {"name": name, "destination": each.destination}
        if folder is not None and each.destination:
            row["files"] = [str(path) for path in each.download(folder / name)]
        rows.append(row)
    if form == "json":
        output.write_json(outputs=rows)
    elif folder is None:
        output.write_table(["NAME", "DESTINATION"], [[row["name"], row["destination"]] for row in rows])
    else:
        for path in (path for row in rows for path in row.get("files", ())):
            output.write(path)

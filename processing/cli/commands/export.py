"""`processing export`: print a request in the form of another tool."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from processing.cli import exit_codes
from processing.cli.options import Pair, target_options
from processing.cli.requests import is_path, request_for
from processing.cli.run_options import is_job_file, run_options
from processing.cli.spelling import Spelling
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from processing.cli.options import Target
    from processing.request.build import ProcessingRequest


@click.command("export")
@run_options("NAME|SCRIPT|JOB_FILE")
@click.option(
    "--to",
    "form",
    required=True,
    type=click.Choice(["boto3", "python", "airflow", "stepfunctions", "pipeline"]),
    help="The other tool.",
)
@click.option(
    "--placeholder",
    "placeholders",
    type=Pair(),
    multiple=True,
    help="A value that the tool computes: its name or path, and an expression.",
)
@click.option(
    "--query-language",
    type=click.Choice(["jsonata", "jsonpath"]),
    default="jsonata",
    show_default=True,
    help="The language of a state machine.",
)
@click.option("--policy", is_flag=True, help="With --to stepfunctions: the policy of its role instead.")
@click.option("--upload", is_flag=True, help="Upload the files of a script, to which the result refers.")
@target_options
def command(target: Target, code: str, arguments: tuple[str, ...], upload: bool, **options: Any) -> int:
    """Print the request of a job, or of a script that is not run, for another tool.

    boto3 and python are scripts, airflow the arguments of SageMakerProcessingOperator, stepfunctions a state machine,
    and pipeline a step of a SageMaker pipeline.
    """
    form = options["form"]
    if options["policy"] and form != "stepfunctions":
        raise click.UsageError("--policy: is for --to stepfunctions")
    if options["placeholders"] and form in ("boto3", "python"):
        raise click.UsageError(f"--placeholder: is not for --to {form}")
    words: tuple[str, ...] = click.get_current_context().obj
    file = code if is_job_file(code) else None
    try:
        request = request_for(target, code, arguments, options, upload=upload)
        sys.stdout.write(_text(request, options))
    except ConfigurationError as error:
        exit_codes.report(Spelling(words, code, options["inputs"], options["outputs"], file=file).text(error))
        return exit_codes.code_of(error)
    if is_path(code) and not upload:
        exit_codes.report("the files of the script are not uploaded; --upload does it", prefix="")
    return exit_codes.COMPLETED


def _text(request: ProcessingRequest, options: dict[str, Any]) -> str:
    """Return the request in the form that was chosen."""
    form, placeholders = options["form"], dict(options["placeholders"])
    if form in ("boto3", "python"):
        return request.to_python("boto3" if form == "boto3" else "processing")
    if form == "stepfunctions":
        machine = request.to_stepfunctions(options["query_language"], placeholders=placeholders)
        return json.dumps(machine.policy if options["policy"] else machine.definition, indent=2) + "\n"
    made = (
        request.to_airflow(placeholders=placeholders)
        if form == "airflow"
        else request.to_pipeline_step(placeholders=placeholders)
    )
    return json.dumps(made, indent=2) + "\n"

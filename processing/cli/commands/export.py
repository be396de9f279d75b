"""`processing export`: print a job's request in the form of another tool."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from processing.cli import output
from processing.cli.options import Pair, Target, target_options

if TYPE_CHECKING:
    from processing.request.build import ProcessingRequest


@click.command("export")
@click.argument("name")
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
    help="A value that the tool computes: its name or path, and an expression of the tool.",
)
@click.option(
    "--query-language",
    type=click.Choice(["jsonata", "jsonpath"]),
    default="jsonata",
    show_default=True,
    help="The language of the state machine.",
)
@click.option("--policy", is_flag=True, help="With --to stepfunctions: the policy of the state machine's role instead.")
@target_options
def command(
    target: Target, name: str, form: str, placeholders: tuple[tuple[str, str], ...], query_language: str, policy: bool
) -> None:
    """Print the request of the job NAME for another tool.

    boto3 and python are scripts, airflow the arguments of SageMakerProcessingOperator, stepfunctions a state machine,
    and pipeline a step of a SageMaker pipeline.
    """
    from processing.job.rerun import request_of

    if policy and form != "stepfunctions":
        raise click.UsageError("--policy: is for --to stepfunctions")
    if placeholders and form in ("boto3", "python"):
        raise click.UsageError(f"--placeholder: is not for --to {form}")
    request = request_of(target.session(), name)
    output.write_code(_text(request, form, dict(placeholders), query_language, policy=policy))


def _text(
    request: ProcessingRequest, form: str, placeholders: dict[str, str], query_language: str, *, policy: bool
) -> str:
    if form in ("boto3", "python"):
        return request.to_python("boto3" if form == "boto3" else "processing")
    if form == "stepfunctions":
        machine = request.to_stepfunctions(query_language, placeholders=placeholders)
        return json.dumps(machine.policy if policy else machine.definition, indent=2) + "\n"
    made = (
        request.to_airflow(placeholders=placeholders)
        if form == "airflow"
        else request.to_pipeline_step(placeholders=placeholders)
    )
    return json.dumps(made, indent=2) + "\n"

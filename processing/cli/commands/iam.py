"""`processing iam`: print the IAM policies for a job."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from processing.cli import exit_codes
from processing.cli.options import target_options
from processing.cli.requests import request_for
from processing.cli.run_options import is_job_file, run_options
from processing.cli.spelling import Spelling
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from processing.cli.options import Target


@click.command("iam")
@run_options("NAME|SCRIPT|JOB_FILE")
@click.option("--only", type=click.Choice(["caller", "role"]), help="One of the two policies alone, to paste.")
@target_options
def command(target: Target, code: str, arguments: tuple[str, ...], only: str | None, **options: Any) -> int:
    """Print the IAM policies that a job needs, or a script that is not run.

    `caller` allows to run and watch such jobs, `role` is for the job itself.
    """
    words: tuple[str, ...] = click.get_current_context().obj
    file = code if is_job_file(code) else None
    try:
        request = request_for(target, code, arguments, options)
    except ConfigurationError as error:
        exit_codes.report(Spelling(words, code, options["inputs"], options["outputs"], file=file).text(error))
        return exit_codes.code_of(error)
    policies = request.to_policies(target.region)
    sys.stdout.write(json.dumps(policies if only is None else policies[only], indent=2) + "\n")
    return exit_codes.COMPLETED

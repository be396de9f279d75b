"""`processing describe`: show a job's settings and state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from processing.cli import output
from processing.cli.options import Target, output_option, target_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.job.job import ProcessingJob


@click.command("describe")
@click.argument("name")
@output_option
@target_options
def command(target: Target, name: str, form: str) -> None:
    """Show the settings and the state of the job NAME, or of the job with that ARN."""
    from processing.job.job import attach

    job = attach(name, session=target.session())
    description = job.describe()
    _show(job, description, form)


def _show(job: ProcessingJob, description: Mapping[str, Any], form: str) -> None:
    if form == "json":
        members = {key: value for key, value in description.items() if key != "ResponseMetadata"}
        output.write_json(job=members, console_url=job.console_url)
        return
    cluster = description.get("ProcessingResources", {}).get("ClusterConfig", {})
    application = description.get("AppSpecification", {})
    command = [*application.get("ContainerEntrypoint", ()), *application.get("ContainerArguments", ())]
    instance_type = cluster.get("SelectedInstanceType") or cluster.get("InstanceType")
    output.write_fields(
        {
            "name": job.job_name,
            "status": description["ProcessingJobStatus"],
            "reason": description.get("FailureReason"),
            "message": description.get("ExitMessage"),
            "created": output.moment(description.get("CreationTime")),
            "started": output.moment(description.get("ProcessingStartTime")),
            "ended": output.moment(description.get("ProcessingEndTime")),
            "image": application.get("ImageUri"),
            "command": " ".join(command) or None,
            "instances": f"{cluster.get('InstanceCount', '')} x {instance_type}" if instance_type else None,
            "role": description.get("RoleArn"),
            "console": job.console_url,
        }
    )
    for title, entries in (("inputs", job.inputs), ("outputs", job.outputs)):
        if entries:
            output.write(title)
        for entry in entries:
            name = getattr(entry, "input_name", None) or getattr(entry, "output_name", None)
            place = getattr(entry, "destination" if title == "outputs" else "source", None)
            output.write(f"  {name}: {place}")

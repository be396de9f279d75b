"""The options of `processing run` that determine a request, and the run that they describe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from processing.cli import job_file
from processing.cli.options import Pair
from processing.cli.run_settings import PreparedRun, image_of, make_run, merged, named_input, named_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.cli.options import Target

_OPTIONS: Final = (
    click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGUMENT...]"),
    click.option(
        "-i", "--input", "inputs", multiple=True, metavar="NAME=SOURCE", help="An input: a path or an S3 URI."
    ),
    click.option(
        "-o",
        "--output",
        "outputs",
        multiple=True,
        metavar="NAME[=PLACE]",
        help="An output: an S3 URI, or a folder to which the files are downloaded at the end.",
    ),
    click.option("-t", "--instance-type", metavar="TYPE", help="The instance type; `local` is this machine."),
    click.option("-n", "--instance-count", type=int, metavar="N", help="The number of instances."),
    click.option("--image", "image", metavar="IMAGE", help="An image's URI, or AWS's image such as sklearn:1.9-0."),
    click.option(
        "--py-version", metavar="VERSION", help="The Python of AWS's image, if it has several, such as py310."
    ),
    click.option("--role", metavar="ROLE", help="The IAM role of the job: its ARN or its name."),
    click.option("--command", metavar="WORDS", help="The program that runs the script.  [default: python3]"),
    click.option("-e", "--env", type=Pair(), multiple=True, help="An environment variable of the program."),
    click.option("--tag", "tags", type=Pair(), multiple=True, help="A tag of the job."),
    click.option("--source-dir", metavar="DIR", help="A folder whose files travel with the script."),
    click.option("--requirements", metavar="FILE", help="A requirements file."),
    click.option(
        "--dependency", "dependencies", multiple=True, metavar="PATH", help="A further file or folder of code."
    ),
    click.option("--entry-point", metavar="FILE", help="The script, if SCRIPT is a folder."),
    click.option("--name", "job_name", metavar="NAME", help="The job's name; by default a new one."),
    click.option("--base-job-name", metavar="NAME", help="The beginning of a new name."),
    click.option("--volume-size", "volume_size_in_gb", type=int, metavar="GB", help="The storage of each instance."),
    click.option(
        "--max-runtime", "max_runtime_in_seconds", type=int, metavar="SECONDS", help="The job is stopped after it."
    ),
    click.option("--kms-key", metavar="KEY", help="The KMS key that encrypts uploads."),
    click.option("--output-kms-key", metavar="KEY", help="The KMS key that encrypts outputs."),
    click.option("--subnet", "subnets", multiple=True, metavar="ID", help="A subnet of the job."),
    click.option(
        "--security-group", "security_groups", multiple=True, metavar="ID", help="A security group of the job."
    ),
    click.option("--network-isolation", is_flag=True, help="Give the program no network."),
)


def run_options(metavar: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds these options to a command, and the script or job file as `code`.

    Args:
        metavar: the name of the script or job file in the help.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(_OPTIONS):
            command = option(command)
        return click.argument("code", metavar=metavar)(command)

    return decorate


def run_of(target: Target, code: str, arguments: tuple[str, ...], options: dict[str, Any]) -> PreparedRun:
    """Return the run that the words describe."""
    base: dict[str, Any] = {}
    if is_job_file(code):
        base = job_file.read(Path(code))
    else:
        base["code"] = code
    outputs = [named_output(text, position) for position, text in enumerate(options["outputs"], 1)]
    given = {
        name: options[name]
        for name in (
            *("instance_type", "instance_count", "role", "source_dir", "requirements", "entry_point", "job_name"),
            *("base_job_name", "if_exists", "volume_size_in_gb", "max_runtime_in_seconds", "kms_key", "output_kms_key"),
        )
    }
    given |= {
        "arguments": list(arguments),
        "command": options["command"].split() if options["command"] else None,
        "dependencies": list(options["dependencies"]),
        "env": dict(options["env"]),
        "inputs": [named_input(text, position) for position, text in enumerate(options["inputs"], 1)],
        "network_config": _network(options),
        "outputs": [entry for entry, _ in outputs],
        "tags": dict(options["tags"]),
    }
    settings = merged(base, given, ("inputs", "outputs", "dependencies"))
    if target.is_local:
        settings.setdefault("instance_type", "local")
    session = None if settings.get("instance_type") in {"local", "local_gpu"} else target.session()
    if options["image"] is not None:
        kind = settings.get("instance_type")
        settings["image_uri"] = image_of(
            options["image"], session or _local_session(), instance_type=kind, py_version=options["py_version"]
        )
    return make_run(settings, session, {entry["output_name"]: folder for entry, folder in outputs if folder})


def is_job_file(code: str) -> bool:
    """Return whether a word is the path of a job file."""
    return code.lower().endswith(job_file.SUFFIXES) and not code.lower().startswith("s3://")


def _local_session() -> Any:
    from processing.local.session import LocalSession

    return LocalSession()


def _network(options: dict[str, Any]) -> dict[str, Any]:
    values = {
        "enable_network_isolation": options["network_isolation"] or None,
        "subnets": list(options["subnets"]) or None,
        "security_group_ids": list(options["security_groups"]) or None,
    }
    return {name: value for name, value in values.items() if value is not None}

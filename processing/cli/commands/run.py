"""`processing run`: run a script, or a job file, as a job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from processing.cli import exit_codes, job_file, output
from processing.cli.options import Pair, Target, target_options
from processing.cli.run_settings import PreparedRun, image_of, make_run, merged, named_input, named_output
from processing.cli.spelling import Spelling
from processing.cli.watching import advice, failed, interrupted, wait_for
from processing.exceptions import ConfigurationError, JobError, ProcessingError, WaitTimeoutError, WatchError

if TYPE_CHECKING:
    from processing.job.job import ProcessingJob
    from processing.job.plan import RunPlan

_MISTAKES = (WaitTimeoutError, WatchError, JobError)
"""The errors that are no mistakes of the command line."""


@click.command("run", context_settings={"allow_interspersed_args": True})
@click.argument("code", metavar="SCRIPT|JOB_FILE")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGUMENT...]")
@click.option("-i", "--input", "inputs", multiple=True, metavar="NAME=SOURCE", help="An input: a path or an S3 URI.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="NAME[=PLACE]",
    help="An output: an S3 URI, or a folder to which the files are downloaded at the end.",
)
@click.option("-t", "--instance-type", metavar="TYPE", help="The instance type; `local` is this machine.")
@click.option("-n", "--instance-count", type=int, metavar="N", help="The number of instances.")
@click.option("--image", "image", metavar="IMAGE", help="An image's URI, or AWS's image such as sklearn:1.9-0.")
@click.option("--py-version", metavar="VERSION", help="The Python of AWS's image, if it has several, such as py310.")
@click.option("--role", metavar="ROLE", help="The IAM role of the job: its ARN or its name.")
@click.option("--command", metavar="WORDS", help="The program that runs the script.  [default: python3]")
@click.option("-e", "--env", type=Pair(), multiple=True, help="An environment variable of the program.")
@click.option("--tag", "tags", type=Pair(), multiple=True, help="A tag of the job.")
@click.option("--source-dir", metavar="DIR", help="A folder whose files travel with the script.")
@click.option("--requirements", metavar="FILE", help="A requirements file.")
@click.option("--dependency", "dependencies", multiple=True, metavar="PATH", help="A further file or folder of code.")
@click.option("--entry-point", metavar="FILE", help="The script, if SCRIPT is a folder.")
@click.option("--name", "job_name", metavar="NAME", help="The job's name; by default a new one.")
@click.option("--base-job-name", metavar="NAME", help="The beginning of a new name.")
@click.option("--if-exists", type=click.Choice(["fail", "attach", "suffix"]), help="If the name is taken.")
@click.option("--volume-size", "volume_size_in_gb", type=int, metavar="GB", help="The storage of each instance.")
@click.option(
    "--max-runtime", "max_runtime_in_seconds", type=int, metavar="SECONDS", help="The job is stopped after it."
)
@click.option("--kms-key", metavar="KEY", help="The KMS key that encrypts uploads.")
@click.option("--output-kms-key", metavar="KEY", help="The KMS key that encrypts outputs.")
@click.option("--subnet", "subnets", multiple=True, metavar="ID", help="A subnet of the job.")
@click.option("--security-group", "security_groups", multiple=True, metavar="ID", help="A security group of the job.")
@click.option("--network-isolation", is_flag=True, help="Give the program no network.")
@click.option("--plan", "plans", is_flag=True, help="Show what would be done. AWS is not called.")
@click.option("--max-price", type=float, metavar="USD", help="Refuse a job that may cost more, before any upload.")
@click.option("--price-unknown-ok", is_flag=True, help="With --max-price: run although a price is not known.")
@click.option("--detach", is_flag=True, help="Return once the job is created, and print its name.")
@click.option("--timeout", type=float, metavar="SECONDS", help="The longest wait; the job goes on after it.")
@click.option("--stop-on-interrupt", is_flag=True, help="Ctrl-C stops the job instead of leaving it.")
@click.option("--no-logs", is_flag=True, help="Show no log lines.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing.")
@target_options
def command(target: Target, code: str, arguments: tuple[str, ...], **options: Any) -> int:
    """Run a script as a job: on AWS, or on this machine with `-t local`.

    SCRIPT may also be a job file: YAML or JSON with the parameters by their names in Python. Options have priority over
    it. The program finds the input NAME in /opt/ml/processing/input/NAME, and writes the output NAME to
    /opt/ml/processing/output/NAME.
    """
    words: tuple[str, ...] = click.get_current_context().obj
    file = code if _is_job_file(code) else None
    spelling = Spelling(words, code, options["inputs"], options["outputs"], file=file)
    try:
        run = _run_of(target, code, arguments, options)
        if options["plans"] or options["max_price"] is not None:
            plan = run.processor.plan(**{k: v for k, v in run.arguments.items() if k != "if_exists"})
            if options["plans"]:
                return _show_plan(plan)
            _check_price(plan, options["max_price"], unknown_ok=options["price_unknown_ok"])
        return _start(run, options)
    except _MISTAKES:
        raise
    except ProcessingError as error:
        exit_codes.report(spelling.text(error))
        return exit_codes.code_of(error)


def _run_of(target: Target, code: str, arguments: tuple[str, ...], options: dict[str, Any]) -> PreparedRun:
    base: dict[str, Any] = {}
    if _is_job_file(code):
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


def _is_job_file(code: str) -> bool:
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


def _show_plan(plan: RunPlan) -> int:
    output.write(str(plan))
    return exit_codes.USAGE if plan.problems else exit_codes.COMPLETED


def _check_price(plan: RunPlan, most: float, *, unknown_ok: bool) -> None:
    if plan.problems:
        raise ConfigurationError(*plan.problems)
    if plan.price is None:
        if not unknown_ok:
            raise ConfigurationError(
                f"--max-price: the price is not known ({plan.price_note}); --price-unknown-ok runs the job all the same"
            )
    elif plan.price > most:
        raise ConfigurationError(
            f"--max-price {most:g}: the job may cost {plan.price:,.2f} USD ({plan.price_note}); shorten --max-runtime, "
            "or allow more"
        )


def _start(run: PreparedRun, options: dict[str, Any]) -> int:
    """Start the job, wait for its end unless `--detach` is given, and return the exit code."""
    quiet, stop = options["quiet"], options["stop_on_interrupt"]
    logs = not (quiet or options["no_logs"])
    waits = not options["detach"] and options["timeout"] is None
    try:
        job: ProcessingJob = run.processor.run(**run.arguments, wait=waits, logs=waits and logs, quiet=quiet)
    except KeyboardInterrupt:
        started = run.processor.latest_job
        return _interrupted_before(run, stop=stop) if started is None else interrupted(started, stop=stop)
    except JobError as error:
        return failed(error, shows_lines=logs)
    if options["detach"]:
        return _detach(job, run, quiet=quiet)
    if options["timeout"] is not None:
        code = wait_for(
            job,
            lambda: job.wait(logs=logs, timeout=options["timeout"], quiet=quiet),
            stop_on_interrupt=stop,
            shows_lines=logs,
        )
        if code != exit_codes.COMPLETED:
            return code
    _download(job, run, quiet=quiet)
    return exit_codes.COMPLETED


def _detach(job: ProcessingJob, run: PreparedRun, *, quiet: bool) -> int:
    output.write(job.job_name)
    if run.downloads and not quiet:
        exit_codes.report(f"later: processing outputs {job.job_name} --download DIR", prefix="")
    return exit_codes.COMPLETED


def _interrupted_before(run: PreparedRun, *, stop: bool) -> int:
    """Report a Ctrl-C before the job was known to exist: it may have been created at that moment."""
    from processing.job.job import attach

    name = run.processor._current_job_name  # noqa: SLF001 - v2's attribute
    session = run.processor.sagemaker_session
    try:
        job = attach(name, session=session)
    except Exception:  # noqa: BLE001 - whatever is wrong, the answer is that no job is known
        exit_codes.report("Interrupted: no job was created.", prefix="")
        return exit_codes.INTERRUPTED
    if stop:
        return interrupted(job, stop=True)
    exit_codes.report(advice(job), prefix="")
    return exit_codes.INTERRUPTED


def _download(job: ProcessingJob, run: PreparedRun, *, quiet: bool) -> None:
    for name, folder in run.downloads.items():
        files = job.outputs[name].download(folder)
        if not quiet:
            exit_codes.report(f"downloaded {len(files)} file{'s' * (len(files) != 1)} to {folder}", prefix="")

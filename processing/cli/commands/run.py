"""`processing run`: run a script, or a job file, as a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from processing.cli import exit_codes, output
from processing.cli.options import target_options
from processing.cli.run_options import is_job_file, run_of, run_options
from processing.cli.spelling import Spelling
from processing.cli.watching import failed, interrupted, wait_for
from processing.exceptions import ConfigurationError, JobError, ProcessingError, WaitTimeoutError, WatchError

if TYPE_CHECKING:
    from processing.cli.options import Target
    from processing.cli.run_settings import PreparedRun
    from processing.job.job import ProcessingJob
    from processing.job.plan import RunPlan

_MISTAKES = (WaitTimeoutError, WatchError, JobError)
"""The errors that are no mistakes of the command line."""


@click.command("run", context_settings={"allow_interspersed_args": True})
@run_options("SCRIPT|JOB_FILE")
@click.option("--if-exists", type=click.Choice(["fail", "attach", "suffix"]), help="If the name is taken.")
@click.option("--plan", "plans", is_flag=True, help="Show what would be done. AWS is not called.")
@click.option("--max-price", type=float, metavar="USD", help="Refuse a job that may cost more, before any upload.")
@click.option("--price-unknown-ok", is_flag=True, help="With --max-price: run although a price is not known.")
@click.option("--detach", is_flag=True, help="Return once the job is created, and print its name.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="The longest wait; the job goes on after it."
)
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
    file = code if is_job_file(code) else None
    spelling = Spelling(words, code, options["inputs"], options["outputs"], file=file)
    try:
        run = run_of(target, code, arguments, options)
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
    return interrupted(job, stop=stop)


def _download(job: ProcessingJob, run: PreparedRun, *, quiet: bool) -> None:
    for name, folder in run.downloads.items():
        files = job.outputs[name].download(folder)
        if not quiet:
            exit_codes.report(f"downloaded {len(files)} file{'s' * (len(files) != 1)} to {folder}", prefix="")

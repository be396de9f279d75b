"""`processing top`: show the use of a job's hosts."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import attrs
import click

from processing.cli import output
from processing.cli.options import Target, output_option, target_options
from processing.container.contract import TERMINAL

if TYPE_CHECKING:
    from processing.job.job import ProcessingJob
    from processing.job.metrics import JobMetrics, Utilization


@click.command("top")
@click.argument("name")
@click.option("--once", is_flag=True, help="Show the present state, and end.")
@click.option("--every", type=click.FloatRange(min=1), default=30, show_default=True, metavar="SECONDS")
@output_option
@target_options
def command(target: Target, name: str, once: bool, every: float, form: str) -> None:
    """Show the CPU, memory and disk use of each host of the job NAME, in percent, until the job has ended.

    CPU is in percent of one CPU. In a pipe, and with --once, the present state is shown. AWS has a sample a minute.
    """
    from processing.job.job import attach

    job = attach(name, session=target.session())
    if form == "json" or once or not sys.stdout.isatty():
        _show(job, form)
        return
    while True:
        click.clear()
        ended = _show(job, form)
        if ended:
            return
        time.sleep(every)


def _show(job: ProcessingJob, form: str) -> bool:
    """Show the present state, and return whether the job has ended."""
    metrics, status = job.metrics(), job.status
    if form == "json":
        hosts = {host: attrs.asdict(each) for host, each in metrics.hosts.items()}
        output.write_json(job=job.job_name, status=status, hosts=hosts, recommendation=metrics.recommendation)
    else:
        output.write(f"{job.job_name}  {status}")
        output.write_table(["HOST", "CPU", "CPU PEAK", "MEMORY", "PEAK", "DISK", "PEAK"], _rows(metrics))
        if not metrics.hosts:
            output.write("no samples yet")
        if metrics.recommendation:
            output.write(metrics.recommendation)
    return status in TERMINAL


def _rows(metrics: JobMetrics) -> list[list[Any]]:
    return [[host, *_cells(each.cpu), *_cells(each.memory), *_cells(each.disk)] for host, each in metrics.hosts.items()]


def _cells(usage: Utilization | None) -> list[str]:
    return ["", ""] if usage is None else [f"{usage.mean:.1f} %", f"{usage.peak:.1f} %"]

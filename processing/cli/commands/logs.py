"""`processing logs`: show a job's log lines."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import click

from processing.cli import exit_codes, output
from processing.cli.options import Age, Target, target_options
from processing.cli.watching import leave

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing.watching.events import LogEvent


@click.command("logs")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--since", type=Age(), help="Only lines since, such as 10m or 2026-11-30T12:00.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N of the lines that exist now.")
@click.option("--host", metavar="HOST", help="Only the lines of one host, such as algo-1 or 1.")
@click.option("--grep", "pattern", metavar="REGEX", help="Only lines that contain a match of the regular expression.")
@click.option("--timestamps", is_flag=True, help="Put the time in front of each line.")
@click.option("-o", "--output", "form", type=click.Choice(["text", "json"]), default="text", help="The form of a line.")
@target_options
def command(
    target: Target,
    name: str,
    follow: bool,
    since: Any,
    tail: int | None,
    host: str | None,
    pattern: str | None,
    timestamps: bool,
    form: str,
) -> int:
    """Show the log lines of the job NAME. Ctrl-C leaves the job running."""
    from processing.job.job import attach

    job = attach(name, session=target.session())
    number = int(host) if host is not None and host.isdecimal() else host
    lines = job.logs(follow, tail=tail, since=since, host=number, pattern=pattern)
    several = sum(each.count for each in job.instances if isinstance(each.count, int)) > 1
    try:
        for line in _flushed(lines) if follow else lines:
            if form == "json":
                output.write_json_line(
                    timestamp=_time(line.timestamp), host=line.host, message=line.message, stream=line.stream
                )
            else:
                output.write(_text(line, several=several, timestamps=timestamps))
    except KeyboardInterrupt:
        if not follow:
            raise
        return leave([job], "logs -f")
    return exit_codes.COMPLETED


def _text(line: LogEvent, *, several: bool, timestamps: bool) -> str:
    prefix = f"{_time(line.timestamp).isoformat(timespec='milliseconds')} " if timestamps else ""
    prefix += f"[{line.host}] " if several else ""
    return "\n".join(prefix + part for part in line.message.rstrip("\r\n").split("\n"))


def _time(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.timezone.utc)


def _flushed(lines: Iterator[LogEvent]) -> Iterator[LogEvent]:
    """Yield lines, and flush what was written of each: the reader of a pipe follows, too."""
    import sys

    for line in lines:
        yield line
        sys.stdout.flush()

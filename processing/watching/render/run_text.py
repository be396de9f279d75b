"""The words for a run's state: durations, prices, sizes and phases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.container.contract import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@attrs.frozen
class RunFacts:
    """The facts about a job that its display shows from the beginning.

    Args:
        job_name: the job's name.
        place: the job's page in the AWS console, or `on this machine`.
        usd_per_hour: the price of all of its instances in US dollars an hour; None if it is not known, 0 on the engine.
        shows_outputs: False if its outputs are of no interest to the user.
    """

    job_name: str
    place: str
    usd_per_hour: float | None = None
    shows_outputs: bool = True

    @property
    def title(self) -> str:
        """The first line about the job: its name, and where it is."""
        return f"processing job {self.job_name}: {self.place}"


def duration(seconds: float) -> str:
    """Return a duration in words, such as `4 min 2 s`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def stopwatch(seconds: float) -> str:
    """Return a duration as a stopwatch shows it, such as `4:02` or `1:04:02`."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def money(usd: float) -> str:
    """Return an amount of US dollars with two decimals, or more if it is small."""
    if 0 < usd < 0.0001:
        return "less than 0.0001 USD"
    return f"{usd:,.2f} USD" if usd >= 1 or usd == 0 else f"{usd:.4f} USD"


def size(number: float) -> str:
    """Return a number of bytes in words, such as `1.2 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def files(count: int) -> str:
    """Return a number of files in words."""
    return f"{count:,} file{'' if count == 1 else 's'}"


PHASES: Final = ("queued", "starting", "downloading", "running", "uploading", "stopping")
"""The phases of a job in their order. Answers and lines arrive in any order, and a job never goes back."""


def phase_of(description: Mapping[str, Any] | None, *, has_lines: bool) -> str:
    """Return the phase of a job that has not ended. AWS does not report it, so it is an estimate.

    A job without an answer of Describe is `queued`, without a start time `starting`. Then it is `downloading` until its
    first log line, and `running`.

    Args:
        description: the job's description; None before the first one.
        has_lines: True if the job has written a log line.
    """
    if description is None:
        return "queued"
    status = description.get("ProcessingJobStatus")
    if status == "Stopping":
        return "stopping"
    if has_lines:
        return "running"
    return "downloading" if description.get("ProcessingStartTime") else "starting"


def end_lines(facts: RunFacts, description: Mapping[str, Any], seconds: float) -> Sequence[str]:
    """Return the last lines about a job: its status, duration, price and outputs.

    Args:
        facts: the facts about the job.
        description: its description with the terminal status.
        seconds: the time that was observed, for descriptions without times.
    """
    status = description["ProcessingJobStatus"]
    started, ended = description.get("ProcessingStartTime"), description.get("ProcessingEndTime")
    billed = (ended - started).total_seconds() if started and ended else None
    text = f"{facts.job_name}: {status} after {duration(seconds if billed is None else billed)}"
    if facts.usd_per_hour is None:
        text += ", price not known"
    elif facts.usd_per_hour and billed is not None:
        text += f", {money(facts.usd_per_hour * billed / 3600)}"
    if status != "Completed" or not facts.shows_outputs:
        return [text]
    return [text, *(f"  {name}: {uri}" for name, uri in output_places(description))]


def output_places(description: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the name and the S3 URI of each output in a description."""
    outputs = (description.get("ProcessingOutputConfig") or {}).get("Outputs") or ()
    return [
        (str(output.get("OutputName", "")), str(output["S3Output"]["S3Uri"]))
        for output in outputs
        if (output.get("S3Output") or {}).get("S3Uri")
    ]


def is_end(status: str) -> bool:
    """Return whether a status is the last one of a job."""
    return status in TERMINAL

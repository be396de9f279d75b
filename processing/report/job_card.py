"""The card of one job: its state, a bar for each host over time, the use of its hosts, its price and its last lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from processing.report.drawing import BarPart, axis, bar, key, sparkline
from processing.report.markup import card, escaped, fields, lines, links, reason, status_class

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_HOSTS: Final = 20  # drawn; a card is no page
# Phases of a training job: its program runs, and its data move. In all others it waits for AWS.
_RUNNING: Final = "Training"
_MOVING: Final = frozenset({"Downloading", "DownloadingTrainingImage", "Uploading"})


@attrs.frozen
class HostUse:
    """The use of one host over time.

    Args:
        name: the host: `algo-1`, `algo-2`, ...
        cpu: the seconds since the job's creation, and the use of its CPUs in percent of one CPU, in order of time.
        memory: the same of its memory, in percent.
        lines: the seconds from the job's creation to the first and to the last line of its log; None if not known.
    """

    name: str
    cpu: Sequence[tuple[float, float]] = ()
    memory: Sequence[tuple[float, float]] = ()
    lines: tuple[float, float] | None = None


@attrs.frozen
class JobPhase:
    """A phase of a job that AWS reports.

    Args:
        name: the phase in AWS's words, such as `Downloading`.
        begin: the seconds from the job's creation to its begin.
        end: the seconds from the job's creation to its end.
    """

    name: str
    begin: float
    end: float


@attrs.frozen
class JobFacts:
    """The facts on the card of a job.

    Args:
        name: the job's name.
        status: its status.
        details: further names and values.
        waited: the seconds from its creation to its start; None before the start.
        total: the seconds from its creation to its end, or until now.
        hosts: the use of its hosts.
        reason: the reason of a failure.
        tail: the last lines of its log.
        console_url: its page in AWS's console.
        phases: its phases, if AWS reports them; otherwise they are estimated from the log.
        log_url: its log in AWS's console.
    """

    name: str
    status: str
    details: Sequence[tuple[str, object]] = ()
    waited: float | None = None
    total: float = 0.0
    hosts: Sequence[HostUse] = ()
    reason: str | None = None
    tail: Sequence[str] = ()
    console_url: str | None = None
    phases: Sequence[JobPhase] = ()
    log_url: str | None = None


def job_card(facts: JobFacts) -> str:
    """Return the card of a job."""
    inside = (
        fields(facts.details),
        reason(facts.reason),
        _hosts(facts),
        lines(facts.tail),
        links(("AWS console", facts.console_url), ("Log", facts.log_url)),
    )
    return card(facts.name, "".join(inside), status=facts.status)


def _hosts(facts: JobFacts) -> str:
    shown = facts.hosts[:_MOST_HOSTS]
    if not shown:
        return ""
    segments = [_segments(facts, host) for host in shown]
    rows = "".join(_host(facts, host, each) for host, each in zip(shown, segments, strict=True))
    if len(facts.hosts) > _MOST_HOSTS:
        rows += f'<p class="sm-note">and {len(facts.hosts) - _MOST_HOSTS} more hosts</p>'
    if facts.total > 0:
        rows += f'<div class="sm-host">{axis(facts.total)}</div>'
    return f'<div class="sm-hosts">{rows}</div>{key(each for some in segments for each in some)}'


def _host(facts: JobFacts, host: HostUse, segments: Sequence[BarPart]) -> str:
    drawn = f"<span><b>{escaped(host.name)}</b></span>{bar(host.name, segments, facts.total)}"
    for label, points, most in (("CPU", host.cpu, None), ("memory", host.memory, 100.0)):
        if points:
            line = sparkline(f"{label} of {host.name}", points, facts.total, most)
            drawn += f"<span>{label}, peak {max(value for _, value in points):,.0f} %</span>{line}"
    return f'<div class="sm-host">{drawn}</div>'


def _segments(facts: JobFacts, host: HostUse) -> list[BarPart]:
    """Return the phases of a host: those of AWS, or the wait and the run with its estimated edges."""
    kind, total = status_class(facts.status), facts.total
    if facts.phases:
        return [
            BarPart(
                each.name,
                each.begin,
                each.end,
                kind if each.name == _RUNNING or each.name in _MOVING else "sm-wait",
                is_pale=each.name != _RUNNING,
            )
            for each in facts.phases
        ]
    if facts.waited is None:
        return [BarPart("queued", 0.0, total, "sm-wait", is_pale=True)]
    waited = min(facts.waited, total)
    queued = BarPart("queued", 0.0, waited, "sm-wait", is_pale=True)
    if host.lines is None:
        return [queued, BarPart("running", waited, total, kind)]
    begin = min(max(host.lines[0], waited), total)
    end = min(max(host.lines[1], begin), total)
    if facts.status in {"InProgress", "Stopping"}:  # the next line may come at any time
        end = total
    return [
        queued,
        BarPart("starting", waited, begin, kind, is_estimate=True),
        BarPart("running", begin, end, kind),
        BarPart("ending", end, total, kind, is_estimate=True),
    ]

"""The card of one job: its state, a bar for each host over time, the use of its hosts, its price and its last lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from processing.report.markup import card, escaped, fields, link, status_class

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH: Final = 1000  # the units of a drawing, which is as wide as the card
_MOST_HOSTS: Final = 20  # drawn; a card is no page


@attrs.frozen
class HostUse:
    """The use of one host over time.

    Args:
        name: the host: `algo-1`, `algo-2`, ...
        cpu: the use of its CPUs in percent of one CPU, in order of time.
        memory: the use of its memory in percent, in order of time.
        lines: the seconds from the job's creation to the first and to the last line of its log; None if not known.
    """

    name: str
    cpu: Sequence[float] = ()
    memory: Sequence[float] = ()
    lines: tuple[float, float] | None = None


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


def job_card(facts: JobFacts) -> str:
    """Return the card of a job."""
    parts = [fields(facts.details)]
    if facts.reason:
        parts.append(f'<p class="sm-bad">{escaped(facts.reason)}</p>')
    parts.append(_hosts(facts))
    if facts.tail:
        lines = "\n".join(escaped(line) for line in facts.tail)
        parts.append(f"<pre>{lines}</pre>")
    parts.append(link(facts.console_url, "AWS console"))
    return card(facts.name, "".join(parts), status=facts.status)


def _hosts(facts: JobFacts) -> str:
    rows = "".join(_host(facts, host) for host in facts.hosts[:_MOST_HOSTS])
    more = len(facts.hosts) - _MOST_HOSTS
    if more > 0:
        rows += f'<p class="sm-note">and {more} more hosts</p>'
    if any(host.lines for host in facts.hosts):
        rows += '<p class="sm-note">Pale ends of a run are estimates from the log: AWS does not report them.</p>'
    return f'<div class="sm-hosts">{rows}</div>' if rows else ""


def _host(facts: JobFacts, host: HostUse) -> str:
    drawn = f"<span>{escaped(host.name)}</span>{_bar(facts, host)}"
    for label, values, most in (("CPU", host.cpu, None), ("memory", host.memory, 100.0)):
        if values:
            drawn += (
                f"<span>{label}, peak {max(values):.0f} %</span>{sparkline(f'{label} of {host.name}', values, most)}"
            )
    return f'<div class="sm-host">{drawn}</div>'


def _bar(facts: JobFacts, host: HostUse) -> str:
    """Return the phases of a host over time: queued, and running with its estimated edges."""
    total = max(facts.total, 1e-9)
    waited = min(facts.total if facts.waited is None else facts.waited, facts.total)
    text = f"{host.name}: queued {waited:.0f} s"
    parts = [_rectangle("sm-wait", 0, waited / total, "0.55")]
    if facts.waited is not None:
        text += f", running {facts.total - waited:.0f} s"
        kind = status_class(facts.status)
        begin, end = host.lines or (waited, facts.total)
        begin = min(max(begin, waited), facts.total)
        end = min(max(end, begin), facts.total)
        parts += [
            _rectangle(kind, waited / total, begin / total, "0.45"),
            _rectangle(kind, begin / total, end / total, "1"),
            _rectangle(kind, end / total, 1, "0.45"),
        ]
    inside = "".join(parts)
    return f"{_svg(text, 10, '')}{inside}</svg>"


def _rectangle(kind: str, begin: float, end: float, opacity: str) -> str:
    if end <= begin:
        return ""
    left, width = begin * _WIDTH, (end - begin) * _WIDTH
    return f'<rect class="{kind}" x="{left:.1f}" y="0" width="{width:.1f}" height="10" opacity="{opacity}"/>'


def sparkline(label: str, values: Sequence[float], most: float | None = None) -> str:
    """Return a line of values over time.

    Args:
        label: its name for readers that see no picture; the mean and the peak follow it.
        values: the values.
        most: the value at the upper edge; None for the largest one.
    """
    top = max(most or 0.0, *values, 1e-9)
    step = _WIDTH / max(len(values) - 1, 1)
    points = [(place * step, 20 - 19 * min(max(value / top, 0.0), 1.0)) for place, value in enumerate(values)]
    points += [(_WIDTH, points[-1][1])] if len(points) == 1 else []
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    text = f"{label}: mean {sum(values) / len(values):.0f} %, peak {max(values):.0f} %"
    return f'{_svg(text, 20, "sm-line")}<polygon class="sm-run" opacity="0.6" points="0,20 {line} {_WIDTH},20"/></svg>'


def _svg(text: str, height: int, kind: str) -> str:
    label = escaped(text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" role="img" aria-label="{label}" '
        f'viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none"><title>{label}</title>'
    )

"""The card of an endpoint: its state, its variants, and the use of each over the last hours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from processing.report.drawing import sparkline
from processing.report.markup import card, escaped, fields, lines, links, reason
from processing.watching.render.run_text import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_VARIANTS: Final = 10  # drawn; AWS's default limit of an endpoint


@attrs.frozen
class Chart:
    """A line of values over time.

    Args:
        name: the quantity.
        points: the seconds since the begin of the charts, and the value of each point, in order of time.
        unit: their unit, with a blank before it.
        most: the value at the upper edge; None for the largest one.
    """

    name: str
    points: Sequence[tuple[float, float]]
    unit: str = ""
    most: float | None = None


@attrs.frozen
class VariantUse:
    """A variant of an endpoint, and its use.

    Args:
        name: its name.
        summary: its weight and its instances, in words.
        charts: its use over time.
    """

    name: str
    summary: str
    charts: Sequence[Chart] = ()


@attrs.frozen
class EndpointFacts:
    """The facts on the card of an endpoint.

    Args:
        name: the endpoint's name.
        status: its status.
        details: further names and values.
        variants: its variants.
        span: the seconds of the charts, until now.
        reason: the reason of a failure.
        tail: the last lines of its log.
        console_url: its page in AWS's console.
        log_url: its log in AWS's console.
    """

    name: str
    status: str
    details: Sequence[tuple[str, object]] = ()
    variants: Sequence[VariantUse] = ()
    span: float = 0.0
    reason: str | None = None
    tail: Sequence[str] = ()
    console_url: str | None = None
    log_url: str | None = None


def endpoint_card(facts: EndpointFacts) -> str:
    """Return the card of an endpoint."""
    variants = "".join(_variant(each, facts.span) for each in facts.variants[:_MOST_VARIANTS])
    drawn = any(variant.charts for variant in facts.variants)
    inside = (
        fields(facts.details),
        reason(facts.reason),
        f'<div class="sm-hosts">{variants}</div>' if variants else "",
        f'<p class="sm-note">the last {duration(facts.span)}</p>' if drawn else "",
        lines(facts.tail),
        links(("AWS console", facts.console_url), ("Log", facts.log_url)),
    )
    return card(facts.name, "".join(inside), status=facts.status)


def _variant(variant: VariantUse, span: float) -> str:
    rows = "".join(
        f"<span>{escaped(chart.name)}, peak {max(value for _, value in chart.points):,.0f}{escaped(chart.unit)}</span>"
        f"{sparkline(f'{chart.name} of {variant.name}', chart.points, span, chart.most, chart.unit)}"
        for chart in variant.charts
        if chart.points
    )
    head = f"<span><b>{escaped(variant.name)}</b></span><span>{escaped(variant.summary)}</span>"
    return f'<div class="sm-host">{head}{rows}</div>'

"""Drawings of a card in SVG, as wide as the card: a bar of phases over time, a line of values, and the axis of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from processing.report.markup import escaped
from processing.watching.render.run_text import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WIDTH: Final = 1000  # the units of a drawing
_BAR, _LINE = 10, 20  # their heights
_DASH: Final = 15  # the half of a line with one point


@attrs.frozen
class BarPart:
    """A part of a bar.

    Args:
        name: the phase.
        begin: its begin in seconds.
        end: its end in seconds.
        kind: the class of its colour.
        is_estimate: True for a phase that AWS does not report. It is drawn pale and at half of the height.
        is_pale: True for a phase without the user's program.
    """

    name: str
    begin: float
    end: float
    kind: str
    is_estimate: bool = False
    is_pale: bool = False


def bar(label: str, segments: Iterable[BarPart], total: float) -> str:
    """Return a bar of phases. Its text for readers that see no picture has the duration of each.

    Args:
        label: the name of the bar.
        segments: the phases, in order of time.
        total: the seconds from the left edge to the right one.
    """
    width = max(total, 1e-9)
    shown = [
        attrs.evolve(each, begin=_within(each.begin, width), end=_within(each.end, width))
        for each in segments
        if _within(each.end, width) > _within(each.begin, width)
    ]
    about = {True: "about ", False: ""}
    words = ", ".join(f"{each.name} {about[each.is_estimate]}{duration(each.end - each.begin)}" for each in shown)
    inside = "".join(_rectangle(each, width) for each in shown)
    text = f"{label}: {words or 'not started'}"
    return f"{_svg(text, _BAR, '')}{inside}</svg>"


def _within(seconds: float, total: float) -> float:
    return min(max(seconds, 0.0), total)


def _rectangle(segment: BarPart, total: float) -> str:
    left = segment.begin / total * _WIDTH
    width = (segment.end - segment.begin) / total * _WIDTH
    top, height = (_BAR // 4, _BAR // 2) if segment.is_estimate else (0, _BAR)
    pale = " sm-pale" if segment.is_pale or segment.is_estimate else ""
    return f'<rect class="{segment.kind}{pale}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}"/>'


def key(segments: Iterable[BarPart]) -> str:
    """Return the key to the phases of bars: each name once, with its colour."""
    found = {each.name: each for each in segments if each.end > each.begin}
    items = "".join(_key_item(name, each) for name, each in found.items())
    return f'<p class="sm-note sm-key">{items}</p>' if items else ""


def _key_item(name: str, segment: BarPart) -> str:
    pale = " sm-pale" if segment.is_pale or segment.is_estimate else ""
    half, about = (" sm-half", ", estimated") if segment.is_estimate else ("", "")
    return f'<span><i class="{segment.kind}{pale}{half}"></i>{escaped(name)}{about}</span>'


def sparkline(
    label: str, points: Sequence[tuple[float, float]], total: float, most: float | None = None, unit: str = " %"
) -> str:
    """Return a line of values over time.

    Args:
        label: its name for readers that see no picture; the mean and the peak follow it.
        points: the seconds since the left edge and the value of each point, in order of time.
        total: the seconds from the left edge to the right one.
        most: the value at the upper edge; None for the largest one.
        unit: the unit of the values.
    """
    values = [value for _, value in points]
    top, width = max(most or 0.0, *values, 1e-9), max(total, 1e-9)
    places = [
        (_within(seconds, width) / width * _WIDTH, 19 - 18 * min(max(value / top, 0.0), 1.0))
        for seconds, value in points
    ]
    if len(places) == 1:  # a dash, since nothing is known about the rest of the time
        x, y = places[0]
        places = [(max(x - _DASH, 0.0), y), (min(x + _DASH, _WIDTH), y)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    text = f"{label}: mean {sum(values) / len(values):,.0f}{unit}, peak {max(values):,.0f}{unit}"
    area = f"{places[0][0]:.1f},{_LINE} {line} {places[-1][0]:.1f},{_LINE}"
    return f'{_svg(text, _LINE, "sm-line")}<polygon points="{area}"/><polyline points="{line}"/></svg>'


def axis(total: float) -> str:
    """Return the labels of the axis of time: its begin, middle and end."""
    marks = "".join(f"<span>{escaped(each)}</span>" for each in ("0", duration(total / 2), duration(total)))
    return f'<span></span><div class="sm-axis">{marks}</div>'


def _svg(text: str, height: int, kind: str) -> str:
    label = escaped(text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" role="img" aria-label="{label}" '
        f'viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none"><title>{label}</title>'
    )

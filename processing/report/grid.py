"""Cards of many jobs, and of a plan."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from processing.report.markup import card, escaped, status_class

if TYPE_CHECKING:
    from collections.abc import Sequence


_MOST_CELLS: Final = 10_000  # a browser draws them at once


def jobs_card(title: str, jobs: Sequence[tuple[str, str]], *, unit: str = "jobs", note: str | None = None) -> str:
    """Return the card of many jobs or calls: a number for each status, and a cell for each of the first 10,000.

    Args:
        title: its title.
        jobs: the name and the status of each.
        unit: the word for all of them.
        note: a remark below the cells; None for none.
    """
    counts = Counter(status for _, status in jobs)
    cells = "".join(
        f'<i class="{status_class(status)}" title="{escaped(name)}: {escaped(status)}"></i>'
        for name, status in jobs[:_MOST_CELLS]
    )
    if len(jobs) > _MOST_CELLS:
        cells += f'<span class="sm-note">and {len(jobs) - _MOST_CELLS:,} more</span>'
    summary = ", ".join(f"{count:,} {status}" for status, count in counts.most_common()) or f"no {unit}"
    words = ", ".join(
        f'<b class="{status_class(status)}">{count:,} {escaped(status)}</b>' for status, count in counts.most_common()
    )
    word = unit.removesuffix("s") if len(jobs) == 1 else unit
    remark = "" if note is None else f'<p class="sm-note">{escaped(note)}</p>'
    return card(
        title,
        f"<div>{len(jobs):,} {escaped(word)}{': ' if words else ''}{words}</div>"
        f'<div class="sm-grid" role="img" aria-label="{escaped(summary)}">{cells}</div>{remark}',
    )


def plan_card(title: str, text: str, problems: Sequence[str], warnings: Sequence[str]) -> str:
    """Return the card of a plan.

    Args:
        title: its title.
        text: the plan as text.
        problems: the findings for which the run would fail.
        warnings: the warnings of the run.
    """
    listed = "".join(
        f'<ul class="{kind}">{"".join(f"<li>{escaped(each)}</li>" for each in texts)}</ul>'
        for kind, texts in (("sm-bad", problems), ("sm-wait", warnings))
        if texts
    )
    shown = f"<pre>{escaped(text)}</pre>"
    return card(title, listed + shown, status="Cannot run" if problems else None, kind="sm-bad")

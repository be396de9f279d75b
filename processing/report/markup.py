"""Safe pieces of HTML, which are well-formed XML too, and the style of all cards."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from processing.container.terminal_text import safe_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Characters that XML does not have, besides those that `safe_line` shows as escapes.
_NOT_IN_XML: Final = re.compile("[\ufffe\uffff]")

_MOST_CHARACTERS: Final = 2_000  # of a line: CloudWatch accepts a million

STYLE: Final = """\
.sm-card,.sm-page{color-scheme:light dark;--fg:#1b1f24;--bg:#fff;--soft:#57606a;--line:#d0d7de;--bad:#b3261e;\
--good:#1a6e34;--run:#0b57d0;--wait:#8a5a00;--fill:#eef1f4}
.sm-card{font:14px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);\
border:1px solid var(--line);border-radius:8px;padding:12px 16px;margin:8px 0;max-width:760px;overflow-wrap:anywhere}
@media(prefers-color-scheme:dark){.sm-card,.sm-page{--fg:#e6edf3;--bg:#161b22;--soft:#9ba7b4;--line:#3d444d;--bad:#ff8a80;\
--good:#6fd388;--run:#8ab4f8;--wait:#e3b341;--fill:#262c36}}
.sm-card h2{font-size:16px;line-height:1.5;margin:0 0 8px;color:var(--fg)}
.sm-card h2 b{margin-right:8px;padding:1px 8px;border:1px solid;border-radius:9px;font-size:12px}
.sm-card dl{display:grid;grid-template-columns:fit-content(40%) minmax(0,1fr);gap:2px 16px;margin:0}
.sm-card dt{color:var(--soft)}.sm-card dd{margin:0}
.sm-card a{color:var(--run)}
.sm-card ul{margin:8px 0;padding-left:20px}
.sm-card p.sm-bad{margin:8px 0 0;padding-left:8px;border-left:3px solid}
.sm-card pre{background:var(--fill);color:var(--fg);padding:8px;margin:8px 0 0;border-radius:4px;white-space:pre-wrap;\
font:12px/1.45 ui-monospace,monospace}
.sm-hosts{margin:12px 0 0;display:grid;gap:10px}
.sm-host{display:grid;grid-template-columns:132px minmax(0,1fr);gap:3px 8px;align-items:center}
.sm-host svg{width:100%;height:12px;display:block;background:var(--fill);border-radius:2px}
.sm-host svg.sm-line{height:28px}.sm-host span{color:var(--soft);font-size:12px}.sm-host b{color:var(--fg)}
.sm-line polygon{fill:var(--run);opacity:.18}
.sm-line polyline{fill:none;stroke:var(--run);stroke-width:1.5;vector-effect:non-scaling-stroke}
.sm-axis{display:flex;justify-content:space-between}
.sm-note{color:var(--soft);font-size:12px;margin:6px 0 0}
.sm-key{display:flex;flex-wrap:wrap;gap:2px 16px}
.sm-key i{display:inline-block;width:14px;height:10px;margin-right:5px;background:currentColor}
.sm-card .sm-half{height:5px;margin-bottom:2px}.sm-card .sm-pale{opacity:.5}
.sm-good{color:var(--good);fill:var(--good)}.sm-bad{color:var(--bad);fill:var(--bad)}
.sm-run{color:var(--run);fill:var(--run)}.sm-wait{color:var(--wait);fill:var(--wait)}
.sm-grid{display:flex;flex-wrap:wrap;gap:2px;margin:8px 0 0}
.sm-grid i{width:10px;height:10px;background:currentColor;display:block}
.sm-grid i,.sm-key i,.sm-card svg,.sm-card pre{-webkit-print-color-adjust:exact;print-color-adjust:exact}
@media print{.sm-card,.sm-page{color-scheme:light;--fg:#000;--bg:#fff;--soft:#333;--line:#999;--bad:#b3261e;\
--good:#1a6e34;--run:#0b57d0;--wait:#8a5a00;--fill:#eee}.sm-card{break-inside:avoid}}
"""
"""The style sheet of the cards."""

PAGE_STYLE: Final = (
    ":root{color-scheme:light dark}body{margin:0 auto;padding:8px;max-width:800px;"
    "font-family:system-ui,sans-serif;overflow-wrap:anywhere}h1{font-size:22px}"
    "@media print{:root{color-scheme:light}}"
)
"""The style sheet of a file with cards."""

_CLASSES: Final = {
    "Completed": "sm-good",
    "Failed": "sm-bad",
    "Stopped": "sm-wait",
    "Stopping": "sm-wait",
    "InProgress": "sm-run",
    "InService": "sm-good",
    "Creating": "sm-run",
    "Updating": "sm-run",
}


def escaped(value: object) -> str:
    """Return a text of unknown origin for HTML: markup is shown, and control characters become escapes."""
    lines = "\n".join(safe_line(line) for line in str(value).split("\n"))
    return html.escape(_NOT_IN_XML.sub("\ufffd", lines))


def status_class(status: str) -> str:
    """Return the class of the colour of a status."""
    return _CLASSES.get(status, "sm-wait")


def fields(pairs: Iterable[tuple[str, object]]) -> str:
    """Return names and values as a list of definitions. Values that are None are left out."""
    rows = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in pairs if value is not None)
    return f"<dl>{rows}</dl>"


def reason(text: str | None) -> str:
    """Return the reason of a failure; nothing without one."""
    return f'<p class="sm-bad">{escaped(text)}</p>' if text else ""


def lines(texts: Sequence[str]) -> str:
    """Return lines of a log, each up to a limit; nothing without any."""
    shown = "\n".join(escaped(_shortened(text)) for text in texts)
    return f"<pre>{shown}</pre>" if texts else ""


def _shortened(text: str) -> str:
    more = len(text) - _MOST_CHARACTERS
    return text if more <= 0 else f"{text[:_MOST_CHARACTERS]} ... and {more:,} more characters"


def style_source(*styles: str) -> str:
    """Return the value of a Content-Security-Policy's `style-src` that allows these style sheets alone."""
    return " ".join(f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" for style in styles)


def links(*pairs: tuple[str, str | None]) -> str:
    """Return links to pages of AWS's console, by their texts; nothing without any."""
    shown = " ".join(
        f'<a href="{escaped(url)}" rel="noopener noreferrer">{escaped(text)}</a>'
        for text, url in pairs
        if url is not None and url.startswith("https://")
    )
    return f'<p class="sm-note sm-key">{shown}</p>' if shown else ""


def card(title: str, inside: str, *, status: str | None = None, kind: str | None = None) -> str:
    """Return a card.

    Args:
        title: its title.
        inside: its content, as HTML.
        status: the status of a job, or another word, shown before the title.
        kind: the class of its colour; None for that of the status.
    """
    shown = "" if status is None else f'<b class="{kind or status_class(status)}">{escaped(status)}</b>'
    return f'<div class="sm-card"><style>{STYLE}</style><h2>{shown}{escaped(title)}</h2>{inside}</div>'


def document(title: str, cards: Iterable[str]) -> str:
    """Return one HTML file that needs no other, and that loads nothing and runs nothing."""
    policy = f"default-src 'none'; style-src {style_source(STYLE, PAGE_STYLE)}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escaped(title)}</title><style>{PAGE_STYLE}</style></head>"
        f"<body><main><h1>{escaped(title)}</h1>{''.join(cards)}</main></body></html>\n"
    )

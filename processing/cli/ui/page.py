"""The frame of every page: its style, its script, and the policy that allows these two alone."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from processing.report.markup import STYLE, escaped, style_source

if TYPE_CHECKING:
    from collections.abc import Iterable

_STYLE: Final = """\
.sm-page{font:14px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);margin:0 auto;padding:12px 16px;\
max-width:1000px;overflow-wrap:anywhere}
.sm-page .sm-card{max-width:none}
.sm-page header{display:flex;flex-wrap:wrap;gap:4px 16px;align-items:baseline}
.sm-page h1{font-size:20px;margin:12px 0 4px}
.sm-page nav,.sm-page .sm-filter{display:flex;flex-wrap:wrap;gap:4px 16px;margin:8px 0}
.sm-page a{color:var(--run);text-underline-offset:2px}
.sm-page a[aria-current]{color:var(--fg);font-weight:600;text-decoration:none}
.sm-page #live{margin-left:auto;color:var(--soft);font-size:12px}
.sm-page table{border-collapse:collapse;table-layout:fixed;width:100%;margin:8px 0 0}
.sm-page th:first-child{width:94px}.sm-page th:nth-child(2){width:32%}.sm-page th:nth-child(3){width:150px}\
.sm-page th:nth-child(4){width:96px}
.sm-page th{text-align:left;color:var(--soft);font-size:12px;font-weight:400}
.sm-page th,.sm-page td{padding:4px 12px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
.sm-page td b{font-size:12px;white-space:nowrap}
.sm-page td.sm-when{white-space:nowrap;color:var(--soft)}
.sm-page form{display:flex;gap:8px;margin:8px 0}
.sm-page input,.sm-page button{font:inherit;color:inherit;background:var(--fill);border:1px solid var(--soft);\
border-radius:4px;padding:2px 8px;min-width:0}
@media(max-width:600px){.sm-page thead{display:none}.sm-page tr{display:grid;grid-template-columns:92px 1fr;\
border-bottom:1px solid var(--line);padding:4px 0}.sm-page td{border:0;padding:0 8px 0 0}\
.sm-page td.sm-when,.sm-page td.sm-why{grid-column:2}}
"""
# The page is requested again, as a document whose scripts do not run, and its main part takes the place of the present
# one if they differ. So what is selected or focused stays as long as nothing changes.
_SCRIPT: Final = """\
"use strict";
const live = document.getElementById("live");
let version = "";
function show(text) {
  if (live.textContent !== text) live.textContent = text;
}
function swap(page) {
  const old = document.querySelector("main");
  const fresh = document.adoptNode(page.querySelector("main"));
  if (old.isEqualNode(fresh)) return;
  const link = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  old.replaceWith(fresh);
  if (link === null) return;
  const again = [...fresh.querySelectorAll("a")].find(each => each.getAttribute("href") === link);
  if (again) again.focus({ preventScroll: true });
}
function later() {
  setTimeout(poll, 1500);
}
function poll() {
  if (document.hidden) return later();
  const request = new XMLHttpRequest();
  request.open("GET", location.href);
  request.responseType = "document";
  request.timeout = 30000;
  if (version) request.setRequestHeader("If-None-Match", version);
  request.onload = () => {
    const page = request.responseXML;
    if (page && page.querySelector("main")) {
      version = request.getResponseHeader("ETag") || "";
      swap(page);
    } else if (request.status !== 304) {
      return show("not live: the page is gone");
    }
    show("live");
  };
  request.onerror = request.ontimeout = () => show("not live: processing local ui has ended");
  request.onloadend = later;
  request.send();
}
later();
"""


_CURRENT: Final = ' aria-current="page"'


def _source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_source(_SCRIPT)}",
        f"style-src {style_source(STYLE, _STYLE)}",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""The Content-Security-Policy of every page."""


def page(title: str, root: str, links: Iterable[tuple[str, str]], current: str, above: str, main: str) -> str:
    """Return a page.

    Args:
        title: its title.
        root: the URL of the first page.
        links: the URLs and titles of the other pages in its navigation.
        current: the URL of the page in the navigation that it is, or belongs to.
        above: HTML above the part that changes.
        main: the part that changes, as HTML.
    """
    navigation = "".join(
        f'<a href="{escaped(url)}"{_CURRENT if url == current else ""}>{escaped(text)}</a>'
        for url, text in [(root, "Overview"), *links]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escaped(title)}</title><style>{STYLE}</style><style>{_STYLE}</style></head>"
        f'<body class="sm-page"><header><nav aria-label="Pages">{navigation}</nav>'
        f'<span id="live" role="status">live</span></header>{above}<main><h1>{escaped(title)}</h1>{main}</main>'
        f"<script>{_SCRIPT}</script></body></html>\n"
    )

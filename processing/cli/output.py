"""The results on standard output: text, tables and JSON. Text of jobs cannot move the cursor.

JSON has a `version`, which changes if a member is removed or changes its meaning. New members may come at any time.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from processing.container.terminal_text import safe_line, safe_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NARROW: Final = 60  # columns: a table of four columns would have a word in pieces in each line
VERSION: Final = 1
"""The version of the JSON."""


def write(text: str) -> None:
    """Write a text and a line break."""
    _write(f"{safe_text(text)}\n")


def write_json(**members: Any) -> None:
    """Write one JSON object with the version and some members."""
    _write(json.dumps({"version": VERSION, **members}, indent=2, default=_plain) + "\n")


def write_json_line(**members: Any) -> None:
    """Write one JSON object in one line, for results that come one after the other."""
    _write(json.dumps({"version": VERSION, **members}, default=_plain) + "\n")


def write_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write rows in columns: fitted to the width of a terminal, and whole elsewhere."""
    texts = [["" if cell is None else safe_line(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _write_fitted(columns, texts)
        return
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for row in (columns, *texts):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        _write(f"{line.rstrip()}\n")


def _write_fitted(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    if console.width < _NARROW:
        for first, *others in rows:
            write(first)
            for column, cell in zip(columns[1:], others, strict=True):
                write(f"  {column.lower()} {cell}")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # markup in a job's text means nothing
    console.print(table)


def write_fields(fields: Mapping[str, object]) -> None:
    """Write names and values, one pair a line. Values that are None are left out."""
    shown = {name: value for name, value in fields.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        write(f"{name.ljust(width)}  {safe_line(str(value))}")


def moment(value: dt.datetime | None) -> str | None:
    """Return a moment as text in this machine's time zone."""
    return None if value is None else value.astimezone().isoformat(" ", "seconds")


def _write(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def _plain(value: object) -> object:
    """Return a value that JSON has no form for as a text."""
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return str(value)

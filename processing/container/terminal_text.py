"""Text of unknown origin for a terminal: control characters become escapes.

A job writes its exit message and its log lines, and names its files. Raw, they could move the cursor, imitate other
lines, set the clipboard or hide text.
"""

from __future__ import annotations

import re

# Control characters except the tab, line separators, marks that reverse the direction of text, and lone surrogates.
_UNSAFE = r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
# "Select graphic rendition": colours and bold. It cannot move the cursor or hide text.
_COLOUR = r"\x1b\[[0-9;:]*m"
_COLOUR_OR_UNSAFE = f"({_COLOUR})|{_UNSAFE}"
# The patterns are compiled on their first use, as every process imports this module, and few need it.
_RESET = "\x1b[0m"


def safe_line(line: str, *, colours: bool = False) -> str:
    """Return a line with its control characters as escapes.

    Args:
        line: the text, without a line break at its end.
        colours: True to keep colour sequences. The line then ends with a reset.
    """
    if line.isprintable():  # most lines are, and this check is quick
        return line
    if not colours:
        return re.sub(_UNSAFE, _escape, line)
    shown = re.sub(_COLOUR_OR_UNSAFE, lambda match: match[1] or _escape(match), line)
    return shown + _RESET if "\x1b[" in shown else shown


def without_colours(line: str) -> str:
    """Return a line without its colour sequences."""
    return re.sub(_COLOUR, "", line)


def safe_text(text: str) -> str:
    """Return a text of several lines with its control characters as escapes, except line breaks."""
    return text if text.isprintable() else "\n".join(map(safe_line, text.split("\n")))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")

"""The plain way to show a job's lines: text, one line each, safe for any terminal."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, TextIO

from processing.watching.events import StatusChanged

if TYPE_CHECKING:
    from processing.watching.events import Event

logger = logging.getLogger(__name__)

_COLOUR = r"\x1b\[[0-9;:]*m"  # "select graphic rendition": colours, bold, and nothing that moves or hides
# Control characters save the tab, and what turns the direction of text around.
_UNSAFE = r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
_PLAIN_PATTERN = re.compile(_UNSAFE)
_COLOUR_PATTERN = re.compile(f"({_COLOUR})|{_UNSAFE}")
_RESET = "\x1b[0m"


class Renderer:
    """Writes log lines as they come; with the host in front where a job has more than one.

    What a job writes is not trusted: control characters are shown as escapes, so that a line can neither move the
    cursor nor pass for another. Colours are kept where the output is a terminal. An output that cannot be written to
    any more is given up silently: the wait is worth more.

    Args:
        out: where to write; standard output, as it is when a line comes, where not given.
        instance_count: how many hosts the job has; where not given, what comes tells.
    """

    def __init__(self, out: TextIO | None = None, *, instance_count: int | None = None) -> None:
        self._out = out
        self._hosts: set[str] = set()
        self._many_hosts = (instance_count or 1) > 1
        self._broken = False

    def show(self, event: Event) -> None:
        """Write one event; of status changes only the number of hosts is of interest."""
        if isinstance(event, StatusChanged):
            cluster = event.description.get("ProcessingResources", {}).get("ClusterConfig", {})
            self._many_hosts = self._many_hosts or cluster.get("InstanceCount", 1) > 1
            return
        self._hosts.add(event.host)
        prefix = f"[{event.host}] " if self._many_hosts or len(self._hosts) > 1 else ""
        out = self._out or sys.stdout
        if self._broken or out is None:  # under pythonw there is no standard output
            return
        try:
            colours = out.isatty()
            lines = event.message.rstrip("\r\n").split("\n")
            out.write("".join(f"{prefix}{_encodable(safe(line, colours=colours), out)}\n" for line in lines))
            out.flush()
        except (OSError, ValueError) as error:  # a closed pipe, a closed file
            self._broken = True
            logger.info("the output is closed, log lines are shown no more: %s", error)


def safe(line: str, *, colours: bool = False) -> str:
    """Return a line with control characters written as escapes.

    Args:
        line: the text, without a line break at its end.
        colours: True to keep colour sequences; they are ended with the line.
    """
    if not colours:
        return _PLAIN_PATTERN.sub(_escaped, line)
    shown = _COLOUR_PATTERN.sub(lambda match: match[1] or _escaped(match), line)
    return shown + _RESET if "\x1b[" in shown else shown


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _encodable(text: str, out: TextIO) -> str:
    """Return the text with escapes for what the output's encoding does not have."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)

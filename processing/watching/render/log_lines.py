"""The output of log lines as plain text: one line each, safe for any terminal, and never a reason to wait."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, TextIO

from processing.clock import SYSTEM_CLOCK, Clock
from processing.container.terminal_text import safe_line, without_colours
from processing.watching.events import LogEvent, StatusChanged
from processing.watching.logs.batch import LogBatch
from processing.watching.render.output import PATIENCE, BlockedError, TextOutput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from processing.watching.events import Event
    from processing.watching.logs.batch import StreamOrigin

logger = logging.getLogger(__name__)


class Renderer:
    """A writer of log lines, with the host in front of each line if the job has more than one.

    The text of a job is not trusted. Control characters are shown as escapes, so a line can neither move the cursor
    nor pass for another one. Colours are kept if the output is a terminal, unless NO_COLOR is set.

    The output never holds up the caller, except in `flush`. A pipe or a terminal is written to when it can take text,
    and the rest is buffered. Beyond a bound, `ready` asks the caller to pause. A closed output is given up silently. An
    output that has taken nothing for five minutes is given up with a warning, as the job's end matters more.

    Args:
        out: the output; by default the standard output at the time of each line.
        instance_count: the number of hosts of the job; by default it is derived from the events.
        several_jobs: True to put the job's name in front as well.
        clock: measures the time for which the output has taken nothing.
    """

    def __init__(
        self,
        out: TextIO | None = None,
        *,
        instance_count: int | None = None,
        several_jobs: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._out = out
        self._hosts: set[str] = set()
        self._many_hosts = (instance_count or 1) > 1
        self._several_jobs = several_jobs
        self._clock = clock
        self._writer: TextOutput | None = None
        self._given_up = False
        self._job_name = ""

    def show(self, event: Event | LogBatch) -> None:
        """Write one line or several. A status change only provides the number of hosts."""
        if isinstance(event, StatusChanged):
            cluster = event.description.get("ProcessingResources", {}).get("ClusterConfig", {})
            self._many_hosts = self._many_hosts or cluster.get("InstanceCount", 1) > 1
            return
        lines = LogBatch.of(event) if isinstance(event, LogEvent) else event
        streams = lines.streams
        origins = {stream: lines.origins[stream] for stream in dict.fromkeys(streams)}
        self._hosts.update(origin.host for origin in origins.values())
        self._many_hosts = self._many_hosts or len(self._hosts) > 1
        out = self._out or sys.stdout
        if self._given_up or out is None:  # under pythonw there is no standard output
            return
        self._job_name = next(iter(origins.values())).job_name
        if self._writer and self._writer.is_full:  # this caller does not ask `ready`
            self.flush()
        with self._give_up_on_error():
            writer = self._writer_to(out)
            prefixes = {stream: self._prefix(origin) for stream, origin in origins.items()}
            writer.add(_text(lines.messages, [prefixes[stream] for stream in streams], writer))

    def ready(self) -> bool:
        """Write as much as the output takes now, and return whether it can take more lines. If not, ask again later."""
        if self._given_up or self._writer is None:
            return True
        with self._give_up_on_error():
            return self._writer.push()
        return True

    def flush(self, *, patient: bool = True) -> None:
        """Write all buffered lines.

        Args:
            patient: False to drop the lines that the output cannot take now, instead of waiting for it.
        """
        if self._given_up or self._writer is None:
            return
        with self._give_up_on_error():
            while not self._writer.push(everything=True) and patient:
                self._writer.await_room(1.0)

    @contextlib.contextmanager
    def _give_up_on_error(self) -> Iterator[None]:
        try:
            yield
        except BlockedError:
            self._given_up = True
            logger.warning(
                "the output has taken nothing for %.0f minutes, no more log lines are shown; "
                "processing.attach(%r).logs() has them",
                PATIENCE / 60,
                self._job_name,
            )
        except (OSError, ValueError) as error:  # a closed pipe, a closed file
            self._given_up = True
            logger.info("the output is closed, no more log lines are shown: %s", error)

    def _writer_to(self, out: TextIO) -> TextOutput:
        if self._writer is None or self._writer.out is not out:
            if self._writer:
                with contextlib.suppress(OSError, ValueError):
                    self._writer.push(everything=True)
            self._writer = TextOutput(out, self._clock)
        return self._writer

    def _prefix(self, origin: StreamOrigin) -> str:
        if self._several_jobs:
            return f"[{origin.job_name}/{origin.host}] "
        return f"[{origin.host}] " if self._many_hosts else ""


def _text(messages: Sequence[str], prefixes: Sequence[str], writer: TextOutput) -> str:
    """Return lines as they are written, each after its prefix."""
    whole = "".join(messages)
    # Most batches are printable, and are then not examined line by line.
    if not (whole.isprintable() and _encodable(whole, writer.out) == whole):
        messages, prefixes = zip(
            *(
                (_encodable(_shown(line, writer), writer.out), prefix)
                for message, prefix in zip(messages, prefixes, strict=True)
                for line in message.rstrip("\r\n").split("\n")
            ),
            strict=True,
        )
    return "".join([f"{prefix}{line}\n" for prefix, line in zip(prefixes, messages, strict=True)])


def _shown(line: str, writer: TextOutput) -> str:
    if writer.is_terminal and not writer.colours:
        line = without_colours(line)
    return safe_line(line, colours=writer.colours)


def _encodable(text: str, out: TextIO) -> str:
    """Return the text with escapes for characters that the output's encoding does not have."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    if text.isascii() or encoding == "utf-8":
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)

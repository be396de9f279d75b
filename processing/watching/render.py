"""The output of log lines as plain text: one line each, safe for any terminal, and never a reason to wait.

A terminal that is paused or a pipe whose reader is slow blocks a writer. A blocked wait would miss its deadline and the
job's end. So a pipe or a terminal is asked first (select) and written in pieces that it can take; the rest is buffered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
import sys
from typing import TYPE_CHECKING, Final, TextIO

from processing.clock import SYSTEM_CLOCK, Clock
from processing.container.terminal_text import safe_line
from processing.watching.events import LogEvent, StatusChanged
from processing.watching.logs.batch import LogBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from processing.watching.events import Event
    from processing.watching.logs.batch import StreamOrigin

logger = logging.getLogger(__name__)

# Lines are written in batches of this many characters, or after this many seconds, if lines keep coming.
_BATCH: Final = 1 << 16
_FLUSH_EVERY: Final = 0.1
# This many characters are buffered for a slow output before no more lines are read. It bounds the memory.
_MOST_BUFFERED: Final = 1 << 20
# A pipe that select reports as writable takes this many bytes without blocking (POSIX PIPE_BUF on Linux).
_PIPE_BUF: Final = 4096
# A reader that is only slow makes room within this many seconds. One that has stopped is not waited for again.
_ROOM_WITHIN: Final = 0.05
# An output that has taken nothing for this many seconds is given up: a paused terminal gets five minutes.
_PATIENCE: Final = 300.0


class Renderer:
    """A writer of log lines, with the host in front of each line if the job has more than one.

    The text of a job is not trusted. Control characters are shown as escapes, so a line can neither move the cursor
    nor pass for another one. Colours are kept if the output is a terminal.

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
        self._writer: _Writer | None = None
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
        except _BlockedError:
            self._given_up = True
            logger.warning(
                "the output has taken nothing for %.0f minutes, no more log lines are shown; "
                "processing.attach(%r).logs() has them",
                _PATIENCE / 60,
                self._job_name,
            )
        except (OSError, ValueError) as error:  # a closed pipe, a closed file
            self._given_up = True
            logger.info("the output is closed, no more log lines are shown: %s", error)

    def _writer_to(self, out: TextIO) -> _Writer:
        if self._writer is None or self._writer.out is not out:
            if self._writer:
                with contextlib.suppress(OSError, ValueError):
                    self._writer.push(everything=True)
            self._writer = _Writer(out, self._clock)
        return self._writer

    def _prefix(self, origin: StreamOrigin) -> str:
        if self._several_jobs:
            return f"[{origin.job_name}/{origin.host}] "
        return f"[{origin.host}] " if self._many_hosts else ""


class _BlockedError(Exception):
    """The output has taken nothing for too long."""


class _Writer:
    """A writer to one output, in batches, and never more at once than the output can take."""

    def __init__(self, out: TextIO, clock: Clock) -> None:
        self.out = out
        self.colours = out.isatty()
        self._clock = clock
        self._descriptor = _may_block(out)
        self._parts: list[str] = []
        self._size = 0  # characters
        self._last_push = float("-inf")
        self._blocked_since: float | None = None

    def add(self, text: str) -> None:
        """Write a text now or soon."""
        if self._descriptor is None:
            self.out.write(text)
        else:
            self._parts.append(text)
            self._size += len(text)
        if self._size >= _BATCH or self._clock.monotonic() - self._last_push > _FLUSH_EVERY:
            self.push()

    @property
    def is_full(self) -> bool:
        """True if more is buffered than ever happens if the caller heeds the result of `push`."""
        return self._size > 4 * _MOST_BUFFERED

    def push(self, *, everything: bool = False) -> bool:
        """Write what the output takes now, and return whether the caller may go on.

        Args:
            everything: True to go on only once the buffer is empty; by default it may hold `_MOST_BUFFERED` characters.
        """
        self._last_push = self._clock.monotonic()
        if self._descriptor is None:
            self.out.flush()
            return True
        text, done = "".join(self._parts), 0
        step = _PIPE_BUF if text.isascii() else _PIPE_BUF // 4  # a character has four bytes at most
        while done < len(text) and self.await_room(_ROOM_WITHIN if self._blocked_since is None else 0.0):
            with contextlib.suppress(BlockingIOError):  # the text is then in Python's buffer
                self.out.write(text[done : done + step])
                self.out.flush()
            done += step
        self._parts, self._size = ([text[done:]], len(text) - done) if done < len(text) else ([], 0)
        self._note_progress(progress=done > 0 or not text)
        return self._size == 0 if everything else self._size < _MOST_BUFFERED

    def await_room(self, seconds: float) -> bool:
        """Wait until the output can take `_PIPE_BUF` bytes, and return whether it can."""
        assert self._descriptor is not None
        try:
            return bool(select.select([], [self._descriptor], [], seconds)[1])
        except ValueError:  # the descriptor is too high for select
            return True

    def _note_progress(self, *, progress: bool) -> None:
        if progress:
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = self._last_push
        elif self._last_push - self._blocked_since > _PATIENCE:
            raise _BlockedError


def _may_block(out: TextIO) -> int | None:
    """Return the descriptor of an output that may block a writer; None for a file or an output without a descriptor."""
    if os.name != "posix":
        return None
    try:
        descriptor = out.fileno()
        return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor
    except (AttributeError, OSError, ValueError):
        return None


def _text(messages: Sequence[str], prefixes: Sequence[str], writer: _Writer) -> str:
    """Return lines as they are written, each after its prefix."""
    whole = "".join(messages)
    # Most batches are printable, and are then not examined line by line.
    if not (whole.isprintable() and _encodable(whole, writer.out) == whole):
        messages, prefixes = zip(
            *(
                (_encodable(safe_line(line, colours=writer.colours), writer.out), prefix)
                for message, prefix in zip(messages, prefixes, strict=True)
                for line in message.rstrip("\r\n").split("\n")
            ),
            strict=True,
        )
    return "".join([f"{prefix}{line}\n" for prefix, line in zip(prefixes, messages, strict=True)])


def _encodable(text: str, out: TextIO) -> str:
    """Return the text with escapes for characters that the output's encoding does not have."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    if text.isascii() or encoding == "utf-8":
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)

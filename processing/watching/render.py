"""The plain way to show a job's lines: text, one line each, safe for any terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import stat
import sys
from typing import TYPE_CHECKING, Final, TextIO

from processing.clock import SYSTEM_CLOCK, Clock
from processing.watching.events import LogEvent, StatusChanged
from processing.watching.logs.batch import LogBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from processing.watching.events import Event
    from processing.watching.logs.batch import Origin

logger = logging.getLogger(__name__)

_COLOUR = r"\x1b\[[0-9;:]*m"  # "select graphic rendition": colours, bold, and nothing that moves or hides
# Control characters save the tab, and what turns the direction of text around.
_UNSAFE = r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
_PLAIN_PATTERN = re.compile(_UNSAFE)
_COLOUR_PATTERN = re.compile(f"({_COLOUR})|{_UNSAFE}")
_RESET = "\x1b[0m"

_BATCH: Final = 1 << 16  # characters that are written at once
_SOON: Final = 0.1  # seconds that a line waits for others at most, while lines come
_KEPT: Final = 1 << 20  # characters that are kept for an output that is slower than the job
_SURE: Final = 4096  # bytes that a pipe takes without a wait once it takes any (PIPE_BUF)
_PAUSE: Final = 0.05  # seconds in which a reader that is only slow has made room
_PATIENCE: Final = 300.0  # seconds after which an output that takes nothing is given up


class Renderer:
    """Writes log lines as they come; with the host in front where a job has more than one.

    What a job writes is not trusted: control characters are shown as escapes, so that a line can neither move the
    cursor nor pass for another. Colours are kept where the output is a terminal.

    Nobody waits for the output. A pipe or a terminal is written to when it can take something, and what it cannot take
    is kept: up to a bound, beyond which `ready` asks for a pause. An output that cannot be written to any more is given
    up silently, one that has taken nothing for five minutes with a warning: how a job ends is worth more.

    Args:
        out: where to write; standard output, as it is when a line comes, where not given.
        instance_count: how many hosts the job has; where not given, what comes tells.
        several_jobs: True to put the job's name in front as well.
        clock: what says how long the output has taken nothing.
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
        self._broken = False
        self._job_name = ""

    def show(self, event: Event | LogBatch) -> None:
        """Write a line, or several; of status changes only the number of hosts is of interest."""
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
        if self._broken or out is None:  # under pythonw there is no standard output
            return
        self._job_name = next(iter(origins.values())).job_name
        if self._writer and self._writer.is_full:  # whoever shows does not ask whether we are ready
            self.flush()
        with self._giving_up():
            writer = self._writer_to(out)
            prefixes = {stream: self._prefix(origin) for stream, origin in origins.items()}
            writer.add(_text(lines.messages, [prefixes[stream] for stream in streams], writer))

    def ready(self) -> bool:
        """Write what can be written, and return whether more lines can be taken; where not, ask again later."""
        if self._broken or self._writer is None:
            return True
        with self._giving_up():
            return self._writer.push()
        return True

    def flush(self, *, patient: bool = True) -> None:
        """Write all that was kept.

        Args:
            patient: False not to wait for an output that can take nothing at the moment; what is left is lost.
        """
        if self._broken or self._writer is None:
            return
        with self._giving_up():
            while not self._writer.push(all_of_it=True) and patient:
                self._writer.await_room(1.0)

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except _BlockedError:
            self._broken = True
            logger.warning(
                "the output has taken nothing for %.0f minutes, log lines are shown no more; "
                "processing.attach(%r).logs() has them",
                _PATIENCE / 60,
                self._job_name,
            )
        except (OSError, ValueError) as error:  # a closed pipe, a closed file
            self._broken = True
            logger.info("the output is closed, log lines are shown no more: %s", error)

    def _writer_to(self, out: TextIO) -> _Writer:
        if self._writer is None or self._writer.out is not out:
            if self._writer:
                with contextlib.suppress(OSError, ValueError):
                    self._writer.push(all_of_it=True)
            self._writer = _Writer(out, self._clock)
        return self._writer

    def _prefix(self, origin: Origin) -> str:
        if self._several_jobs:
            return f"[{origin.job_name}/{origin.host}] "
        return f"[{origin.host}] " if self._many_hosts else ""


class _BlockedError(Exception):
    """The output takes nothing any more."""


class _Writer:
    """Writes to one output, in batches, and never more than it can take at once."""

    def __init__(self, out: TextIO, clock: Clock) -> None:
        self.out = out
        self.colours = out.isatty()
        self._clock = clock
        self._descriptor = _may_block(out)
        self._parts: list[str] = []
        self._size = 0  # characters
        self._pushed = float("-inf")
        self._blocked_since: float | None = None

    def add(self, text: str) -> None:
        """Write a text, at once or soon."""
        if self._descriptor is None:
            self.out.write(text)
        else:
            self._parts.append(text)
            self._size += len(text)
        if self._size >= _BATCH or self._clock.monotonic() - self._pushed > _SOON:
            self.push()

    @property
    def is_full(self) -> bool:
        """Whether more is kept than who asks `push` ever lets come together."""
        return self._size > 4 * _KEPT

    def push(self, *, all_of_it: bool = False) -> bool:
        """Write what the output can take, and return whether little enough is left to go on; or nothing at all."""
        self._pushed = self._clock.monotonic()
        if self._descriptor is None:
            self.out.flush()
            return True
        text, done = "".join(self._parts), 0
        step = _SURE if text.isascii() else _SURE // 4
        while done < len(text) and self.await_room(_PAUSE if self._blocked_since is None else 0.0):
            with contextlib.suppress(BlockingIOError):  # it is in Python's buffer then
                self.out.write(text[done : done + step])
                self.out.flush()
            done += step
        self._parts, self._size = ([text[done:]], len(text) - done) if done < len(text) else ([], 0)
        self._note_progress(progress=done > 0 or not text)
        return self._size == 0 if all_of_it else self._size < _KEPT

    def await_room(self, seconds: float) -> bool:
        """Wait until the output can take `_SURE` bytes, and return whether it can."""
        assert self._descriptor is not None
        try:
            return bool(select.select([], [self._descriptor], [], seconds)[1])
        except ValueError:  # a number that is too high for select
            return True

    def _note_progress(self, *, progress: bool) -> None:
        if progress:
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = self._pushed
        elif self._pushed - self._blocked_since > _PATIENCE:
            raise _BlockedError


def _may_block(out: TextIO) -> int | None:
    """Return the descriptor of an output that may make a writer wait; None for a file, or what is none."""
    if os.name != "posix":
        return None
    try:
        descriptor = out.fileno()
        return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor
    except (AttributeError, OSError, ValueError):
        return None


def _text(messages: Sequence[str], prefixes: Sequence[str], writer: _Writer) -> str:
    """Return lines as they are written, each behind its prefix."""
    whole = "".join(messages)
    if not (whole.isprintable() and _encodable(whole, writer.out) == whole):  # mostly it is, and no line is looked at
        messages, prefixes = zip(
            *(
                (_encodable(safe(line, colours=writer.colours), writer.out), prefix)
                for message, prefix in zip(messages, prefixes, strict=True)
                for line in message.rstrip("\r\n").split("\n")
            ),
            strict=True,
        )
    return "".join([f"{prefix}{line}\n" for prefix, line in zip(prefixes, messages, strict=True)])


def safe(line: str, *, colours: bool = False) -> str:
    """Return a line with control characters written as escapes.

    Args:
        line: the text, without a line break at its end.
        colours: True to keep colour sequences; they are ended with the line.
    """
    if line.isprintable():  # most lines are, and this is the quick way to know
        return line
    if not colours:
        return _PLAIN_PATTERN.sub(_escaped, line)
    shown = _COLOUR_PATTERN.sub(lambda match: match[1] or _escaped(match), line)
    return shown + _RESET if "\x1b[" in shown else shown


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _encodable(text: str, out: TextIO) -> str:
    """Return the text with escapes for what the output's encoding does not have."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    if text.isascii() or encoding == "utf-8":
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)

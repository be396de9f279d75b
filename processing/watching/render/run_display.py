"""The display of one run: that it is alive, how far it is, and how it ended. `status_output` has its outputs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils.forks import ForkSafeLock
from processing.container.terminal_text import safe_line
from processing.watching.render.run_text import (
    PHASES,
    RunFacts,
    duration,
    end_lines,
    files,
    is_end,
    money,
    phase_of,
    size,
    stopwatch,
)
from processing.watching.render.status_output import StatusOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from processing.clock import Clock
    from processing.watching.events import StatusChanged

# Below this many bytes an upload is over before a person has read that it began.
_LARGE_UPLOAD: Final = 10_000_000


@attrs.frozen
class _Upload:
    files: int
    total_files: int
    bytes: int
    total_bytes: int | None
    seconds: float

    def __str__(self) -> str:
        total = "" if self.total_bytes is None else f" of {size(self.total_bytes)}"
        return f"{self.files:,} of {files(self.total_files)}, {size(self.bytes)}{total}"


class RunDisplay:
    """The display of one run. Use it as a context manager: leaving it removes the live line.

    Args:
        clock: measures the run.
        quiet: True to show nothing.

    Attributes:
        quiet: the argument.
    """

    def __init__(self, clock: Clock, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._clock = clock
        self._began = clock.monotonic()
        self._facts: RunFacts | None = None
        self._upload: _Upload | None = None
        self._description: Mapping[str, Any] | None = None
        self._submitted = False
        self._has_lines = False
        self._shown_state = ""
        self._latest_phase = PHASES[0]
        self._phase_lock = ForkSafeLock()  # the live line's thread asks, too
        self._started_at: Callable[[], datetime | None] = lambda: None
        self._known_phase: Callable[[], str | None] = lambda: None
        self._output = StatusOutput(clock, self._texts, quiet=quiet)

    @property
    def announced(self) -> bool:
        """True once the job's name was shown."""
        return self._facts is not None

    def __enter__(self) -> RunDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the live line. Permanent lines stay."""
        self._output.close()

    def announce(self, facts: RunFacts) -> None:
        """Show the job's name and where it is, once for each name."""
        if self._facts is None or self._facts.job_name != facts.job_name:
            self._facts = facts
            self._output.write([facts.title])

    def show_upload(self, done: int, total: int, size_done: int, size_total: int | None, seconds: float) -> None:
        """Show how far the upload is.

        Args:
            done: the files that have arrived.
            total: the number of all files.
            size_done: the bytes that have arrived.
            size_total: the number of all bytes, if known.
            seconds: the time since the upload began.
        """
        first = self._upload is None
        self._upload = _Upload(done, total, size_done, size_total, seconds)
        if first and (size_total is None or size_total >= _LARGE_UPLOAD):
            self._change(f"uploading {files(total)}" + ("" if size_total is None else f", {size(size_total)}"))

    def submitted(self) -> None:
        """Show that the job was created."""
        self._submitted = True
        if (upload := self._upload) is not None:
            self._write_about(f"uploaded {files(upload.files)}, {size(upload.bytes)} in {duration(upload.seconds)}")

    def watch(
        self, started_at: Callable[[], datetime | None], known_phase: Callable[[], str | None] = lambda: None
    ) -> None:
        """Show a job that exists.

        Args:
            started_at: returns the start time that the last answer about the job had; it makes no call.
            known_phase: returns the job's phase if it is known, in place of an estimate; it makes no call.
        """
        self._submitted = True
        self._started_at = started_at
        self._known_phase = known_phase

    def show_lines(self) -> None:
        """Show that the job has written a log line."""
        if not self._has_lines:
            self._has_lines = True
            self.refresh()

    def show_event(self, event: StatusChanged) -> None:
        """Show a change of the job's status; at the job's end its outputs, duration and price."""
        if not is_end(event.status):
            self._description = event.description
            self.refresh()
        elif self._facts is not None:
            lines = end_lines(self._facts, {**event.description, "ProcessingJobStatus": event.status}, self._elapsed())
            self._output.write([safe_line(line) for line in lines])
            self.close()

    def refresh(self) -> None:
        """Show a phase that has changed without an event."""
        state = self._state()
        if state != self._shown_state and self._description is not None:
            self._shown_state = state
            self._change(state)

    # What is shown

    def _texts(self) -> Sequence[str]:
        """Return the live line in several lengths, the longest first."""
        clock = stopwatch(self._elapsed())
        if self._facts is None:
            return [f"preparing, {clock}"]
        if not self._submitted:
            if self._upload is None:
                return [f"preparing {self._facts.job_name}, {clock}", f"preparing, {clock}"]
            return [f"uploading {self._upload}, {clock}", f"uploading, {clock}"]
        state, phase = self._state(), self._phase()
        price = f", {money(cost)} so far" if (cost := self._cost()) else ""
        return [f"{state}, {clock}{price}", f"{state}, {clock}", f"{phase}, {clock}", f"{phase} {clock}"]

    def _state(self) -> str:
        status = "" if self._description is None else str(self._description.get("ProcessingJobStatus", ""))
        return safe_line(f"{status}: {self._phase()}" if status else self._phase())

    def _phase(self) -> str:
        with self._phase_lock:
            estimate = phase_of(self._known(), has_lines=self._has_lines)
            latest = max(estimate, self._known_phase() or estimate, self._latest_phase, key=PHASES.index)
            self._latest_phase = latest
            return latest

    def _known(self) -> Mapping[str, Any] | None:
        """Return the job's description with the start time, which later answers may have added."""
        if self._description is None:
            return None
        started = self._started_at()
        return {**self._description, "ProcessingStartTime": started} if started else self._description

    def _elapsed(self) -> float:
        """Return the seconds since the run began, or since the job was created if that is longer."""
        seconds = self._clock.monotonic() - self._began
        created = (self._description or {}).get("CreationTime")
        return seconds if created is None else max(seconds, self._clock.time() - created.timestamp())

    def _cost(self) -> float | None:
        """Return the price so far in US dollars; None if it is not known or nothing was billed yet."""
        started = (self._known() or {}).get("ProcessingStartTime")
        if started is None or self._facts is None or self._facts.usd_per_hour is None:
            return None
        seconds: float = self._clock.time() - started.timestamp()
        return self._facts.usd_per_hour * max(0.0, seconds) / 3600

    # Where it is shown

    def _write_about(self, text: str) -> None:
        self._output.write([f"{self._facts.job_name}: {text}" if self._facts else text])

    def _change(self, text: str) -> None:
        """Show a change: a line of its own, unless the live line or the notebook shows it anyway."""
        if self._output.changes_in_place:
            self._output.update()
        else:
            self._write_about(text)


def reporter(display: RunDisplay, *others: Callable[[Any], object]) -> Callable[[Any], None]:
    """Return a function that shows a `Progress` and passes it to other functions."""
    return functools.partial(_report, display, others)


def _report(display: RunDisplay, others: Sequence[Callable[[Any], object]], progress: Any) -> None:
    display.show_upload(progress.files, progress.total_files, progress.bytes, progress.total_bytes, progress.seconds)
    for other in others:
        other(progress)

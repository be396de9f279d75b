"""The display of many jobs: how many are in each status, which have ended, and their price so far."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils.forks import ForkSafeLock
from processing.container.terminal_text import safe_line
from processing.watching.render.run_text import duration, is_end, money, stopwatch
from processing.watching.render.status_output import StatusOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from datetime import datetime

    from processing.clock import Clock
    from processing.watching.events import StatusChanged

# Each end of so many jobs has a line of its own. Of more jobs, the first failures have one.
_FEW: Final = 20
_NAMED_FAILURES: Final = 10
# Of more jobs, a file gets a line whenever a further tenth of them has ended.
_STEPS: Final = 10
_LONGEST_REASON: Final = 200  # characters


@attrs.define
class _Shown:
    """A job on display that has not ended; times are in seconds since the epoch."""

    name: str
    status: str
    usd_per_hour: float | None
    created: float | None = None
    started: float | None = None
    ended: float | None = None
    described: bool = False

    def learn(self, description: Mapping[str, Any]) -> None:
        """Take the times of a description, or of a listing, which has no start time."""
        self.created = _seconds(description.get("CreationTime")) or self.created
        self.started = _seconds(description.get("ProcessingStartTime")) or self.started
        self.ended = _seconds(description.get("ProcessingEndTime")) or self.ended
        self.described = self.described or "ProcessingResources" in description

    @property
    def is_estimate(self) -> bool:
        """True if the billed time is not known exactly: it counts from the creation, and so is too long."""
        return self.started is None and self.created is not None and not self.described

    def billed(self, now: float) -> float:
        """Return the seconds from the start to the end or to now."""
        begin = self.created if self.is_estimate else self.started
        return 0.0 if begin is None else max(0.0, (self.ended or now) - begin)


class _Tally:
    """The jobs of a display: how many are in each status, and their price. The live line's thread reads it, too.

    Args:
        started_at: returns the start time that the last answer about a job had; it makes no call.
    """

    def __init__(self, started_at: Callable[[Hashable], datetime | None]) -> None:
        self._started_at = started_at
        self._lock = ForkSafeLock()
        self._running: dict[Hashable, _Shown] = {}
        self._statuses: Counter[str] = Counter()
        self._spent = 0.0
        self._estimates = 0
        self._unpriced = 0

    def add(self, key: Hashable, job: _Shown) -> None:
        with self._lock:
            self._statuses[job.status] += 1
            if not is_end(job.status):
                self._running[key] = job
            elif job.usd_per_hour != 0:  # its duration is not known
                self._unpriced += 1

    def change(
        self, key: Hashable, status: str, description: Mapping[str, Any], usd_per_hour: float | None, *, ends: bool
    ) -> _Shown:
        """Record a job's new status, and return the job."""
        with self._lock:
            job = self._running[key]
            self._statuses[job.status] -= 1
            self._statuses[status] += 1
            job.status = status
            job.learn(description)
            job.usd_per_hour = job.usd_per_hour if usd_per_hour is None else usd_per_hour
            if ends:
                del self._running[key]
                self._unpriced += job.usd_per_hour is None
                self._estimates += job.is_estimate
                self._spent += (job.usd_per_hour or 0.0) * job.billed(job.ended or 0.0) / 3600
            return job

    def counts(self) -> dict[str, int]:
        """Return the number of jobs by status, in the order of a job's life."""
        with self._lock:
            return {status: number for status, number in sorted(self._statuses.items(), key=_life) if number}

    @property
    def total(self) -> int:
        """The number of all jobs."""
        with self._lock:
            return self._statuses.total()

    @property
    def ended(self) -> int:
        """The number of jobs that have ended, or cannot be watched any more."""
        with self._lock:
            return self._statuses.total() - len(self._running)

    def price(self, now: float) -> str | None:
        """Return the price so far; empty for nothing, and None if a price is not known."""
        with self._lock:
            usd, estimates, unpriced = self._spent, self._estimates, self._unpriced
            for key, job in self._running.items():
                if job.described and job.started is None:
                    job.started = _seconds(self._started_at(key))
                usd += (job.usd_per_hour or 0.0) * job.billed(now) / 3600
                estimates += job.is_estimate
                unpriced += job.usd_per_hour is None
        if unpriced:
            return None
        return f"{'at most ' if estimates else ''}{money(usd)}" if usd else ""


class GroupDisplay:
    """The display of a wait for several jobs. Use it as a context manager.

    Args:
        clock: measures the wait.
        title: returns the first line.
        expected: returns the number of jobs that there will be; None if it is not known.
        started_at: returns the start time that the last answer about a job had; it makes no call.
        quiet: True to show nothing.
    """

    def __init__(
        self,
        clock: Clock,
        title: Callable[[], str],
        *,
        expected: Callable[[], int | None],
        started_at: Callable[[Hashable], datetime | None],
        quiet: bool,
    ) -> None:
        self._clock = clock
        self._title = title
        self._expected = expected
        self._quiet = quiet
        self._began = clock.monotonic()
        self._tally = _Tally(started_at)
        self._failures = 0
        self._step = 0
        self._output: StatusOutput | None = None

    def __enter__(self) -> GroupDisplay:
        self._output = StatusOutput(self._clock, self._texts, quiet=self._quiet)
        with self._output.closed_on_error():
            if not self._quiet:
                self._write(self._title())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Remove the live line. If all jobs have ended, a last line has their statuses, the duration and the price."""
        if kind is None and self._tally.ended >= self._total() > 0:
            price = self._tally.price(self._clock.time())
            text = f"{self._counts()} after {duration(self._elapsed())}"
            self._write(text + (", price not known" if price is None else f", {price}" if price else ""))
        if self._output is not None:
            self._output.close()
        self._output = None

    def add(self, key: Hashable, name: str, status: str, usd_per_hour: float | None) -> None:
        """Add a job.

        Args:
            key: distinguishes the job from others of the same name.
            name: its name.
            status: its last observed status, or `queued`.
            usd_per_hour: the price of its instances in US dollars an hour; None if it is not known.
        """
        self._tally.add(key, _Shown(name, status, usd_per_hour))

    def show_event(self, key: Hashable, event: StatusChanged, usd_per_hour: float | None) -> None:
        """Show a change of a job's status.

        Args:
            key: the job.
            event: the change.
            usd_per_hour: the price of its instances in US dollars an hour; None if the description lacks them.
        """
        ends = is_end(event.status)
        job = self._tally.change(key, event.status, event.description, usd_per_hour, ends=ends)
        if ends:
            self._show_end(job, event.description.get("FailureReason") or "")
        elif event.previous is not None and self._is_small and not self._in_place:
            self._write(f"{job.name}: {safe_line(event.status)}")

    def show_lost(self, key: Hashable) -> None:
        """Show that a job cannot be watched any more."""
        self._show_end(self._tally.change(key, "not watched", {}, None, ends=True), "")

    # What is shown

    def _show_end(self, job: _Shown, reason: str) -> None:
        failed = job.status != "Completed"
        self._failures += failed
        if self._is_small or (failed and self._failures <= _NAMED_FAILURES):
            billed = 0.0 if job.is_estimate else job.billed(self._clock.time())
            text = f"{job.name}: {job.status}" + (f" after {duration(billed)}" if billed else "")
            cause = safe_line(reason.partition("\n")[0])[:_LONGEST_REASON]
            self._write(text + (f": {cause}" if cause else ""))
        step = self._tally.ended * _STEPS // max(1, self._total())
        if self._step < step < _STEPS and not (self._is_small or self._in_place):
            self._write(self._counts())
        self._step = step

    @property
    def _is_small(self) -> bool:
        return self._total() <= _FEW

    def _total(self) -> int:
        return max(self._tally.total, self._expected() or 0)

    def _texts(self) -> Sequence[str]:
        """Return the state in several lengths, the longest first."""
        clock, price = stopwatch(self._elapsed()), self._tally.price(self._clock.time())
        counts, ended = self._counts(), self._tally.ended
        return [
            f"{counts}, {clock}, {price} so far" if price else f"{counts}, {clock}",
            f"{counts}, {clock}",
            f"{ended:,} of {self._total():,} jobs ended, {clock}",
            f"{ended:,} of {self._total():,}, {clock}",
        ]

    def _counts(self) -> str:
        counts, total = self._tally.counts(), self._total()
        known = sum(counts.values())
        jobs = (
            f"{known:,} of {total:,} jobs submitted" if total > known else f"{known:,} job{'' if known == 1 else 's'}"
        )
        found = ", ".join(f"{number:,} {safe_line(status)}" for status, number in counts.items())
        return f"{jobs}: {found}" if found else jobs

    def _elapsed(self) -> float:
        return self._clock.monotonic() - self._began

    @property
    def _in_place(self) -> bool:
        return self._output is not None and self._output.changes_in_place

    def _write(self, line: str) -> None:
        if self._output is not None:
            self._output.write([line])


class SubmissionDisplay:
    """The display of the submission of many jobs. Use it as a context manager.

    Args:
        clock: measures the submission.
        name: the fleet's name.
        place: where the jobs are.
        counts: returns the number of jobs that exist, of failures, and of all jobs, which may not be known.
        quiet: True to show nothing.
    """

    def __init__(
        self, clock: Clock, name: str, place: str, counts: Callable[[], tuple[int, int, int | None]], *, quiet: bool
    ) -> None:
        self._clock = clock
        self._name = name
        self._place = place
        self._counts = counts
        self._quiet = quiet
        self._began = clock.monotonic()
        self._step = 0
        self._output: StatusOutput | None = None

    def __enter__(self) -> SubmissionDisplay:
        self._output = StatusOutput(self._clock, self._texts, quiet=self._quiet)
        with self._output.closed_on_error():
            total = self._counts()[2]
            jobs = "processing jobs" if total is None else f"{total:,} processing job{'' if total == 1 else 's'}"
            self._output.write([f"submitting {jobs} as {self._name}: {self._place}"])
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the live line; a last line has the counts and the duration."""
        assert self._output is not None
        self._output.write([f"{self._name}: {self._text()} after {duration(self._elapsed())}"])
        self._output.close()
        self._output = None

    def update(self) -> None:
        """Show a further tenth of many jobs in an output of plain lines."""
        existing, failed, total = self._counts()
        step = (existing + failed) * _STEPS // total if total else 0
        if step > self._step and total is not None and total > _FEW and self._output is not None:
            self._step = step
            if step < _STEPS and not self._output.changes_in_place:
                self._output.write([f"{self._name}: {self._text()}"])

    def _texts(self) -> Sequence[str]:
        clock = stopwatch(self._elapsed())
        return [f"{self._name}: {self._text()}, {clock}", f"{self._text()}, {clock}", f"{self._counts()[0]:,}, {clock}"]

    def _text(self) -> str:
        existing, failed, total = self._counts()
        jobs = f"{existing:,}" if total is None else f"{existing:,} of {total:,}"
        return f"{jobs} submitted" + (f", {failed:,} failed" if failed else "")

    def _elapsed(self) -> float:
        return self._clock.monotonic() - self._began


def _life(pair: tuple[str, int]) -> tuple[int, str]:
    """Return the place of a status in a job's life, for sorting."""
    order = ("queued", "InProgress", "Stopping", "Completed", "Failed", "Stopped")
    return (order.index(pair[0]) if pair[0] in order else len(order), pair[0])


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()

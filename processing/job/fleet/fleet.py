"""`submit_all` and what it returns: the jobs of one run, as one thing."""

from __future__ import annotations

import concurrent.futures
import copy
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from processing import default_sessions as targets
from processing._utils import type_name
from processing.aws.rate_limit import AdaptiveRateLimiter
from processing.container.contract import TERMINAL
from processing.exceptions import ConfigurationError, ProcessingError
from processing.job.fleet import search as finding
from processing.job.fleet.runs import Runs, checked_name
from processing.job.fleet.submission import Entry, FleetProgress, Gate, Submission, with_tag
from processing.job.outcome import check_timeout

if TYPE_CHECKING:
    from processing.job.job import ProcessingJob
    from processing.job.wait import ReturnWhen, WaitResult
    from processing.session.session import Session

logger = logging.getLogger(__name__)

_ROUNDS = 3  # of stopping: what another process submits meanwhile shows in the next
_STOPPERS = 8  # threads: a call takes a tenth of a second, and the rate allows for several a second


class Fleet(Sequence["ProcessingJob"]):
    """The jobs of one `submit_all`, in the order of its runs; a key works as an index too: `fleet["2026-11-21"]`.

    While they are still being submitted, it has those that are there by now.

    Attributes:
        name: the beginning of the jobs' names.
        session: the `Session` that reaches them.
    """

    def __init__(
        self,
        name: str,
        session: Session,
        entries: Sequence[Entry],
        submission: Submission | None,
        *,
        tagged: bool = True,
    ) -> None:
        self.name = name
        self.session = session
        self._found = list(entries)
        self._submission = submission
        self._tagged = tagged

    @classmethod
    def attach(cls, name: str, session: Any = None, *, tagged: bool = True) -> Fleet:
        """Return the fleet of that name, whoever submitted it and wherever.

        Its jobs are those whose names begin with `<name>-` and that have its tag. It is what is there now: jobs that
        are submitted later are found by another `attach`, and by `stop`.

        Args:
            name: as given to `submit_all`.
            session: the `Session` that reaches it; None means AWS, unless the environment has PROCESSING_TARGET=local.
            tagged: False takes every job whose name begins so, with the tag or without: where it was submitted with
                `tagged=False`. Look first that no other job is named so.

        Raises:
            ConfigurationError: there is no job of such a fleet.
        """
        target = targets.session_for_attach(session, "session")
        entries = _entries_of(target, checked_name(name), tagged=tagged)
        if not entries:
            where = "the embedded engine" if target.is_local else target.boto_region_name
            hint = f"; tagged=False takes all jobs whose names begin with '{name}-'" if tagged else ""
            raise ConfigurationError(f"name: there is no job of a fleet named {name!r} in {where}{hint}")
        return cls(name, target, entries, None, tagged=tagged)

    # What is there.

    @property
    def failures(self) -> Mapping[str, Exception]:
        """By key, why a job could not be created. Its name was not used: submit again, and it is tried again."""
        return {} if self._submission is None else self._submission.failures()

    @property
    def job_names(self) -> list[str]:
        """The names of the jobs, in the order of the runs."""
        return [entry.job.job_name for entry in self._entries()]

    @property
    def submitting(self) -> bool:
        """Whether jobs are still being submitted, by this process."""
        return self._submission is not None and self._submission.active

    def keys(self) -> list[str]:
        """Return the keys of the jobs, in the order of the runs."""
        return [entry.key for entry in self._entries()]

    @overload
    def __getitem__(self, index: int | str) -> ProcessingJob: ...
    @overload
    def __getitem__(self, index: slice) -> list[ProcessingJob]: ...
    def __getitem__(self, index: int | str | slice) -> ProcessingJob | list[ProcessingJob]:
        """Return the job at a position or of a key."""
        entries = self._entries()
        if isinstance(index, slice):
            return [entry.job for entry in entries[index]]
        if isinstance(index, int):
            return entries[index].job
        for entry in entries:
            if entry.key == index:
                return entry.job
        raise KeyError(f"{index!r}: {self.name} has no such job; `keys()` has those there are")

    def __len__(self) -> int:
        return len(self._entries())

    def __repr__(self) -> str:
        return f"<Fleet {self.name!r}: {len(self)} jobs>"

    def _entries(self) -> list[Entry]:
        return self._found if self._submission is None else self._submission.entries()

    # What can be done with it.

    def join(self, timeout: float | None = None) -> None:
        """Wait until every job has been submitted, or could not be. Ctrl-C ends the wait, not the submission.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: the timeout passed; the submission goes on.
            SubmissionError: given up, as one job after another could not be created.
        """
        check_timeout(timeout)
        if self._submission is None:
            return
        try:
            ended = self._submission.join(timeout)
        except KeyboardInterrupt:
            self._say_that_submission_goes_on()
            raise
        if not ended:
            raise TimeoutError(f"{self.name}: {self._submission.counts()}")

    def wait(
        self,
        timeout: float | None = None,
        return_when: ReturnWhen = "ALL_COMPLETED",
        *,
        logs: bool = False,
    ) -> WaitResult:
        """Wait for the jobs to end: see `processing.wait`.

        Those that are still being submitted count as well, from when they are there: with `ALL_COMPLETED` all are
        waited for, and those that had not been submitted when the time was up are in neither set of the answer.

        Raises:
            SubmissionError: the submission was given up, as one job after another could not be created.
        """
        from processing.job.wait import wait_as_they_come

        try:
            return wait_as_they_come(
                self.session, self._arrivals(), timeout, return_when, logs=logs, commands=self._commands
            )
        except KeyboardInterrupt:
            self._say_that_submission_goes_on()
            raise

    def _arrivals(self) -> Callable[[], list[ProcessingJob] | None]:
        """Return what gives the jobs that have come since it was called last; None when there will be no more."""
        known: set[str] = set()

        def arrived() -> list[ProcessingJob] | None:
            complete = self._submission is None or self._submission.join(0)
            found = [entry for entry in self._entries() if entry.key not in known]
            known.update(entry.key for entry in found)
            return None if complete and not found else [entry.job for entry in found]

        return arrived

    def _say_that_submission_goes_on(self) -> None:
        if self.submitting:
            logger.warning(
                "Interrupted: the jobs of %s are still being submitted; stop() ends that, and so does Ctrl-C at the "
                "program's end, which waits for it.",
                self.name,
            )

    def _commands(self) -> str:
        """How to attach to the fleet and how to stop it, from another process."""
        attach = self._expression()
        return f"  attach: {attach}.wait()\n  stop:   {attach}.stop()"

    def _expression(self) -> str:
        """What another program may write to reach the fleet, after `import processing`."""
        tagged = "" if self._tagged else ", tagged=False"
        return f"processing.Fleet.attach({self.name!r}, session={self.session.expression()}{tagged})"

    def _say_failures(self) -> None:
        if failures := self.failures:
            key, error = next(iter(failures.items()))
            logger.warning(
                "%d of the jobs of %s could not be submitted; Fleet.failures says why. The first, %s: %s",
                len(failures),
                self.name,
                key,
                error,
            )

    def _say_how_it_ended(self, error: BaseException | None) -> None:
        """Say what nobody may ask for: that not all jobs are there."""
        if error is not None:
            logger.warning(
                "Not all jobs of %s have been submitted; submit them again to go on: %s: %s",
                self.name,
                type(error).__name__,
                error,
            )
        self._say_failures()

    def statuses(self) -> dict[str, int]:
        """Return how many of the jobs have which status, by one listing."""
        names = set(self.job_names)
        listed = {each.name: each.status for each in finding.listing(self.session, f"{self.name}-")}
        # A listing may lag: what it does not show yet was created a moment ago.
        return dict(Counter(listed.get(name, "InProgress") for name in names))

    def stop(self) -> None:
        """Submit no further job, and stop those that run. When it returns, this process creates none any more.

        Jobs that have ended stay as they are; to stop again is no error. Another process that is submitting the same
        fleet is not reached: its jobs so far are stopped, and a warning says that there are ever more. End that process
        first, or afterwards and stop again.

        Raises:
            ProcessingError: some could not be stopped; all were tried.
        """
        if self._submission is not None:
            self._submission.end()
            self._wait_for_those_on_their_way()
        asked: set[str] = set()
        errors: list[Exception] = []
        for _ in range(_ROUNDS):
            running = [job for job in self._running() if job.job_name not in asked]
            if not running:
                break
            asked.update(job.job_name for job in running)
            with concurrent.futures.ThreadPoolExecutor(_STOPPERS) as pool:
                errors += [error for error in pool.map(_stop, running) if error is not None]
        else:
            logger.warning(
                "While the jobs of %s were stopped, another process has submitted further ones: "
                "end that one, and stop again",
                self.name,
            )
        if errors:
            raise ProcessingError(
                f"{len(errors)} of {len(asked)} jobs of {self.name} could not be stopped: {errors[0]}"
            ) from errors[0]

    def _wait_for_those_on_their_way(self) -> None:
        assert self._submission is not None
        try:
            self._submission.join()
        except Exception as error:  # noqa: BLE001 - whatever ended the submission, the jobs are to be stopped
            logger.debug("%s: %s", self.name, error)

    def _running(self) -> list[ProcessingJob]:
        """Return the jobs that have not ended, as far as a listing shows: that may lag, and have old statuses."""
        ours = {entry.job.job_name: entry.job for entry in self._entries()}
        if self._tagged:
            found = finding.of_fleet(self.session, self.name, ours)
        else:
            found = finding.listing_if_allowed(self.session, f"{self.name}-")
        for each in found if self._tagged or self._submission is None else ():
            if each.name not in ours:
                ours[each.name] = each.job(self.session)
        ended = {each.name for each in found if each.status in TERMINAL}
        return [job for name, job in ours.items() if name not in ended]


def submit_all(
    processor: Any,
    runs: Iterable[Mapping[str, Any]] | Mapping[str, Any],
    *,
    name: str,
    rate: float | None = None,
    block: bool = True,
    progress: Callable[[FleetProgress], object] | None = None,
    session: Any = None,
    tagged: bool = True,
) -> Fleet:
    """Submit a job for each run, as fast as the account allows, and each of them once.

    The jobs are named `<name>-<key>`, and these names are what tells a job from one that has still to be submitted:
    call it again after a crash, Ctrl-C or failures, with the same name and runs, and it goes on where it was. What is
    there is attached to, nothing is uploaded for it. Two processes may do so at once.

    Failures are collected in `Fleet.failures`; after ten in a row the rest is not tried.

    Args:
        processor: runs the jobs; it is not changed.
        runs: mappings of arguments of the processor's `run`,
            such as `{"code": "prep.py", "arguments": ["--day", "1"]}`;
            in an iterable, their positions being the keys (a generator is read as far as needed), or in a mapping of
            keys.
        name: the beginning of the jobs' names: 1 to 61 letters, digits and hyphens.
        rate: jobs a second that the account may create, where you know it. None begins with the published one a
            second, and adapts to the rate that AWS accepts.
        block: False to return at once; the submission goes on in threads, which the interpreter waits for at its end.
        progress: takes a `FleetProgress` after each job, in one of these threads. What it raises ends the submission.
        session: the `Session` to go through; None means the processor's.
        tagged: True gives every job the tag `sm-processing:fleet`, whose value is the name: by it `Fleet.attach` and
            `Fleet.stop` tell this fleet from others whose names begin alike. It takes the permission
            `sagemaker:AddTags`; with False, attach by `Fleet.attach(name, tagged=False)`.

    Returns:
        The jobs.

    Raises:
        ConfigurationError: what was given cannot work; nothing was uploaded. That of a generator's run ends the
            submission when it comes.
        SubmissionError: given up, as one job after another could not be created.
    """
    given: object = rate  # not every caller has a type checker
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if given is not None and not (number and 0 < rate < math.inf):  # type: ignore[operator]
        raise ConfigurationError(f"rate: must be a positive number of jobs a second, not {rate!r}")
    if progress is not None and not callable(progress):
        raise ConfigurationError(f"progress: must be a function that takes a FleetProgress, not {type_name(progress)}")
    if isinstance(processor, type) or not hasattr(processor, "_resolve_session"):
        raise ConfigurationError(
            f"processor: must be a processor, such as a ScriptProcessor, not {type_name(processor)}"
        )
    checked = Runs(name, runs, processor.run)
    template = copy.copy(processor)
    if session is not None:
        template.sagemaker_session = targets.session_for_attach(session, "session")
    template._resolve_session()  # noqa: SLF001 - as `run` does
    if tagged:
        template.tags = with_tag(template.tags, name)
    target: Session = template.sagemaker_session
    there = {each.name: each for each in finding.listing_if_allowed(target, f"{name}-")}
    # Of the bucket of AWS, which holds the calls of a second, one is left: calls do not arrive as evenly as they go.
    pace = (
        target.api.rate_limiter("CreateProcessingJob")
        if rate is None
        else AdaptiveRateLimiter(rate, max(1.0, rate - 1.0), fastest=rate)
    )
    submission = Submission(
        target,
        template,
        checked,
        there=there,
        gate=Gate(pace),
        rate=None if pace is None else rate or pace.rate,
        progress=progress,
    )
    fleet = Fleet(name, target, (), submission, tagged=tagged)
    if block:
        _submit(fleet, submission)
    else:
        submission.start(fleet._say_how_it_ended)  # noqa: SLF001 - of this module
    return fleet


def _submit(fleet: Fleet, submission: Submission) -> None:
    """Submit all, and say what became of it where that is not what was wanted."""
    try:
        submission.start()
        submission.join()
    except KeyboardInterrupt:
        submission.end()
        counts = submission.counts()
        logger.warning(
            "Interrupted: %d%s jobs of %s are there, and go on; no further one is submitted.\n"
            "  go on: submit_all(..., name=%r) again: it attaches to these and submits the others\n"
            "  stop:  %s.stop()",
            counts.submitted + counts.attached,
            "" if counts.total is None else f" of {counts.total}",
            fleet.name,
            fleet.name,
            fleet._expression(),  # noqa: SLF001 - of this module
        )
        raise
    fleet._say_failures()  # noqa: SLF001 - the same


def _entries_of(session: Session, name: str, *, tagged: bool) -> list[Entry]:
    """Return what is there of a fleet: in the order of numbers where all keys are, else of creation."""
    found = finding.of_fleet(session, name) if tagged else finding.listing(session, f"{name}-")
    keyed = [(each.name.removeprefix(f"{name}-"), each) for each in found]
    if all(key.isdecimal() for key, _ in keyed):
        keyed.sort(key=lambda pair: int(pair[0]))
    return [Entry(position, key, each.job(session)) for position, (key, each) in enumerate(keyed)]


def _stop(job: ProcessingJob) -> Exception | None:
    try:
        job.stop()
    except Exception as error:  # noqa: BLE001 - the others are to be stopped all the same
        return error
    return None

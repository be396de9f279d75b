"""A fleet: the jobs that `submit_all` submits under one name, and that are watched and stopped together."""

from __future__ import annotations

import concurrent.futures
import copy
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import attrs

from processing import default_sessions
from processing._utils import type_name
from processing._utils.validation import FLAG, Kind, number, require
from processing.container.contract import TERMINAL
from processing.exceptions import ConfigurationError, CredentialsError, ProcessingError, SubmissionError, portable
from processing.job.cost import jobs_place
from processing.job.fleet import search
from processing.job.fleet.attempts import latest_by_key
from processing.job.fleet.results import FleetResult
from processing.job.fleet.runs import Run, Runs, check_fleet_name
from processing.job.fleet.submission import (
    UNSUCCESSFUL,
    FleetEntry,
    FleetProgress,
    FleetSubmission,
    Gate,
    creation_limiter,
    nothing_submitted,
    with_tag,
)
from processing.job.job import ProcessingJob
from processing.job.outcome import check_timeout
from processing.job.wait import WaitResult, wait_with_arrivals
from processing.watching.detach import detached
from processing.watching.render.group_display import SubmissionDisplay

if TYPE_CHECKING:
    from processing.default_sessions import SessionLike
    from processing.job.fleet.search import JobSummary
    from processing.job.wait import ReturnWhen
    from processing.session.session import Session

logger = logging.getLogger(__name__)

# Jobs that another process submits while this one stops the fleet appear in the next listing. If even the third listing
# has new ones, a warning states that the other process goes on.
_STOP_ROUNDS = 3

# A StopProcessingJob call takes about a tenth of a second, and AWS accepts several in a second.
_STOP_THREADS = 8


class Fleet(Sequence["ProcessingJob"]):
    """The jobs of one `submit_all`, in the order of its runs; a key is an index too: `fleet["2026-11-21"]`.

    `submit_all` returns one, `Fleet.attach` finds one by its name. During the submission it has the jobs that exist by
    now.

    Args:
        name: the beginning of the jobs' names.
        session: the `Session` that reaches the jobs.
        entries: the jobs that exist.
        submission: the submission of the jobs; None for a fleet that was found by its name.
        tagged: True if the jobs have the fleet's tag.

    Attributes:
        name: the beginning of the jobs' names.
        session: the `Session` that reaches the jobs.
    """

    def __init__(
        self,
        name: str,
        session: Session,
        entries: Sequence[FleetEntry],
        submission: FleetSubmission | None,
        *,
        tagged: bool = True,
    ) -> None:
        self.name = name
        self.session = session
        self._attached = list(entries)
        self._submission = submission
        self._tagged = tagged
        self._failed: list[tuple[Run, Exception]] = []  # of a fleet from another process

    def __copy__(self) -> Fleet:
        # A submission goes on once, for all copies.
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __deepcopy__(self, _memo: object) -> Fleet:
        return copy.copy(self)

    def __getstate__(self) -> dict[str, Any]:
        if self.submitting:
            raise SubmissionError(
                f"{self.name}: this process is still submitting its jobs; join() it before it is copied to another "
                "process, or find its jobs there with Fleet.attach",
                job_name="",
            )
        failed = [(attrs.evolve(run, arguments={}), portable(error)) for run, error in self._failed_runs()]
        return {**vars(self), "_attached": self._entries(), "_submission": None, "_failed": failed}

    @classmethod
    def attach(cls, name: str, session: SessionLike | None = None, *, tagged: bool = True) -> Fleet:
        """Return an existing fleet, submitted in this process or in any other.

        Its jobs are those that exist now, have names that begin with `<name>-`, and have its tag. Another `attach`, and
        `stop`, find jobs that are submitted later.

        Args:
            name: the name that `submit_all` got.
            session: the `Session` that reaches the jobs; None means AWS, unless the environment has
                PROCESSING_TARGET=local.
            tagged: False for a fleet that was submitted with `tagged=False`. It then has every job whose name begins
                with `<name>-`, so check first that no other job has such a name.

        Raises:
            ConfigurationError: there is no job of such a fleet.
        """
        target = default_sessions.session_for_attach(session, "session")
        entries = _find_entries(target, check_fleet_name(name), tagged=tagged)
        if not entries:
            where = "the embedded engine" if target.is_local else target.boto_region_name
            hint = f"; tagged=False takes all jobs whose names begin with '{name}-'" if tagged else ""
            raise ConfigurationError(f"name: there is no job of a fleet named {name!r} in {where}{hint}")
        return cls(name, target, entries, None, tagged=tagged)

    @property
    def failures(self) -> Mapping[str, Exception]:
        """The errors of jobs that could not be created, by key. `retry_failed` tries these jobs again."""
        return {run.key: error for run, error in self._failed_runs()}

    @property
    def job_names(self) -> list[str]:
        """The names of the jobs, in the order of the runs."""
        return [entry.job.job_name for entry in self._entries()]

    @property
    def submitting(self) -> bool:
        """True while this process is still submitting jobs."""
        return self._submission is not None and self._submission.active

    def keys(self) -> list[str]:
        """Return the keys of the jobs, in the order of the runs."""
        return [entry.key for entry in self._entries()]

    @overload
    def __getitem__(self, index: int | str) -> ProcessingJob: ...
    @overload
    def __getitem__(self, index: slice) -> list[ProcessingJob]: ...
    def __getitem__(self, index: int | str | slice) -> ProcessingJob | list[ProcessingJob]:
        """Return the job at a position or with a key."""
        entries = self._entries()
        if isinstance(index, slice):
            return [entry.job for entry in entries[index]]
        if isinstance(index, int):
            return entries[index].job
        for entry in entries:
            if entry.key == index:
                return entry.job
        raise KeyError(f"{index!r}: {self.name} has no such job; `keys()` has the known keys")

    def __len__(self) -> int:
        return len(self._entries())

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows: a cell for each job, with its last observed status. No call."""
        from processing.report.grid import jobs_card

        return jobs_card(self.name, [(job.job_name, job.watch_state.status) for job in self])

    def __repr__(self) -> str:
        return f"<Fleet {self.name!r}: {len(self)} jobs>"

    def _failed_runs(self) -> list[tuple[Run, Exception]]:
        return self._failed if self._submission is None else self._submission.failed_runs()

    def _entries(self) -> list[FleetEntry]:
        return self._attached if self._submission is None else self._submission.entries()

    def join(self, timeout: float | None = None) -> None:
        """Wait until every job has been submitted or has failed to be. Ctrl-C ends the wait, not the submission.

        Args:
            timeout: the longest wait in seconds; None waits without limit.

        Raises:
            TimeoutError: the timeout passed; the submission goes on.
            SubmissionError: the submission was aborted, as too many jobs in a row could not be created.
        """
        check_timeout(timeout)
        if self._submission is None:
            return
        try:
            ended = self._submission.join(timeout)
        except KeyboardInterrupt as interrupt:
            if self.submitting:
                raise detached(self._submission_goes_on(), interrupt) from None
            raise
        if not ended:
            raise TimeoutError(f"{self.name}: {self._submission.counts()}")

    def wait(
        self,
        timeout: float | None = None,
        return_when: ReturnWhen = "ALL_COMPLETED",
        *,
        logs: bool = False,
        quiet: bool = False,
    ) -> WaitResult:
        """Wait for the jobs to end, as `processing.wait` does, and show on standard error how far they are.

        Jobs that are still being submitted count from their creation on. `ALL_COMPLETED` waits for all of them. Jobs
        that do not exist when the timeout passes are in neither set of the result.

        Args:
            timeout: the longest wait in seconds, after which the jobs' state so far is returned; None waits without
                limit.
            return_when: `ALL_COMPLETED` waits for all jobs. `FIRST_COMPLETED` returns when a job has ended,
                `FIRST_EXCEPTION` when a job has failed or was stopped.
            logs: True to write the jobs' log lines to standard output as they arrive.
            quiet: True to show nothing: neither log lines nor statuses.

        Returns:
            The jobs that have ended, those that have not, and the errors of failed ones. `failed` also has the jobs
            that could not be submitted: a `ProcessingJob` with the name of the missing job, and the error.

        Raises:
            SubmissionError: no job could be submitted, or the submission was aborted, as too many jobs in a row could
                not be created.
        """
        try:
            result = wait_with_arrivals(
                self.session,
                self._arrivals(),
                timeout,
                return_when,
                logs=logs,
                quiet=quiet,
                fleet=self.name,
                expected=self._expected,
                commands=self._commands,
                has_failures=lambda: bool(self.failures),
            )
        except KeyboardInterrupt as interrupt:
            if self.submitting:
                raise detached(self._submission_goes_on(), interrupt) from None
            raise
        failures = self._failed_runs()
        if failures and not self._entries():
            raise nothing_submitted(self.name, [error for _, error in failures])
        missing = {ProcessingJob(self.session, run.job_name): error for run, error in failures}
        return WaitResult(result.done, result.not_done, {**result.failed, **missing})

    def results(self) -> list[FleetResult]:
        """Return the key, status, duration and failure reason of each run, in the order of the runs.

        One listing has the data of all jobs. Runs whose jobs could not be submitted follow last.
        """
        listed = {each.name: each.summary for each in search.list_summaries_if_allowed(self.session, f"{self.name}-")}
        jobs = [FleetResult.of_job(entry.key, entry.job, listed.get(entry.job.job_name)) for entry in self._entries()]
        return jobs + [FleetResult.of_error(key, error) for key, error in self.failures.items()]

    def retry_failed(self, *, block: bool = True, quiet: bool = False) -> Fleet:
        """Run the failed and stopped jobs again, and submit the jobs that could not be submitted.

        A job's name is unique, so the second attempt is named `<name>-<key>-retry2`. It takes the place of the failed
        job in this fleet, and the failed job stays as it is. Jobs that run or have completed are not touched.

        Args:
            block: False to return at once; the submission goes on in threads.
            quiet: True to show nothing of the submission, as of `submit_all`.

        Returns:
            This fleet.

        Raises:
            ConfigurationError: the fleet was found by its name, so its runs are not known here.
            SubmissionError: the submission was aborted, as too many jobs in a row could not be created.
        """
        if self._submission is None:
            raise ConfigurationError(
                f"retry_failed: the arguments of the runs of {self.name} are not known in this process; call "
                "submit_all with the same processor, runs and name, and retry_failed=True"
            )
        self._drain_submission()
        unsuccessful = {entry.job.job_name for entry in self._entries() if _is_unsuccessful(entry.job)}
        existing = _existing(self.session, self.name)
        # The jobs of this fleet exist, even if the listing does not show them yet.
        known = {entry.job.job_name for entry in self._entries()} - existing.keys()
        self._submission = self._submission.repeated(existing, unsuccessful | _unsuccessful(existing), known)
        if block:
            _submit_all_now(self, self._submission, tagged=self._tagged, quiet=quiet)
        else:
            self._submission.start(functools.partial(_log_end, self))
        return self

    def _arrivals(self) -> Callable[[], list[ProcessingJob] | None]:
        """Return a function that returns the new jobs since its last call, and None when no more will follow."""
        known: set[str] = set()

        def new_jobs() -> list[ProcessingJob] | None:
            complete = self._submission is None or self._submission.join(0)
            found = [entry for entry in self._entries() if entry.key not in known]
            known.update(entry.key for entry in found)
            return None if complete and not found else [entry.job for entry in found]

        return new_jobs

    def log_attached(self) -> None:
        """Log one warning if the submission has attached to existing jobs."""
        if self._submission is not None and self._submission.attached is not None:
            self._submission.attached.log(self.name)

    def _expected(self) -> int | None:
        """Return the number of jobs that there will be; None if the runs come from a generator."""
        if self._submission is None:
            return len(self._attached)
        counts = self._submission.counts()
        return counts.total and counts.total - counts.failed

    def _submission_goes_on(self) -> str:
        return (
            f"Interrupted: the jobs of {self.name} are still being submitted; stop() ends that, and so does Ctrl-C at "
            "the program's end, which waits for the submission."
        )

    def _commands(self) -> str:
        """Return the calls that attach to the fleet and stop it in another process."""
        attach = _attach_call(self.name, self.session, tagged=self._tagged)
        return f"  attach: {attach}.wait()\n  stop:   {attach}.stop()"

    def statuses(self) -> dict[str, int]:
        """Return the number of jobs in each status, by one listing."""
        names = set(self.job_names)
        listed = {each.name: each.status for each in search.iter_summaries(self.session, f"{self.name}-")}
        # A listing lags: a job that it does not show was created a moment ago.
        return dict(Counter(listed.get(name, "InProgress") for name in names))

    def stop(self) -> None:
        """Submit no further job, and stop the running ones. After it returns, this process creates no job of the fleet.

        It is not an error if jobs have ended, or were stopped before. A submission of the same fleet in another process
        goes on: its jobs so far are stopped, and a warning states that it creates more. End that process, and stop the
        fleet again.

        Raises:
            ConfigurationError: the call comes from the function `progress`, which the submission waits for.
            ProcessingError: some jobs could not be stopped; all were tried.
        """
        if self._submission is not None:
            self._submission.check_caller()
            self._submission.end()
            self._drain_submission()
        asked: set[str] = set()
        errors: list[Exception] = []
        for _ in range(_STOP_ROUNDS):
            running = [job for job in self._running() if job.job_name not in asked]
            if not running:
                break
            asked.update(job.job_name for job in running)
            with concurrent.futures.ThreadPoolExecutor(_STOP_THREADS) as pool:
                errors += [error for error in pool.map(_stop, running) if error is not None]
        else:
            logger.warning(
                "While the jobs of %s were stopped, another process has submitted further ones: "
                "end that process, and stop the fleet again",
                self.name,
            )
        if errors:
            raise ProcessingError(
                f"{len(errors)} of {len(asked)} jobs of {self.name} could not be stopped: {errors[0]}"
            ) from errors[0]

    def _drain_submission(self) -> None:
        """Wait for the creations that have started."""
        assert self._submission is not None
        self._submission.check_caller()
        try:
            self._submission.join()
        except Exception as error:  # noqa: BLE001 - an error of the submission must not keep the jobs running
            logger.debug("%s: %s", self.name, error)

    def _running(self) -> list[ProcessingJob]:
        """Return the jobs that have not ended by a listing, which lags and may have earlier statuses."""
        ours = {entry.job.job_name: entry.job for entry in self._entries()}
        if self._tagged:
            found = search.list_fleet(self.session, self.name, ours)
        else:
            found = search.list_summaries_if_allowed(self.session, f"{self.name}-")
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
    session: SessionLike | None = None,
    tagged: bool = True,
    retry_failed: bool = False,
    quiet: bool = False,
) -> Fleet:
    """Submit a job for each run exactly once, as fast as the account allows.

    The jobs are named `<name>-<key>`, and a job with such a name is not submitted again. So call it again with the same
    name and runs after a crash, Ctrl-C or failures. It attaches to the existing jobs without an upload, and submits the
    others. Two processes may do so at the same time. One warning reports the number and the age of existing jobs, and
    names those whose request would differ now.

    Failures are collected in `Fleet.failures`. After ten failures in a row the remaining runs are not tried.

    Args:
        processor: the processor that runs the jobs; it is not changed.
        runs: mappings of arguments of the processor's `run`; the typed dictionary `RunSpec` has their keys. Example:
            `{"code": "prep.py", "arguments": ["--day", "1"]}`. In an iterable their positions are the keys, and a
            generator is read only as far as needed. A mapping has the keys itself.
        name: the beginning of the jobs' names: 1 to 61 letters, digits and hyphens.
        rate: the jobs per second that the account may create, if you know it. None begins with the published quota of
            one per second, and adapts to AWS's answers.
        block: False to return at once. The submission goes on in threads, and the interpreter waits for them before it
            exits.
        progress: a function that gets a `FleetProgress` after each job, in one of the threads. An error that it raises
            ends the submission.
        session: the `Session` that the jobs are submitted through; None means the processor's.
        tagged: True adds the tag `sm-processing:fleet` with the fleet's name to every job. `Fleet.attach` and
            `Fleet.stop` then distinguish this fleet from others whose names have the same beginning. The tag needs the
            permission `sagemaker:AddTags`; without the tag, attach with `Fleet.attach(name, tagged=False)`.
        retry_failed: True to run existing jobs again that have failed or were stopped. The second attempt is named
            `<name>-<key>-retry2`, as a job's name is unique.
        quiet: True to show nothing. By default standard error shows how many jobs were submitted: a terminal and a
            notebook have a live line, and another output a line for each tenth of more than 20 jobs. Without `block`
            nothing is shown.

    Returns:
        The fleet of the jobs.

    Raises:
        ConfigurationError: an argument is not valid; nothing was uploaded. An invalid run of a generator ends the
            submission when it is read.
        SubmissionError: the submission was aborted, as too many jobs in a row could not be created.
    """
    _check_arguments(processor, rate, progress)
    require("quiet", quiet, FLAG)
    checked = Runs(name, runs, processor.run)
    template = copy.copy(processor)
    if session is not None:
        template.sagemaker_session = default_sessions.session_for_attach(session, "session")
    template._resolve_session()  # noqa: SLF001 - the processor's own method, which `run` calls first
    if tagged:
        template.tags = with_tag(template.tags, name)
    target: Session = template.sagemaker_session
    existing = _existing_after_check(target, template, checked, name)
    rate_limiter = creation_limiter(target, rate)
    submission = FleetSubmission(
        target,
        template,
        checked,
        total=checked.total,
        existing=existing,
        failed=_unsuccessful(existing) if retry_failed else (),
        gate=Gate(rate_limiter),
        rate=None if rate_limiter is None else rate or rate_limiter.rate,
        progress=progress,
    )
    fleet = Fleet(name, target, (), submission, tagged=tagged)
    if block:
        _submit_all_now(fleet, submission, tagged=tagged, quiet=quiet)
    else:
        submission.start(functools.partial(_log_end, fleet))
    return fleet


def _existing_after_check(session: Session, processor: Any, runs: Runs, name: str) -> dict[str, JobSummary]:
    """Return the existing jobs of a fleet by name.

    Without credentials the first run is checked, which needs no call. An argument that cannot work is reported first,
    as by `run`.
    """
    try:
        return _existing(session, name)
    except CredentialsError:
        if runs.total:
            processor.request(**next(iter(runs)).arguments)
        raise


_RATE = Kind("a positive number of jobs a second", number(above=0).accepts)


def _check_arguments(processor: object, rate: object, progress: object) -> None:
    require("rate", rate, _RATE, optional=True)
    if progress is not None and not callable(progress):
        raise ConfigurationError(f"progress: must be a function that takes a FleetProgress, not {type_name(progress)}")
    if isinstance(processor, type) or not hasattr(processor, "_resolve_session"):
        raise ConfigurationError(
            f"processor: must be a processor, such as a ScriptProcessor, not {type_name(processor)}"
        )


def _submit_all_now(fleet: Fleet, submission: FleetSubmission, *, tagged: bool, quiet: bool) -> None:
    """Run a submission to its end, and show how far it is; at Ctrl-C end it, and show how to go on."""
    session = fleet.session
    try:
        with SubmissionDisplay(
            session.clock, fleet.name, jobs_place(session), submission.numbers, quiet=quiet
        ) as display:
            submission.on_progress = display.update
            submission.start()
            submission.join()
    except KeyboardInterrupt:
        submission.end()
        counts = submission.counts()
        of_total = "" if counts.total is None else f" of {counts.total}"
        advice = (
            f"Interrupted: {counts.submitted + counts.attached}{of_total} jobs of {fleet.name} exist, and go on; no "
            "further one is submitted.\n"
            f"  go on: submit_all(..., name={fleet.name!r}) again: it attaches to these and submits the others\n"
            f"  stop:  {_attach_call(fleet.name, fleet.session, tagged=tagged)}.stop()"
        )
        raise detached(advice) from None
    fleet.log_attached()
    _log_failures(fleet)


def _log_end(fleet: Fleet, error: BaseException | None) -> None:
    """Log that not all jobs exist: without `block` no caller may ask for the error or the failures."""
    if error is not None:
        logger.warning(
            "Not all jobs of %s have been submitted; submit them again to go on: %s: %s",
            fleet.name,
            type(error).__name__,
            error,
        )
    fleet.log_attached()
    _log_failures(fleet)


def _log_failures(fleet: Fleet) -> None:
    if failures := fleet.failures:
        key, error = next(iter(failures.items()))
        logger.warning(
            "%d of the jobs of %s could not be submitted; Fleet.failures has the errors. The first, %s: %s",
            len(failures),
            fleet.name,
            key,
            error,
        )


def _attach_call(name: str, session: Session, *, tagged: bool) -> str:
    """Return the call that attaches to a fleet in another program, after `import processing`."""
    option = "" if tagged else ", tagged=False"
    return f"processing.Fleet.attach({name!r}, session={session.expression()}{option})"


def _find_entries(session: Session, name: str, *, tagged: bool) -> list[FleetEntry]:
    """Return the jobs of a fleet: in the order of their keys if all are numbers, otherwise in order of creation."""
    found = search.list_fleet(session, name) if tagged else search.iter_summaries(session, f"{name}-")
    keyed = list(latest_by_key({each.name.removeprefix(f"{name}-"): each for each in found}).items())
    if all(key.isdecimal() for key, _ in keyed):
        keyed.sort(key=lambda pair: int(pair[0]))
    return [FleetEntry(position, key, each.job(session)) for position, (key, each) in enumerate(keyed)]


def _existing(session: Session, name: str) -> dict[str, JobSummary]:
    """Return the summaries of the existing jobs whose names have the fleet's prefix, by name."""
    return {each.name: each for each in search.list_summaries_if_allowed(session, f"{name}-")}


def _unsuccessful(existing: Mapping[str, JobSummary]) -> set[str]:
    return {name for name, summary in existing.items() if summary.status in UNSUCCESSFUL}


def _is_unsuccessful(job: ProcessingJob) -> bool:
    """Return whether this process has observed that a job failed or was stopped."""
    outcome = job.watch_state.outcome
    return outcome is not None and outcome.description.get("ProcessingJobStatus") in UNSUCCESSFUL


def _stop(job: ProcessingJob) -> Exception | None:
    try:
        job.stop()
    except Exception as error:  # noqa: BLE001 - the other jobs have to be stopped all the same
        return error
    return None

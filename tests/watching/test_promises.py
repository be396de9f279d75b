"""The promises of watching, against a model: random jobs, log histories, failures and numbers of watchers.

The promises, whatever happens in between:

- the statuses of a job only go forward, each is delivered once, and the last one is the truth;
- every line that could be read by a moment after the job's end is delivered, or a warning says that some may be
  missing; no line comes twice, none is of another job, and all come before the job's end does;
- a watcher that continues from a checkpoint gets the missing lines, and none again;
- a job that is deleted ends the watch with an error, and the next job of its name is not taken for it;
- deadlines hold; nothing loops, and no thread or subscription is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import selectors
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import processing
from processing import ProcessingJob, WatchError
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws, SimulatedLine
from processing.watching.checkpoint import Checkpoint
from processing.watching.events import LogEvent, StatusChanged
from processing.watching.polling import Polling
from processing.watching.status.model import Lost

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from processing.testing.faults import FaultKind
    from processing.watching.events import Event
    from processing.watching.stream import EventStream

T = TypeVar("T")

NAMES = ["clean", "clean-2", "train"]  # one begins as another one does
END = {"Completed", "Failed", "Stopped"}
ORDER = ["InProgress", "Stopping", "Completed", "Failed", "Stopped"]
GRACE = 1.0  # seconds after a job's end in which lines may still arrive and are waited for
OVERTIME = 150.0  # seconds: the call that is under way when the time is up, and those for the last lines of an error
FOREVER = 1e9

# Most lines can be read at once, some minutes late; many share a moment.
LINES = st.lists(
    st.tuples(
        st.integers(0, 20),
        st.integers(1, 3),
        st.one_of(st.just(0.0), st.integers(0, 30).map(lambda tenths: tenths / 10), st.integers(0, 400)),
    ),
    max_size=25,
)
FAULT_KINDS: list[FaultKind] = [
    "throttle",
    "error500",
    "error503",
    "unreachable",
    "reset_before",
    "reset_after",
    "timeout_after",
    "truncate",
]
OPERATIONS = ["*", "DescribeProcessingJob", "ListProcessingJobs", "FilterLogEvents"]


class Limited(VirtualClock):
    """A clock that detects busy loops."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        assert len(self.sleeps) < 100_000, "somebody loops"

    def wait(self, condition: Any, seconds: float) -> None:
        super().wait(condition, seconds)
        assert len(self.sleeps) < 100_000, "somebody loops"


@attrs.define(eq=False)
class Life:
    """A job as the model knows it; times are seconds of the simulation."""

    job: ProcessingJob = attrs.field(repr=False)
    begins: float
    ends: float
    status: str
    lines: Sequence[SimulatedLine] = attrs.field(repr=False)
    stopped: float = FOREVER
    deleted: float = FOREVER

    def is_running(self, now: float) -> bool:
        return now < self.ends

    def messages(self, *, by: float | None = None) -> set[str]:
        """Return the lines written before the end; with `by`, those that could be read by then."""
        return {
            line.message
            for line in self.lines
            if (self.begins + line.at <= self.ends if by is None else self.begins + line.at < self.ends - 0.001)
            and (by is None or self.begins + line.at + line.delay <= by)
        }


@attrs.define(eq=False)
class Account:
    """The events that a watcher received."""

    lives: dict[str, Life]
    events: list[Event] = attrs.field(factory=list, repr=False)
    lost: dict[str, WatchError] = attrs.field(factory=dict, repr=False)

    def take(self, event: Event | Lost) -> None:
        """Record an event."""
        assert event.job_name not in self.lost
        if isinstance(event, Lost):
            self.lost[event.job_name] = event.error
        else:
            self.events.append(event)

    def check(self) -> None:
        """Check the events so far against those that are allowed."""
        for name, life in self.lives.items():
            events = [event for event in self.events if event.job_name == name]
            lines = [event for event in events if isinstance(event, LogEvent)]
            messages = Counter(line.message for line in lines)
            assert not [message for message, count in messages.items() if count > 1]
            assert not set(messages) - life.messages()
            statuses = [event for event in events if isinstance(event, StatusChanged)]
            ranks = [ORDER.index(event.status) for event in statuses]
            assert ranks == sorted(set(ranks))
            ended = [event for event in statuses if event.status in END]
            assert not ended or events[-1] is ended[0]
            assert name not in self.lost or (life.deleted < FOREVER and not ended)
            check_late_marks(lines)

    def check_end(self, warnings: Sequence[str]) -> None:
        """Check all events against those that were due, or that a warning had to mention."""
        for name, life in self.lives.items():
            if name in self.lost:
                continue
            events = [event for event in self.events if event.job_name == name]
            end = events[-1]
            assert isinstance(end, StatusChanged)
            assert end.status == ("Stopped" if life.stopped < FOREVER else life.status)
            messages = {event.message for event in events if isinstance(event, LogEvent)}
            missing = life.messages(by=life.ends + GRACE) - messages
            assert not missing or any(name in text and "missing" in text for text in warnings)


@attrs.define(eq=False)
class Watcher(Account):
    """A watcher of jobs, in a thread."""

    stream: EventStream[Any] = attrs.field(init=False, repr=False)
    is_done: bool = False

    def __attrs_post_init__(self) -> None:
        self.go_on(None)

    def go_on(self, checkpoint: Checkpoint | None) -> None:
        """Begin or continue: the statuses come again, the lines go on."""
        jobs = [life.job for life in self.lives.values()]
        if len(jobs) == 1:
            self.stream = jobs[0].events(checkpoint=checkpoint)
        else:
            self.stream = processing.events(jobs, checkpoint=checkpoint)
        self.events = [event for event in self.events if isinstance(event, LogEvent)]
        self.lost.clear()

    def read(self, count: int) -> None:
        """Receive at most that many events."""
        for _ in range(count):
            try:
                event = next(self.stream, None)
            except WatchError as error:  # of a single job
                self.lost[error.job_name] = error
                event = None
            if event is None:
                self.is_done = True
                return
            self.take(event)


def check_late_marks(lines: Sequence[LogEvent]) -> None:
    """Check that a line is late if one of its stream with a later time was delivered before."""
    newest: dict[str, int] = {}
    for line in lines:
        assert line.late == (line.timestamp < newest.get(line.stream, 0))
        newest[line.stream] = max(line.timestamp, newest.get(line.stream, 0))


class Warnings(logging.Handler):
    """The logged warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


class Promises(RuleBasedStateMachine):
    """Jobs begin, end and vanish; watchers come, read on, hand over and wait; calls fail."""

    @initialize(
        seed=st.integers(0, 99), lag=st.sampled_from([0.0, 5.0, 60.0]), few=st.sampled_from([1, 8]), short=st.booleans()
    )
    def begin(self, seed: int, lag: float, few: int, *, short: bool) -> None:
        self.clock = Limited()
        self.aws = SimulatedAws(self.clock, seed=seed, list_lag=lag, latency=0.05, liberties=True)
        self.aws.logs._page = 5 if short else 1000
        self.session = self.aws.session(polling=Polling(few=few))
        self.warnings = Warnings()
        logging.getLogger("processing").addHandler(self.warnings)
        self.lives: dict[str, Life] = {}
        self.watchers: list[Watcher] = []
        self.number = 0

    # Jobs.

    @precondition(lambda self: self._free())
    @rule(
        data=st.data(),
        runs=st.integers(2, 600),
        status=st.sampled_from(["Completed", "Failed", "Stopped"]),
        written=LINES,
    )
    def a_job_begins(self, data: st.DataObject, runs: int, status: str, written: list[tuple[int, int, float]]) -> None:
        name, now = data.draw(st.sampled_from(self._free())), self.aws.now
        self.number += 1
        lines = [
            SimulatedLine(place * runs / 20, f"{self.number}.{number}", host, delay)
            for number, (place, host, delay) in enumerate(written)
        ]
        self.aws.add_job(name, starts=now, ends=now + runs, status=status, lines=lines, hosts=3)
        job = self._calmly(lambda: processing.attach(name, self.session))
        self.lives[name] = Life(job, now, now + runs, status, lines)

    @precondition(lambda self: self._there(running=True))
    @rule(data=st.data(), ours=st.booleans())
    def a_job_is_stopped(self, data: st.DataObject, *, ours: bool) -> None:
        life = data.draw(st.sampled_from(self._there(running=True)))
        name = life.job.job_name
        self._calmly(life.job.stop if ours else lambda: self.aws.stop_job(name))
        simulated = self.aws.jobs._jobs[name]
        if simulated.stopped is not None:  # it did not end before the call arrived
            life.stopped, life.ends = self.aws.now, simulated.ends - self.aws._began

    @precondition(lambda self: self._there(running=False))
    @rule(data=st.data())
    def a_job_is_deleted(self, data: st.DataObject) -> None:
        life = data.draw(st.sampled_from(self._there(running=False)))
        self.aws.delete_job(life.job.job_name)
        life.deleted = self.aws.now

    # Watchers.

    @precondition(lambda self: self._there())
    @rule(data=st.data())
    def watch_one_job(self, data: st.DataObject) -> None:
        life = data.draw(st.sampled_from(self._there()))
        self.watchers.append(Watcher({life.job.job_name: life}))

    @precondition(lambda self: len(self._there()) > 1)
    @rule()
    def watch_all_jobs(self) -> None:
        self.watchers.append(Watcher({life.job.job_name: life for life in self._there()}))

    @precondition(lambda self: self.watchers)
    @rule(data=st.data(), count=st.integers(1, 12))
    def read_on(self, data: st.DataObject, count: int) -> None:
        data.draw(st.sampled_from(self.watchers)).read(count)

    @precondition(lambda self: self._reading())
    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        """Another process continues from the checkpoint of the first."""
        watcher = data.draw(st.sampled_from(self._reading()))
        checkpoint = Checkpoint.from_json(watcher.stream.checkpoint().to_json())
        watcher.stream.close()
        watcher.go_on(checkpoint)

    @precondition(lambda self: self._there())
    @rule(timeout=st.floats(0.0, 900.0))
    def wait_for_all(self, timeout: float) -> None:
        begun = self.aws.now
        lives = {life.job: life for life in self._there()}
        done, not_done = result = processing.wait(list(lives), timeout=timeout)
        assert self.aws.now <= begun + timeout + OVERTIME
        assert set(done) | set(not_done) == set(lives)
        assert not set(done) & set(not_done)
        for job in set(done) - set(result.failed):
            assert not lives[job].is_running(self.aws.now)
        for job in not_done:
            assert lives[job].deleted < FOREVER or self.aws.now - begun > timeout - 0.001

    # The world.

    @rule(
        kind=st.sampled_from(FAULT_KINDS),
        operation=st.sampled_from(OPERATIONS),
        probability=st.sampled_from([0.1, 0.5, 1.0]),
        times=st.integers(1, 30),
    )
    def calls_begin_to_fail(self, kind: FaultKind, operation: str, probability: float, times: int) -> None:
        self.aws.faults.on(operation, kind, probability=probability, times=times)

    @rule(seconds=st.floats(0.0, 2000.0))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def tokens_run_out(self) -> None:
        self.aws.logs.forget_tokens()
        self.aws.jobs.forget_tokens()

    # What holds.

    @invariant()
    def all_events_are_allowed(self) -> None:
        for watcher in getattr(self, "watchers", ()):
            watcher.check()

    def teardown(self) -> None:
        if not hasattr(self, "watchers"):
            return
        for watcher in self.watchers:
            while not watcher.is_done:
                watcher.read(1000)
            watcher.check()
            watcher.check_end(self.warnings.texts)
        logging.getLogger("processing").removeHandler(self.warnings)

    def _free(self) -> list[str]:
        """Return the names that a new job may have."""
        return [name for name in NAMES if name not in self.lives or self.lives[name].deleted < FOREVER]

    def _there(self, *, running: bool | None = None) -> list[Life]:
        """Return the jobs that are not deleted: all, the running ones, or the others."""
        there = [life for life in self.lives.values() if life.deleted == FOREVER]
        return [life for life in there if running is None or (life.is_running(self.aws.now) == running)]

    def _reading(self) -> list[Watcher]:
        return [watcher for watcher in self.watchers if not watcher.is_done]

    def _calmly(self, action: Any) -> Any:
        """Call a function without faults."""
        plans = self.aws.faults._rules[:]
        self.aws.faults._rules.clear()
        try:
            return action()
        finally:
            self.aws.faults._rules.extend(plans)


TestPromises = Promises.TestCase
TestPromises.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# The same in coroutines. Their loop and the thread that polls for them run side by side, so all random choices are
# drawn beforehand.


@attrs.frozen
class Plan:
    """The plan of a job's life; moments are fractions of its runtime."""

    runs: int
    status: str
    written: Sequence[tuple[int, int, float]]
    stopped: float | None
    deleted: bool


PLANS = st.lists(
    st.builds(
        Plan,
        st.integers(2, 600),
        st.sampled_from(["Completed", "Failed", "Stopped"]),
        LINES,
        st.none() | st.sampled_from([0.1, 0.9]),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=len(NAMES),
)
STORMS = st.lists(
    st.tuples(
        st.floats(0.0, 500.0),
        st.sampled_from(OPERATIONS),
        st.sampled_from(FAULT_KINDS),
        st.sampled_from([0.1, 0.5, 1.0]),
        st.integers(1, 30),
    ),
    max_size=3,
)


class Loop(asyncio.SelectorEventLoop):
    """A loop whose thread keeps a virtual clock from moving on as long as it has something to do, and no longer.

    What takes its time is done at once, in the loop's own thread: `test_async.py` has it in others.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._thread = threading.current_thread()
        super().__init__(Resting(clock))

    def call_soon_threadsafe(self, *args: Any, **options: Any) -> asyncio.Handle:  # type: ignore[override]
        with self._clock._lock:
            self._clock._record_activity(self._thread)
        return super().call_soon_threadsafe(*args, **options)

    def run_in_executor(self, _: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - any error is passed to the awaiting coroutine
            future.set_exception(error)
        return future

    def finish(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, and close the loop."""
        try:
            return self.run_until_complete(asyncio.wait_for(coroutine, 30))
        finally:
            self.run_until_complete(self.shutdown_asyncgens())
            self.close()


class Resting(selectors.DefaultSelector):
    """A selector that lets the virtual clock go on while the loop waits in it."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        super().__init__()

    def select(self, timeout: float | None = None) -> Any:
        if timeout != 0:
            with self._clock._lock:
                self._clock._begin_wait(threading.current_thread())
        return super().select(timeout)


class Afternoon:
    """A simulated AWS whose future is planned.

    Args:
        seed: of the simulation.
        lag: of the List.
        plans: the jobs'.
        storms: when which calls fail, how, with which probability and how often.
    """

    def __init__(self, seed: int, lag: float, plans: Sequence[Plan], storms: Sequence[Any]) -> None:
        self.aws = SimulatedAws(Limited(), seed=seed, list_lag=lag, latency=0.05, liberties=True)
        self.session = self.aws.session(polling=Polling(few=1 + seed % 3))
        self.lives = {name: self._begin(name, plan) for name, plan in zip(NAMES, plans, strict=False)}
        for moment, operation, kind, probability, times in storms:
            plant = functools.partial(self.aws.faults.on, operation, kind, probability=probability, times=times)
            self.aws.at(moment, plant)

    def _begin(self, name: str, plan: Plan) -> Life:
        lines = [
            SimulatedLine(place * plan.runs / 20, f"{name}.{number}", host, delay)
            for number, (place, host, delay) in enumerate(plan.written)
        ]
        self.aws.add_job(name, ends=float(plan.runs), status=plan.status, lines=lines, hosts=3)
        life = Life(processing.attach(name, self.session), 0.0, float(plan.runs), plan.status, lines)
        if plan.stopped is not None:
            self.aws.at(plan.stopped * plan.runs, functools.partial(self._stop, life))
        if plan.deleted:
            self.aws.at(plan.runs + 5.0, functools.partial(self._delete, life))
        return life

    def _stop(self, life: Life) -> None:
        if life.is_running(self.aws.now):
            self.aws.stop_job(life.job.job_name)
            life.stopped = self.aws.now
            life.ends = self.aws.jobs._jobs[life.job.job_name].ends - self.aws._began

    def _delete(self, life: Life) -> None:
        self.aws.delete_job(life.job.job_name)
        life.deleted = self.aws.now

    async def follow(self, lives: dict[str, Life], leaves_after: int | None) -> Account:
        """Follow jobs to their ends, or leave after that many events."""
        account = Account(lives)
        jobs = [life.job for life in lives.values()]
        events: Any = jobs[0].events_async() if len(jobs) == 1 else processing.events_async(jobs)
        async with contextlib.aclosing(events):
            try:
                async for event in events:
                    account.take(event)
                    account.check()
                    if len(account.events) == leaves_after:
                        return Account({})
            except WatchError as error:  # of a single job
                account.lost[error.job_name] = error
        return account

    async def wait(self, timeout: float) -> None:
        """Wait for all jobs for that long."""
        begun, lives = self.aws.now, {life.job: life for life in self.lives.values()}
        done, not_done = result = await processing.wait_async(list(lives), timeout=timeout)
        assert self.aws.now <= begun + timeout + 5 * OVERTIME  # the calls of all five are made one after the other
        assert (set(done) | set(not_done), set(done) & set(not_done)) == (set(lives), set())
        assert not [job for job in set(done) - set(result.failed) if lives[job].is_running(self.aws.now)]
        assert not not_done or self.aws.now - begun > timeout - 0.001

    async def complete(self) -> None:
        """Receive all jobs as they end."""
        lives = {life.job: life for life in self.lives.values()}
        ended = []
        async for job in processing.as_completed_async(list(lives)):
            assert not lives[job].is_running(self.aws.now)
            ended.append(job)
        assert (set(ended), len(ended)) == (set(lives), len(lives))


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 99),
    lag=st.sampled_from([0.0, 5.0, 60.0]),
    plans=PLANS,
    storms=STORMS,
    timeout=st.floats(0.0, 900.0),
    leaves_after=st.integers(1, 12),
)
def test_the_promises_hold_in_coroutines(
    seed: int, lag: float, plans: list[Plan], storms: list[Any], timeout: float, leaves_after: int
) -> None:
    """Consumers that follow, wait, iterate over ended jobs or leave, side by side, all get the truth."""
    world = Afternoon(seed, lag, plans, storms)
    (first, *_) = world.lives
    warnings = Warnings()
    logging.getLogger("processing").addHandler(warnings)

    async def everybody() -> Sequence[Any]:
        return await asyncio.gather(
            world.follow({first: world.lives[first]}, None),
            world.follow(world.lives, None),
            world.follow(world.lives, leaves_after),
            world.wait(timeout),
            world.complete(),
        )

    try:
        accounts = Loop(world.aws.clock).finish(everybody())[:2]
    finally:
        logging.getLogger("processing").removeHandler(warnings)
    for account in accounts:
        account.check()
        account.check_end(warnings.texts)
    assert not world.session.poller._subscribers

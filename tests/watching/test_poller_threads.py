"""The poller with several threads: one leads, and the others follow; on virtual time."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

import processing
from forked import in_child
from processing.clock import SYSTEM_CLOCK
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws
from processing.watching.events import StatusChanged
from processing.watching.polling import Polling
from processing.watching.status import poller
from processing.watching.status.model import WatchTarget
from processing.watching.status.poller import Poller

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from processing.watching.status.poller import EventSource


class World:
    """A simulated AWS, a poller, and threads that wait."""

    def __init__(self, *, event_source: EventSource | None = None) -> None:
        self.clock = VirtualClock()
        self.aws = SimulatedAws(self.clock)
        self.poller = Poller(self.aws.api(), Polling(), event_source=event_source, random=random.Random(5))
        self.seen: dict[str, float] = {}
        self.errors: list[BaseException] = []

    def watch(self, name: str, until: float | None = None) -> None:
        """Wait for a job's end, and note when it was seen."""
        try:
            with self.poller.subscribe([WatchTarget(name)]) as subscription:
                while subscription.wait(until):
                    for update in subscription.drain():
                        if isinstance(update, StatusChanged) and update.status == "Completed":
                            self.seen[name] = self.clock.monotonic()
        except BaseException as error:  # noqa: BLE001 - a KeyboardInterrupt, too
            self.errors.append(error)

    def run(self, *threads: threading.Thread) -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()

    def watcher(self, name: str, until: float | None = None) -> threading.Thread:
        return threading.Thread(target=self.watch, args=(name, until))

    def describe(self, instead: Callable[[dict[str, Any]], Mapping[str, Any] | None]) -> None:
        """Call a function in each Describe; its result, if any, is the answer."""
        real = self.aws.service.handlers["DescribeProcessingJob"]
        self.aws.service.handlers["DescribeProcessingJob"] = lambda params: instead(params) or real(params)


def test_threads_that_wait_share_the_calls() -> None:
    """Thirty threads that wait for a job each cost the calls of one, and each sees its own end in time."""
    world = World()
    for number in range(30):
        world.aws.add_job(f"job-{number:02d}", ends=100.0 + number)
    world.run(*(world.watcher(f"job-{number:02d}") for number in range(30)))
    assert len(world.seen) == 30
    assert all(0 <= at - 100 - int(name[-2:]) <= Polling().longest for name, at in world.seen.items())
    assert world.aws.calls["ListProcessingJobs"] < 100
    assert world.aws.calls["DescribeProcessingJob"] < 100


def test_an_interrupted_leader_is_followed_by_another() -> None:
    """Ctrl-C amid a call leaves one wait alone; another thread makes the calls from then on."""
    world = World()
    for name in ("one", "two"):
        world.aws.add_job(name, ends=100.0)
    interrupted: list[int] = []

    def interrupt(_: dict[str, Any]) -> None:
        if world.clock.monotonic() > 50 and not interrupted:
            interrupted.append(threading.get_ident())
            raise KeyboardInterrupt

    world.describe(interrupt)
    world.run(world.watcher("one"), world.watcher("two"))
    assert [type(error) for error in world.errors] == [KeyboardInterrupt]
    assert len(world.seen) == 1
    assert max(world.seen.values()) <= 100 + Polling().longest


def test_an_interrupted_sleep_is_followed_by_another() -> None:
    """The same for a leader that sleeps."""
    world = World()
    for name in ("one", "two"):
        world.aws.add_job(name, ends=100.0)
    sleep = world.poller.sleep
    interrupted: list[bool] = []

    def interrupt(condition: threading.Condition, seconds: float) -> None:
        if world.clock.monotonic() > 50 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        sleep(condition, seconds)

    world.poller.sleep = interrupt  # type: ignore[method-assign]
    world.run(world.watcher("one"), world.watcher("two"))
    assert [type(error) for error in world.errors] == [KeyboardInterrupt]
    assert len(world.seen) == 1


def test_a_leader_that_hangs_holds_no_deadline_up() -> None:
    """While a call hangs, a follower returns at its own deadline."""
    world = World()
    for name in ("one", "two"):
        world.aws.add_job(name, ends=100.0)
    hanging, over = threading.Event(), threading.Event()

    def hang(_: dict[str, Any]) -> None:
        if not hanging.is_set():
            hanging.set()
            over.wait(60)

    world.describe(hang)
    leader = world.watcher("one")
    leader.start()
    hanging.wait(60)
    with world.poller.subscribe([WatchTarget("two")]) as subscription:
        assert not subscription.wait(20.0)
        assert world.clock.monotonic() == 20.0
    over.set()
    leader.join(60)
    assert set(world.seen) == {"one"}


def test_a_follower_without_time_gets_a_first_answer() -> None:
    """A follower that may not wait is served by the leader at once."""
    world = World()
    world.aws.add_job("one", ends=500.0)
    world.aws.add_job("two", ends=1.0)
    sleeping = threading.Event()
    sleep = world.poller.sleep

    def note(condition: threading.Condition, seconds: float) -> None:
        if world.clock.monotonic() > 50:
            sleeping.set()
        sleep(condition, seconds)

    world.poller.sleep = note  # type: ignore[method-assign]
    leader = world.watcher("one")
    leader.start()
    sleeping.wait(60)
    with world.poller.subscribe([WatchTarget("two")]) as subscription:
        assert subscription.wait(0.0)
        assert [update.job_name for update in subscription.drain()] == ["two"]
    leader.join(60)


def test_a_job_that_is_added_wakes_the_leader() -> None:
    """On the machine's own clock: a leader that would sleep for ever is woken by new work."""
    clock = VirtualClock()
    aws = SimulatedAws(clock)
    aws.add_job("one", ends=None)
    aws.add_job("two", ends=0.0)
    api = aws.api()
    api.clock = SYSTEM_CLOCK
    poller = Poller(api, Polling(first=3600.0, longest=3600.0))
    first = poller.subscribe([WatchTarget("one")])
    assert first.wait(None)
    first.drain()
    leader = threading.Thread(target=first.wait, args=(None,))
    leader.start()
    second = poller.subscribe([WatchTarget("two")])
    assert second.wait(None)
    assert [getattr(update, "status", None) for update in second.drain()] == ["Completed"]
    first.close()  # nothing is left to wait for
    leader.join(60)
    assert not leader.is_alive()


class ScriptedEvents:
    """An event source with the names of jobs at given moments."""

    def __init__(self, clock: VirtualClock, events: dict[float, list[str]]) -> None:
        self.clock, self.events = clock, events

    def wait(self, condition: threading.Condition, seconds: float) -> Collection[str]:
        now = self.clock.monotonic()
        moment = min(self.events, default=math.inf)
        self.clock.wait(condition, min(seconds, max(0.0, moment - now)))
        return self.events.pop(moment) if moment <= self.clock.monotonic() else ()


@pytest.mark.parametrize("count", [1, 40])
def test_an_event_causes_a_status_call_at_once(count: int) -> None:
    """A job's end is known at the moment of its event, even among many jobs."""
    world = World()
    names = [f"job-{number:02d}" for number in range(count)]
    for name in names:
        world.aws.add_job(name, ends=501.0)
    world.poller._event_source = ScriptedEvents(world.clock, {501.0: [*names, "another"]})
    world.poller._scheduler._polling = world.poller._scheduler._describes._polling = Polling(list_every=60.0)
    updates: list[tuple[float, str]] = []
    with world.poller.subscribe(WatchTarget(name) for name in names) as subscription:
        while subscription.wait(None):
            updates += [(world.clock.monotonic(), update.job_name) for update in subscription.drain()]
    assert [at for at, _ in updates[-count:]] == pytest.approx([501.0] * count)


def test_listeners_are_called() -> None:
    """A consumer without a thread is called back; the callback thread ends with the last listener."""
    world = World()
    names = [f"job-{number}" for number in range(3)]
    for number, name in enumerate(names):
        world.aws.add_job(name, ends=50.0 * number + 50)
    over = threading.Event()
    updates: list[str] = []
    subscription = world.poller.subscribe(WatchTarget(name) for name in names)

    def collect() -> None:
        updates.extend(getattr(update, "status", "lost") for update in subscription.drain())
        if not len(subscription):
            over.set()

    subscription.notify(collect)
    assert over.wait(60)
    assert updates == ["InProgress"] * 3 + ["Completed"] * 3
    thread = world.poller._callbacks._thread
    subscription.close()
    assert thread is not None
    thread.join(60)
    assert not thread.is_alive()
    assert world.poller._callbacks._thread is None


def test_a_listener_has_an_alarm() -> None:
    """It is called at its moment even without an update, once, and not after it was closed."""
    world = World()
    world.aws.add_job("job", ends=None)
    calls: list[float] = []
    ready = threading.Condition()
    first, second = (world.poller.subscribe([WatchTarget("job")]) for _ in range(2))

    def call(subscription: Any, until: float | None) -> None:
        with ready:
            if not subscription.drain():
                calls.append(world.clock.monotonic())
                subscription.notify(lambda: call(subscription, None), until)
            ready.notify_all()

    with world.poller._lock:  # the thread of the first one must not sleep before there is a second one
        first.notify(lambda: call(first, 300.0), 100.0)
        second.notify(lambda: call(second, None), 200.0)
    with ready:
        assert ready.wait_for(lambda: len(calls) == 3, 60)
    first.close()
    second.close()
    assert calls == [100.0, 200.0, 300.0]


def test_listeners_and_waiting_threads_share_the_calls() -> None:
    """A job with a waiting thread and a listener is described once for both."""
    world = World()
    world.aws.add_job("job", ends=300.0)
    ended = threading.Event()
    listening = world.poller.subscribe([WatchTarget("job")])
    listening.notify(lambda: None if len(listening) else ended.set())
    world.run(world.watcher("job"))
    assert ended.wait(60)
    assert [getattr(update, "status", "") for update in listening.drain()] == ["InProgress", "Completed"]
    listening.close()
    assert world.aws.calls["DescribeProcessingJob"] < 40


def test_a_session_has_one_poller_for_each_process() -> None:
    """It is made at first use; a forked process, which has no threads of its parent, makes another one."""
    session = SimulatedAws(VirtualClock()).session()
    ours = session.poller
    assert session.poller is ours
    assert not in_child(lambda: session.poller is ours)


def test_an_event_source_needs_a_wait_method() -> None:
    """An object without it is refused when the session is made."""
    with pytest.raises(processing.ConfigurationError, match=r"^event_source: "):
        processing.Session(event_source="queue")  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["wait", "coroutine"])
def test_a_call_that_hangs_holds_no_deadline_up(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """On the machine's own clock: a wait with little time returns while its first call is still without an answer."""
    monkeypatch.setattr(poller, "_GRACE", 0.01)
    aws = SimulatedAws(VirtualClock())
    aws.add_job("job", ends=None)
    over = threading.Event()
    described = aws.service.handlers["DescribeProcessingJob"]

    def hanging(params: dict[str, Any]) -> Any:
        over.wait()
        return described(params)

    aws.service.handlers["DescribeProcessingJob"] = hanging
    job = processing.ProcessingJob(aws.session(clock=SYSTEM_CLOCK), "job")
    waits: dict[str, Callable[[], object]] = {
        "wait": lambda: job.wait(timeout=0.01, logs=False),
        "coroutine": lambda: asyncio.run(job.wait_async(timeout=0.01, logs=False)),
    }
    try:
        with pytest.raises(processing.WaitTimeoutError):
            waits[how]()
    finally:
        over.set()


def test_a_machine_that_had_no_thread_for_a_listener_may_have_one_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that could not be started is started for the next coroutine that waits."""
    world = World()
    world.aws.add_job("run", ends=30)
    start, refusals = threading.Thread.start, iter([True])

    def refused_once(self: threading.Thread) -> None:
        if self.name == "processing-poller" and next(refusals, False):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refused_once)
    with world.poller.subscribe([WatchTarget("run")]) as first, pytest.raises(RuntimeError, match="new thread"):
        first.notify(lambda: None)
    called = threading.Event()
    with world.poller.subscribe([WatchTarget("run")]) as second:
        second.notify(called.set)
        assert called.wait(60)

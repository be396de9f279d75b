"""One poller for all jobs that are watched through a session, whoever watches them.

Nobody polls but who waits: of the threads that wait, one leads. It makes the calls that are due and sleeps until the
next one is; the others follow, and one of them takes over when the leader has what it waited for, runs out of time, or
is interrupted. So no thread runs in the background, Ctrl-C works, and a hundred waits cost the calls of one. For
consumers that cannot wait in a thread (asyncio) there is one daemon thread, which leads or follows like any other.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import random as random_module
import threading
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from processing.watching.events import StatusChanged
from processing.watching.roll import Loss, Roll, Step
from processing.watching.status import Lost, News, is_step

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import TracebackType

    from processing.retrying import RetryingApi
    from processing.watching.policy import Polling
    from processing.watching.roll import Call
    from processing.watching.status import Target

logger = logging.getLogger(__name__)

_TRIES = 3  # of one call in a row; what fails longer is called again in its turn
_BUDGET = 1.0  # seconds for them
_PATIENCE = 2.0  # seconds that a follower without any time gives the leader for its first look


class WakeUp(Protocol):
    """Says that something happened to a job, so that it is looked at at once."""

    def wait(self, condition: threading.Condition, seconds: float) -> Collection[str]:
        """Return after that many seconds, or sooner: when the condition is notified, or something happened.

        Args:
            condition: the caller holds its lock, which is given up meanwhile.
            seconds: may be infinite.

        Returns:
            The names of the jobs that something happened to; empty where nothing did.
        """


class Subscription:
    """Somebody's interest in some jobs. Close it at the end, or use it as a context manager.

    It belongs to one consumer, and its methods may be called from any thread; `wait` from one at a time.
    """

    __slots__ = ("_alarm", "_callback", "_condition", "_news", "_poller", "_served", "_told")

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._told: dict[str, str | None] = {}  # by name, the status that was told
        self._news: list[News] = []
        self._served = False
        self._condition: threading.Condition | None = None
        self._callback: Callable[[], None] | None = None
        self._alarm = math.inf

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return how many jobs are still watched: neither ended nor lost."""
        return len(self._told)

    def add(self, target: Target) -> None:
        """Watch a further job."""
        self._poller._add(self, (target,))  # noqa: SLF001 - the two are one mechanism

    def drop(self, name: str) -> None:
        """Watch a job no longer."""
        self._poller._drop(self, (name,))  # noqa: SLF001 - as above

    def close(self) -> None:
        """Watch nothing any more."""
        self._poller._close(self)  # noqa: SLF001 - as above

    def take(self) -> list[News]:
        """Return the news since the last time, oldest first. Never waits."""
        with self._poller._lock:  # noqa: SLF001 - as above
            news, self._news = self._news, []
            return news

    def wait(self, until: float | None) -> bool:
        """Return when there is news, or that monotonic moment has come.

        The first look at a job is made at once, also where the moment has passed already.

        Args:
            until: the moment; None for no end.

        Returns:
            Whether `take` has something. False without an end: nothing is watched any more.
        """
        return self._poller._wait(self, until)  # noqa: SLF001 - as above

    def notify(self, callback: Callable[[], None] | None, until: float | None = None) -> None:
        """Be told of news instead of waiting for them.

        Args:
            callback: called, in any thread, whenever `take` has something; at once where it has now. It must return
                at once, and not wait. None ends it.
            until: a monotonic moment at which it is called in any case, once; replaces the one given before.
        """
        self._poller._notify(self, callback, until)  # noqa: SLF001 - as above

    def alive(self, name: str, moment: float) -> None:
        """Take note that a job was running then, so that it need not be looked at for a while.

        Args:
            name: the job.
            moment: AWS's time in seconds since the epoch: that of a line which the job wrote.
        """
        with self._poller._lock:  # noqa: SLF001 - as above
            self._poller._roll.alive(name, moment)  # noqa: SLF001 - as above


class Poller:
    """Knows the status of every job that anybody subscribes to. Safe for threads; made once per session.

    Args:
        api: the session's calls.
        polling: how often.
        wake: what says that something happened to a job; None where nothing does.
        random: where the jitter comes from.
    """

    def __init__(
        self,
        api: RetryingApi,
        polling: Polling,
        *,
        wake: WakeUp | None = None,
        random: random_module.Random | None = None,
    ) -> None:
        self._api = api
        self._clock = api.clock
        self._wake = wake
        self._policy = attrs.evolve(
            api.policy, attempts=min(_TRIES, api.policy.attempts), budget=min(_BUDGET, api.policy.budget)
        )
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)  # the leader sleeps on it
        self._roll = Roll(polling, api.clock, random or random_module.Random())  # noqa: S311 - jitter, not a secret
        self._subscribers: dict[str, tuple[Subscription, ...]] = {}
        self._led = False
        self._followers: dict[object, threading.Condition] = {}
        self._pump = _Pump(self)

    def subscribe(self, targets: Iterable[Target]) -> Subscription:
        """Return a subscription to news of jobs. Nothing is called yet: the first `wait` looks at them at once."""
        subscription = Subscription(self)
        self._add(subscription, targets)
        return subscription

    # What subscriptions do.

    def _add(self, subscription: Subscription, targets: Iterable[Target]) -> None:
        with self._lock:
            for target in targets:
                if target.name not in subscription._told:  # noqa: SLF001 - the two are one mechanism
                    subscription._told[target.name] = None  # noqa: SLF001 - as above
                    self._subscribers[target.name] = (*self._subscribers.get(target.name, ()), subscription)
                    self._roll.add(target)
            self._idle.notify()

    def _drop(self, subscription: Subscription, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                if subscription._told.pop(name, self) is self:  # noqa: SLF001 - as above
                    continue
                others = tuple(other for other in self._subscribers[name] if other is not subscription)
                if others:
                    self._subscribers[name] = others
                else:
                    del self._subscribers[name]
                    self._roll.remove(name)
            self._idle.notify()  # there may be nothing left to lead for

    def _close(self, subscription: Subscription) -> None:
        with self._lock:
            self._drop(subscription, list(subscription._told))  # noqa: SLF001 - as above
            self._notify(subscription, None, None)

    def _notify(self, subscription: Subscription, callback: Callable[[], None] | None, until: float | None) -> None:
        with self._lock:
            subscription._callback = callback  # noqa: SLF001 - as above
            self._pump.listen(subscription, math.inf if until is None or callback is None else until)
            if callback and subscription._news:  # noqa: SLF001 - as above
                callback()

    def _wait(self, subscription: Subscription, until: float | None) -> bool:
        with self._lock:
            entered = self._clock.monotonic()
            end = math.inf if until is None else until
            if not subscription._served:  # noqa: SLF001 - as above
                end = max(end, entered + _PATIENCE)

            def done() -> bool:
                over = until is None and not subscription._told  # noqa: SLF001 - as above
                return bool(subscription._news) or over  # noqa: SLF001 - as above

            while not done():
                if not self._led:
                    self._lead(done, lambda: until)
                    break
                left = end - self._clock.monotonic()
                if left <= 0:
                    break
                subscription._condition = subscription._condition or threading.Condition(self._lock)  # noqa: SLF001
                self._follow(subscription, subscription._condition, left)  # noqa: SLF001 - as above
            return bool(subscription._news)  # noqa: SLF001 - as above

    # Leading and following; the lock is held, but while a call is made or the thread sleeps.

    def _follow(self, who: object, condition: threading.Condition, seconds: float) -> None:
        """Wait until there is news for somebody, nobody leads any more, or the time has passed."""
        self._followers[who] = condition
        try:
            self._clock.wait(condition, seconds)
        finally:
            del self._followers[who]
            if not self._led:
                self._call_for_leader()

    def _call_for_leader(self) -> None:
        for condition in self._followers.values():
            condition.notify()
            return

    def _lead(self, done: Callable[[], bool], until: Callable[[], float | None]) -> None:
        """Make the calls that are due, and sleep in between, until done or that moment.

        Where the moment has passed already, what is due is called all the same, as long as it is answered.
        """
        self._led = True
        try:
            moment = until()
            hurried = moment is not None and moment <= self._clock.monotonic()
            while not done():
                due, call = self._roll.next(self._hold)
                now = self._clock.monotonic()
                end = until()
                left = math.inf if end is None else end - now
                if call and (hurried or left > 0):
                    if not self._make(call, left) and hurried:
                        return
                elif left <= 0:
                    return
                else:
                    self._sleep(min(due - now, left))
        finally:
            self._led = False
            self._call_for_leader()

    def _sleep(self, seconds: float) -> None:
        if self._wake is None:
            self._clock.wait(self._idle, seconds)
        else:
            self._roll.wake(self._wake.wait(self._idle, seconds))

    def _hold(self, operation: str) -> float:
        """Return for how many seconds an operation is held back by the account's rate."""
        pacer = self._api.pacer(operation)
        return pacer.wait_of(self._clock) if pacer else 0.0

    def _make(self, call: Call, left: float) -> bool:
        """Make a call, and tell what its answer says; return whether there was one."""
        policy = attrs.evolve(self._policy, budget=min(self._policy.budget, max(0.0, left)))
        sent = self._clock.monotonic()
        answer: dict[str, Any] | None = None
        failure: Exception | None = None
        self._lock.release()
        try:
            answer = self._api.call("sagemaker", call.operation, call.params, policy=policy)
        except Exception as error:  # noqa: BLE001 - whatever it is, the jobs' watchers are to know
            failure = error
        finally:
            self._lock.acquire()
        if answer is None:
            assert failure is not None
            self._tell(self._roll.failed(call, failure))
        else:
            self._tell(self._roll.answered(call, answer, sent))
        return failure is None

    def _tell(self, told: Iterable[Step | Loss]) -> None:
        """Hand news on to the subscriptions that they are news for."""
        for piece in told:
            name = piece.watched.name
            final = isinstance(piece, Loss) or piece.watched.ended
            for subscription in self._subscribers.get(name, ()):
                self._hand_over(subscription, name, piece, final=final)
            if final:
                self._subscribers.pop(name, None)

    def _hand_over(self, subscription: Subscription, name: str, piece: Step | Loss, *, final: bool) -> None:
        told = subscription._told  # noqa: SLF001 - as above
        previous = told.pop(name) if final else told[name]
        if isinstance(piece, Loss):
            news: News = Lost(name, piece.error())
        else:
            status = piece.description["ProcessingJobStatus"]
            if not is_step(previous, status):
                return
            if not final:
                told[name] = status
            news = StatusChanged(name, status, previous, piece.description)
        subscription._news.append(news)  # noqa: SLF001 - as above
        subscription._served = True  # noqa: SLF001 - as above
        if subscription in self._followers:
            self._followers[subscription].notify()
        if subscription._callback:  # noqa: SLF001 - as above
            subscription._callback()  # noqa: SLF001 - as above


class _Pump:
    """The thread that leads for who cannot wait; there while anybody listens."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._condition = threading.Condition(poller._lock)  # noqa: SLF001 - a part of the poller
        self._listeners: set[Subscription] = set()
        self._alarms: list[tuple[float, int, Subscription]] = []
        self._tickets = itertools.count()
        self._thread: threading.Thread | None = None

    def listen(self, subscription: Subscription, alarm: float) -> None:
        """Begin or end to serve a subscription, by whether it has a callback; call it at that moment too."""
        subscription._alarm = alarm  # noqa: SLF001 - as above
        if alarm < math.inf:
            heapq.heappush(self._alarms, (alarm, next(self._tickets), subscription))
        if subscription._callback is None:  # noqa: SLF001 - as above
            self._listeners.discard(subscription)
        else:
            self._listeners.add(subscription)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="processing-poller", daemon=True)
                self._thread.start()
                return
        self._condition.notify()  # it may follow, or lead and sleep
        self._poller._idle.notify()  # noqa: SLF001 - as above

    def _run(self) -> None:
        poller = self._poller
        with poller._lock:  # noqa: SLF001 - as above
            while self._listeners:
                if not poller._led:  # noqa: SLF001 - as above
                    poller._lead(lambda: not self._listeners, self._next_alarm)  # noqa: SLF001 - as above
                else:
                    alarm = self._next_alarm()
                    left = math.inf if alarm is None else alarm - poller._clock.monotonic()  # noqa: SLF001 - as above
                    poller._follow(self, self._condition, left)  # noqa: SLF001 - as above
                self._ring()
            self._thread = None

    def _next_alarm(self) -> float | None:
        while self._alarms:
            moment, _, subscription = self._alarms[0]
            if subscription._alarm == moment:  # noqa: SLF001 - as above
                return moment
            heapq.heappop(self._alarms)
        return None

    def _ring(self) -> None:
        now = self._poller._clock.monotonic()  # noqa: SLF001 - as above
        while (moment := self._next_alarm()) is not None and moment <= now:
            subscription = heapq.heappop(self._alarms)[2]
            subscription._alarm = math.inf  # noqa: SLF001 - as above
            if subscription._callback:  # noqa: SLF001 - as above
                subscription._callback()  # noqa: SLF001 - as above

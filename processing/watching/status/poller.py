"""The poller: one for all jobs that are watched through a session, shared by all consumers.

Only waiting threads poll (`LeaderElection`): no thread runs in the background, Ctrl-C works, and a hundred waits
cost the calls of one. Consumers that cannot wait in a thread of their own share one daemon thread (`CallbackThread`).

The poller makes the calls, waits and distributes the answers. `StatusScheduler` decides which call comes next.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from processing._utils.forks import reset_after_fork
from processing._utils.locks import call_unlocked
from processing.aws.retry import is_not_found
from processing.watching.events import StatusChanged
from processing.watching.status.callback_thread import CallbackThread
from processing.watching.status.leader import LeaderElection
from processing.watching.status.model import Lost, StatusUpdate, is_news
from processing.watching.status.scheduler import StatusReport, StatusScheduler, WatchFailure

if TYPE_CHECKING:
    import random as random_module
    import threading
    from collections.abc import Callable, Collection, Iterable
    from datetime import datetime
    from types import TracebackType

    from processing.aws.retry import RetryingApi, RetryPolicy
    from processing.watching.polling import Polling
    from processing.watching.status.model import WatchTarget
    from processing.watching.status.scheduler import StatusCall

# A call gets three tries within one second. The scheduler repeats a call that fails longer (`Outages`), and meanwhile
# it may make other calls, which a long retry would hold up.
_TRIES: Final = 3
_BUDGET: Final = 1.0
# A call gets at least five seconds, however near the deadline. A healthy call is never cut off, and a call that hangs
# delays a deadline by five seconds at most.
_GRACE: Final = 5.0
# Log lines may take this long to be read. A thread whose lines may save a Describe begins to read them this long before
# the leader would make that call.
_AHEAD: Final = 0.25
# A follower with a timeout of zero waits this long for the leader's first answer about its jobs. That is enough for one
# call with its tries (`_BUDGET`), and short for a caller that asked not to wait.
_PATIENCE: Final = 2.0


class EventSource(Protocol):
    """A source of events about jobs. A job with an event is described at once."""

    def wait(self, condition: threading.Condition, seconds: float) -> Collection[str]:
        """Return after that many seconds, or sooner: when the condition is notified, or when there is an event.

        Args:
            condition: the condition to wait on. The caller holds its lock, which is released meanwhile.
            seconds: the longest wait; may be infinite.

        Returns:
            The names of the jobs with an event; empty if there was none.
        """


@attrs.define(eq=False)
class SubscriptionState:
    """The poller's state of one subscription.

    Attributes:
        statuses: the watched jobs by name, each with the statuses that were delivered, in order.
        pending: the updates that the consumer has not collected yet.
        had_update: whether there ever was an update.
        unanswered: the jobs of a `refresh` about which there is no answer yet.
        callback: called when there are updates; None if the consumer waits in a thread.
        alarm: the monotonic moment at which the callback is called in any case; infinite for none.
        deadline: the monotonic moment until which the consumer waits for a call that hangs; infinite for no end.
        started: the start times of watched jobs, by name, once an answer has one. It is not a change of the status.
    """

    statuses: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    pending: list[StatusUpdate] = attrs.field(factory=list)
    had_update: bool = False
    unanswered: set[str] = attrs.field(factory=set)
    callback: Callable[[], None] | None = None
    alarm: float = math.inf
    deadline: float = math.inf
    started: dict[str, datetime] = attrs.field(factory=dict)


class Subscription:
    """One consumer's subscription to the status changes of some jobs.

    Close it at the end, or use it as a context manager. Its methods may be called from any thread, `wait` from one
    thread at a time.
    """

    __slots__ = ("_poller", "_state")

    def __init__(self, poller: Poller, state: SubscriptionState) -> None:
        self._poller = poller
        self._state = state

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of jobs that are still watched: neither ended nor lost."""
        return len(self._state.statuses)

    def add(self, target: WatchTarget) -> None:
        """Watch a further job."""
        self._poller.add(self._state, (target,))

    def remove(self, name: str) -> None:
        """Stop watching a job."""
        self._poller.remove(self._state, (name,))

    def close(self) -> None:
        """Stop watching all jobs."""
        self._poller.close(self._state)

    def drain(self) -> list[StatusUpdate]:
        """Return and remove the pending updates, oldest first. Never waits."""
        return self._poller.drain(self._state)

    def wait(self, until: float | None) -> bool:
        """Return when there is an update, or at that monotonic moment.

        Each job's status is read once, even if the moment has passed already.

        Args:
            until: the moment; None for no end.

        Returns:
            Whether `drain` has updates. Without an end, False means that no job is watched any more.
        """
        return self._poller.wait(self._state, until)

    def notify(self, callback: Callable[[], None] | None, until: float | None = None) -> None:
        """Call a function when there are updates. It takes the place of `wait`.

        Args:
            callback: the function, called in any thread whenever `drain` has updates; called at once if it has some
                already. It must return quickly. None ends the notification.
            until: a monotonic moment at which it is called in any case, once. It replaces the previous one.
        """
        self._poller.notify(self._state, callback, math.inf if until is None else until)

    def refresh(self) -> None:
        """Request a status call about the jobs now, ahead of schedule. Used before a deadline.

        A `wait` whose moment has passed then returns once there is an answer about each of them, or a call has failed.
        """
        self._poller.refresh(self._state)

    @property
    def awaits_answers(self) -> bool:
        """True if an answer to the calls of `refresh` is missing."""
        return bool(self._state.unanswered)

    def next_describe(self) -> float:
        """Return the monotonic moment by which log lines have to be read to save the next Describe of a job.

        It is infinite if no Describe is scheduled.
        """
        return self._poller.next_describe(self._state)

    def started_at(self, name: str) -> datetime | None:
        """Return a job's start time, if an answer about it had one. Makes no call."""
        return self._state.started.get(name)

    def record_alive(self, name: str, moment: float) -> None:
        """Record that a job was running at a moment. It then needs no status call for a while.

        Args:
            name: the job.
            moment: AWS's time in seconds since the epoch, such as the timestamp of a log line of the job.
        """
        self._poller.record_alive(name, moment)


class Poller:
    """The status of every job with a subscription. Thread-safe; a session has one.

    Args:
        api: the session's calls.
        polling: the intervals.
        event_source: reports events about jobs; None without one.
        random: the source of jitter; by default that of `api`.
    """

    def __init__(
        self,
        api: RetryingApi,
        polling: Polling,
        *,
        event_source: EventSource | None = None,
        random: random_module.Random | None = None,
    ) -> None:
        self._api = api
        self._clock = api.clock
        self._event_source = event_source
        self._policy = attrs.evolve(
            api.policy, attempts=min(_TRIES, api.policy.attempts), budget=min(_BUDGET, api.policy.budget)
        )
        self._single_try = attrs.evolve(self._policy, attempts=1, budget=0.0)
        self._scheduler = StatusScheduler(polling, api.clock, random or api.random)
        self._due_call: StatusCall | None = None
        self._subscribers: dict[str, tuple[SubscriptionState, ...]] = {}  # by name of the job
        self._leader: SubscriptionState | None = None  # None also while the callback thread leads
        self._election = LeaderElection(self, api.clock)
        self._callbacks: CallbackThread[SubscriptionState] = CallbackThread(self._election, api.clock)
        reset_after_fork(self)

    def subscribe(self, targets: Iterable[WatchTarget], *, deadline: float | None = None) -> Subscription:
        """Return a subscription to the status changes of jobs. The first `wait` makes the first call.

        Args:
            targets: the jobs.
            deadline: the monotonic moment after which the consumer does not wait for a call that hangs; None for no
                end.
        """
        state = SubscriptionState(deadline=math.inf if deadline is None else deadline)
        self.add(state, targets)
        return Subscription(self, state)

    @property
    def _lock(self) -> threading.RLock:
        return self._election.lock

    def _after_fork(self) -> None:
        self._leader = self._due_call = None

    # The methods of subscriptions.

    def add(self, state: SubscriptionState, targets: Iterable[WatchTarget]) -> None:
        """Watch jobs for a subscription."""
        with self._lock:
            for target in targets:
                if target.name not in state.statuses:
                    state.statuses[target.name] = ()
                    self._subscribers[target.name] = (*self._subscribers.get(target.name, ()), state)
                    self._scheduler.add(target)
            self._election.wake_leader()

    def remove(self, state: SubscriptionState, names: Iterable[str]) -> None:
        """Stop watching jobs for a subscription."""
        with self._lock:
            for name in names:
                if name not in state.statuses:
                    continue
                del state.statuses[name]
                state.unanswered.discard(name)
                others = tuple(other for other in self._subscribers[name] if other is not state)
                if others:
                    self._subscribers[name] = others
                else:
                    del self._subscribers[name]
                    self._scheduler.remove(name)
            self._election.wake(state)  # there may be no job left to wait for
            self._election.wake_leader()

    def close(self, state: SubscriptionState) -> None:
        """End a subscription."""
        with self._lock:
            self.remove(state, list(state.statuses))
            self.notify(state, None, math.inf)

    def drain(self, state: SubscriptionState) -> list[StatusUpdate]:
        """Return and remove a subscription's pending updates."""
        with self._lock:
            updates, state.pending = state.pending, []
            return updates

    def wait(self, state: SubscriptionState, until: float | None) -> bool:
        """Return when a subscription has updates, or at that moment. Meanwhile the thread leads or follows."""
        end = math.inf if until is None else until

        def done() -> bool:
            if awaits_all:
                return not state.unanswered
            return bool(state.pending) or (until is None and not state.statuses)

        with self._lock:
            now = self._clock.monotonic()
            awaits_all = bool(state.unanswered) and end <= now
            follow_until = max(end, now + _PATIENCE) if awaits_all or not state.had_update else end
            while not done():
                if not self._election.has_leader:
                    self._lead(state, done, end)
                    break
                if follow_until <= self._clock.monotonic():
                    break
                self._election.follow(state, follow_until)
            return bool(state.pending)

    def _lead(self, state: SubscriptionState, done: Callable[[], bool], end: float) -> None:
        self._leader = state
        try:
            self._election.lead(done, lambda: end)
        finally:
            self._leader = None

    def notify(self, state: SubscriptionState, callback: Callable[[], None] | None, alarm: float) -> None:
        """Call a function when a subscription has updates, and at the alarm."""
        with self._lock:
            now = self._clock.monotonic()
            if state.unanswered and self._election.has_leader and alarm <= now:
                alarm = now + _PATIENCE  # the leader makes the calls of `refresh`
            state.callback, state.alarm = callback, alarm
            self._callbacks.update(state)
            if callback and state.pending:
                callback()

    def refresh(self, state: SubscriptionState) -> None:
        """Request a status call about a subscription's jobs now."""
        with self._lock:
            state.unanswered = set(self._scheduler.check_now(state.statuses))
            self._election.wake_leader()

    def next_describe(self, state: SubscriptionState) -> float:
        """Return the moment by which log lines have to be read if they are to save the next Describe of a job."""
        with self._lock:
            # The leader makes that Describe on time. Another thread has to record its lines a little before.
            ahead = _AHEAD if self._election.has_leader else 0.0
            return self._scheduler.next_describe(state.statuses) - ahead

    def record_alive(self, name: str, moment: float) -> None:
        """Record that a job was running at a moment of AWS's time."""
        with self._lock:
            self._scheduler.record_alive(name, moment)

    # The methods of `Work`, which the leader calls. It holds the lock, except during a call or a sleep.

    def due(self) -> float:
        """Return when the next call is due."""
        moment, self._due_call = self._scheduler.next_call(self._rate_delay)
        return moment

    def run_due(self, seconds: float) -> bool:
        """Make the call that is due, deliver the updates, and return whether the call succeeded.

        Args:
            seconds: the time that the leader has left.
        """
        call = self._due_call
        if call is None:  # the moment has come since `due` was called: the caller asks it again
            return True
        sent = self._clock.monotonic()
        if call.single_try:
            policy = self._single_try
        else:
            policy = attrs.evolve(self._policy, budget=min(self._policy.budget, seconds))
        policy = attrs.evolve(policy, patience=max(_GRACE, self._deadline() - sent))
        try:
            answer = self._call_unlocked(call, policy)
        except Exception as error:  # noqa: BLE001 - any error may concern the consumers, who receive it as an update
            self._deliver(self._scheduler.record_failure(call, error))
            if is_not_found(error):  # an answer too
                return True
            self._expect_no_answers()
            return False
        self._deliver(self._scheduler.record_answer(call, answer, sent))
        return True

    def sleep(self, condition: threading.Condition, seconds: float) -> None:
        """Return after that time, or when the condition is notified, or when there is an event."""
        if self._event_source is None:
            self._clock.wait(condition, seconds)
        else:
            self._scheduler.check_now(self._event_source.wait(condition, seconds))

    def _deadline(self) -> float:
        """Return the earliest deadline of the consumers that depend on the leading thread."""
        states = self._callbacks.listeners if self._leader is None else (self._leader,)
        return min((state.deadline for state in states), default=math.inf)

    def _rate_delay(self, operation: str) -> float:
        """Return the seconds for which the account's rate limit holds an operation back."""
        limiter = self._api.rate_limiter(operation)
        return limiter.delay(self._clock) if limiter else 0.0

    def _call_unlocked(self, call: StatusCall, policy: RetryPolicy) -> dict[str, Any]:
        return call_unlocked(
            self._lock, lambda: self._api.call("sagemaker", call.operation, call.params, policy=policy)
        )

    def _deliver(self, results: Iterable[StatusReport | WatchFailure]) -> None:
        """Deliver updates to the subscriptions of each job. A subscription gets each status once, in order."""
        for result in results:
            name = result.job.name
            final = isinstance(result, WatchFailure) or result.job.ended
            states = self._subscribers.pop(name, ()) if final else self._subscribers.get(name, ())
            started = None if isinstance(result, WatchFailure) else result.description.get("ProcessingStartTime")
            for state in states:
                if started is not None:
                    state.started[name] = started
                delivered = state.statuses.pop(name) if final else state.statuses[name]
                if isinstance(result, WatchFailure):
                    self._append(state, Lost(name, result.error(), result.gone_at))
                elif is_news(delivered, status := result.description["ProcessingJobStatus"]):
                    if not final:
                        state.statuses[name] = (*delivered, status)
                    previous = delivered[-1] if delivered else None
                    self._append(state, StatusChanged(name, status, previous, result.description))
                if name in state.unanswered:
                    state.unanswered.discard(name)
                    if not state.unanswered:
                        self._wake_consumer(state)

    def _expect_no_answers(self) -> None:
        """Wake the consumers that await the answers of `refresh`: one call has failed, so others may fail as well."""
        for state in {id(state): state for states in self._subscribers.values() for state in states}.values():
            if state.unanswered:
                state.unanswered.clear()
                self._wake_consumer(state)

    def _append(self, state: SubscriptionState, update: StatusUpdate) -> None:
        state.pending.append(update)
        state.had_update = True
        self._wake_consumer(state)

    def _wake_consumer(self, state: SubscriptionState) -> None:
        self._election.wake(state)
        if state.callback:
            state.callback()

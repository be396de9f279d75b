"""One poller for all jobs that are watched through a session, whoever watches them.

Only waiting threads poll (`LeaderElection`): no thread runs in the background, Ctrl-C works, and a hundred waits
cost the calls of one. Consumers that cannot wait in a thread of their own share one daemon thread (`CallbackThread`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from processing.watching.events import StatusChanged
from processing.watching.status.callback_thread import CallbackThread
from processing.watching.status.leader import LeaderElection
from processing.watching.status.model import Lost, News, is_step
from processing.watching.status.scheduler import Loss, StatusScheduler, Step

if TYPE_CHECKING:
    import random as random_module
    import threading
    from collections.abc import Callable, Collection, Iterable
    from types import TracebackType

    from processing.aws.retry import RetryingApi, RetryPolicy
    from processing.watching.polling import Polling
    from processing.watching.status.model import Target
    from processing.watching.status.scheduler import Call

_TRIES: Final = 3  # of one call in a row; what fails longer is called again in its turn
_BUDGET: Final = 1.0  # seconds for them
_GRACE: Final = 5.0  # seconds that a call has in any case, however near the deadline
_AHEAD: Final = 0.25  # seconds that lines may take to be read
_PATIENCE: Final = 2.0  # seconds that a follower without any time gives the leader for its first look


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


@attrs.define(eq=False)
class SubscriptionState:
    """What the poller keeps for a subscription.

    Attributes:
        told: by name of the jobs that are watched, the status that was told; None where none was.
        news: what has not been taken yet.
        served: whether there ever was news.
        callback: told of news; None where somebody waits for them.
        alarm: the monotonic moment at which the callback is called in any case; infinite for none.
        deadline: the monotonic moment after which no call that hangs is waited for; infinite for none.
    """

    told: dict[str, str | None] = attrs.field(factory=dict)
    news: list[News] = attrs.field(factory=list)
    served: bool = False
    callback: Callable[[], None] | None = None
    alarm: float = math.inf
    deadline: float = math.inf


class Subscription:
    """Somebody's interest in some jobs. Close it at the end, or use it as a context manager.

    It belongs to one consumer, and its methods may be called from any thread; `wait` from one at a time.
    """

    __slots__ = ("_mailbox", "_poller")

    def __init__(self, poller: Poller, mailbox: SubscriptionState) -> None:
        self._poller = poller
        self._mailbox = mailbox

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return how many jobs are still watched: neither ended nor lost."""
        return len(self._mailbox.told)

    def add(self, target: Target) -> None:
        """Watch a further job."""
        self._poller.add(self._mailbox, (target,))

    def drop(self, name: str) -> None:
        """Watch a job no longer."""
        self._poller.drop(self._mailbox, (name,))

    def close(self) -> None:
        """Watch nothing any more."""
        self._poller.close(self._mailbox)

    def take(self) -> list[News]:
        """Return the news since the last time, oldest first. Never waits."""
        return self._poller.take(self._mailbox)

    def wait(self, until: float | None) -> bool:
        """Return when there is news, or that monotonic moment has come.

        The first look at a job is made at once, also where the moment has passed already.

        Args:
            until: the moment; None for no end.

        Returns:
            Whether `take` has something. False without an end: nothing is watched any more.
        """
        return self._poller.wait(self._mailbox, until)

    def notify(self, callback: Callable[[], None] | None, until: float | None = None) -> None:
        """Be told of news instead of waiting for them.

        Args:
            callback: called, in any thread, whenever `take` has something; at once where it has now. It must return
                at once, and not wait. None ends it.
            until: a monotonic moment at which it is called in any case, once; replaces the one given before.
        """
        self._poller.notify(self._mailbox, callback, math.inf if until is None else until)

    def look(self) -> None:
        """Have the jobs looked at as soon as somebody leads, whenever they are due: for who cannot wait longer."""
        self._poller.look(self._mailbox)

    def next_look(self) -> float:
        """Return the monotonic moment of the next look at one of the jobs; infinite where none is planned."""
        return self._poller.next_look(self._mailbox)

    def alive(self, name: str, moment: float) -> None:
        """Take note that a job was running then, so that it need not be looked at for a while.

        Args:
            name: the job.
            moment: AWS's time in seconds since the epoch: that of a line which the job wrote.
        """
        self._poller.alive(name, moment)


class Poller:
    """Knows the status of every job that anybody subscribes to. Safe for threads; made once per session.

    Args:
        api: the session's calls.
        polling: how often.
        wake: what says that something happened to a job; None where nothing does.
        random: where the jitter comes from; by default the same as for the calls.
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
        self._once = attrs.evolve(self._policy, attempts=1, budget=0.0)
        self._roll = StatusScheduler(polling, api.clock, random or api.random)
        self._call: Call | None = None  # what is due
        self._mailboxes: dict[str, tuple[SubscriptionState, ...]] = {}
        self._leader: SubscriptionState | None = None  # None also where the pump leads
        self._turns = LeaderElection(self, api.clock)
        self._lock = self._turns.lock
        self._pump: CallbackThread[SubscriptionState] = CallbackThread(self._turns, api.clock)

    def subscribe(self, targets: Iterable[Target], *, deadline: float | None = None) -> Subscription:
        """Return a subscription to news of jobs. Nothing is called yet: the first `wait` looks at them at once.

        Args:
            targets: the jobs.
            deadline: a monotonic moment after which a call that hangs holds nobody up for long; None for none.
        """
        mailbox = SubscriptionState(deadline=math.inf if deadline is None else deadline)
        self.add(mailbox, targets)
        return Subscription(self, mailbox)

    # What subscriptions do.

    def add(self, mailbox: SubscriptionState, targets: Iterable[Target]) -> None:
        """Watch jobs for a subscription."""
        with self._lock:
            for target in targets:
                if target.name not in mailbox.told:
                    mailbox.told[target.name] = None
                    self._mailboxes[target.name] = (*self._mailboxes.get(target.name, ()), mailbox)
                    self._roll.add(target)
            self._turns.stir()

    def drop(self, mailbox: SubscriptionState, names: Iterable[str]) -> None:
        """Watch jobs for a subscription no longer."""
        with self._lock:
            for name in names:
                if name not in mailbox.told:
                    continue
                del mailbox.told[name]
                others = tuple(other for other in self._mailboxes[name] if other is not mailbox)
                if others:
                    self._mailboxes[name] = others
                else:
                    del self._mailboxes[name]
                    self._roll.remove(name)
            self._turns.call(mailbox)  # there may be nothing left to wait for
            self._turns.stir()

    def close(self, mailbox: SubscriptionState) -> None:
        """End a subscription."""
        with self._lock:
            self.drop(mailbox, list(mailbox.told))
            self.notify(mailbox, None, math.inf)

    def take(self, mailbox: SubscriptionState) -> list[News]:
        """Return a subscription's news."""
        with self._lock:
            news, mailbox.news = mailbox.news, []
            return news

    def wait(self, mailbox: SubscriptionState, until: float | None) -> bool:
        """Return when a subscription has news, having led or followed; or at that moment."""
        end = math.inf if until is None else until

        def done() -> bool:
            return bool(mailbox.news) or (until is None and not mailbox.told)

        with self._lock:
            followed = end if mailbox.served else max(end, self._clock.monotonic() + _PATIENCE)
            while not done():
                if not self._turns.led:
                    self._lead(mailbox, done, end)
                    break
                if followed <= self._clock.monotonic():
                    break
                self._turns.follow(mailbox, followed)
            return bool(mailbox.news)

    def _lead(self, mailbox: SubscriptionState, done: Callable[[], bool], end: float) -> None:
        self._leader = mailbox
        try:
            self._turns.lead(done, lambda: end)
        finally:
            self._leader = None

    def notify(self, mailbox: SubscriptionState, callback: Callable[[], None] | None, alarm: float) -> None:
        """Call back for a subscription from now on."""
        with self._lock:
            mailbox.callback, mailbox.alarm = callback, alarm
            self._pump.listen(mailbox)
            if callback and mailbox.news:
                callback()

    def look(self, mailbox: SubscriptionState) -> None:
        """Look at a subscription's jobs soon."""
        with self._lock:
            self._roll.wake(mailbox.told)
            self._turns.stir()

    def next_look(self, mailbox: SubscriptionState) -> float:
        """Return when the next of a subscription's jobs is looked at by itself."""
        with self._lock:
            # Who leads makes that look; what another thread does instead of it has to be done a little before.
            ahead = _AHEAD if self._turns.led else 0.0
            return self._roll.next_look(mailbox.told) - ahead

    def alive(self, name: str, moment: float) -> None:
        """Take note that a job was running at a moment of AWS's time."""
        with self._lock:
            self._roll.alive(name, moment)

    # What a leader does (`Work`); the lock is held, but while a call is made or the thread sleeps.

    def due(self) -> float:
        """Return when the next call is due."""
        moment, self._call = self._roll.next(self._hold)
        return moment

    def do(self, left: float) -> bool:
        """Make the call that is due, and tell what its answer says; return whether it was answered.

        Args:
            left: the seconds that the leader has.
        """
        call = self._call
        if call is None:  # the moment came after it was asked what is due: it is asked again
            return True
        sent = self._clock.monotonic()
        policy = self._once if call.once else attrs.evolve(self._policy, budget=min(self._policy.budget, left))
        policy = attrs.evolve(policy, patience=max(_GRACE, self._deadline() - sent))
        try:
            answer = self._call_unlocked(call, policy)
        except Exception as error:  # noqa: BLE001 - whatever it is, who watches the job is to know
            self._tell(self._roll.failed(call, error))
            return False
        self._tell(self._roll.answered(call, answer, sent))
        return True

    def sleep(self, condition: threading.Condition, seconds: float) -> None:
        """Return after that time, or when there is something to do."""
        if self._wake is None:
            self._clock.wait(condition, seconds)
        else:
            self._roll.wake(self._wake.wait(condition, seconds))

    def _deadline(self) -> float:
        """Return the earliest deadline of those who depend on the thread that leads."""
        mailboxes = self._pump.listeners if self._leader is None else (self._leader,)
        return min((mailbox.deadline for mailbox in mailboxes), default=math.inf)

    def _hold(self, operation: str) -> float:
        """Return for how many seconds an operation is held back by the account's rate."""
        rate_limiter = self._api.rate_limiter(operation)
        return rate_limiter.delay(self._clock) if rate_limiter else 0.0

    def _call_unlocked(self, call: Call, policy: RetryPolicy) -> dict[str, Any]:
        self._lock.release()
        try:
            return self._api.call("sagemaker", call.operation, call.params, policy=policy)
        finally:
            self._lock.acquire()

    def _tell(self, told: Iterable[Step | Loss]) -> None:
        """Hand news on to the subscriptions that they are news for."""
        for piece in told:
            name = piece.watched.name
            final = isinstance(piece, Loss) or piece.watched.ended
            mailboxes = self._mailboxes.pop(name, ()) if final else self._mailboxes.get(name, ())
            for mailbox in mailboxes:
                previous = mailbox.told.pop(name) if final else mailbox.told[name]
                if isinstance(piece, Loss):
                    self._post(mailbox, Lost(name, piece.error()))
                elif is_step(previous, status := piece.description["ProcessingJobStatus"]):
                    if not final:
                        mailbox.told[name] = status
                    self._post(mailbox, StatusChanged(name, status, previous, piece.description))

    def _post(self, mailbox: SubscriptionState, news: News) -> None:
        mailbox.news.append(news)
        mailbox.served = True
        self._turns.call(mailbox)
        if mailbox.callback:
            mailbox.callback()

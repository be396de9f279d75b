"""One job of a pool: its hosts, the calls that they have, and the threads that serve them.

The owner sends the calls of each host to a queue of its own. So it knows the calls of a host that dies. It also sends
signs of life to all hosts. A host that receives none ends, so a pool does not outlive its owner for long.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.exceptions import JobError, RemoteFunctionError, ServiceError
from processing.remote_function.futures import in_background
from processing.remote_function.mapping.results import CallResult
from processing.remote_function.results import failure_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from processing.clock import Clock
    from processing.job.job import ProcessingJob
    from processing.remote_function.pool.messages import OutgoingCall, PoolValues
    from processing.remote_function.pool.queues import PoolQueues

SIGN_SECONDS: Final = 20.0
"""The interval of the owner's signs of life. A host that misses four of them ends."""
_PAUSE: Final = 1.0
"""The pause after a failed call to SQS, which the session has already repeated."""
_END_SECONDS: Final = 60.0
"""The longest wait for the hosts' last messages after the end of a pool."""
_SHORT: Final = 1.0
"""The seconds below which calls are short: a worker then has the next ones waiting beside it."""
_WAITING_CALLS: Final = 2
"""The short calls of a worker: the one that runs, and the next one. A host that dies loses no more than these."""
_WEIGHT: Final = 0.2
"""The weight of the newest call in the average duration: after five other calls two thirds of it are theirs."""

logger = logging.getLogger(__name__)


@attrs.define
class _Host:
    """A host as its owner sees it.

    Args:
        number: its position.
        workers: the number of its worker processes; 0 until it is ready.
        calls: the calls that it has, by their numbers.
        ended: True after its last message.
    """

    number: int
    workers: int = 0
    calls: dict[int, OutgoingCall] = attrs.field(factory=dict)
    ended: bool = False


class PoolJob:
    """A job of a pool and its queues.

    Args:
        job: the job, which has been started.
        queues: its queues.
        values: the packed values of the pool.
        clock: the session's clock.
        idle: the seconds without a call after which the job ends.
        on_end: is called when no further calls can be given to it.
        on_leave: is called once, when its calls have outcomes and its queues are removed.

    Attributes:
        job: the job.
        has_left: True when its calls have outcomes and its queues are removed.
    """

    def __init__(
        self,
        job: ProcessingJob,
        queues: PoolQueues,
        values: PoolValues,
        clock: Clock,
        idle: float,
        on_end: Callable[[PoolJob], None],
        on_leave: Callable[[], None],
    ) -> None:
        self.job = job
        self._queues = queues
        self._values = values
        self._clock = clock
        self._idle = idle
        self._on_end = on_end
        self._on_leave = on_leave
        self._hosts = {f"algo-{number + 1}": _Host(number) for number in range(len(queues.calls))}
        self._waiting: collections.deque[OutgoingCall] = collections.deque()
        self._changed = threading.Condition()
        self._closing = self._ended = self.has_left = False
        self._settled = threading.Event()  # every call of the ended job has an outcome
        self._seconds = 0.0
        self._last_sign = self._last_use = clock.monotonic()
        self._watching: Future[None] | None = None
        self._sender = threading.Thread(target=self._send, name="remote-pool-send", daemon=True)
        self._receiver = threading.Thread(target=self._receive, name="remote-pool-receive", daemon=True)

    @property
    def workers(self) -> int:
        """The worker processes of the hosts that take calls."""
        with self._changed:
            return sum(host.workers for host in self._hosts.values() if not host.ended)

    @property
    def _has_started(self) -> bool:
        """True if a host was ready, even if it has ended."""
        with self._changed:
            return any(host.workers for host in self._hosts.values())

    def start(self) -> None:
        """Begin to serve the hosts."""
        self._watching = in_background(self._watch())
        self._sender.start()
        self._receiver.start()

    def discard(self) -> None:
        """End a job whose threads could not be started, without an outcome for its calls."""
        with self._changed:
            self._closing = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._sender.ident is None:  # otherwise it ends the job
            for end in (self.job.stop, self._queues.delete):
                with contextlib.suppress(Exception):
                    end()
        self._stop_watching()

    def add(self, call: OutgoingCall) -> bool:
        """Give a call to the job. Return False if it is ending."""
        with self._changed:
            if self._closing or self._ended:
                return False
            self._waiting.append(call)
            self._changed.notify_all()
        call.future.add_done_callback(lambda _: self._drop_cancelled(call))
        return True

    def _drop_cancelled(self, call: OutgoingCall) -> None:
        """Remove a cancelled call from the waiting ones, and notify the threads that wait for it.

        The standard `wait` and `as_completed` return a cancelled future only after such a notification.
        """
        if not call.future.cancelled():
            return
        with self._changed:
            if call not in self._waiting:
                return
            self._waiting.remove(call)
            self._changed.notify_all()
        call.future.set_running_or_notify_cancel()

    def close(self, *, cancel: bool) -> None:
        """End the job when it has no calls left.

        Args:
            cancel: True to cancel the calls that no host has.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if cancel:
            for call in self.take_waiting():
                call.future.cancel()
                call.future.set_running_or_notify_cancel()

    def join(self) -> None:
        """Wait until all calls have outcomes, and the hosts have announced their end."""
        self._sender.join()

    def order_close(self) -> None:
        """Order the hosts to end and to remove queues and objects, as the last act of a program that does not wait."""
        with contextlib.suppress(Exception):
            self._queues.send_abandon()

    async def _watch(self) -> None:
        """Wait for the job's end."""
        from processing.watching.aio import in_thread

        error: Exception | None = None
        try:
            with contextlib.suppress(JobError):
                await self.job.wait_async(logs=False, quiet=True)
        except Exception as lost:  # noqa: BLE001 - the watch has ended: no result can be awaited
            error = lost
        await in_thread(lambda: self._job_ended(error))

    def _job_ended(self, lost: Exception | None) -> None:
        with contextlib.suppress(Exception):  # the last results
            while self._queues.receive(self._handle, seconds=0):
                pass
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            calls = [call for host in self._hosts.values() for call in host.calls.values()]
            waiting: list[OutgoingCall] = []
            if not self._has_started:  # another job would end in the same way
                waiting += self._waiting
                self._waiting.clear()
        try:
            if calls or waiting:
                error = lost or self._reason_of_end()
                for call in calls:
                    self._finish(call, CallResult(error=error))
                for call in waiting:
                    if call.future.set_running_or_notify_cancel():
                        call.future.set_exception(error)
        finally:
            self._settled.set()
        self._on_end(self)

    def _reason_of_end(self) -> BaseException:
        """Return the error of the calls that an ended job leaves without an outcome."""
        text = f"pool {self.job.job_name}: the job has ended"
        try:
            description = self.job.describe()
            if description["ProcessingJobStatus"] != "Completed":
                return failure_of(self.job, description)
        except Exception as error:  # noqa: BLE001 - the calls need an outcome, even if AWS is out of reach
            return RemoteFunctionError(f"{text}, and its status cannot be read: {error}")
        return RemoteFunctionError(text)

    def take_waiting(self) -> list[OutgoingCall]:
        """Take the calls that no host has had, and return them."""
        with self._changed:
            calls = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            return calls

    # The thread that sends.

    def _send(self) -> None:
        while self._wait_for_work():
            for number, calls in self._given_calls().items():
                self._send_to(number, calls)
            if self._clock.monotonic() - self._last_sign >= SIGN_SECONDS:
                self._send_sign()
        self._end()

    def _send_sign(self) -> None:
        try:
            self._queues.send_sign_of_life()
        except Exception as error:  # noqa: BLE001 - SQS may be out of reach for a while
            logger.warning("pool %s: no sign of life could be sent: %s", self.job.job_name, error)
            self._clock.sleep(_PAUSE)
        else:
            self._last_sign = self._clock.monotonic()

    def _send_to(self, number: int, calls: list[OutgoingCall]) -> None:
        try:
            self._queues.send_calls(number, calls)
        except Exception as error:  # noqa: BLE001 - whatever it is, these calls have no way to a host
            for call in calls:
                self._finish(call, CallResult(error=ServiceError(f"{call.name}: could not be sent: {error}")))

    def _wait_for_work(self) -> bool:
        """Wait until there is something to send. Return False at the end."""
        with self._changed:
            while True:
                if self._ended:
                    return False
                busy = bool(self._waiting) or any(host.calls for host in self._hosts.values())
                now = self._clock.monotonic()
                if busy:
                    self._last_use = now
                elif self._closing:
                    return False
                elif now - self._last_use >= self._idle:
                    self._closing = True
                    return False
                if self._waiting and self._free_host() is not None:
                    return True
                if now - self._last_sign >= SIGN_SECONDS:
                    return True
                due = self._last_sign + SIGN_SECONDS - now
                self._clock.wait(self._changed, due if busy else min(due, self._last_use + self._idle - now))

    def _free_host(self) -> _Host | None:
        """Return the host with the most room for calls; None if all are full or have ended."""
        factor = _WAITING_CALLS if self._seconds < _SHORT else 1
        rooms = [(host.workers * factor - len(host.calls), host) for host in self._hosts.values() if not host.ended]
        room, host = max(rooms, key=lambda each: each[0], default=(0, None))
        return host if room > 0 else None

    def _given_calls(self) -> dict[int, list[OutgoingCall]]:
        """Give waiting calls to hosts; return those of each host."""
        given: dict[int, list[OutgoingCall]] = collections.defaultdict(list)
        with self._changed:
            while self._waiting and not self._ended and (host := self._free_host()) is not None:
                call = self._waiting.popleft()
                if call.future.set_running_or_notify_cancel():
                    host.calls[call.number] = call
                    given[host.number].append(call)
        return given

    def _end(self) -> None:
        """Order the hosts to end, and remove the queues after their last messages."""
        if not self._ended:
            self._on_end(self)
            try:
                if not self._has_started:  # a queue would have to wait for it
                    self.job.stop()
                else:
                    self._queues.send_close()
                    self._wait_for_ends()
            except Exception as error:  # noqa: BLE001 - the hosts end without signs of life, too
                logger.warning("pool %s: could not be closed: %s", self.job.job_name, error)
        if self._ended:
            self._settled.wait()
        self._queues.delete()
        self._stop_watching()
        self.has_left = True
        self._on_leave()

    def _stop_watching(self) -> None:
        """Ask for the job's status no longer: all calls have outcomes, and the session may lead nowhere from now on."""
        with self._changed:
            if not self._ended and self._watching is not None:
                self._watching.cancel()

    def _wait_for_ends(self) -> None:
        deadline = self._clock.monotonic() + _END_SECONDS
        with self._changed:
            while not self._ended and not all(host.ended for host in self._hosts.values()):
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    return
                self._clock.wait(self._changed, left)

    # The thread that receives.

    def _receive(self) -> None:
        while True:
            try:
                if not self._queues.receive(self._handle):
                    return
            except Exception as error:  # noqa: BLE001 - SQS may be out of reach for a while
                logger.warning("pool %s: no results can be received: %s", self.job.job_name, error)
                self._clock.sleep(_PAUSE)
            with self._changed:
                if self._ended or all(host.ended for host in self._hosts.values()):
                    return

    def _handle(self, message: dict[str, Any]) -> None:
        if message["kind"] == "result":
            self._handle_result(message)
            return
        with self._changed:
            host = self._hosts[message["host"]]
            if message["kind"] == "ready":
                host.workers = int(message["workers"])
            else:
                host.ended = True
            self._changed.notify_all()

    def _handle_result(self, message: dict[str, Any]) -> None:
        with self._changed:
            calls = [host.calls[message["number"]] for host in self._hosts.values() if message["number"] in host.calls]
        for call in calls:
            outcome = call.outcome(message, self._values.read)
            if outcome is None:
                logger.warning("%s: a result without the proof of its host was ignored", call.name)
                continue
            self._seconds += _WEIGHT * (float(message["seconds"]) - self._seconds)
            self._finish(call, outcome)

    def _finish(self, call: OutgoingCall, outcome: CallResult) -> None:
        """Set the outcome of a host's call, unless another thread does: the one that takes the call from its host."""
        with self._changed:
            taken = [host.calls.pop(call.number, None) for host in self._hosts.values()]
            self._changed.notify_all()
        if not any(taken):
            return
        if outcome.error is not None:
            call.future.set_exception(outcome.error)
        else:
            call.future.set_result(outcome.value)

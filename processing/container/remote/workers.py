"""The worker processes of one host: they take calls, and each call gets exactly one outcome.

A worker that dies loses the call that it was running, and no other. The calls that it had not started go to others. A
call runs a second time only with `retries`. One thread does everything, so a fork never copies a held lock.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import selectors
import signal
import time
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Tuple

from .worker import (
    KILLED,
    LOAD_FAILED,
    READY,
    RETURNED,
    SPILLED,
    STARTED,
    TIMEOUT,
    Frame,
    Load,
    Worker,
    out_of_memory_kills,
    processors,
)

_CHUNK_SECONDS = 0.05
"""The time that the calls of a chunk of automatic size should take: long beside a message, short beside a map."""
_LARGEST_CHUNK = 1000
"""The calls of a chunk at most: the worker announces each of them before it starts, however short it is."""
_FAILED_STARTS = 3
"""The workers in a row that may die before they are ready. Then the remaining calls have no chance."""
_WEIGHT = 0.2
"""The weight of the newest call in the average duration, which sets the size of chunks."""
_SHARE = 4
"""The chunks that are left for each worker, so that all of them end at about the same time."""


class CallLimits(NamedTuple):
    """The rules for the calls of a host.

    Attributes:
        workers: the number of worker processes; 0 for one per processor.
        timeout: the longest time of a call in seconds; None for no limit.
        retries: the times that a call may run again.
        retry_killed: whether a call may run again after its worker died.
        retry_timeout: whether it may run again after it exceeded its time.
        chunksize: the calls that a worker gets at once; 0 for a number that follows from their duration.
    """

    workers: int = 0
    timeout: Optional[float] = None
    retries: int = 0
    retry_killed: bool = True
    retry_timeout: bool = True
    chunksize: int = 0


class CallOutcome(NamedTuple):
    """The end of one call.

    Attributes:
        call: the call's number.
        kind: `VALUE`, `ERROR`, `TIMEOUT` or `KILLED` of the module `worker`.
        data: the packed value or exception; for `TIMEOUT` and `KILLED` JSON with `message` and `exit_code`.
        path: a file with the data in place of `data`; None otherwise. The receiver removes it.
        attempts: how often the call was started.
        seconds: the time that it took; 0 if its worker did not end it.
    """

    call: int
    kind: int
    data: bytes
    path: Optional[str]
    attempts: int
    seconds: float = 0.0


class Workers:
    """The worker processes of a host.

    Args:
        load: loads the function; it runs in each worker.
        limits: the rules for calls.
        deliver: receives each outcome, in the order in which calls end.
        folder: an existing folder for large outcomes.

    Attributes:
        count: the number of workers at most.
    """

    def __init__(self, load: Load, limits: CallLimits, deliver: Callable[[CallOutcome], None], folder: str) -> None:
        self.count = limits.workers or processors()
        self._load = load
        self._limits = limits
        self._deliver = deliver
        self._folder = folder
        self._threads = max(1, processors() // self.count)
        self._waiting: Deque[Tuple[int, Any]] = collections.deque()
        self._tasks: Dict[int, Any] = {}
        self._attempts: Dict[int, int] = {}
        self._workers: List[Worker] = []
        self._failed_starts = 0
        self._cannot_start = False
        self._load_error: Optional[Tuple[int, bytes]] = None
        self._seconds: Optional[float] = None
        self._memory_kills = out_of_memory_kills()
        self._watched: List[int] = []
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        # A worker's end has to wake the loop even if its children keep its connection open.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    @property
    def cannot_start(self) -> bool:
        """True if calls have failed because no worker could load the function."""
        return self._cannot_start

    @property
    def unfinished(self) -> int:
        """The calls that have no outcome yet."""
        return len(self._tasks)

    def add(self, call: int, task: Any) -> None:
        """Add a call. Its outcome comes from a later `step`."""
        self._tasks[call] = task
        self._waiting.append((call, task))

    def watch(self, descriptor: int) -> None:
        """Let `step` return as soon as another file descriptor can be read. Workers do not keep it open."""
        self._watched.append(descriptor)
        self._selector.register(descriptor, selectors.EVENT_READ)

    def step(self, seconds: Optional[float]) -> bool:
        """Start calls on free workers, and deliver the outcomes that arrive within some seconds; None for any time.

        Returns:
            True if a watched file descriptor can be read.
        """
        self._start_workers()
        self._give_calls()
        ready = {key.fd for key, _ in self._selector.select(self._patience(seconds))}
        child_ended = self._wake_read in ready
        if child_ended:
            with contextlib.suppress(OSError):
                os.read(self._wake_read, 4096)
        for worker in list(self._workers):
            closed = False
            if worker.connection.fileno() in ready:
                frames, closed = worker.receive()
                self._handle(worker, frames)
            if closed or (child_ended and worker.has_ended()):
                self._handle_end(worker)
        self._end_late_calls()
        return not ready.isdisjoint(self._watched)

    def close(self) -> None:
        """Kill all workers. Calls without an outcome get none."""
        for worker in self._workers:
            self._selector.unregister(worker.connection)
            worker.kill()
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _start_workers(self) -> None:
        free = sum(not worker.calls for worker in self._workers)
        chunks = -(-len(self._waiting) // (self._limits.chunksize or 1))
        wanted = min(self.count - len(self._workers), chunks - free)
        for _ in range(wanted):
            close = [self._wake_read, self._wake_write, self._selector_descriptor(), *self._watched]
            close += [worker.connection.fileno() for worker in self._workers]
            worker = Worker(self._load, self._folder, self._threads, close)
            self._workers.append(worker)
            self._selector.register(worker.connection, selectors.EVENT_READ)

    def _selector_descriptor(self) -> int:
        fileno = getattr(self._selector, "fileno", lambda: -1)
        return int(fileno())

    def _give_calls(self) -> None:
        for worker in self._workers:
            if not self._waiting:
                return
            if worker.ready and not worker.calls:
                size = min(self._chunk(), len(self._waiting))
                tasks = [self._waiting.popleft() for _ in range(size)]
                # A dead worker has started nothing: its calls are taken back when its end is handled.
                with contextlib.suppress(OSError):
                    worker.send(tasks)

    def _chunk(self) -> int:
        if self._limits.chunksize:
            return self._limits.chunksize
        if self._seconds is None:
            return 1
        share = max(1, len(self._waiting) // (_SHARE * self.count))
        return max(1, min(share, _LARGEST_CHUNK, int(_CHUNK_SECONDS / max(self._seconds, 1e-6))))

    def _patience(self, seconds: Optional[float]) -> Optional[float]:
        times = [] if seconds is None else [seconds]
        if self._limits.timeout is not None:
            now = time.monotonic()
            started = [worker.started for worker in self._workers if worker.started is not None]
            times += [max(0.0, start + self._limits.timeout - now) for start in started]
        return min(times) if times else None

    def _handle(self, worker: Worker, frames: List[Frame]) -> None:
        for frame in frames:
            if frame.kind == READY:
                worker.ready = True
                self._failed_starts = 0
                self._load_error = None
            elif frame.kind == LOAD_FAILED:
                self._load_error = (frame.outcome, frame.data)
            elif frame.kind == STARTED:
                worker.started = time.monotonic()
                self._attempts[frame.call] = self._attempts.get(frame.call, 0) + 1
            else:
                self._end_call(worker, frame)

    def _end_call(self, worker: Worker, frame: Frame) -> None:
        worker.started = None
        worker.calls.remove(frame.call)
        before = frame.seconds if self._seconds is None else self._seconds
        self._seconds = before + _WEIGHT * (frame.seconds - before)
        path = os.fsdecode(frame.data) if frame.kind == SPILLED else None
        assert frame.kind in {RETURNED, SPILLED}
        if frame.retry and self._may_retry(frame.call):
            if path is not None:
                os.unlink(path)  # noqa: PTH108 - a host uses os throughout
            self._repeat(frame.call)
        else:
            data = b"" if path is not None else frame.data
            self._finish(frame.call, frame.outcome, data, path, frame.seconds)

    def _may_retry(self, call: int) -> bool:
        return self._attempts.get(call, 0) <= self._limits.retries

    def _repeat(self, call: int) -> None:
        self._waiting.append((call, self._tasks[call]))

    def _finish(self, call: int, kind: int, data: bytes, path: Optional[str] = None, seconds: float = 0.0) -> None:
        del self._tasks[call]
        self._deliver(CallOutcome(call, kind, data, path, self._attempts.pop(call, 0), seconds))

    def _handle_end(self, worker: Worker) -> None:
        """Handle the end of a worker: its running call is lost, the calls after it go to others."""
        self._handle(worker, worker.receive_rest())
        code = self._remove(worker)
        running, self._waiting = self._take_back(worker)
        if running is not None:
            if self._limits.retry_killed and self._may_retry(running):
                self._repeat(running)
            else:
                self._finish(running, KILLED, self._killed_text(code))
        if not worker.ready:
            self._failed_starts += 1
            if self._load_error is not None:
                self._fail_waiting(*self._load_error)
            elif self._failed_starts >= _FAILED_STARTS:
                self._fail_waiting(KILLED, self._killed_text(code, "while it loaded the function"))

    def _remove(self, worker: Worker) -> int:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.connection)
        self._workers.remove(worker)
        return worker.end()

    def _take_back(self, worker: Worker) -> Tuple[Optional[int], Deque[Tuple[int, Any]]]:
        """Return the running call of a removed worker, and the waiting calls with those that it gives back."""
        rest = worker.calls
        running = rest[0] if worker.started is not None and rest else None
        untouched = rest[1:] if running is not None else rest
        returned = [(call, self._tasks[call]) for call in untouched if call in self._tasks]
        return running, collections.deque([*returned, *self._waiting])

    def _killed_text(self, code: int, moment: str = "while it ran the call") -> bytes:
        kills = out_of_memory_kills()
        text = "the worker process ended %s, with exit code %d" % (moment, code)
        if code < 0:
            with contextlib.suppress(ValueError):
                text = "the worker process was killed by %s %s" % (signal.Signals(-code).name, moment)
        if kills > self._memory_kills and code == -signal.SIGKILL:
            text += ": memory ran out. Use an instance type with more memory, or fewer workers"
        self._memory_kills = kills
        exit_code = 128 - code if code < 0 else code
        return json.dumps({"message": text, "exit_code": exit_code}).encode()

    def _end_late_calls(self) -> None:
        timeout = self._limits.timeout
        if timeout is None:
            return
        now = time.monotonic()
        late = [each for each in self._workers if each.started is not None and each.started + timeout <= now]
        for worker in late:
            self._handle(worker, worker.receive_rest())
            if worker.started is None or worker.started + timeout > now:
                continue  # it ended just in time
            worker.kill()
            self._remove(worker)
            running, self._waiting = self._take_back(worker)
            assert running is not None
            if self._limits.retry_timeout and self._may_retry(running):
                self._repeat(running)
            else:
                text = "the call took longer than its timeout of %g seconds" % timeout
                self._finish(running, TIMEOUT, json.dumps({"message": text, "exit_code": None}).encode())

    def _fail_waiting(self, kind: int, data: bytes) -> None:
        """Give this outcome to every call that no worker has: a new worker could not run them either."""
        self._cannot_start = True
        waiting, self._waiting = self._waiting, collections.deque()
        for call, _ in waiting:
            self._finish(call, kind, data)

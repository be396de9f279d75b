"""One worker process of a host: its start, its frames, and its end.

The host forks each worker before any code of the user is loaded, so a fork copies no thread and no open connection of
the user's. A worker loads the function, announces that it is ready, and executes one call after another. It announces
each call before it starts it: after a death, the host knows which call was running.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import struct
import sys
import time
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, NoReturn, Optional, Sequence, Tuple, Union

READY, LOAD_FAILED, STARTED, RETURNED, SPILLED = 0, 1, 2, 3, 4
"""The kinds of frames from a worker. It is ready for calls, cannot load the function, has started a call, has its
outcome, or has its outcome in a file.
"""

VALUE, ERROR, TIMEOUT, KILLED = 0, 1, 2, 3
"""The kinds of outcomes: a packed value, a packed exception, and two texts for calls that a worker did not end."""

_FRAME = struct.Struct(">BqBBdQ")
"""The head of a frame: kind, call, kind of outcome, whether a retry may help, seconds, and the bytes that follow."""
_CHUNK = struct.Struct(">Q")

SPILL_BYTES = 1 << 20
"""The size from which an outcome passes through a file: the host then needs no memory for it."""
_READ_BYTES = 1 << 18
_EXIT_SECONDS = 0.5
"""The time for a process that has closed its connection to end by itself, before it is killed."""
_PR_SET_PDEATHSIG = 1

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""The variables that limit the threads of numeric libraries: each worker gets its share of the processors."""

Buffers = Union[bytes, Sequence[Any]]
"""The bytes of an outcome, whole or as a sequence of buffers."""


class Executed(NamedTuple):
    """The outcome of a call in its worker.

    Attributes:
        kind: `VALUE` or `ERROR`.
        data: the packed value or exception.
        retry: whether the exception is one for which the call may be repeated.
    """

    kind: int
    data: Buffers
    retry: bool = False


class LoadedFunction(NamedTuple):
    """The user's part of a worker.

    Attributes:
        execute: runs the task of one call. It catches every exception of the user's code.
    """

    execute: Callable[[Any], Executed]


Load = Callable[[], Union[LoadedFunction, bytes]]
"""Loads the function in a worker; returns its packed exception if that fails."""


class Frame(NamedTuple):
    """A message from a worker to its host. `data` is the path of a file if `kind` is `SPILLED`."""

    kind: int
    call: int
    outcome: int
    retry: bool
    seconds: float
    data: bytes


class Worker:
    """A worker process, as its host sees it.

    Args:
        load: loads the function; runs in the worker.
        folder: the folder for large outcomes.
        threads: the threads that numeric libraries of the worker may use.
        close: the file descriptors of the host that the worker must not keep open.

    Attributes:
        pid: the process, which leads a process group of its own.
        calls: the calls that the worker has and has not ended, in their order.
        started: the time, by the monotonic clock, at which the running call started; None between calls.
        ready: whether the function is loaded.
    """

    def __init__(self, load: Load, folder: str, threads: int, close: Iterable[int]) -> None:
        self.connection, far = socket.socketpair()
        self.calls: List[int] = []
        self.started: Optional[float] = None
        self.ready = False
        self._buffer = bytearray()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run(far, load, folder, threads, [*close, self.connection.fileno()])
        far.close()
        self.connection.settimeout(0)
        with contextlib.suppress(OSError):  # the worker does the same: one of both is first
            os.setpgid(self.pid, self.pid)

    def send(self, tasks: Sequence[Tuple[int, Any]]) -> None:
        """Give calls to a worker that has none.

        Raises:
            OSError: the worker is dead.
        """
        self.calls = [call for call, _ in tasks]
        data = pickle.dumps(list(tasks), protocol=4)
        self.connection.settimeout(None)  # an idle worker reads at once
        try:
            self.connection.sendall(_CHUNK.pack(len(data)) + data)
        finally:
            self.connection.settimeout(0)

    def receive(self) -> Tuple[List[Frame], bool]:
        """Return the frames that have arrived whole, and whether the worker has closed its connection."""
        closed = False
        try:
            data = self.connection.recv(_READ_BYTES)
        except BlockingIOError:
            data = b""
        except OSError:
            closed, data = True, b""
        else:
            closed = not data
        self._buffer += data
        return self._frames(), closed

    def receive_rest(self) -> List[Frame]:
        """Return the whole frames that a dead worker has left in its connection."""
        frames: List[Frame] = []
        while True:
            try:
                data = self.connection.recv(_READ_BYTES)
            except OSError:  # also: nothing more, while a child of the worker keeps the connection open
                data = b""
            if not data:
                return frames
            self._buffer += data
            frames += self._frames()

    def _frames(self) -> List[Frame]:
        frames, position = [], 0
        while len(self._buffer) - position >= _FRAME.size:
            kind, call, outcome, retry, seconds, size = _FRAME.unpack_from(self._buffer, position)
            end = position + _FRAME.size + size
            if len(self._buffer) < end:
                break
            data = bytes(self._buffer[position + _FRAME.size : end])
            frames.append(Frame(kind, call, outcome, bool(retry), seconds, data))
            position = end
        del self._buffer[:position]
        return frames

    def has_ended(self) -> bool:
        """Return whether the process has ended. It can still be reaped."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def kill(self) -> None:
        """Kill the worker and its children."""
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):  # before the worker leads its group
            os.kill(self.pid, signal.SIGKILL)

    def end(self) -> int:
        """Reap the process, after a kill if it does not end by itself. Return its exit code as Python gives it."""
        deadline = time.monotonic() + _EXIT_SECONDS
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(0.002)
        self.kill()  # before it is reaped: the number of the group is then no other's
        self.connection.close()
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return -signal.SIGKILL
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _run(connection: socket.socket, load: Load, folder: str, threads: int, close: Iterable[int]) -> NoReturn:
    """Be the worker. Nothing of the host's program runs after this: no handler, no `finally`."""
    code = 1
    try:
        os.setpgid(0, 0)
        _die_with_parent()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(-1)
        for descriptor in close:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        for name in _THREAD_VARIABLES:
            os.environ.setdefault(name, str(threads))
        _serve(connection, load, folder)
        code = 0
    except BaseException as error:  # noqa: BLE001 - the interpreter's own handler must not run in a fork
        print("remote function: a worker failed: %r" % (error,), file=sys.stderr)  # noqa: T201 - the job's log
    finally:
        _flush()
        os._exit(code)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its host's process dies. Elsewhere an idle worker notices the end of file."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _serve(connection: socket.socket, load: Load, folder: str) -> None:
    loaded = load()
    if not isinstance(loaded, LoadedFunction):
        _send(connection, LOAD_FAILED, -1, Executed(ERROR, loaded), 0.0)
        return
    connection.sendall(_FRAME.pack(READY, -1, 0, 0, 0.0, 0))
    while True:
        tasks = _read_tasks(connection)
        if tasks is None:
            return
        for call, task in tasks:
            connection.sendall(_FRAME.pack(STARTED, call, 0, 0, 0.0, 0))
            start = time.monotonic()
            executed = loaded.execute(task)
            seconds = time.monotonic() - start
            _flush()
            _return(connection, folder, call, executed, seconds)


def _return(connection: socket.socket, folder: str, call: int, executed: Executed, seconds: float) -> None:
    buffers = _buffers(executed.data)
    if sum(map(len, buffers)) < SPILL_BYTES:
        _send(connection, RETURNED, call, executed, seconds)
        return
    path = os.path.join(folder, "%d-%d" % (call, os.getpid()))  # noqa: PTH118 - a host uses os.path throughout
    with open(path, "wb") as file:  # noqa: PTH123 - the same
        file.writelines(buffers)
    _send(connection, SPILLED, call, executed._replace(data=os.fsencode(path)), seconds)


def _send(connection: socket.socket, kind: int, call: int, executed: Executed, seconds: float) -> None:
    buffers = _buffers(executed.data)
    size = sum(map(len, buffers))
    head = _FRAME.pack(kind, call, executed.kind, executed.retry, seconds, size)
    connection.sendall(b"".join([head, *buffers]))


def _buffers(data: Buffers) -> List[memoryview]:
    parts: Sequence[Any] = [data] if isinstance(data, bytes) else data
    return [memoryview(part).cast("B") for part in parts]


def _read_tasks(connection: socket.socket) -> Optional[List[Tuple[int, Any]]]:
    head = _read(connection, _CHUNK.size)
    body = None if head is None else _read(connection, _CHUNK.unpack(head)[0])
    if body is None:
        return None
    tasks: List[Tuple[int, Any]] = pickle.loads(body)  # noqa: S301 - from the host, its own process
    return tasks


def _read(connection: socket.socket, size: int) -> Optional[bytes]:
    parts, missing = [], size
    while missing:
        data = connection.recv(min(missing, _READ_BYTES))
        if not data:
            return None
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def processors() -> int:
    """Return the number of processors that this process may use, by its affinity and by the limit of its container."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:  # noqa: PTH123 - as above
            quota, period = file.read().split()
        count = min(count, max(1, int(quota) // int(period)))
    return count


def out_of_memory_kills() -> int:
    """Return how many processes of this container the kernel has killed for lack of memory; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError):
        with open("/sys/fs/cgroup/memory.events", encoding="ascii") as file:  # noqa: PTH123 - as above
            events: Dict[str, str] = dict(line.split() for line in file)
        return int(events.get("oom_kill", "0"))
    return 0

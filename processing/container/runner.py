"""Runner for one program: turns its output into log messages, stops it, limits its time and kills its leftovers.

The program runs in a process group of its own. The run ends when the process that was started ends, as with a
container. Children that it leaves behind are killed. A child that holds stdout open does not delay the end.

One thread runs an event loop over the two output pipes, the report pipe and a wake-up pipe. A second thread waits for
the end of the process and writes to the wake-up pipe.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from processing.container.lines import LineSplitter

Emit = Callable[[List[Tuple[int, str]]], None]
"""Receives messages in order, each with the time in milliseconds since the epoch at which it was read."""

FLUSH_AFTER = 0.02
"""The seconds that a message waits for others before it is emitted: fewer, larger batches cost less to store."""
FLUSH_BYTES = 1 << 20
"""The characters of waiting messages that are emitted at once."""
DRAIN_QUIET = 0.05
"""The seconds without output, after the end and with the pipe still open, after which the runner stops reading."""
DRAIN_LIMIT = 2.0
"""The most seconds after the end during which the runner reads the output of surviving children."""
_READ_SIZE = 1 << 16

TIMED_OUT = "max-runtime"
"""`ProgramExit.stop_reason` of a program that exceeded its time limit."""


class Program(NamedTuple):
    """A program to start.

    Attributes:
        argv: the program and its arguments.
        env: the whole environment.
        cwd: the working directory.
        report: two ends of a pipe (read, write), for a sandbox that starts the program in a session of its own. The
            sandbox inherits the second end and writes `{"child-pid": N}` to it, where N is the leader of the group.
        signal: a function that signals a program outside the command's group, as in a container. It returns False if
            there is no program to receive the signal.
        inherited: further descriptors that the program inherits.
        preexec: a function that the new process calls before it becomes the program, as to change its user.
        wake: a descriptor that becomes readable when `should_stop` has a new answer, which is then asked at once; None
            if the next tick is early enough.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    report: Optional[Tuple[int, int]] = None
    signal: Optional[Callable[[int], bool]] = None
    inherited: Sequence[int] = ()
    preexec: Optional[Callable[[], None]] = None
    wake: Optional[int] = None


class RunLimits(NamedTuple):
    """Time limits of a run, in seconds.

    Attributes:
        tick: the interval of calls of `should_stop`. The program's own end is noticed at once.
        grace: the time between SIGTERM and SIGKILL.
        max_runtime: the time from start to SIGTERM; None for no limit.
    """

    tick: float = 0.05
    grace: float = 120.0
    max_runtime: Optional[float] = None


class ProgramExit(NamedTuple):
    """The end of a program.

    Attributes:
        exit_code: 0 to 255; 128 plus the signal if a signal ended the program, as in a shell.
        stop_reason: the answer of `should_stop`, or `TIMED_OUT`; None if the program ended by itself.
    """

    exit_code: int
    stop_reason: Optional[str]


def run_program(
    program: Program,
    emit: Emit,
    limits: RunLimits,
    should_stop: Callable[[], Optional[str]] = lambda: None,
    on_start: Callable[[int], None] = lambda _group: None,
    emit_stderr: Optional[Emit] = None,
) -> ProgramExit:
    """Run a program to its end.

    Args:
        program: the program to start.
        emit: receives each batch of messages, in this thread and before this function returns.
        limits: tick, grace and time limit.
        should_stop: is called once a tick. A result other than None stops the program and is the reason for it.
        on_start: receives the id of the program's process group as soon as it is known.
        emit_stderr: receives the messages of stderr; by default `emit` does.

    Raises:
        OSError: the program cannot be started. Errors of `emit` and `should_stop` are raised too, after the program is
            killed.
    """
    return _Run(program, emit, limits, should_stop, on_start, emit_stderr).run()


def _open_empty() -> int:
    """Open a file without content. A container may lack /dev/null; a pipe without a writer reads the same."""
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except FileNotFoundError:
        read, write = os.pipe()
        os.close(write)
        return read


class _Run:
    """The state of one run."""

    def __init__(
        self,
        program: Program,
        emit: Emit,
        limits: RunLimits,
        should_stop: Callable[[], Optional[str]],
        on_start: Callable[[int], None],
        emit_stderr: Optional[Emit],
    ) -> None:
        self._limits = limits
        self._emit = emit
        self._emit_stderr = emit_stderr
        self._should_stop = should_stop
        self._on_start = on_start
        self._splitters: Dict[int, LineSplitter] = {}
        self._pending: List[Tuple[int, str]] = []
        self._pending_bytes = 0
        self._pending_since = 0.0
        self._stamp = 0
        self._report = b""
        self._group = 0
        self._stop_reason: Optional[str] = None
        self._kill_at: Optional[float] = None
        self._ended = False
        self._has_report = program.report is not None
        self._external_signal = program.signal
        self._process = self._start(program)
        self._started = self._next_check = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        self._waiter = threading.Thread(target=self._await_end, daemon=True)
        try:
            self._open(program)
        except BaseException:  # such as the RuntimeError of a machine without a further thread
            self._group = self._process.pid
            self._signal_group(signal.SIGKILL)
            self._close()
            raise

    @staticmethod
    def _start(program: Program) -> subprocess.Popen[bytes]:
        report = () if program.report is None else (program.report[1],)
        empty = _open_empty()
        try:
            return subprocess.Popen(  # noqa: S603 - the purpose is to run the caller's program
                list(program.argv),
                env=dict(program.env),
                cwd=program.cwd,
                stdin=empty,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                pass_fds=(*report, *program.inherited),
                preexec_fn=program.preexec,  # noqa: PLW1509 - Popen's own `user` came with Python 3.9
            )
        except BaseException:
            if program.report is not None:
                os.close(program.report[0])
            raise
        finally:
            os.close(empty)
            if program.report is not None:
                os.close(program.report[1])

    def _open(self, program: Program) -> None:
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._splitters[pipe.fileno()] = LineSplitter()
            self._selector.register(pipe.fileno(), selectors.EVENT_READ, self._on_output)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._on_end)
        if program.report is not None:
            self._selector.register(program.report[0], selectors.EVENT_READ, self._on_report)
        if program.wake is not None:
            self._selector.register(program.wake, selectors.EVENT_READ, self._on_wake)
        self._waiter.start()

    def _await_end(self) -> None:
        """Wake the loop when the process has ended, without reaping it. Runs in a thread of its own.

        An unreaped process keeps its id, so killing the group cannot hit another process.
        """
        try:
            if hasattr(os, "waitid"):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            else:
                self._process.wait()
        except ChildProcessError:
            pass  # it was reaped meanwhile, so it has ended
        os.write(self._wake_write, b"\0")

    def run(self) -> ProgramExit:
        try:
            if not self._has_report:
                self._set_group(self._process.pid)
            while not self._ended:
                self._run_once()
            self._drain()
            for fd, splitter in self._splitters.items():
                self._add(fd, splitter.close())
            self._flush()
        except BaseException:
            self._signal(signal.SIGKILL)
            raise
        finally:
            self._close()
        code = self._process.returncode
        return ProgramExit(code if code >= 0 else 128 - code, self._stop_reason)

    def _run_once(self) -> None:
        now = time.monotonic()
        if now >= self._next_check:
            self._check_stop(now)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._signal(signal.SIGKILL)
        wait = self._next_check - now
        if self._kill_at is not None:
            wait = min(wait, self._kill_at - now)
        if self._pending:
            wait = min(wait, self._pending_since + FLUSH_AFTER - now)
        for key, _ in self._selector.select(max(0.0, wait)):
            key.data(key.fd)
        if self._pending and time.monotonic() - self._pending_since >= FLUSH_AFTER:
            self._flush()

    def _check_stop(self, now: float) -> None:
        """Ask whether to stop, and enforce the time limit."""
        self._next_check = now + self._limits.tick
        if self._stop_reason is not None:
            return
        reason = self._should_stop()
        longest = self._limits.max_runtime
        if reason is None and longest is not None and self._group:  # the time counts from the program's start
            if now >= self._started + longest:
                reason = TIMED_OUT
            else:
                self._next_check = min(self._next_check, self._started + longest)
        if reason is not None and self._signal(signal.SIGTERM):
            self._stop_reason = reason
            self._kill_at = now + self._limits.grace

    def _signal(self, number: int) -> bool:
        """Signal the program. Return False if a sandbox has not started it yet."""
        if self._external_signal is not None and self._external_signal(number):
            return True  # the command ends with the program, after passing on its last output
        reached = self._external_signal is None and self._signal_group(number)
        if number == signal.SIGKILL:
            self._process.kill()
        return reached

    def _signal_group(self, number: int) -> bool:
        """Signal the program's whole group."""
        reached = False
        if self._group and (number == signal.SIGKILL or not _is_bare_init(self._group)):
            try:
                os.killpg(self._group, number)
                reached = True
            except ProcessLookupError:  # a sandbox reports the group before it exists
                reached = not self._has_report
            except PermissionError:  # the answer of macOS for a group of zombies
                reached = True
        return reached

    def _on_output(self, fd: int) -> None:
        try:
            data = os.read(fd, _READ_SIZE)
        except BlockingIOError:
            return
        if data:
            self._add(fd, self._splitters[fd].feed(data))
        else:
            self._selector.unregister(fd)

    def _on_report(self, fd: int) -> None:
        data = os.read(fd, _READ_SIZE)
        self._report += data
        try:
            group = int(json.loads(self._report)["child-pid"])
        except ValueError:
            group = 0
        if group:
            self._set_group(group)
        if group or not data:
            self._selector.unregister(fd)
            os.close(fd)

    def _set_group(self, group: int) -> None:
        self._group = group
        self._started = time.monotonic()
        self._next_check = 0.0  # the time limit may end before the next tick
        self._on_start(group)

    def _on_end(self, fd: int) -> None:
        self._selector.unregister(fd)
        self._ended = True

    def _on_wake(self, fd: int) -> None:
        if os.read(fd, _READ_SIZE):
            self._next_check = 0.0
        else:  # its writer has ended: it would stay readable for ever
            self._selector.unregister(fd)

    def _add(self, fd: int, messages: List[str]) -> None:
        if not messages:
            return
        # Never go back, so that lines stay in order if the clock is set back.
        self._stamp = stamp = max(self._stamp, int(time.time() * 1000))
        assert self._process.stderr is not None
        if self._emit_stderr is not None and fd == self._process.stderr.fileno():
            self._flush()
            self._emit_stderr([(stamp, message) for message in messages])
            return
        if not self._pending:
            self._pending_since = time.monotonic()
        self._pending.extend((stamp, message) for message in messages)
        self._pending_bytes += sum(map(len, messages))
        if self._pending_bytes >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            batch, self._pending, self._pending_bytes = self._pending, [], 0
            self._emit(batch)

    def _drain(self) -> None:
        """Kill the processes that the program left behind, and read the output that is still in the pipes."""
        if self._group == self._process.pid:
            self._signal_group(signal.SIGKILL)
        self._process.wait()
        limit = time.monotonic() + DRAIN_LIMIT
        while self._open_pipes() and time.monotonic() < limit:
            ready = self._selector.select(DRAIN_QUIET)
            if not ready:
                break
            for key, _ in ready:
                key.data(key.fd)

    def _open_pipes(self) -> bool:
        return any(key.fd in self._splitters for key in self._selector.get_map().values())

    def _close(self) -> None:
        if self._waiter.ident is not None:
            self._waiter.join()
        self._process.wait()
        for key in list(self._selector.get_map().values()):
            if key.data == self._on_report:
                os.close(key.fd)
        self._selector.close()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        os.close(self._wake_read)
        os.close(self._wake_write)


def _is_bare_init(pid: int) -> bool:
    """Return whether a process is the init of a process namespace that has not started a process in it yet.

    An init receives no SIGTERM that it does not handle, so the signal would be lost.
    """
    try:
        status = Path("/proc/%d/status" % pid).read_bytes().splitlines()
        ids = next((line.split()[1:] for line in status if line.startswith(b"NSpid:")), [])
        if len(ids) < 2 or ids[-1] != b"1":
            return False
        return not Path("/proc/%d/task/%d/children" % (pid, pid)).read_bytes().split()
    except OSError:
        return False

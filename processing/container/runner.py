"""One program from start to end: its output as log messages, its stop, its time limit, its leftovers.

The program runs in a process group of its own. It ends when the process that was started ends, as a container does:
children that it leaves behind are killed, and one that holds stdout open does not hold the end.
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
"""Takes messages in order, each with the time in milliseconds since the epoch at which it was read."""

FLUSH_AFTER = 0.02
"""Seconds that a message waits for company before it is emitted."""
FLUSH_BYTES = 1 << 20
DRAIN_QUIET = 0.05
"""Seconds without output after the end, with the pipe still open, after which nobody is waited for any more."""
DRAIN_LIMIT = 2.0
"""Seconds after the end during which output of survivors is taken at most."""
_READ_SIZE = 1 << 16

TIMED_OUT = "max-runtime"
"""`ProgramExit.stop_reason` of a program that ran longer than it was allowed to."""


class Program(NamedTuple):
    """What to start.

    Attributes:
        argv: the program and its arguments.
        env: the whole environment.
        cwd: the working directory.
        report: for a program behind a sandbox that starts it in a session of its own: the two ends of a pipe (read,
            write). The sandbox inherits the second and writes `{"child-pid": N}` to it, where N leads the group.
        signal: for a program that is not in the command's group, as in a container: sends it a signal, and returns
            whether there was a program to take it.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    report: Optional[Tuple[int, int]] = None
    signal: Optional[Callable[[int], bool]] = None


class RunLimits(NamedTuple):
    """How a program is watched, in seconds.

    Attributes:
        tick: between two looks at whether to stop. The program's own end is noticed at once.
        grace: between SIGTERM and SIGKILL.
        max_runtime: from start to SIGTERM; None for no limit.
    """

    tick: float = 0.05
    grace: float = 120.0
    max_runtime: Optional[float] = None


class ProgramExit(NamedTuple):
    """How a program ended.

    Attributes:
        exit_code: 0 to 255; a program that a signal ended has 128 plus the signal, as in a shell.
        stopped: why it was told to stop: what `should_stop` answered, or `TIMED_OUT`. None if it ended by itself.
    """

    exit_code: int
    stop_reason: Optional[str]


def run_program(
    program: Program,
    emit: Emit,
    limits: RunLimits,
    should_stop: Callable[[], Optional[str]] = lambda: None,
    on_start: Callable[[int], None] = lambda _group: None,
) -> ProgramExit:
    """Run it to its end.

    Args:
        program: what to start.
        emit: called in this thread with each batch of messages, always before this function returns.
        limits: tick, grace and time limit.
        should_stop: asked once a tick; anything but None stops the program, and says why.
        on_start: told the id of the program's process group as soon as it is known.

    Raises:
        OSError: the program could not be started, or what `emit` and `should_stop` raise; the program is killed then.
    """
    return _Run(program, emit, limits, should_stop, on_start).run()


class _Run:
    """The state of one run."""

    def __init__(
        self,
        program: Program,
        emit: Emit,
        limits: RunLimits,
        should_stop: Callable[[], Optional[str]],
        on_start: Callable[[int], None],
    ) -> None:
        self._limits = limits
        self._emit = emit
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
        self._open(program)

    # --- start

    @staticmethod
    def _start(program: Program) -> subprocess.Popen[bytes]:
        inherited = () if program.report is None else (program.report[1],)
        try:
            return subprocess.Popen(  # noqa: S603 -- running what the caller names is the purpose
                list(program.argv),
                env=dict(program.env),
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                pass_fds=inherited,
            )
        except BaseException:
            if program.report is not None:
                os.close(program.report[0])
            raise
        finally:
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
        self._waiter = threading.Thread(target=self._await_end, daemon=True)
        self._waiter.start()

    def _await_end(self) -> None:
        """In a thread of its own: wake the loop when the process has ended, without reaping it.

        An unreaped process keeps its id, so the group can be killed without a chance of hitting another.
        """
        try:
            if hasattr(os, "waitid"):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            else:
                self._process.wait()
        except ChildProcessError:
            pass  # it was reaped in between, so it has ended
        os.write(self._wake_write, b"\0")

    # --- the loop

    def run(self) -> ProgramExit:
        try:
            if not self._has_report:
                self._set_group(self._process.pid)
            while not self._ended:
                self._run_once()
            self._drain()
            for splitter in self._splitters.values():
                self._add(splitter.close())
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
        """Ask whether to stop, and keep the time limit."""
        self._next_check = now + self._limits.tick
        if self._stop_reason is not None:
            return
        reason = self._should_stop()
        longest = self._limits.max_runtime
        if reason is None and longest is not None:
            if self._group and now >= self._started + longest:
                reason = TIMED_OUT
            else:
                self._next_check = min(self._next_check, self._started + longest)
        if reason is not None and self._signal(signal.SIGTERM):
            self._stop_reason = reason
            self._kill_at = now + self._limits.grace

    def _signal(self, number: int) -> bool:
        """Signal the program; False where a sandbox is still on its way to it."""
        if self._external_signal is not None and self._external_signal(number):
            return True  # what was started ends when the program does, and hands on its last output
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
            except ProcessLookupError:  # a sandbox says which group it will be before that is one
                reached = not self._has_report
            except PermissionError:  # what macOS says of a group of zombies
                reached = True
        return reached

    # --- what the selector brings

    def _on_output(self, fd: int) -> None:
        try:
            data = os.read(fd, _READ_SIZE)
        except BlockingIOError:
            return
        if data:
            self._add(self._splitters[fd].feed(data))
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
        self._on_start(group)

    def _on_end(self, fd: int) -> None:
        self._selector.unregister(fd)
        self._ended = True

    # --- messages

    def _add(self, messages: List[str]) -> None:
        if not messages:
            return
        if not self._pending:
            self._pending_since = time.monotonic()
        self._stamp = stamp = max(
            self._stamp, int(time.time() * 1000)
        )  # lines stay in order when the clock is set back
        self._pending.extend((stamp, message) for message in messages)
        self._pending_bytes += sum(map(len, messages))
        if self._pending_bytes >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            batch, self._pending, self._pending_bytes = self._pending, [], 0
            self._emit(batch)

    # --- the end

    def _drain(self) -> None:
        """Kill what the program left behind, and take the output that is still in the pipes."""
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
    """Return whether a process is the init of a process namespace that has not started anything in it yet.

    An init gets no SIGTERM that it does not handle, so there is nobody to take one.
    """
    try:
        status = Path("/proc/%d/status" % pid).read_bytes().splitlines()
        ids = next((line.split()[1:] for line in status if line.startswith(b"NSpid:")), [])
        if len(ids) < 2 or ids[-1] != b"1":
            return False
        return not Path("/proc/%d/task/%d/children" % (pid, pid)).read_bytes().split()
    except OSError:
        return False

"""Check whether a program keeps SageMaker's contract, and the likely causes if it does not."""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, List, NamedTuple, Optional, Sequence, Tuple

from processing.container.runner import TIMED_OUT, Program, ProgramExit, RunLimits, run_program
from processing.container.shim.upstream import UpstreamError, UpstreamRequest, ask
from processing.container.terminal_text import safe_line

if TYPE_CHECKING:
    from pathlib import Path

    from processing.container.shim.guard import Guard
    from processing.container.shim.listeners import ListeningSocket

PING_SECONDS = 2.0
"""The time in which SageMaker expects the answer to GET /ping."""
START_SECONDS = 480
"""The time in which SageMaker expects a healthy program."""
STOP_SECONDS = 30.0
"""The time between SageMaker's SIGTERM and SIGKILL for an endpoint."""
LAST_LINES = 20
"""The last lines of the program that a report shows."""
LINE_CHARACTERS = 500
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""The pauses between two pings: they grow, so that the last lines are not about pings alone."""
_STOP = "checked"

CAUSES = (
    (
        r'(exec: "?|stat |exec |[/ ]"?)(serve|train)"?: .*([Nn]o such file|not found)',
        "SageMaker runs `docker run IMAGE {word}`: the image needs an ENTRYPOINT, or a program {word} on its PATH.",
    ),
    (r"exec format error", "The image, or its program, is for another processor, such as arm64 in place of amd64."),
    (r"[Aa]ddress already in use|EADDRINUSE", "Two programs of the container bind to the same port."),
    (r"[Pp]ermission denied", "A file may not be read, written or executed: see the last lines."),
    (
        r"ModuleNotFoundError|ImportError|cannot open shared object file",
        "The image lacks a library: see the last lines.",
    ),
    (r"/opt/ml/model", "The model's files at /opt/ml/model are not those that the program expects."),
    (r"MemoryError|Out of memory|OOM|Cannot allocate memory", "The memory is too small."),
)
"""Patterns of last lines, and the causes that they show."""


class CheckTarget(NamedTuple):
    """A program to check.

    Attributes:
        name: its command line, or its image.
        word: "serve", "train", or empty for another program.
        program: the program to run.
        listeners: returns its listening sockets, by the id of its process group; None if they are not known.
        port: the port of SageMaker's contract.
        address: returns the port of 127.0.0.1 by which to reach that port; None if there is none.
        outputs: the folders of its outputs.
        guard: the guard of the program.
    """

    name: str
    word: str
    program: Program
    listeners: Callable[[int], Optional[List[ListeningSocket]]]
    port: int
    address: Callable[[], Optional[int]]
    outputs: Sequence[Path] = ()
    guard: Optional[Guard] = None


class Report:
    """The text of a check: facts, and the reasons for which AWS would reject the program.

    Args:
        write: writes one line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self.reasons: List[str] = []

    def fact(self, name: str, text: str) -> None:
        """Write a fact."""
        self._write("%-11s %s" % (name, safe_line(text)))

    def lines(self, lines: Sequence[str]) -> None:
        """Write the last lines of the program."""
        self._write("last lines" + ("" if lines else "  none"))
        for line in lines:
            self._write("  | " + safe_line(line[-LINE_CHARACTERS:]))

    def end(self, rejection: str) -> int:
        """Write the verdict; return the exit code."""
        if not self.reasons:
            self._write("AWS would accept it.")
            return 0
        self._write("AWS would reject it: %s" % rejection)
        for reason in self.reasons:
            self._write("- " + safe_line(reason))
        return 1


class _CheckedRun:
    """A run of the program in a thread of its own."""

    def __init__(self, target: CheckTarget, seconds: Optional[float], grace: float) -> None:
        self._target = target
        self._limits = RunLimits(grace=grace, max_runtime=seconds)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = time.monotonic()
        self.ended = threading.Event()
        self.lines: Deque[str] = deque(maxlen=LAST_LINES)
        self.group = 0
        self.exit: Optional[ProgramExit] = None
        self.problem = ""
        self.seconds = 0.0
        self._thread.start()

    def stop(self) -> float:
        """Send SIGTERM; return the seconds until the end."""
        self._stopping.set()
        started = time.monotonic()
        self._thread.join()
        return time.monotonic() - started

    def _run(self) -> None:
        try:
            self.exit = run_program(
                self._target.program,
                self._emit,
                self._limits,
                lambda: _STOP if self._stopping.is_set() else None,
                self._set_group,
            )
        except OSError as error:
            self.problem = "%s: %s" % (self._target.program.argv[0], error.strerror)
        finally:
            self.seconds = time.monotonic() - self._started
            self._watch(0)
            self.ended.set()

    def _emit(self, messages: List[Tuple[int, str]]) -> None:
        self.lines.extend(text for _, text in messages)

    def _set_group(self, group: int) -> None:
        self.group = group
        self._watch(group)

    def _watch(self, group: int) -> None:
        if self._target.guard is not None:
            self._target.guard.watch(group)


class _Pings(NamedTuple):
    """Answers to GET /ping.

    Attributes:
        first: the first answer, or the reason for which there was none.
        healthy: the seconds until the first status 200; None without one.
    """

    first: str
    healthy: Optional[float]


def check_server(target: CheckTarget, seconds: float, write: Callable[[str], None]) -> int:
    """Check a program that serves; return 0 if AWS would accept it, or 1.

    Args:
        target: the program.
        seconds: the longest time until it is healthy.
        write: writes one line of the report.
    """
    report = Report(write)
    report.fact("program", target.name)
    run = _CheckedRun(target, None, STOP_SECONDS)
    try:
        _examine_server(target, run, seconds, report)
    finally:
        run.stop()
    return report.end("it does not pass the ping health check.")


def _examine_server(target: CheckTarget, run: _CheckedRun, seconds: float, report: Report) -> None:
    pings = _ping_until_healthy(target, run, seconds)
    listeners = [] if run.ended.is_set() else target.listeners(run.group)
    _report_state(run, report)
    report.fact("listens", _listing(listeners))
    report.fact("GET /ping", pings.first)
    if pings.healthy is not None:
        report.fact("healthy", "after %.1f s" % pings.healthy)
    _find_reasons(target, run, listeners, pings, report)
    if not run.ended.is_set():
        _report_stop(run, report)
    report.lines(list(run.lines))


def check_job(target: CheckTarget, seconds: Optional[float], grace: float, write: Callable[[str], None]) -> int:
    """Check a program that ends by itself; return 0 if AWS would accept it, or 1.

    Args:
        target: the program.
        seconds: its longest run; None for any.
        grace: the seconds between SIGTERM and SIGKILL.
        write: writes one line of the report.
    """
    report = Report(write)
    report.fact("program", target.name)
    run = _CheckedRun(target, seconds, grace)
    try:
        while not run.ended.wait(_LONGEST_PAUSE):  # a signal that comes before a wait is not lost for longer
            pass
    finally:
        run.stop()
    _report_state(run, report)
    for folder in target.outputs:
        report.fact("output", _contents(folder))
    report.lines(list(run.lines))
    if run.exit is None:
        report.reasons.append("The program cannot be started: %s." % run.problem)
    elif run.exit.stop_reason == TIMED_OUT:
        report.reasons.append("The program has not ended within %g seconds." % (seconds or 0))
    elif run.exit.exit_code:
        report.reasons.append("The exit code of a job that succeeds is 0, and this is %d." % run.exit.exit_code)
    if report.reasons:
        report.reasons.extend(_causes(target.word, run))
    return report.end("the job fails with an AlgorithmError.")


def _ping_until_healthy(target: CheckTarget, run: _CheckedRun, seconds: float) -> _Pings:
    started = time.monotonic()
    first, last = "", "no connection at port %d" % target.port
    pause = _PAUSE
    while not run.ended.wait(pause):
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        passed = time.monotonic() - started
        if passed > seconds:
            break
        status, last = _ping(target, last)
        if status:
            first = first or "%s, %.1f s after the start" % (last, time.monotonic() - started)
        if status == 200:
            return _Pings(first, time.monotonic() - started)
    return _Pings(first or last, None)


def _ping(target: CheckTarget, last: str) -> Tuple[int, str]:
    """Return the status of an answer, or 0, and its description."""
    port = target.address()
    if port is None:
        return 0, last
    started = time.monotonic()
    try:
        with ask(port, UpstreamRequest("GET", "/ping"), PING_SECONDS) as answer:
            return answer.head.status, "status %d in %.2f s" % (answer.head.status, time.monotonic() - started)
    except UpstreamError as error:
        if error.status == 504:
            return -1, "no answer within 2 seconds"
        return (0, last) if error.status == 503 else (-1, str(error))


def _report_state(run: _CheckedRun, report: Report) -> None:
    if run.exit is not None:
        report.fact("state", "ended with exit code %d after %.1f s" % (run.exit.exit_code, run.seconds))
    else:
        report.fact("state", "cannot be started: %s" % run.problem if run.ended.is_set() else "runs")


def _report_stop(run: _CheckedRun, report: Report) -> None:
    seconds = run.stop()
    if seconds < STOP_SECONDS:
        report.fact("SIGTERM", "ended it after %.1f s" % seconds)
    else:
        report.fact("SIGTERM", "did not end it within %d s. SageMaker kills it then." % STOP_SECONDS)


def _listing(listeners: Optional[Sequence[ListeningSocket]]) -> str:
    if listeners is None:
        return "unknown: this system does not tell"
    return ", ".join(map(str, listeners)) or "nowhere"


def _find_reasons(
    target: CheckTarget, run: _CheckedRun, listeners: Optional[Sequence[ListeningSocket]], pings: _Pings, report: Report
) -> None:
    """Add the reasons for which the health check would fail."""
    reasons = report.reasons
    here = [each for each in listeners or () if each.port == target.port]
    if run.ended.is_set():
        if run.exit is None:
            reasons.append("The program cannot be started: %s." % run.problem)
        else:
            reasons.append("The program ended by itself with exit code %d. A server does not end." % run.exit.exit_code)
    elif here and not any(each.reachable for each in here):
        reasons.append(
            "It listens at %s alone. SageMaker connects from outside the container: listen at 0.0.0.0." % (here[0],)
        )
    elif listeners is not None and not here:
        reasons.append(_elsewhere(target.port, listeners))
    elif pings.healthy is None:
        reasons.append(
            "GET /ping has to have status 200 within 2 seconds, from %d minutes after the start on. Here it was: %s."
            % (START_SECONDS // 60, pings.first)
        )
    if reasons:
        reasons.extend(_causes(target.word, run))


def _elsewhere(port: int, listeners: Sequence[ListeningSocket]) -> str:
    if not listeners:
        return "Nothing listens. The program has to listen at 0.0.0.0:%d, once its model is loaded." % port
    return "It listens at %s, not at 0.0.0.0:%d. Change its port, or put it behind `serve --proxy %d`." % (
        ", ".join(map(str, listeners)),
        port,
        listeners[0].port,
    )


def _causes(word: str, run: _CheckedRun) -> List[str]:
    """Return causes that the last lines and the exit code show."""
    text = "\n".join([*run.lines, run.problem])
    found = [cause.format(word=word) for pattern, cause in CAUSES if re.search(pattern, text)]
    if run.exit is not None and run.exit.exit_code == 137:
        found.append("SIGKILL ended it (exit code 137): most often the memory is too small.")
    return found


def _contents(folder: Path) -> str:
    """Return the number of files in a folder, and the links in it, which are not uploaded."""
    files = size = 0
    links: List[str] = []
    for parent, folders, names in os.walk(str(folder)):
        for name in folders + names:
            found = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - a third of the time of pathlib
            if stat.S_ISREG(found.st_mode):
                files, size = files + 1, size + found.st_size
            elif not stat.S_ISDIR(found.st_mode):
                links.append(name)
    text = "%s: %d files, %d bytes" % (folder, files, size)
    return text + ("; not uploaded: %s" % ", ".join(links[:5]) if links else "")

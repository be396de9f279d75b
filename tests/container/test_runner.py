"""A program from start to end."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from processing.container.runner import TIMED_OUT, Program, ProgramExit, RunLimits, run_program

if TYPE_CHECKING:
    from pathlib import Path

QUICK = RunLimits(tick=0.01, grace=0.2)


def _run(code: str, limits: RunLimits = QUICK, **options: object) -> tuple[ProgramExit, list[str]]:
    lines: list[tuple[int, str]] = []
    program = Program([sys.executable, "-u", "-c", code], {"PATH": os.defpath}, "/")
    ended = run_program(program, lines.extend, limits, **options)  # type: ignore[arg-type]
    assert [stamp for stamp, _ in lines] == sorted(stamp for stamp, _ in lines)
    return ended, [message for _, message in lines]


def test_both_streams_and_the_exit_code_are_taken() -> None:
    """stdout and stderr become messages, and nothing of the last of them is lost."""
    ended, lines = _run("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(4)")
    assert ended == ProgramExit(4, None)
    assert sorted(lines) == ["err", "out"]


def test_stdin_is_empty() -> None:
    """A program that reads its input finds the end of it."""
    assert _run("import sys\nprint(repr(sys.stdin.read()))")[1] == ["''"]


def test_stdin_is_empty_without_a_null_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An image of one static program may have no /dev."""
    monkeypatch.setattr(os, "devnull", str(tmp_path / "absent"))
    assert _run("import sys; print(repr(sys.stdin.read()))") == (ProgramExit(0, None), ["''"])


def test_a_flood_of_output_is_complete_and_can_be_stopped() -> None:
    """Looking for a stop does not starve while output never pauses."""
    started = time.monotonic()
    ended, lines = _run(
        "while True: print('x' * 1000)", should_stop=lambda: "enough" if time.monotonic() > started + 0.3 else None
    )
    assert ended == ProgramExit(143, "enough")
    assert set(lines[:-1]) == {"x" * 1000}


def test_the_time_limit_is_kept() -> None:
    """A tick longer than the limit does not lengthen it."""
    started = time.monotonic()
    ended, _ = _run("import time\ntime.sleep(60)", RunLimits(tick=30, grace=1, max_runtime=0.3))
    assert ended.stop_reason == TIMED_OUT
    assert time.monotonic() - started < 10


def test_the_time_limit_counts_from_the_start_of_the_program() -> None:
    """A sandbox that starts for longer than the limit is not asked about without a pause, and its program is ended."""
    report = os.pipe()
    read, write = os.pipe()
    asked: list[str] = []
    before_the_start: list[int] = []

    def should_stop() -> None:
        asked.append("")

    def start(_: object) -> None:
        before_the_start.append(len(asked))
        os.write(write, b"\n")

    code = (
        f"import json, os, time\nprint('up', flush=True)\nos.read({read}, 1)\n"
        f"os.write({report[1]}, json.dumps({{'child-pid': os.getpid()}}).encode())\ntime.sleep(60)"
    )
    program = Program([sys.executable, "-c", code], {}, "/", report, inherited=(read,))
    ended = run_program(program, start, RunLimits(tick=3600, grace=60, max_runtime=0), should_stop)
    os.close(read)
    os.close(write)
    assert before_the_start == [1]
    assert ended == ProgramExit(143, TIMED_OUT)


def test_the_end_is_noticed_without_a_tick() -> None:
    """A long tick does not delay the end."""
    started = time.monotonic()
    assert _run("print('x')", RunLimits(tick=60)) == (ProgramExit(0, None), ["x"])
    assert time.monotonic() - started < 10


def test_a_wake_asks_for_a_stop_without_a_tick() -> None:
    """A stop that is announced by the descriptor does not wait for the next tick."""
    read, write = os.pipe()
    asked: list[str] = []
    wake: list[int] = []

    def should_stop() -> str | None:
        asked.append("")
        return "enough" if len(asked) > 1 else None

    program = Program(
        [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(20)"], {}, "/", wake=read
    )
    ended = run_program(program, lambda _: wake.append(os.write(write, b"1")), RunLimits(tick=3600), should_stop)
    os.close(read)
    os.close(write)
    assert ended == ProgramExit(143, "enough")


def test_a_closed_wake_is_no_wake() -> None:
    """A descriptor whose writer has ended does not ask for a stop again and again."""
    wake, writer = os.pipe()
    os.close(writer)
    read, write = os.pipe()
    asked: list[str] = []

    def should_stop() -> None:
        asked.append("")

    def go(_: object) -> None:
        os.write(write, b"\n")

    code = f"import os\nprint('up', flush=True)\nos.read({read}, 1)"
    program = Program([sys.executable, "-c", code], {}, "/", inherited=(read,), wake=wake)
    ended = run_program(program, go, RunLimits(tick=3600), should_stop)
    for descriptor in (wake, read, write):
        os.close(descriptor)
    assert ended == ProgramExit(0, None)
    assert len(asked) == 1


def test_a_survivor_in_its_own_session_does_not_hold_the_end(tmp_path: Path) -> None:
    """Nothing that keeps the pipe open is waited for longer than a moment."""
    code = (
        "import subprocess, sys\n"
        "p = subprocess.Popen(['sleep', '30'], start_new_session=True)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))\n"
        "print('over')"
    )
    started = time.monotonic()
    assert _run(code)[1] == ["over"]
    assert time.monotonic() - started < 10
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_an_error_of_the_receiver_kills_the_program() -> None:
    """A program does not continue unobserved if its messages cannot be stored."""
    groups: list[int] = []

    def fail(_: object) -> None:
        raise RuntimeError("full")

    program = Program([sys.executable, "-u", "-c", "import time\nprint(1)\ntime.sleep(60)"], {}, "/")
    with pytest.raises(RuntimeError, match="full"):
        run_program(program, fail, QUICK, on_start=groups.append)
    with pytest.raises(ProcessLookupError):
        os.killpg(groups[0], 0)


def test_a_failed_start_leaves_nothing_open() -> None:
    """The error of the system comes through, and both ends of the report pipe are closed."""
    report = os.pipe()
    with pytest.raises(FileNotFoundError):
        run_program(Program(["/no/such/program"], {}, "/", report), lambda _: None, QUICK)
    for fd in report:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_no_descriptor_is_left_open() -> None:
    """A supervisor of many programs would not run out of them."""
    first = os.open(os.devnull, os.O_RDONLY)
    os.close(first)
    _run("pass")
    second = os.open(os.devnull, os.O_RDONLY)  # the lowest that is free
    os.close(second)
    assert second == first


def test_a_stop_reaches_a_program_whose_sandbox_is_still_on_its_way(tmp_path: Path) -> None:
    """A group that is announced before it is one gets its SIGTERM when it is one, not SIGKILL after the grace."""
    go = tmp_path / "go"
    report = os.pipe()
    sandbox = (
        "import json, os, sys, time\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    deadline = time.monotonic() + 20\n"
        "    while not os.path.exists(sys.argv[2]) and time.monotonic() < deadline: time.sleep(0.001)\n"
        "    os.setsid()\n"
        "    os.execvp('sleep', ['sleep', '20'])\n"
        "os.write(int(sys.argv[1]), json.dumps({'child-pid': pid}).encode())\n"
        "sys.exit(128 + os.WTERMSIG(os.waitpid(pid, 0)[1]))\n"
    )
    groups: list[int] = []
    asked_since = 0

    def should_stop() -> str | None:
        nonlocal asked_since
        asked_since += bool(groups)
        if asked_since == 2:
            go.touch()
        return "stopped" if groups else None

    argv = [sys.executable, "-c", sandbox, str(report[1]), str(go)]
    program = Program(argv, {"PATH": os.defpath}, "/", report)
    assert run_program(program, lambda _: None, QUICK, should_stop, groups.append) == ProgramExit(128 + 15, "stopped")


def test_a_machine_without_a_further_thread_leaves_no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The program that was started already is killed, and the error is raised."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    os.mkfifo(tmp_path / "alive")
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "alive", os.O_WRONLY)
    program = Program(["/bin/sh", "-c", "sleep 300"], {"PATH": os.defpath}, "/", inherited=(writer,))
    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run_program(program, lambda _messages: None, QUICK)
    os.close(writer)
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""  # the pipe has no other writer
    os.close(reader)

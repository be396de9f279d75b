"""The worker processes of a host: each call gets one outcome, and a death costs one call."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from processing.container.remote.calls import CallsPacker, CallsReader, calls_file
from processing.container.remote.segments import (
    LAST,
    SEGMENT_BYTES,
    SegmentError,
    SegmentWriter,
    log_line,
    parse,
    parse_line,
    token,
)
from processing.container.remote.worker import ERROR, KILLED, TIMEOUT, VALUE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a host forks its workers")

# A process of its own: a fork of the test's process would copy its threads.
PROGRAM = """
import ctypes, json, os, signal, sys, tempfile, time
from processing.container.remote.worker import ERROR, VALUE, Executed, LoadedFunction
from processing.container.remote.workers import CallLimits, Workers

options = json.loads(sys.argv[1])
started = sys.argv[2]

{function}

def load():
    def execute(task):
        with open(started, "a") as file:
            file.write("%d\\n" % task)
        try:
            return Executed(VALUE, json.dumps(call(task)).encode())
        except Exception as error:
            return Executed(ERROR, repr(error).encode(), isinstance(error, KeyError))
    return prepare(LoadedFunction(execute))

def read(outcome):
    if outcome.path is None:
        return outcome.data
    with open(outcome.path, "rb") as file:
        return file.read()

outcomes = []
with tempfile.TemporaryDirectory() as folder:
    def deliver(outcome):
        outcomes.append([outcome.call, outcome.kind, read(outcome).decode(), outcome.attempts])
    workers = Workers(load, CallLimits(**options["limits"]), deliver, folder)
    for number in range(options["calls"]):
        workers.add(number, number)
    while workers.unfinished:
        workers.step(None)
    workers.close()
    json.dump([outcomes, workers.cannot_start], sys.stdout)
"""
PREPARE = "def prepare(program):\n    return program\n"


class Run:
    """The outcomes of some calls on one host."""

    def __init__(self, folder: Path, function: str, calls: int, **limits: Any) -> None:
        if "def prepare" not in function:
            function = PREPARE + textwrap.dedent(function)
        program = PROGRAM.format(function=textwrap.dedent(function))
        started = folder / "started"
        options = json.dumps({"calls": calls, "limits": limits})
        done = subprocess.run(
            [sys.executable, "-c", program, options, str(started)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        outcomes, self.cannot_start = json.loads(done.stdout)
        self.calls = [call for call, *_ in outcomes]
        self.outcomes = {call: (kind, text, attempts) for call, kind, text, attempts in outcomes}
        self.started = Counter(map(int, started.read_text().split())) if started.exists() else Counter[int]()

    def kinds(self) -> list[int]:
        return [self.outcomes[call][0] for call in sorted(self.outcomes)]


@pytest.mark.parametrize("chunksize", [0, 1, 7])
def test_each_call_runs_once(tmp_path: Path, chunksize: int) -> None:
    """A thousand calls on three workers give a thousand values, and none is started twice."""
    run = Run(tmp_path, "def call(n): return n * n", 1000, workers=3, chunksize=chunksize)
    assert sorted(run.calls) == list(range(1000))
    assert {call: json.loads(text) for call, (_, text, _) in run.outcomes.items()} == {n: n * n for n in range(1000)}
    assert run.started == Counter(range(1000))


DEATHS = {
    "os._exit": "os._exit(7)",
    "kill -9": "os.kill(os.getpid(), signal.SIGKILL)",
    "segfault": "ctypes.string_at(0)",
    "closed files": "os.closerange(3, 100); time.sleep(60)",
    "a child that keeps the connection": "os.fork() or time.sleep(60); os._exit(4)",
}


@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
def test_a_death_costs_one_call(tmp_path: Path, death: str) -> None:
    """A worker that dies loses its running call; the calls of its chunk that it had not started run elsewhere."""
    function = f"def call(n):\n    if n == 5:\n        {death}\n    return n"
    run = Run(tmp_path, function, 20, workers=2, chunksize=4)
    assert run.kinds() == [KILLED if n == 5 else VALUE for n in range(20)]
    assert run.started == Counter(range(20))


def test_the_error_names_how_the_worker_ended(tmp_path: Path) -> None:
    """The outcome of a lost call has the signal or the exit code of its worker."""
    function = "def call(n):\n    os._exit(7) if n else os.kill(os.getpid(), signal.SIGKILL)"
    run = Run(tmp_path, function, 2, workers=1)
    killed, exited = (json.loads(run.outcomes[n][1]) for n in (0, 1))
    assert killed["exit_code"] == 137
    assert "SIGKILL" in killed["message"]
    assert exited["exit_code"] == 7
    assert "exit code 7" in exited["message"]


def test_a_call_has_a_time_limit(tmp_path: Path) -> None:
    """A call that takes longer than `timeout` ends with its children, and the others are not affected."""
    function = "def call(n):\n    if n == 1:\n        time.sleep(600)\n    return n"
    run = Run(tmp_path, function, 6, workers=2, timeout=2, chunksize=3)
    assert run.kinds() == [TIMEOUT if n == 1 else VALUE for n in range(6)]
    assert "2 seconds" in run.outcomes[1][1]
    assert run.started == Counter(range(6))


RETRIED = {
    "an exception of the classes": ("raise KeyError(n)", ERROR, {}),
    "a death": ("os._exit(1)", KILLED, {}),
    "a time-out": ("time.sleep(600)", TIMEOUT, {"timeout": 1.0}),
}


@pytest.mark.parametrize(("end", "kind", "limits"), RETRIED.values(), ids=RETRIED)
def test_retries_are_counted(tmp_path: Path, end: str, kind: int, limits: dict[str, Any]) -> None:
    """With `retries=2` a call that fails each time is started three times."""
    function = f"def call(n):\n    if n == 1:\n        {end}\n    return n"
    run = Run(tmp_path, function, 3, workers=1, retries=2, **limits)
    assert run.kinds() == [VALUE, kind, VALUE]
    assert run.outcomes[1][2] == 3
    assert run.started == Counter({0: 1, 1: 3, 2: 1})


NOT_RETRIED = {
    "another exception": ("raise ValueError(n)", {}),
    "a death": ("os._exit(1)", {"retry_killed": False}),
    "a time-out": ("time.sleep(600)", {"timeout": 1.0, "retry_timeout": False}),
}


@pytest.mark.parametrize(("end", "limits"), NOT_RETRIED.values(), ids=NOT_RETRIED)
def test_retries_are_for_the_given_causes(tmp_path: Path, end: str, limits: dict[str, Any]) -> None:
    """A failure of another cause than `retry_on` names is final."""
    run = Run(tmp_path, f"def call(n): {end}", 1, workers=1, retries=2, **limits)
    assert run.started == Counter({0: 1})


def test_a_retry_succeeds(tmp_path: Path) -> None:
    """A call that fails once and then returns has a value, and its number of attempts."""
    function = f"""
    def call(n):
        if not os.path.exists({str(tmp_path / "mark")!r}):
            open({str(tmp_path / "mark")!r}, "w").close()
            os._exit(1)
        return n
    """
    run = Run(tmp_path, function, 1, workers=1, retries=1)
    assert run.outcomes[0] == (VALUE, "0", 2)


def test_a_large_outcome_passes_through_a_file(tmp_path: Path) -> None:
    """An outcome of three megabytes arrives whole."""
    run = Run(tmp_path, "def call(n): return 'x' * 3_000_000", 2, workers=2)
    assert [len(json.loads(text)) for _, text, _ in run.outcomes.values()] == [3_000_000] * 2


def test_a_function_that_cannot_be_loaded_fails_each_call(tmp_path: Path) -> None:
    """The exception of the load is the outcome of every call, and nothing is started."""
    run = Run(tmp_path, "def prepare(program):\n    return b'no module'\n", 5, workers=2)
    assert run.kinds() == [ERROR] * 5
    assert run.cannot_start
    assert not run.started


def test_a_load_that_kills_its_workers_ends(tmp_path: Path) -> None:
    """A host gives up if no worker lives until it is ready."""
    run = Run(tmp_path, "def prepare(program):\n    os.kill(os.getpid(), signal.SIGKILL)\n", 5, workers=2)
    assert run.kinds() == [KILLED] * 5
    assert "loaded the function" in run.outcomes[0][1]


def test_workers_share_the_processors(tmp_path: Path) -> None:
    """The variables of numeric libraries limit the threads of each worker."""
    run = Run(tmp_path, "def call(n): return os.environ['OMP_NUM_THREADS']", 1, workers=1000)
    assert run.outcomes[0][1] == '"1"'


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def _writer(folder: Path) -> tuple[SegmentWriter, list[str], Clock]:
    lines: list[str] = []
    clock = Clock()
    return SegmentWriter(str(folder), "algo-1", lines.append, clock), lines, clock


def test_segments_hold_many_outcomes(tmp_path: Path) -> None:
    """A segment closes by its size or its time, a log line has its digest, and the last one lists the others."""
    writer, lines, clock = _writer(tmp_path)
    writer.add(0, bytes(16), VALUE, 1, b"zero")
    writer.flush_if_due()
    assert not lines
    clock.now = 1.5
    writer.flush_if_due()
    writer.add(1, bytes(16), VALUE, 1, bytes(SEGMENT_BYTES))
    writer.add(2, bytes(16), ERROR, 2, b"two")
    last = writer.close()
    announced = [parse_line(line) for line in lines]
    assert [each.name for each in announced if each] == ["000001", "000002", LAST]
    content = parse((tmp_path / LAST).read_bytes())
    assert content.digests == {each.name: each.digest for each in announced[:2] if each}
    assert [(each.call, each.kind, bytes(each.data)) for each in content.records] == [(2, ERROR, b"two")]
    assert log_line("algo-1", LAST, last) == lines[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"000001", "000002", LAST}


def test_a_file_is_a_segment_of_its_own(tmp_path: Path) -> None:
    """A large outcome is copied from its file, in the order of the outcomes, and the file is removed."""
    writer, _, _ = _writer(tmp_path / "out")
    (tmp_path / "large").write_bytes(b"large")
    writer.add(0, b"k" * 16, VALUE, 1, b"zero")
    writer.add_file(1, b"l" * 16, VALUE, 1, str(tmp_path / "large"))
    segments = [parse((tmp_path / "out" / name).read_bytes()) for name in ("000001", "000002")]
    assert [(each.call, each.key, bytes(each.data)) for segment in segments for each in segment.records] == [
        (0, b"k" * 16, b"zero"),
        (1, b"l" * 16, b"large"),
    ]
    assert not (tmp_path / "large").exists()


def test_an_announcement_is_found_beside_other_text(tmp_path: Path) -> None:
    """Text of the user's program on the same line does not hide a digest; a longer word is none."""
    digest = "0123456789abcdef" * 4
    line = log_line("algo-2", "000007", digest)
    found = parse_line(f"progress 10%{line}")
    assert found is not None
    assert (found.host, found.name, found.digest) == ("algo-2", "000007", digest)
    assert parse_line(line + "0") is None
    assert parse_line("nothing") is None


def test_forty_hosts_fit_in_an_exit_message() -> None:
    """The tokens of forty hosts, each with its line break, are not longer than 1 KB."""
    assert len((token("ab" * 32) + "\n") * 40) <= 1024


DAMAGED = {"empty": b"", "no JSON": b"x\n", "no digests": b"{}\n", "cut": b'{"segments": {}}\n' + bytes(20)}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_other_bytes_are_no_segment(data: bytes) -> None:
    """Bytes that no writer wrote raise SegmentError."""
    with pytest.raises(SegmentError):
        parse(data)


def _calls(path: Path, values: Sequence[list[bytes]]) -> tuple[CallsReader, list[bytes]]:
    packer = CallsPacker()
    function, *calls = (packer.pack([memoryview(chunk) for chunk in chunks]) for chunks in values)
    path.write_bytes(b"head" + b"".join(calls_file(function, calls)))
    reader = CallsReader(str(path), 4)
    assert [each.key for each in reader.calls] == [call.key for call in calls]
    return reader, [call.key for call in calls]


def test_equal_chunks_of_calls_are_stored_once(tmp_path: Path) -> None:
    """A megabyte that a hundred calls share is in the file once, and each call reads it as its own copy."""
    large = bytes(1_000_000)
    values = [[b"function"], *([b"%d" % n, large] for n in range(100))]
    reader, _ = _calls(tmp_path / "calls", values)
    assert (tmp_path / "calls").stat().st_size < 1_100_000
    assert len(reader.calls) == 100
    first, again = (reader.read(reader.calls[7].parts) for _ in range(2))
    assert bytes(first) == b"7" + large
    first[5] = 1
    assert bytes(again) == b"7" + large


def test_equal_calls_have_keys_of_their_own(tmp_path: Path) -> None:
    """Keys depend on the arguments and on the number of equal calls before, not on the position."""
    _, keys = _calls(tmp_path / "one", [[b"f"], [b"a"], [b"b"], [b"a"]])
    _, other = _calls(tmp_path / "two", [[b"another f"], [b"c"], [b"a"], [b"a"], [b"b"]])
    assert len(set(keys)) == 3
    assert set(keys) == set(other[1:])

"""kill -9 at random moments of a map: no wrong value, no call lost, none run twice without `retries`.

The moments come from a seed. `PROCESSING_TEST_MAP_KILLS=100` kills that often, `PROCESSING_TEST_SEED=7` at other
moments.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from job_processes import find_processes, kill

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its victims in /proc")

KILLS = int(os.environ.get("PROCESSING_TEST_MAP_KILLS", "4"))
SEED = int(os.environ.get("PROCESSING_TEST_SEED", "1"))
PATIENCE = 60.0
CALLS = 16

# Each run of a call leaves a line, in one write. A result is large enough that some are segments of their own.
CALLER = """
import json, os, sys
from concurrent.futures import wait
from processing import LocalSession
from processing.remote_function import remote

home, runs, outcomes, hosts, calls, retries = sys.argv[1:]
session = LocalSession(home, tick=0.01, grace=0.3)

@remote(instance_type="local", instance_count=int(hosts), sagemaker_session=session)
def square(number):
    import os, time
    with open(runs, "a") as file:
        file.write("%s %d\\n" % (os.environ["PROCESSING_JOB_ARN"].rpartition("/")[2], number))
    time.sleep(0.03)
    return [number * number, "x" * (2_000_000 if number % 5 == 0 else 10)]

futures = square.submit_map(range(int(calls)), workers=2, name="killed", retries=int(retries))
wait(futures)
found = [None if future.exception() else future.result()[0] for future in futures]
with open(outcomes + ".part", "w") as file:
    json.dump([found, sorted({type(future.exception()).__name__ for future in futures})], file)
os.replace(outcomes + ".part", outcomes)
"""


class Round:
    """One map, the processes that work for it, and the runs of its calls."""

    def __init__(self, folder: Path, hosts: int, retries: int = 0) -> None:
        folder.mkdir()
        self.home, self._runs, self._outcomes = folder / "engine", folder / "runs", folder / "outcomes"
        self._arguments = [str(self.home), str(self._runs), str(self._outcomes), str(hosts), str(CALLS), str(retries)]
        self._caller: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """Start the caller; return its process."""
        self._outcomes.unlink(missing_ok=True)
        self._caller = subprocess.Popen([sys.executable, "-c", CALLER, *self._arguments], stderr=subprocess.PIPE)
        return self._caller.pid

    def outcomes(self) -> list[Any] | None:
        """Wait for the caller; return its values, or None if it was killed."""
        assert self._caller is not None
        _, errors = self._caller.communicate(timeout=PATIENCE)
        if self._caller.returncode == -signal.SIGKILL:
            return None
        assert self._caller.returncode == 0, errors.decode()
        values, kinds = json.loads(self._outcomes.read_text())
        assert set(kinds) <= {"NoneType", "RemoteFunctionError"}, kinds
        return list(values)

    def runs(self) -> Counter[tuple[str, int]]:
        """Return how often each job has run each call."""
        with contextlib.suppress(FileNotFoundError):
            lines = self._runs.read_text().splitlines()
            return Counter((job, int(call)) for job, call in map(str.split, lines))
        return Counter()

    def wait_for_runs(self, count: int) -> None:
        """Wait until so many calls have been started, or the caller has ended."""
        assert self._caller is not None
        deadline = time.monotonic() + PATIENCE
        while self.runs().total() < count and self._caller.poll() is None:
            assert time.monotonic() < deadline
            pause(0.005)


def pause(seconds: float) -> None:
    """Wait for a random moment. These tests need any moment."""
    threading.Event().wait(seconds)


SQUARES = [number * number for number in range(CALLS)]


@pytest.mark.parametrize("victim", ["supervisor", "program", "worker"])
def test_a_second_run_completes_a_map_whose_job_was_killed(tmp_path: Path, victim: str) -> None:
    """Each call has its value or an error; a second run executes only calls without a value, in a job of its own."""
    random_ = random.Random(f"{SEED} {victim}")
    for number in range(max(1, KILLS // 4)):
        killed = Round(tmp_path / str(number), hosts=random_.choice([1, 2]))
        killed.start()
        killed.wait_for_runs(random_.randrange(1, CALLS))
        victims = find_processes(killed.home)[victim]
        for process in random_.sample(victims, k=min(1, len(victims))):
            kill(process)
        first = killed.outcomes()
        assert first is not None
        assert all(value in {None, SQUARES[call]} for call, value in enumerate(first)), first
        if victim == "worker":
            assert first.count(None) <= 1
        killed.start()
        assert killed.outcomes() == SQUARES
        runs = killed.runs()
        assert set(runs.values()) == {1}, runs
        again = Counter(call for _, call in runs)
        assert all(again[call] == 1 for call, value in enumerate(first) if value is not None), (first, runs)


def test_a_second_run_follows_the_job_of_a_killed_caller(tmp_path: Path) -> None:
    """The caller is killed at any moment: the second run takes over, and each call has been run exactly once."""
    random_ = random.Random(SEED)
    for number in range(max(2, KILLS // 4)):
        killed = Round(tmp_path / str(number), hosts=random_.choice([1, 2]))
        process = killed.start()
        if number % 2:
            killed.wait_for_runs(random_.randrange(1, CALLS))
        else:
            pause(random_.uniform(0.2, 1.2))
        kill(process)
        killed.outcomes()
        killed.start()
        assert killed.outcomes() == SQUARES
        runs = Counter(call for _, call in killed.runs())
        assert runs == Counter(range(CALLS)), runs


def test_retries_replace_what_was_killed(tmp_path: Path) -> None:
    """With `retries=1`, a killed worker or host costs no value."""
    random_ = random.Random(SEED)
    for victim in ("worker", "program"):
        killed = Round(tmp_path / victim, hosts=1, retries=1)
        killed.start()
        killed.wait_for_runs(random_.randrange(1, CALLS))
        for process in find_processes(killed.home)[victim][:1]:
            kill(process)
        assert killed.outcomes() == SQUARES
        assert max(Counter(call for _, call in killed.runs()).values()) <= 2

"""kill -9 at random moments of pools and generators: no wrong value, no call lost, none run twice.

The moments come from a seed, as those of the kills of maps. `PROCESSING_TEST_POOL_KILLS=20` kills that often.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from job_processes import find_processes, kill
from processing import LocalSession, RemoteFunctionError
from processing.job.job import ProcessingJob
from processing.remote_function import get_future, remote
from processing.remote_function.pool import RemotePool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = int(os.environ.get("PROCESSING_TEST_POOL_KILLS", "2"))
SEED = int(os.environ.get("PROCESSING_TEST_SEED", "1"))
PATIENCE = 120.0
CALLS = 24

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its victims in /proc"),
    pytest.mark.complete("takes minutes"),
]


def _count(runs: Path) -> int:
    return len(runs.read_text().split()) if runs.exists() else 0


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def _square(runs: Path, number: int) -> list[Any]:
    """Leave a mark of the run, in one write, and return a value that is sometimes too large for a message."""
    with runs.open("a") as file:
        file.write(f"{number}\n")
    time.sleep(0.03)
    return [number * number, "x" * (300_000 if number % 5 == 0 else 10)]


@pytest.mark.parametrize("victim", ["supervisor", "program", "worker"])
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_kill_in_a_pool_loses_and_repeats_no_call(tmp_path: Path, victim: str, number: int) -> None:
    """Each call has its value or an error, and has run at most once; calls that no host had run in another job."""
    random_ = random.Random(f"{SEED} {number} {victim}")
    session, runs = LocalSession(tmp_path / "engine", tick=0.01, grace=0.3), tmp_path / "runs"
    hosts = random_.choice([1, 2])
    with RemotePool(workers=2, instance_type="local", instance_count=hosts, sagemaker_session=session) as pool:
        futures = [pool.submit(_square, runs, call) for call in range(CALLS)]
        least = random_.randrange(1, CALLS // 2)
        _wait_until(lambda: _count(runs) >= least)
        victims = find_processes(session.home)[victim]
        for process in random_.sample(victims, k=min(1, len(victims))):
            kill(process)
        errors = [future.exception(PATIENCE) for future in futures]
        assert {type(error) for error in errors} <= {type(None), RemoteFunctionError}, errors
        for call, (future, error) in enumerate(zip(futures, errors, strict=True)):
            assert error is not None or future.result()[0] == call * call
        assert pool.submit(_square, runs, CALLS).result(PATIENCE)[0] == CALLS * CALLS
    counted = Counter(map(int, runs.read_text().split()))
    assert set(counted.values()) == {1}, counted
    assert all(counted[call] == 1 for call, error in enumerate(errors) if error is None)
    assert sum(error is not None for error in errors) <= 4 * hosts  # two for each worker of the hosts


OWNER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_pool_kills import CALLS, _square
from processing import LocalSession
from processing.remote_function.pool import RemotePool, job, pool
pool._LIFE_SECONDS, job.SIGN_SECONDS = 6.0, 0.5
home, runs = Path(sys.argv[2]), Path(sys.argv[3])
with RemotePool(workers=2, instance_type="local", sagemaker_session=LocalSession(home, tick=0.01)) as opened:
    list(opened.map(_square, [runs] * CALLS, range(CALLS)))
"""


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_pool_whose_owner_is_killed_ends_without_a_repeated_call(tmp_path: Path, number: int) -> None:
    """The owner is killed at any moment: the job ends by itself, has run no call twice, and leaves nothing."""
    random_ = random.Random(f"{SEED} {number}")
    home, runs = tmp_path / "engine", tmp_path / "runs"
    words = [sys.executable, "-c", OWNER, str(Path(__file__).parent), str(home), str(runs)]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as owner:
        least = random_.randrange(1, CALLS - 1)
        _wait_until(lambda: _count(runs) >= least)
        kill(owner.pid)
    session = LocalSession(home, tick=0.01)
    jobs = session.client("sagemaker").list_processing_jobs()["ProcessingJobSummaries"]
    for each in jobs:
        job = ProcessingJob.from_processing_name(session, each["ProcessingJobName"])
        assert job.wait(logs=False, timeout=PATIENCE).status == "Completed"
    assert len(jobs) == 1
    assert set(Counter(runs.read_text().split()).values()) == {1}
    assert not session.client("sqs").list_queues().get("QueueUrls")


def _squares(runs: Path, count: int) -> Iterator[list[Any]]:
    for number in range(count):
        yield _square(runs, number)


@pytest.mark.parametrize("victim", ["supervisor", "program"])
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_killed_generator_has_right_items_before_its_error(tmp_path: Path, victim: str, number: int) -> None:
    """The items that arrive are the first ones, in order and right, and then comes an error."""
    random_ = random.Random(f"{SEED} {number} {victim}")
    session, runs = LocalSession(tmp_path / "engine", tick=0.01, grace=0.3), tmp_path / "runs"
    items = remote(_squares, instance_type="local", sagemaker_session=session)(runs, 10_000)
    received = [next(items)[0]]
    least = random_.randrange(1, 60)
    _wait_until(lambda: _count(runs) >= least)
    kill(find_processes(session.home)[victim][0])
    with pytest.raises(RemoteFunctionError):
        received.extend(item[0] for item in items)
    assert received == [call * call for call in range(len(received))]
    assert set(Counter(runs.read_text().split()).values()) == {1}


CALLER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_pool_kills import CALLS, _squares
from processing import LocalSession
from processing.remote_function import remote
function = remote(_squares, instance_type="local", sagemaker_session=LocalSession(sys.argv[2], tick=0.01))
for item in function(Path(sys.argv[3]), CALLS):
    pass
"""


@pytest.mark.parametrize("number", range(ROUNDS))
def test_another_process_gets_the_items_of_a_killed_caller(tmp_path: Path, number: int) -> None:
    """The job goes on after the death of its caller, and a future of it has all items of the one run."""
    random_ = random.Random(f"{SEED} {number}")
    home, runs = tmp_path / "engine", tmp_path / "runs"
    words = [sys.executable, "-c", CALLER, str(Path(__file__).parent), str(home), str(runs)]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as caller:
        least = random_.randrange(1, CALLS)
        _wait_until(lambda: _count(runs) >= least)
        kill(caller.pid)
    session = LocalSession(home, tick=0.01)
    (job,) = session.client("sagemaker").list_processing_jobs()["ProcessingJobSummaries"]
    future: Any = get_future(job["ProcessingJobName"], session)
    assert [item[0] for item in future.items()] == [call * call for call in range(CALLS)]
    assert set(Counter(runs.read_text().split()).values()) == {1}

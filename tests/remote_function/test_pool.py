"""`RemotePool` on the embedded engine: a warm job that takes calls through queues."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from processing import (
    ConfigurationError,
    DeserializationError,
    LocalSession,
    RemoteFunctionError,
    RuntimeEnvironmentError,
)
from processing.container.remote import packing
from processing.container.remote.channel import signature
from processing.container.remote.worker import VALUE
from processing.models import NetworkConfig
from processing.remote_function import get_future, remote
from processing.remote_function.pool import RemotePool, leftovers, queues
from processing.request.s3_uri import S3Uri
from processing.testing import FaultInjector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

PATIENCE = 180.0


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemotePool]:
    """A pool of two instances with two workers each, for all tests that do not end it."""
    session = LocalSession(tmp_path_factory.mktemp("engine"), tick=0.01)
    options: dict[str, Any] = {"instance_type": "local", "instance_count": 2, "sagemaker_session": session}
    variables = {"RESOURCES": "/opt/ml/config/resourceconfig.json"}
    with RemotePool(workers=2, environment_variables=variables, **options) as opened:
        yield opened


def _session(pool: RemotePool) -> LocalSession:
    assert pool.job is not None
    session = pool.job.sagemaker_session
    assert isinstance(session, LocalSession)
    return session


def _jobs(session: LocalSession) -> list[str]:
    answer = session.client("sagemaker").list_processing_jobs()
    return [each["ProcessingJobName"] for each in answer["ProcessingJobSummaries"]]


def test_calls_share_one_job(pool: RemotePool) -> None:
    """Values, exceptions and deaths of many calls come from one job, on both of its instances."""

    def where(number: int) -> tuple[int, str]:
        return number, Path(os.environ["RESOURCES"]).read_text().partition(",")[0]

    def call(kind: str) -> None:
        if kind == "die":
            os._exit(7)
        if kind == "exit":
            sys.exit(3)
        raise LookupError(kind)

    hosts: set[str] = set()
    for _ in range(100):  # one host may take all calls of a round that it ends before the other has started
        futures = [pool.submit(where, number) for number in range(20)]
        assert [future.result(PATIENCE)[0] for future in futures] == list(range(20))
        hosts |= {future.result()[1] for future in futures}
        if len(hosts) == 2:
            break
    assert len(hosts) == 2
    raised, died, exited = (pool.submit(call, kind).exception(PATIENCE) for kind in ("raise", "die", "exit"))
    assert isinstance(raised, LookupError)
    assert isinstance(died, RemoteFunctionError)
    assert died.exit_code == 7
    assert isinstance(exited, RemoteFunctionError)
    assert exited.exit_code == 3
    assert len(_jobs(_session(pool))) == 1


def test_map_takes_an_endless_generator(pool: RemotePool, tmp_path: Path) -> None:
    """`map` reads a bounded number of elements ahead, and yields the results in order."""
    read = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    squares = pool.map(lambda number: number**2, numbers(), buffersize=8)
    assert len(read) == 8
    assert list(itertools.islice(squares, 30)) == [number**2 for number in range(30)]
    assert len(read) <= 38
    squares.close()  # type: ignore[attr-defined]
    assert list(pool.map(lambda x, y: x + y, [1, 2], [3, 4, 5])) == [4, 6]

    def wait_for(path: Path) -> None:
        while not path.exists():
            time.sleep(0.01)

    with pytest.raises(TimeoutError):
        list(pool.map(wait_for, [tmp_path / "go"], timeout=0.05))
    (tmp_path / "go").touch()


def test_large_values_travel_through_s3_once(pool: RemotePool) -> None:
    """An array of several calls is stored once, and each call gets a copy that it may change."""

    @remote(instance_type="local")
    def change(array: np.ndarray[Any, Any], number: int) -> np.ndarray[Any, Any]:
        array += number
        return array

    array = np.arange(200_000.0)
    first, second = pool.map(change, [array, array], [1, 2])
    assert np.array_equal(first, array + 1)
    assert np.array_equal(second, array + 2)
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    assert pool._values is not None
    prefix = pool._values._prefix
    listed = _session(pool).client("s3").list_objects_v2(Bucket=prefix.bucket, Prefix=f"{prefix.key}/{digest}")
    assert listed["KeyCount"] == 1


def test_a_replaced_argument_is_not_loaded(pool: RemotePool, tmp_path: Path) -> None:
    """A host compares each object with the digest in the call's message before it loads it."""
    array = np.arange(100_000.0) - 0.5
    data = array.tobytes()
    digest = hashlib.sha256(data).hexdigest()
    pool.submit(int).result(PATIENCE)
    assert pool._values is not None
    pool._values._stored.add(digest)  # the object in S3 is the attacker's
    prefix = pool._values._prefix
    _session(pool).client("s3").put_object(Bucket=prefix.bucket, Key=f"{prefix.key}/{digest}", Body=b"x" * len(data))
    with pytest.raises(ValueError, match=f"{digest} is not the object that the call names"):
        pool.submit(len, array).result(PATIENCE)


class Trap:
    """A value that leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def _result(number: int, data: bytes, proof: str) -> dict[str, Any]:
    return {
        "kind": "result",
        "number": number,
        "outcome": VALUE,
        "seconds": 0.0,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "data": base64.b64encode(data).decode(),
        "signature": proof,
    }


def test_a_forged_result_is_ignored(pool: RemotePool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A message in the queue of results counts only with the proof that its sender received the call."""
    go, mark = tmp_path / "go", tmp_path / "mark"

    def wait_for(path: Path) -> str:
        while not path.exists():
            time.sleep(0.01)
        return "genuine"

    pool.submit(int).result(PATIENCE)
    future = pool.submit(wait_for, go)
    current = pool._current
    assert current is not None
    number = next(pool._numbers) - 1
    forged = packing.pack(Trap(mark)).to_bytes()
    digest = hashlib.sha256(forged).hexdigest()
    messages = [
        _result(number, forged, "00"),
        _result(number, forged, signature(b"another key", number, VALUE, digest)),
        {"kind": "result", "number": number},
        {"kind": "result", "number": 10**9},
        {"kind": "nonsense"},
    ]
    sqs = _session(pool).client("sqs")
    for message in messages:
        sqs.send_message(QueueUrl=current._queues.results, MessageBody=json.dumps(message))
    sqs.send_message(QueueUrl=current._queues.results, MessageBody="no JSON")
    assert [each.result(PATIENCE) for each in [pool.submit(abs, -number) for number in range(20)]] == list(range(20))
    go.touch()
    assert future.result(PATIENCE) == "genuine"
    assert not mark.exists()


def test_a_result_has_to_fit_its_digest(pool: RemotePool, tmp_path: Path) -> None:
    """A genuine proof does not vouch for other data."""
    pool.submit(int).result(PATIENCE)
    assert pool._values is not None
    call = pool._values.call(0, abs, (1,), {})
    genuine, other = packing.pack("genuine").to_bytes(), packing.pack(Trap(tmp_path / "mark")).to_bytes()
    proof = signature(call.key, 0, VALUE, hashlib.sha256(genuine).hexdigest())
    good = call.outcome(_result(0, genuine, proof), pool._values.read)
    assert good is not None
    assert good.value == "genuine"
    swapped = {**_result(0, other, proof), "sha256": hashlib.sha256(genuine).hexdigest()}
    assert call.outcome(swapped, pool._values.read) is None
    assert call.outcome({**_result(0, genuine, proof), "outcome": VALUE + 1}, pool._values.read) is None
    assert not (tmp_path / "mark").exists()


def test_an_idle_pool_ends_and_starts_again(local_session: LocalSession) -> None:
    """The job ends after `idle` seconds without a call; the next call starts another one, and shutdown ends it."""
    pool = RemotePool(idle=0.2, workers=1, instance_type="local", sagemaker_session=local_session)
    assert pool.job is None
    assert pool.submit(abs, -1).result(PATIENCE) == 1
    first = pool.job
    assert first is not None
    assert first.wait(logs=False, timeout=PATIENCE).status == "Completed"
    assert pool.submit(abs, -2).result(PATIENCE) == 2
    pool.shutdown()
    assert pool.job is not None
    assert pool.job.job_name != first.job_name
    assert pool.job.wait(logs=False, timeout=PATIENCE).status == "Completed"
    assert not local_session.client("sqs").list_queues().get("QueueUrls")
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, -3)


def test_a_pool_may_end_as_soon_as_it_is_idle(local_session: LocalSession) -> None:
    """With `idle=0` each call that finds no job starts one, and has its result."""
    with RemotePool(idle=0, workers=1, instance_type="local", sagemaker_session=local_session) as pool:
        assert [pool.submit(abs, -number).result(PATIENCE) for number in range(2)] == [0, 1]


def test_a_pool_whose_job_is_stopped_fails_its_calls(local_session: LocalSession, tmp_path: Path) -> None:
    """A call that a host had gets the job's error; the calls that none had go to another job."""
    begun = tmp_path / "begun"

    def begin(mark: Path) -> None:
        mark.touch()
        time.sleep(600)

    with RemotePool(workers=1, instance_type="local", sagemaker_session=local_session) as pool:
        assert pool.submit(abs, -1).result(PATIENCE) == 1
        futures: list[Future[Any]] = [pool.submit(begin, begun)]
        futures += [pool.submit(abs, -number) for number in range(4)]
        assert pool.job is not None
        deadline = time.monotonic() + PATIENCE
        while not begun.exists():
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
        pool.job.stop()
        assert isinstance(futures[0].exception(PATIENCE), RemoteFunctionError)
        others = [future.exception(PATIENCE) for future in futures[1:]]
        assert others[-1] is None
        assert len(_jobs(local_session)) == 2


OWNER = """
import os, sys
from processing import LocalSession
from processing.remote_function.pool import job, pool
pool._LIFE_SECONDS, job.SIGN_SECONDS = 6.0, 0.5
session = LocalSession(sys.argv[1], tick=0.01)
opened = pool.RemotePool(workers=1, instance_type="local", instance_count=2, sagemaker_session=session)
assert opened.submit(len, bytes(300_000)).result() == 300_000
print(opened.job.job_name, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kills", [True, False], ids=["killed", "ended"])
def test_a_pool_ends_after_its_owner(tmp_path: Path, *, kills: bool) -> None:
    """A pool whose owner was killed misses its signs of life and ends; one whose owner just ends is told.

    Both leave neither queues nor large values behind.
    """
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        name = owner.stdout.readline().strip()
        if kills:
            owner.send_signal(signal.SIGKILL)
        owner.stdin.close()
        owner.wait()
    from processing.job.job import ProcessingJob

    session = LocalSession(tmp_path, tick=0.01)
    job = ProcessingJob.from_processing_name(session, name)
    assert job.wait(logs=False, timeout=PATIENCE).status == "Completed"
    reason = "the owner is gone" if kills else "closed"
    assert f"remote-function pool: {reason}" in [line.message for line in job.logs()]
    assert _left_behind(session) == []


def _left_behind(session: LocalSession) -> list[str]:
    """Return the queues of pools, and their objects."""
    objects = session.client("s3").list_objects_v2(Bucket=session.default_bucket()).get("Contents", ())
    queues = session.client("sqs").list_queues().get("QueueUrls", [])
    return [*queues, *(each["Key"] for each in objects if leftovers.NAME in each["Key"])]


def test_a_closed_pool_leaves_nothing_behind(local_session: LocalSession) -> None:
    """The owner removes the queues and the large values, and does not wait for that if it does not want to."""
    for wait in (True, False):
        pool = RemotePool(workers=1, instance_type="local", sagemaker_session=local_session)
        assert len(pool.submit(bytes, 300_000).result(PATIENCE)) == 300_000
        assert pool.submit(len, bytes(300_000)).result(PATIENCE) == 300_000
        assert len(_left_behind(local_session)) == 4
        pool.shutdown(wait=wait)
        pool.shutdown()
        assert _left_behind(local_session) == []


def test_a_pool_that_was_idle_leaves_nothing_behind(local_session: LocalSession) -> None:
    """The large values stay for later calls after an idle end, and go when the pool is closed."""
    pool = RemotePool(idle=0, workers=1, instance_type="local", sagemaker_session=local_session)
    assert pool.submit(len, bytes(300_000)).result(PATIENCE) == 300_000
    pool._jobs[0].join()
    assert len(_left_behind(local_session)) == 1
    pool.shutdown()
    assert _left_behind(local_session) == []


def test_a_new_pool_removes_what_dead_ones_have_left(tmp_path: Path) -> None:
    """Queues and objects of pools that can no longer run go; those of younger pools and of other programs stay."""
    session = LocalSession(tmp_path / "engine", tick=0.01)
    sqs, s3, bucket = session.client("sqs"), session.client("s3"), session.default_bucket()
    now = int(session.clock.time())
    old, young = (f"{leftovers.NAME}{now - int(age):08x}-{'0' * 12}" for age in (leftovers.STALE_SECONDS + 9, 86400))
    for name in (old, young):
        sqs.create_queue(QueueName=f"{name}-0-results")
        s3.put_object(Bucket=bucket, Key=f"{name}/value", Body=b"1")
    sqs.create_queue(QueueName="processing-pool-of-mine")
    s3.put_object(Bucket=bucket, Key=f"mine/{old}/value", Body=b"1")
    leftovers.remove_stale(session, S3Uri(bucket))
    kept = [each.rpartition("/")[2] for each in _left_behind(session) if each.startswith("http")]
    assert sorted(kept) == sorted([f"{young}-0-results", "processing-pool-of-mine"])
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == sorted([f"{young}/value", f"mine/{old}/value"])


def test_an_image_without_boto3_is_named(local_session: LocalSession, tmp_path: Path) -> None:
    """The error of a call says that the job needs boto3."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "boto3.py").write_text("raise ImportError('no boto3 here')")
    variables = {"PYTHONPATH": str(tmp_path / "packages")}
    options: dict[str, Any] = {"instance_type": "local", "sagemaker_session": local_session}
    with RemotePool(environment_variables=variables, **options) as pool:
        error = pool.submit(abs, -1).exception(PATIENCE)
    assert isinstance(error, RuntimeEnvironmentError)
    assert "boto3" in str(error)


FAULTS = ["throttle", "error500", "reset_before", "reset_after", "truncate", "double"]


def test_no_call_is_lost_or_run_twice_on_a_bad_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With faults on each call to SQS, every call has its value and was run once."""
    from processing.aws.retry import RetryPolicy

    monkeypatch.setattr(queues, "_VISIBILITY", "1")  # the seconds until a message with a lost answer comes again
    faults = FaultInjector(seed=5)
    policy = RetryPolicy(base=0.001, cap=0.01)
    session = LocalSession(tmp_path / "engine", tick=0.01, transport=faults.wrap, retry_policy=policy)
    runs = tmp_path / "runs"

    def call(number: int) -> int:
        with runs.open("a") as file:
            file.write(f"{number}\n")
        return number

    with RemotePool(workers=2, instance_type="local", sagemaker_session=session) as pool:
        assert pool.submit(call, -1).result(PATIENCE) == -1
        for operation in ("SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch", "SendMessage"):
            for kind in FAULTS:
                faults.on(operation, kind, probability=0.02)  # type: ignore[arg-type]
        assert list(pool.map(call, range(24))) == list(range(24))
    assert Counter(map(int, runs.read_text().split())) == Counter(range(-1, 24))
    assert faults.injected


BAD: dict[str, Any] = {
    "idle": -1,
    "workers": 0,
    "instance_cout": 2,
    "use_mpirun": True,
    "result_format": "json",
}


@pytest.mark.parametrize(("option", "value"), BAD.items(), ids=BAD)
def test_options_are_checked(option: str, value: Any) -> None:
    """A wrong option is refused by its name, without a call to AWS."""
    with pytest.raises(ConfigurationError, match=option):
        RemotePool(**{option: value})


def test_a_pool_needs_a_network(local_session: LocalSession) -> None:
    """Network isolation is refused before anything is uploaded; so are a value that is no function, and no iterable."""
    isolated = NetworkConfig(enable_network_isolation=True)
    pool = RemotePool(instance_type="local", sagemaker_session=local_session, network_config=isolated)
    with pytest.raises(ConfigurationError, match="network_config"):
        pool.submit(abs, -1)
    with pytest.raises(ConfigurationError, match="fn"):
        pool.submit("abs")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="iterables"):
        pool.map(abs)
    assert not _jobs(local_session)


def test_the_results_of_a_pool_belong_to_its_owner(pool: RemotePool) -> None:
    """`get_future` of a pool's job says that there are none."""
    pool.submit(int).result(PATIENCE)
    assert pool.job is not None
    with pytest.raises(DeserializationError, match="the job of a pool"):
        get_future(pool.job.job_name, _session(pool))


def test_an_ended_pool_asks_for_no_status(tmp_path: Path) -> None:
    """Its service may be gone by then: a watch would ask again for hours, beside the rest of the program."""
    faults = FaultInjector()
    session = LocalSession(tmp_path / "engine", tick=0.01, transport=faults.wrap)
    before = set(threading.enumerate())
    with RemotePool(workers=1, instance_type="local", sagemaker_session=session) as pool:
        assert pool.submit(abs, -1).result(PATIENCE) == 1
        for operation in ("DescribeProcessingJob", "ListProcessingJobs"):
            faults.on(operation, "reset_before", probability=1.0)
    for thread in set(threading.enumerate()) - before:
        if thread.name == "processing-poller":
            thread.join(PATIENCE)
            assert not thread.is_alive()

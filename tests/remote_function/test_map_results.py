"""Attacks on the results of a map: nothing that the job does not vouch for is loaded.

The attacker may write to S3 and nothing else.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from processing import DeserializationError, ServiceError
from processing.container.remote import packing
from processing.container.remote.segments import LAST, SegmentEntry, SegmentWriter
from processing.container.remote.worker import VALUE
from processing.remote_function import get_future, remote
from processing.remote_function.mapping import MapFutures, MapOptions
from processing.remote_function.mapping.packed_calls import PackedCalls
from processing.remote_function.mapping.results import SegmentReader
from processing.remote_function.settings import RemoteSettings
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing import LocalSession
    from processing.job.job import ProcessingJob
    from processing.testing import FaultInjector

PATIENCE = 180.0
LARGE = 1 << 20
"""A result of this size is a segment of its own."""


class Store:
    """The segments of a job in S3, as an attacker sees them."""

    def __init__(self, session: LocalSession, job: ProcessingJob) -> None:
        self.session = session
        self.prefix = S3Uri.parse(str(job.outputs["remote-result"].destination))

    def names(self) -> list[str]:
        client = self.session.client("s3")
        listed = client.list_objects_v2(Bucket=self.prefix.bucket, Prefix=self.prefix.key + "/")["Contents"]
        return [each["Key"].removeprefix(self.prefix.key + "/") for each in listed]

    def get(self, name: str) -> bytes:
        body = self.session.client("s3").get_object(Bucket=self.prefix.bucket, Key=f"{self.prefix.key}/{name}")["Body"]
        data: bytes = body.read()
        return data

    def put(self, name: str, data: bytes) -> None:
        self.session.client("s3").put_object(Bucket=self.prefix.bucket, Key=f"{self.prefix.key}/{name}", Body=data)

    def delete(self, name: str) -> None:
        self.session.client("s3").delete_object(Bucket=self.prefix.bucket, Key=f"{self.prefix.key}/{name}")


class Trap:
    """A value that leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def _forged(folder: Path, mark: Path, segment: str, keys: list[bytes]) -> bytes:
    """Return a segment in the right form, whose values run code when they are loaded."""
    writer = SegmentWriter(str(folder), "algo-1", lambda _line: None)
    for number, key in enumerate(keys):
        writer.add(number, key, VALUE, 1, packing.pack(Trap(mark)).to_bytes())
    writer.close()
    del segment
    return (folder / LAST).read_bytes()


@pytest.fixture(scope="module")
def finished_maps(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalSession, list[ProcessingJob]]:
    """Two maps of three calls that have ended: two results are segments of their own, the third is in the last one."""
    from processing import LocalSession

    session = LocalSession(tmp_path_factory.mktemp("engine"), tick=0.01)

    @remote(instance_type="local", sagemaker_session=session)
    def call(number: int) -> str:
        return str(number % 10) * (1 if number % 10 == 2 else LARGE)

    both: list[MapFutures[str]] = [call.submit_map(numbers, workers=1) for numbers in (range(3), range(10, 13))]
    for futures in both:
        assert [len(future.result()) for future in futures] == [LARGE, LARGE, 1]
    jobs = [futures.job for futures in both]
    assert all(jobs)
    return session, [job for job in jobs if job is not None]


def _keys() -> list[bytes]:
    def call(number: int) -> int:
        return number

    return list(
        PackedCalls.of(call, RemoteSettings(), MapOptions().classes, [((number,), {}) for number in range(3)]).number_of
    )


class Read:
    """The records that a new reader takes from a job, and its problems."""

    def __init__(self, job: ProcessingJob) -> None:
        self.records: list[SegmentEntry] = []
        self.reader = SegmentReader(job, self.records.extend)
        self.reader.read_rest(job.describe())
        self.calls = sorted(record.call for record in self.records)
        self.problems = "\n".join(self.reader.problems)


def _swap(store: Store, other: Store, forged: bytes) -> None:
    first, second = store.get("algo-1/000001"), store.get("algo-1/000002")
    store.put("algo-1/000001", second)
    store.put("algo-1/000002", first)
    del other, forged


def _replay(store: Store, other: Store, forged: bytes) -> None:
    for name in other.names():
        store.put(name, other.get(name))
    del forged


def _replay_one(store: Store, other: Store, forged: bytes) -> None:
    store.put("algo-1/000001", other.get("algo-1/000001"))
    del forged


def _forge_last(store: Store, other: Store, forged: bytes) -> None:
    store.put(f"algo-1/{LAST}", forged)
    del other


def _forge_first(store: Store, other: Store, forged: bytes) -> None:
    store.put("algo-1/000001", forged)
    del other


def _truncate(store: Store, other: Store, forged: bytes) -> None:
    store.put("algo-1/000002", store.get("algo-1/000002")[:-1])
    del other, forged


def _delete(store: Store, other: Store, forged: bytes) -> None:
    store.delete("algo-1/000002")
    del other, forged


def _delete_last(store: Store, other: Store, forged: bytes) -> None:
    store.delete(f"algo-1/{LAST}")
    del other, forged


# The attack, the calls whose results are still taken, and the name in the problem.
ATTACKS: dict[str, tuple[Callable[[Store, Store, bytes], None], list[int], str]] = {
    "two segments are swapped": (_swap, [2], "000001"),
    "all segments of another map are replayed": (_replay, [], LAST),
    "one segment of another map is replayed": (_replay_one, [1, 2], "000001"),
    "the last segment is forged": (_forge_last, [0, 1], LAST),
    "an early segment is forged": (_forge_first, [1, 2], "000001"),
    "a segment is cut": (_truncate, [0, 2], "000002"),
    "a segment is deleted": (_delete, [0, 2], "missing"),
    "the last segment is deleted": (_delete_last, [0, 1], "missing"),
}


@pytest.mark.parametrize(("attack", "calls", "problem"), ATTACKS.values(), ids=ATTACKS)
def test_a_changed_segment_is_refused(
    finished_maps: tuple[LocalSession, list[ProcessingJob]],
    tmp_path: Path,
    attack: Callable[[Store, Store, bytes], None],
    calls: list[int],
    problem: str,
) -> None:
    """Only segments with the job's own digests are read, and the others are named."""
    session, (job, other) = finished_maps
    store = Store(session, job)
    before = {name: store.get(name) for name in store.names()}
    assert sorted(before) == ["algo-1/000001", "algo-1/000002", f"algo-1/{LAST}"]
    assert Read(job).calls == [0, 1, 2]
    try:
        attack(store, Store(session, other), _forged(tmp_path / "forged", tmp_path / "mark", LAST, _keys()))
        read = Read(job)
    finally:
        for name, data in before.items():
            store.put(name, data)
    assert read.calls == calls
    assert problem in read.problems
    assert not (tmp_path / "mark").exists()


def test_an_early_result_needs_the_digest_in_the_log(
    finished_maps: tuple[LocalSession, list[ProcessingJob]], tmp_path: Path
) -> None:
    """A segment that appears in S3 before the job's own one is not read."""
    session, (job, _) = finished_maps
    store, genuine = Store(session, job), Store(session, job).get("algo-1/000001")
    records: list[SegmentEntry] = []
    reader = SegmentReader(job, records.extend)
    line = f"remote-function segment algo-1/000001 sha256={hashlib.sha256(genuine).hexdigest()}"
    assert reader.announce("algo-2", line) is None
    found = reader.announce("algo-1", line)
    assert found is not None
    store.put("algo-1/000001", _forged(tmp_path / "forged", tmp_path / "mark", "000001", _keys()))
    try:
        assert not reader.read(*found)
        assert not records
    finally:
        store.put("algo-1/000001", genuine)
    assert reader.read(*found)
    assert len(records) == 1


def test_the_rest_includes_a_segment_whose_delivery_goes_on(
    finished_maps: tuple[LocalSession, list[ProcessingJob]],
) -> None:
    """The end of a job delivers a segment again that an early reader still unpickles, so its calls are not lost."""
    session, (job, _) = finished_maps
    digest = hashlib.sha256(Store(session, job).get(f"algo-1/{LAST}")).hexdigest()
    begun, go = threading.Event(), threading.Event()
    delivered: set[int] = set()

    def deliver(records: list[SegmentEntry]) -> None:
        if threading.current_thread() is early:
            begun.set()
            assert go.wait(PATIENCE)
        delivered.update(record.call for record in records)

    reader = SegmentReader(job, deliver)
    early = threading.Thread(target=reader.read, args=("algo-1", LAST, digest))
    early.start()
    try:
        assert begun.wait(PATIENCE)
        reader.read_rest(job.describe())
        assert delivered == {0, 1, 2}
    finally:
        go.set()
        early.join(PATIENCE)
    assert reader.read("algo-1", LAST, digest)
    assert not reader.problems


def _broken_session(home: Path) -> tuple[LocalSession, FaultInjector]:
    """Return a session whose calls meet faults."""
    from processing import LocalSession
    from processing.aws.retry import RetryPolicy
    from processing.testing import FaultInjector

    faults = FaultInjector()
    policy = RetryPolicy(base=0.001, cap=0.01)
    return LocalSession(home, tick=0.01, transport=faults.wrap, retry_policy=policy), faults


def test_results_come_without_the_permission_to_read_logs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without logs all results come at the end, by the digest in the exit message."""
    session, faults = _broken_session(tmp_path / "engine")
    for operation in ("FilterLogEvents", "GetLogEvents", "DescribeLogStreams"):
        faults.on(operation, "denied")

    @remote(instance_type="local", instance_count=2, sagemaker_session=session)
    def call(number: int) -> str:
        return str(number) * LARGE

    with caplog.at_level(logging.ERROR):
        assert [value[0] for value in call.map(range(4))] == ["0", "1", "2", "3"]


FAULTS = ["throttle", "error500", "error503", "reset_before", "reset_after", "truncate", "double", "unreachable"]


def test_every_result_arrives_on_a_bad_network(tmp_path: Path) -> None:
    """With faults on every call, a map has one job, and each call its value, run once."""
    session, faults = _broken_session(tmp_path / "engine")
    session.default_bucket()
    runs = tmp_path / "runs"

    @remote(instance_type="local", instance_count=2, sagemaker_session=session)
    def call(number: int) -> str:
        with runs.open("a") as file:
            file.write(f"{number}\n")
        return str(number) * (LARGE if number % 3 == 0 else 1)

    for kind in FAULTS:
        faults.on("*", kind, probability=0.03)  # type: ignore[arg-type]
    futures = call.submit_map(range(12), workers=2, name="faults")
    assert [int(future.result()[0]) for future in futures] == [int(str(number)[0]) for number in range(12)]
    assert sorted(map(int, runs.read_text().split())) == list(range(12))
    assert faults.injected
    assert len(futures.jobs) == 1


def test_results_of_a_failed_read_name_the_object(
    finished_maps: tuple[LocalSession, list[ProcessingJob]],
) -> None:
    """If S3 cannot be read, the error is a ServiceError with the object."""
    from processing.job.job import ProcessingJob

    session, (job, _) = finished_maps
    broken, faults = _broken_session(session.home)
    faults.on("GetObject", "denied")
    attached = ProcessingJob.from_processing_name(broken, job.job_name)
    with pytest.raises(ServiceError, match="algo-1/last"):
        SegmentReader(attached, lambda _records: None).read_rest(attached.describe())


def test_a_job_that_ends_without_a_message_is_read_by_its_log(local_session: LocalSession) -> None:
    """If the program of the job is killed, the results of closed segments count, and the other calls have an error."""

    @remote(instance_type="local", sagemaker_session=local_session)
    def call(number: int) -> str:
        import os
        import signal
        import time

        if number == 2:
            time.sleep(0.5)
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        return str(number) * LARGE

    futures = call.submit_map(range(4), workers=1)
    concurrent.futures.wait(futures)
    assert [future.exception() is None for future in futures] == [True, True, False, False]
    assert "exit code 137" in str(futures[2].exception())
    assert futures.job is not None
    assert "ExitMessage" not in futures.job.describe()


def test_a_named_map_runs_calls_again_whose_results_were_replaced(
    local_session: LocalSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A second run takes the genuine results of the first, and runs the calls of a forged segment."""
    runs = tmp_path / "runs"

    @remote(instance_type="local", sagemaker_session=local_session)
    def call(number: int) -> str:
        with runs.open("a") as file:
            file.write(f"{number}\n")
        return str(number) * (1 if number == 2 else LARGE)

    first = call.submit_map(range(3), workers=1, name="forged")
    assert [future.result()[0] for future in first] == ["0", "1", "2"]
    assert first.job is not None
    store = Store(local_session, first.job)
    store.put("algo-1/000001", _forged(tmp_path / "forged", tmp_path / "mark", "000001", _keys()))
    second = call.submit_map(range(3), workers=1, name="forged")
    assert [future.result()[0] for future in second] == ["0", "1", "2"]
    assert sorted(runs.read_text().split()) == ["0", "0", "1", "2"]
    assert "000001" in caplog.text
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("segment", ["000001", LAST])
def test_a_forged_result_of_another_process_s_map_is_not_loaded(
    local_session: LocalSession, tmp_path: Path, segment: str
) -> None:
    """The future of a map's job refuses a segment that the job does not vouch for."""
    repeat = remote(lambda size: "a" * size, instance_type="local", sagemaker_session=local_session)
    futures = repeat.submit_map([1, LARGE])
    assert [len(future.result()) for future in futures] == [1, LARGE]
    job = futures.job
    assert job is not None
    Store(local_session, job).put(
        f"algo-1/{segment}", _forged(tmp_path / "forged", tmp_path / "mark", segment, _keys())
    )
    with pytest.raises(DeserializationError, match="is not the one that the job wrote"):
        get_future(job.job_name, local_session).result()
    assert not (tmp_path / "mark").exists()

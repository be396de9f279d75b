"""Tests of remote generator functions: their items come while the job runs, and nothing forged is loaded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from processing.container.remote import packing
from processing.container.remote.segments import LAST, SegmentEntry, SegmentWriter
from processing.container.remote.worker import VALUE
from processing.exceptions import ConfigurationError, DeserializationError, RemoteFunctionError
from processing.remote_function import RemoteExecutor, get_future, remote
from processing.remote_function.mapping.results import SegmentReader
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from processing import LocalSession


def wait_for(path: Path) -> None:
    """Wait in the job for a file of the caller."""
    import time

    while not path.exists():
        time.sleep(0.01)


def count_up(marks: list[Path]) -> Iterator[int]:
    """Yield a number before and after each file exists."""
    yield 0
    for number, mark in enumerate(marks, 1):
        wait_for(mark)
        yield number


def test_items_come_while_the_job_runs(local_session: LocalSession) -> None:
    """The generator waits for files that the caller makes after it got the item before."""
    marks = [local_session.home / "first", local_session.home / "second"]
    function = remote(count_up, instance_type="local", sagemaker_session=local_session)
    items = function(marks)
    assert next(items) == 0
    marks[0].touch()
    assert next(items) == 1
    marks[1].touch()
    assert list(items) == [2]


def test_a_future_has_items_and_a_list(local_session: LocalSession) -> None:
    """A future yields the items again for each iterator, its result is their list, and another process gets both."""
    mark = local_session.home / "go"
    function = remote(count_up, instance_type="local", sagemaker_session=local_session, result_format="json")
    future: Any = function.submit([mark])
    assert next(future.items()) == 0
    assert not future.done()
    mark.touch()
    assert list(future.items()) == future.result() == [0, 1]
    again = get_future(future.job.job_name, local_session)
    assert list(again.items()) == again.result() == [0, 1]
    assert future.replay() == [0, 1]


def test_an_exception_comes_after_the_items(local_session: LocalSession) -> None:
    """An exception of an asynchronous generator, and an exit, are raised after the items, and fail the job."""

    async def odd(last: BaseException) -> AsyncIterator[int]:
        yield 1
        yield 3
        raise last

    function = remote(odd, instance_type="local", sagemaker_session=local_session)
    with RemoteExecutor(instance_type="local", sagemaker_session=local_session, max_parallel_jobs=2) as executor:
        futures: list[Any] = [function.submit(KeyError("last")), executor.submit(odd, SystemExit(3))]
        received: list[int] = []
        with pytest.raises(KeyError, match="last"):
            received.extend(futures[0].items())
        with pytest.raises(RemoteFunctionError, match=r"sys.exit\(3\)"):
            received.extend(futures[1].items())
    assert received == [1, 3, 1, 3]
    assert isinstance(futures[0].exception(), KeyError)
    assert [future.job.describe()["ProcessingJobStatus"] for future in futures] == ["Failed", "Failed"]


def test_an_item_that_cannot_be_sent_is_an_error(local_session: LocalSession) -> None:
    """An item without a pickle ends the call with the items before it, and arguments are checked as for any call."""

    def handles(first: int) -> Iterator[Any]:
        import threading

        yield first
        yield threading.Lock()

    function = remote(handles, instance_type="local", sagemaker_session=local_session)
    with pytest.raises(ConfigurationError, match="first"):
        function()  # type: ignore[call-arg]
    items = function(1)
    assert next(items) == 1
    with pytest.raises(RemoteFunctionError, match="the result of the function cannot be sent"):
        next(items)


def test_items_come_without_the_permission_to_read_logs(tmp_path: Path) -> None:
    """Without logs all items come at the end, by the digest in the exit message."""
    from processing import LocalSession
    from processing.testing import FaultInjector

    faults = FaultInjector()
    for operation in ("FilterLogEvents", "GetLogEvents", "DescribeLogStreams"):
        faults.on(operation, "denied")
    session = LocalSession(tmp_path / "engine", tick=0.01, transport=faults.wrap)
    mark = tmp_path / "go"
    future: Any = remote(count_up, instance_type="local", sagemaker_session=session).submit([mark])
    mark.touch()
    assert list(future.items()) == [0, 1]


def gated(start: Path, mark: Path) -> Iterator[int]:
    """Yield a number after each of two files exists."""
    wait_for(start)
    yield 0
    wait_for(mark)
    yield 1


def test_a_job_that_dies_keeps_its_items(local_session: LocalSession) -> None:
    """The items before the death of the process arrive, and then an error with its exit code."""

    def dies(mark: Path) -> Iterator[int]:
        import os

        yield 1
        wait_for(mark)
        os._exit(7)

    mark = local_session.home / "go"
    items = remote(dies, instance_type="local", sagemaker_session=local_session)(mark)
    assert next(items) == 1
    mark.touch()
    with pytest.raises(RemoteFunctionError, match="exit code: 7") as caught:
        next(items)
    assert caught.value.exit_code == 7


class Trap:
    """A value that leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self.mark).touch, (self.mark,)


def forged(folder: Path, mark: Path) -> bytes:
    """Return a segment in the right form, whose item runs code when it is loaded."""
    writer = SegmentWriter(str(folder), "algo-1", lambda _line: None)
    writer.add(0, bytes(16), VALUE, 1, packing.pack(Trap(mark)).to_bytes())
    writer.close()
    return (folder / LAST).read_bytes()


def test_a_forged_item_is_refused(local_session: LocalSession, tmp_path: Path) -> None:
    """An item that another writer put into the bucket, early or after the job's end, is not loaded."""
    start, mark, sprung = local_session.home / "start", local_session.home / "go", tmp_path / "sprung"
    future: Any = remote(gated, instance_type="local", sagemaker_session=local_session).submit(start, mark)
    job = future.job
    prefix = S3Uri.parse(str(job.outputs["remote-result"].destination))
    client, key = local_session.client("s3"), f"{prefix.key}/algo-1/000001"
    body = forged(tmp_path / "forged", sprung)
    client.put_object(Bucket=prefix.bucket, Key=key, Body=body)
    start.touch()
    # The job's own upload replaces the forged one, so the first item is genuine.
    assert next(future.items()) == 0
    mark.touch()
    assert future.result() == [0, 1]
    client.put_object(Bucket=prefix.bucket, Key=key, Body=body)
    again = get_future(job.job_name, local_session)
    with pytest.raises(DeserializationError, match="is not the one that the job wrote"):
        next(again.items())
    assert not sprung.exists()


async def count_to_one(mark: Path) -> AsyncIterator[int]:
    """Yield a number before and after a file exists, and fail."""
    yield 0
    wait_for(mark)
    yield 1
    raise LookupError("the end")


def test_items_come_in_an_async_for(local_session: LocalSession) -> None:
    """A call of an asynchronous generator function is iterated with `async for`, and the event loop stays free."""
    mark = local_session.home / "go"
    function: Any = remote(count_to_one, instance_type="local", sagemaker_session=local_session)
    received: list[int] = []

    async def receive() -> None:
        asyncio.get_running_loop().call_later(0.05, mark.touch)
        async for item in function(mark):
            received.append(item)  # noqa: PERF401 - the exception comes in the midst

    with pytest.raises(LookupError, match="the end"):
        asyncio.run(receive())
    assert received == [0, 1]
    assert asyncio.run(anext(function(mark))) == 0


def make_lists() -> Iterator[list[int]]:
    """Yield two lists."""
    yield [0]
    yield [1]


def test_a_second_delivery_keeps_loaded_items(local_session: LocalSession) -> None:
    """Items whose segment is read by two threads are loaded once: a caller may hold and change one already."""
    function: Any = remote(make_lists, instance_type="local", sagemaker_session=local_session)
    future: Any = function.submit()
    loaded = future.result()
    assert loaded == [[0], [1]]
    again: list[SegmentEntry] = []
    SegmentReader(future.job, again.extend).read_rest(future.job.describe())
    future._deliver(future.job.job_name, again)
    assert all(before is after for before, after in zip(loaded, future.items(), strict=True))

"""Remote functions through both transports of the engine: in process, and over HTTP as on AWS."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from processing import Session
from processing.local.transports.server import Server
from processing.remote_function import RemoteExecutor, get_future, list_futures, remote
from processing.remote_function.pool import RemotePool
from processing.watching.polling import Polling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing import LocalSession

ROLE = "arn:aws:iam::000000000000:role/processing"
FAST = Polling(first=0.01, factor=1.2, longest=0.1, settle=0.0, grace=0.0)


@pytest.fixture(params=["in process", "http"])
def options(
    request: pytest.FixtureRequest, local_session: LocalSession, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """The parameters of a remote function for each transport."""
    if request.param == "in process":
        yield {"instance_type": "local", "sagemaker_session": local_session}
        return
    with Server(local_session.engine) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        session = Session(polling=FAST)
        yield {"instance_type": "ml.m5.large", "role": ROLE, "image_uri": "mine:1", "sagemaker_session": session}
        for service in ("sagemaker", "s3", "logs", "sqs"):
            session.client(service).close()


def test_a_call_returns_its_value_and_prints(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Values, arrays and lines of one call arrive."""

    def scale(array: Any, factor: float) -> Any:
        print("scaling")  # noqa: T201 - the function's own line
        return array * factor

    assert np.array_equal(remote(scale, **options)(np.arange(200_000.0), 2), np.arange(200_000.0) * 2)
    assert "scaling" in capsys.readouterr().out


def test_exceptions_and_futures_arrive(options: dict[str, Any]) -> None:
    """An exception has its class; a future is found again by the name of its job and by the list, and replayed."""

    def quotient(x: float, y: float) -> float:
        return x / y

    divide = remote(quotient, job_name_prefix="found", **options)
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)
    with RemoteExecutor(max_parallel_jobs=2, **options) as executor:
        futures = [divide.submit(3, 2), executor.submit(divide, 9, 3)]
        assert [future.result() for future in futures] == [1.5, 3.0]
    session = options["sagemaker_session"]
    first: Any = futures[0]
    assert get_future(first.job.job_name, session).result() == 1.5
    assert first.replay() == 1.5
    assert len(list(list_futures("found", session))) == 2


def _item(number: int) -> int:
    if number == 3:
        raise LookupError(number)
    return number * number


def test_a_map_has_all_results_in_order(options: dict[str, Any]) -> None:
    """Two hosts run the calls of a map, and an exception is in its place."""
    results = remote(_item, instance_count=2, **options).map(range(8), workers=2, return_exceptions=True)
    values: list[Any] = list(results)
    assert isinstance(values.pop(3), LookupError)
    assert values == [number * number for number in range(8) if number != 3]


def test_items_of_a_generator_arrive(options: dict[str, Any]) -> None:
    """A generator's items come in order, and then its exception."""

    def count() -> Iterator[int]:
        yield from range(5)
        raise LookupError("the end")

    received: list[int] = []
    with pytest.raises(LookupError, match="the end"):
        received.extend(remote(count, **options)())
    assert received == list(range(5))


def test_a_pool_takes_calls(options: dict[str, Any]) -> None:
    """Small and large values of a pool's calls travel, through its queues and S3."""
    array = np.arange(100_000.0)
    with RemotePool(workers=2, **options) as pool:
        assert list(pool.map(functools.partial(pow, 2), range(5))) == [1, 2, 4, 8, 16]
        assert np.array_equal(pool.submit(np.flip, array).result(120), array[::-1])
        assert isinstance(pool.submit(_item, 3).exception(120), LookupError)

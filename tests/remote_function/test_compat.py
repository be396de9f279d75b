"""Scripts for the remote functions of `sagemaker` 2.x and 3.x, unchanged."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import compat, remote_function

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processing import LocalSession


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    """The old import names exist for the time of one test."""
    compat.install()
    yield
    compat.uninstall()


@pytest.mark.parametrize("module", ["sagemaker.remote_function", "sagemaker.core.remote_function"])
def test_the_old_names_are_this_package_s(module: str) -> None:
    """Each name of both versions is the object of this package."""
    found: Any = importlib.import_module(module)
    assert found.remote is processing.remote
    assert found.RemoteExecutor is processing.RemoteExecutor
    for name in ("CheckpointLocation", "CustomFileFilter", "SparkConfig"):
        assert getattr(found, name) is getattr(remote_function, name)
    client: Any = importlib.import_module(f"{module}.client")
    assert client.get_future is remote_function.get_future
    assert client.list_futures is remote_function.list_futures
    errors: Any = importlib.import_module(f"{module}.errors")
    assert errors.RemoteFunctionError is processing.RemoteFunctionError
    assert errors.DeserializationError is processing.DeserializationError


def test_the_serialization_module_of_sagemaker_core(local_session: LocalSession) -> None:
    """`sagemaker.core.remote_function.core.serialization` stores and loads values."""
    serialization: Any = importlib.import_module("sagemaker.core.remote_function.core.serialization")
    uri = f"s3://{local_session.default_bucket()}/value"
    serialization.serialize_obj_to_s3({"x": 1}, local_session, uri)
    assert serialization.deserialize_obj_from_s3(local_session, uri) == {"x": 1}


SCRIPT = """
from sagemaker.remote_function import remote

@remote(instance_type="local", sagemaker_session=session, keep_alive_period_in_seconds=0, use_spot_instances=False,
        max_retry_attempts=1, environment_variables={"GREETING": "hello"}, volume_size=30, tags=[("team", "etl")])
def divide(x, y):
    import os
    print("Calculating", x, y)
    return os.environ["GREETING"], x / y

result = divide(3, 2)
"""


def test_a_script_runs_unchanged(local_session: LocalSession) -> None:
    """The example of sagemaker's documentation runs, with parameters at their defaults there."""
    names: dict[str, Any] = {"session": local_session, "__name__": "__main__"}
    exec(SCRIPT, names)
    assert names["result"] == ("hello", 1.5)


def test_a_future_can_wait(local_session: LocalSession, tmp_path: Path) -> None:
    """`Future.wait` returns at its timeout or at the job's end, and raises nothing of the function."""
    go = tmp_path / "go"

    def fail(path: Path) -> None:
        import time

        while not path.exists():
            time.sleep(0.01)
        raise LookupError

    future: Any = remote_function.remote(fail, instance_type="local", sagemaker_session=local_session).submit(go)
    future.wait(0.01)
    assert not future.done()
    go.touch()
    future.wait()
    assert isinstance(future.exception(), LookupError)

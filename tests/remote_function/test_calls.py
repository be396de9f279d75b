"""Calls of remote functions on the embedded engine: results, exceptions, futures."""

from __future__ import annotations

import concurrent.futures
import sys
from typing import TYPE_CHECKING

import pytest

from processing import RemoteFunctionError
from processing.remote_function import remote

if TYPE_CHECKING:
    from processing import LocalSession


def test_a_call_prints_live_and_returns_the_result(
    local_session: LocalSession, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call runs as a job, shows the lines that the function prints, and returns its result."""

    @remote(instance_type="local", sagemaker_session=local_session)
    def divide(x: float, y: float) -> float:
        sys.stdout.write(f"Calculating {x}/{y}\n")
        return x / y

    assert divide(3, 2) == 1.5
    assert "Calculating 3/2" in capsys.readouterr().out


def test_the_function_s_own_exception_reaches_the_caller(local_session: LocalSession) -> None:
    """The caller gets the exception that the function raised."""

    @remote(instance_type="local", sagemaker_session=local_session)
    def divide(x: float, y: float) -> float:
        return x / y

    future = divide.submit(1, 0)
    assert concurrent.futures.wait([future]).done == {future}
    with pytest.raises(ZeroDivisionError):
        future.result()


def test_sys_exit_never_ends_the_caller(local_session: LocalSession) -> None:
    """`sys.exit(3)` in the function is a RemoteFunctionError with the exit code."""

    @remote(instance_type="local", sagemaker_session=local_session)
    def leave() -> None:
        sys.exit(3)

    with pytest.raises(RemoteFunctionError) as caught:
        leave()
    assert caught.value.exit_code == 3

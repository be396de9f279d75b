"""Calls of remote functions on the embedded engine: values, exceptions, futures."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from processing import (
    ConfigurationError,
    DeserializationError,
    EngineError,
    LocalSession,
    NetworkConfig,
    RemoteFunctionError,
    SerializationError,
)
from processing.remote_function import CheckpointLocation, RemoteExecutor, get_future, remote
from sandbox_machine import skip_without_sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


@pytest.fixture
def run(local_session: LocalSession) -> Callable[..., Any]:
    """Make a function remote, on the test's own engine."""
    return functools.partial(remote, instance_type="local", sagemaker_session=local_session)


def test_a_call_prints_live_and_returns_the_result(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A call runs as a job, shows the lines that the function prints, and returns its result."""

    def divide(x: float, y: float) -> float:
        sys.stdout.write(f"Calculating {x}/{y}\n")
        return x / y

    assert run(divide)(3, 2) == 1.5
    assert capsys.readouterr().out == "Calculating 3/2\n"


class BadStateError(Exception):
    """An exception whose constructor takes other arguments than it keeps."""

    def __init__(self, code: int, *, place: str) -> None:
        super().__init__(f"bad state {code}")
        self.code = code
        self.place = place


def test_an_exception_arrives_whole(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Class, attributes, cause and the job's frames reach the caller, whatever the constructor takes."""

    def fail() -> None:
        try:
            _ = os.environ["MISSING"]
        except KeyError as cause:
            raise BadStateError(7, place="here") from cause

    with pytest.raises(BadStateError, match="bad state 7") as caught:
        run(fail)()
    assert (caught.value.code, caught.value.place) == (7, "here")
    assert isinstance(caught.value.__cause__, KeyError)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert (frames[-1].name, frames[-1].line) == ("fail", 'raise BadStateError(7, place="here") from cause')
    assert 'raise BadStateError(7, place="here") from cause' in capfd.readouterr().out  # the job's own log


def unpicklable() -> None:
    """Raise an exception that cannot be pickled."""
    error = ValueError("the text")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


def interrupted() -> None:
    """End with the exception of Ctrl-C."""
    raise KeyboardInterrupt


def lock() -> Any:
    """Return a value that cannot be pickled. Since Python 3.13, `threading.Lock` itself is a class."""
    return threading.Lock()


def killed() -> None:
    """End as the kernel ends a process when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("function", "kind", "exit_code", "text"),
    [
        (functools.partial(sys.exit, 3), RemoteFunctionError, 3, r"sys\.exit\(3\)"),
        (functools.partial(sys.exit, 0), RemoteFunctionError, 0, r"sys\.exit\(0\)"),
        (interrupted, RemoteFunctionError, None, r"the function raised KeyboardInterrupt\(\)"),
        (functools.partial(sys.exit, "bye"), RemoteFunctionError, 1, r"sys\.exit\(1\)"),
        (unpicklable, RemoteFunctionError, None, "ValueError: the text"),
        (killed, RemoteFunctionError, 137, "memory ran out"),
        (lock, SerializationError, None, r"the result of the function cannot be sent: .*lock"),
    ],
)
def test_no_end_of_the_function_passes_for_a_result(
    run: Any, function: Any, kind: type[RemoteFunctionError], exit_code: int | None, text: str
) -> None:
    """A function that exits, dies, or has nothing that can be sent fails its job; the caller's program goes on."""
    future = run(function).submit()
    error = future.exception()
    assert type(error) is kind
    assert isinstance(error, RemoteFunctionError)
    assert error.exit_code == exit_code
    with pytest.raises(kind, match=text):
        future.result()
    assert future.job.describe()["ProcessingJobStatus"] == "Failed"


def test_an_exit_code_beyond_eight_bits_is_an_error(run: Any) -> None:
    """An OSError with the number 256, and much text on stderr before it, fail the job too."""

    def fail() -> None:
        sys.stderr.write("x" * 200_000 + "\n")
        raise OSError(256, "beyond")

    with pytest.raises(OSError, match="beyond") as caught:
        run(fail).submit().result()
    assert caught.value.errno == 256


def every_kind(first: int, /, *rest: int, named: int, **others: int) -> tuple[Any, ...]:
    """A function with every kind of parameter."""
    return first, rest, named, others


def items(count: int) -> Iterator[int]:
    """A generator."""
    yield from range(count)


async def later(value: int) -> int:
    """A coroutine."""
    await asyncio.sleep(0)
    return value


async def later_items(count: int) -> AsyncIterator[int]:
    """An asynchronous generator."""
    for value in range(count):
        yield value


class Scale:
    """A class with a method."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def times(self, value: int) -> int:
        """A method."""
        return self.factor * value


def test_functions_of_every_kind(run: Any) -> None:
    """Parameters of every kind, generators, coroutines, methods, partials and classes of `__main__` work."""
    with RemoteExecutor(max_parallel_jobs=3, **run.keywords) as executor:
        futures: list[Any] = [
            executor.submit(every_kind, 1, 2, named=3, other=4),
            executor.submit(items, 3),
            executor.submit(later, 5),
            executor.submit(later_items, 2),
            executor.submit(Scale(3).times, 4),
            executor.submit(functools.partial(every_kind, 1, named=2)),
            executor.submit(lambda: Scale),
        ]
        scaled = futures.pop().result()
        results = [future.result() for future in futures]
    assert results == [(1, (2,), 3, {"other": 4}), [0, 1, 2], 5, [0, 1], 12, (1, (), 2, {})]
    assert scaled(2).times(2) == 4


def test_an_exception_that_ends_iterators_ends_no_task_of_the_caller(run: Any) -> None:
    """A StopIteration, which asyncio accepts for no future, is the cause of the caller's error."""
    with pytest.raises(RemoteFunctionError, match="the function raised StopIteration") as caught:
        asyncio.run(run(next).aio(iter(())))
    assert isinstance(caught.value.__cause__, StopIteration)


def test_a_future_is_a_standard_one(run: Any) -> None:
    """`wait`, `as_completed`, callbacks, timeouts and `asyncio` accept it, and so does another process by name."""

    def slow(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    remote_slow = run(slow)
    futures = [remote_slow.submit(0), remote_slow.submit(0.1)]
    assert set(concurrent.futures.as_completed(futures)) == set(futures)
    called: list[Any] = []
    futures[0].add_done_callback(called.append)
    assert called == [futures[0]]
    assert asyncio.run(remote_slow.aio(0.2)) == 0.2
    name = futures[1].job.job_name
    again = get_future(name, run.keywords["sagemaker_session"])
    assert (again.result(), again.exception(), again.done()) == (0.1, None, True)


def test_cancel_stops_the_job_and_does_not_block(run: Any) -> None:
    """A running call is cancelled while another thread waits for it; nobody gets a result."""

    def forever() -> None:
        time.sleep(600)

    future = run(forever).submit()
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(timeout=0.01)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(future.result)
        assert future.running()
        assert future.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            waiting.result()
    assert future.cancelled()
    assert future.cancel()
    assert repr(future) == f"<RemoteFuture: cancelled, job={future.job.job_name!r}>"
    assert concurrent.futures.wait([future]).done == {future}
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    future.job.wait(logs=False, on_stop="return")
    assert future.job.status == "Stopped"


def test_a_stopped_job_has_no_result(run: Any) -> None:
    """A job that someone else stops, or that exceeds its time, is an error with the reason."""

    def forever() -> None:
        time.sleep(600)

    future = run(forever, max_runtime_in_seconds=1).submit()
    with pytest.raises(RemoteFunctionError, match="MaxRuntime"):
        future.result()


def test_an_executor_limits_parallel_jobs(run: Any) -> None:
    """At most `max_parallel_jobs` run at a time; calls that wait are cancelled at a shutdown that says so."""

    def forever() -> None:
        time.sleep(600)

    executor = RemoteExecutor(max_parallel_jobs=1, **run.keywords)
    first, second = executor.submit(forever), executor.submit(forever)
    executor.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    assert second.job is None
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(forever)
    assert first.cancel()
    executor.shutdown()


def test_map_of_an_executor(run: Any) -> None:
    """`map` returns the results in order, as an iterator and as a sequence."""
    with RemoteExecutor(max_parallel_jobs=2, **run.keywords) as executor:
        results = executor.map(run(pow), [2, 3], [3, 2])
        assert next(results) == 8
        assert results[1] == 9
        assert len(results) == 2
        assert list(results) == [9]


def test_arguments_are_taken_at_the_call(run: Any) -> None:
    """A change of an argument after `submit` has no effect, although the job starts later."""
    import numpy as np

    executor = RemoteExecutor(max_parallel_jobs=1, **run.keywords)
    with executor:
        values = np.zeros(1000)
        futures = [executor.submit(np.sum, values) for _ in range(2)]
        values += 1
        assert [float(future.result()) for future in futures] == [0.0, 0.0]


def test_large_arguments_and_results(run: Any) -> None:
    """Values beyond the memory limit of staging travel through temporary files, and can be changed at the end."""
    import numpy as np

    def double(values: Any) -> Any:
        values *= 2
        return values

    result = run(double)(np.arange(3_000_000))
    result += 1
    assert result[-1] == 2 * 2_999_999 + 1


def test_one_function_in_two_threads(run: Any) -> None:
    """Two threads call one remote function with environment variables at the same time."""

    def variable(value: int) -> tuple[int, str]:
        return value, os.environ["LONG"]

    function = run(variable, environment_variables={"LONG": "x" * 300})
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        assert list(threads.map(function, [1, 2])) == [(1, "x" * 300), (2, "x" * 300)]


def test_remote_functions_call_each_other_locally(run: Any) -> None:
    """In the job, a remote function that another one uses is an ordinary function."""
    inner = run(lambda x: x + 1)

    def outer(x: int) -> Any:
        return inner(x) * 10 + inner.local(x)

    class Steps:
        first = run(lambda self, x: x + self.second(x) + self.third(x))
        second = run(lambda _self, x: x)
        third = run(classmethod(lambda _cls, x: x))
        fourth = run(staticmethod(lambda x: x))

    assert run(run(outer))(1) == 22
    length = run(len)
    assert run(lambda: Steps().first(1) + Steps().fourth(1) + length("a"))() == 5


def test_the_other_order_of_a_class_methods_decorators_is_explained(run: Any) -> None:
    """A call without the class names the right order, as Python 3.13 does not bind what is below `classmethod`."""
    with pytest.raises(ConfigurationError, match="write @remote above @classmethod"):
        run(lambda cls, x: (cls, x)).submit(1)


def test_values_in_place_of_pickles(run: Any) -> None:
    """JSON and Arrow carry results, and with `by_reference` the arguments as well."""
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    result = run(lambda value: {"frame": value, "list": [None, 1.5, "é"]}, result_format="arrow")(frame)
    pd.testing.assert_frame_equal(result["frame"], frame)
    assert result["list"] == [None, 1.5, "é"]
    import textwrap

    assert run(textwrap.dedent, by_reference=True, result_format="json")("  a") == "a"
    with pytest.raises(SerializationError, match=r"result\['frame'\]: a DataFrame cannot be sent"):
        run(lambda value: {"frame": value}, result_format="json")(frame)
    with pytest.raises(RemoteFunctionError, match="ZeroDivisionError") as caught:
        run(lambda: 1 / 0, result_format="json")()
    assert type(caught.value) is RemoteFunctionError


@pytest.fixture
def torchrun(tmp_path: Path, local_session: LocalSession) -> Callable[..., Any]:
    """Make a function that two hosts run in two processes each.

    A program in torchrun's place reads the same options: PyTorch is no dependency of the tests.
    """
    package = tmp_path / "torch" / "distributed"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package / "run.py").write_text(
        """
import os, subprocess, sys
options = dict(zip(sys.argv[1:11:2], sys.argv[2:12:2]))
assert sys.argv[11] == "--no_python", sys.argv
count = int(options["--nproc_per_node"])
first = int(options["--node_rank"]) * count
codes = []
for rank in range(first, first + count):
    world = str(int(options["--nnodes"]) * count)
    variables = {**os.environ, "RANK": str(rank), "WORLD_SIZE": world}
    codes.append(subprocess.run(sys.argv[12:], check=False, env=variables).returncode)
sys.exit(max(codes))
"""
    )
    return functools.partial(
        remote,
        instance_type="local",
        instance_count=2,
        use_torchrun=True,
        nproc_per_node=2,
        environment_variables={"PYTHONPATH": str(tmp_path)},
        sagemaker_session=local_session,
    )


def test_torchrun_runs_the_function_in_several_processes(torchrun: Any) -> None:
    """Each host starts its processes with torchrun, and the result is that of rank 0."""

    def where() -> tuple[str, str]:
        sys.stdout.write(f"rank {os.environ['RANK']}\n")
        return os.environ["RANK"], os.environ["WORLD_SIZE"]

    future = torchrun(where).submit()
    assert future.result() == ("0", "4")
    assert future.job is not None
    assert sorted(line.message for line in future.job.logs()) == ["rank 0", "rank 1", "rank 2", "rank 3"]


def _fail_in(ranks: list[str]) -> str:
    if os.environ["RANK"] in ranks:
        raise LookupError(os.environ["RANK"])
    return "result"


@pytest.mark.parametrize(
    ("ranks", "kind", "text"),
    [
        (["0", "1"], LookupError, "^'?0'?$"),
        (["1"], LookupError, "^'?1'?$"),
        (["3"], RemoteFunctionError, "LookupError: 3"),
    ],
    ids=["rank 0 and another", "beside rank 0", "on another host"],
)
def test_an_exception_of_any_rank_fails_the_call(
    torchrun: Any, ranks: list[str], kind: type[Exception], text: str
) -> None:
    """The exception is that of rank 0, else that of another rank of its host, else a text from the log."""
    with pytest.raises(kind, match=text) as caught:
        torchrun(_fail_in)(ranks)
    assert type(caught.value) is kind


@pytest.mark.complete("needs Open MPI")
def test_mpirun_runs_the_function_in_several_processes(local_session: LocalSession) -> None:
    """Open MPI starts more processes than there are processors; the result or the exception is that of a rank."""
    count = (os.cpu_count() or 1) + 1

    def where(failing: int) -> tuple[int, int]:
        rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
        if rank == failing:
            raise LookupError(rank)
        return rank, int(os.environ["OMPI_COMM_WORLD_SIZE"])

    options: dict[str, Any] = {"instance_type": "local", "sagemaker_session": local_session}
    function = remote(where, use_mpirun=True, nproc_per_node=count, **options)
    assert function(-1) == (0, count)
    for rank in (0, 1):
        with pytest.raises(LookupError, match=str(rank)):
            function(rank)


def test_an_image_without_mpirun(run: Any, tmp_path: Path) -> None:
    """The error says that the image has no launcher."""
    function = run(os.getpid, use_mpirun=True, environment_variables={"PATH": str(tmp_path)})
    with pytest.raises(RemoteFunctionError, match="the image has no mpirun"):
        function()


@pytest.mark.complete("needs Open MPI")
def test_mpirun_runs_the_function_on_several_hosts(local_session: LocalSession) -> None:
    """Open MPI starts its daemon on the other host without ssh. A rank that fails there fails the call."""

    def where(failing: int) -> tuple[str, str]:
        import platform

        rank, size = os.environ["OMPI_COMM_WORLD_RANK"], os.environ["OMPI_COMM_WORLD_SIZE"]
        sys.stdout.write(f"rank {rank} of {size} on {platform.node()}\n")
        if int(rank) == failing:
            raise LookupError(rank)
        return rank, size

    options: dict[str, Any] = {"instance_type": "local", "instance_count": 2, "sagemaker_session": local_session}
    function = remote(where, use_mpirun=True, nproc_per_node=2, **options)
    future = function.submit(-1)
    assert future.result() == ("0", "4")
    assert future.job is not None
    lines = sorted(line.message for line in future.job.logs())
    assert lines == [f"rank {rank} of 4 on algo-{1 + rank // 2}" for rank in range(4)]
    with pytest.raises(RemoteFunctionError, match="LookupError: 3"):
        function(3)
    with pytest.raises(LookupError, match="1"):
        function(1)


def test_checkpoints_survive_their_job(run: Any, local_session: LocalSession) -> None:
    """Files in a CheckpointLocation are there when the next job begins."""

    def step(place: Any) -> int:
        from pathlib import Path

        file = Path(place) / "steps"
        steps = int(file.read_text()) + 1 if file.exists() else 1
        file.write_text(str(steps))
        return steps

    place = CheckpointLocation(f"s3://{local_session.default_bucket()}/checkpoints")
    assert [run(step)(place), run(step)(place)] == [1, 2]


@pytest.mark.parametrize("sandbox", ["bubblewrap", "namespaces", "rewriting"])
def test_every_sandbox(tmp_path: Path, sandbox: Any) -> None:
    """Calls work in each sandbox, without a network where the sandbox can cut it off, and exceptions do too."""
    skip_without_sandbox(sandbox)
    session = LocalSession(tmp_path / "engine", tick=0.01, sandbox=sandbox)
    network = NetworkConfig(enable_network_isolation=True)
    function = remote(lambda x: 1 / x, instance_type="local", sagemaker_session=session, network_config=network)
    assert function(2) == 0.5
    with pytest.raises(ZeroDivisionError):
        function(0)


@pytest.mark.parametrize("launcher", ["use_torchrun", "use_mpirun"])
def test_isolated_hosts_of_a_launcher(local_session: LocalSession, launcher: str) -> None:
    """A program that connects several hosts is refused under network isolation, before anything is uploaded."""
    network = NetworkConfig(enable_network_isolation=True)
    options: Any = {launcher: True, "instance_type": "local", "network_config": network}
    function = remote(lambda: 1, sagemaker_session=local_session, instance_count=2, **options)
    program = launcher.removeprefix("use_")
    expected = f"network_config.enable_network_isolation: {program} connects the 2 hosts of a job"
    with pytest.raises(EngineError, match=expected):
        function.submit()
    assert expected in function.plan().problems[0]
    assert local_session.client("s3").list_buckets()["Buckets"] == []


def test_a_name_that_is_taken(run: Any) -> None:
    """`if_exists` attaches to the job of an earlier call, whose result is verified, or adds a number."""
    function = run(lambda: 1, job_name="taken")
    assert function() == 1
    assert function.options(if_exists="attach").submit().result() == 1
    assert function.options(if_exists="suffix").submit().job.job_name == "taken-2"


def test_the_job_of_another_program_is_not_attached_to(run: Any, local_session: LocalSession) -> None:
    """A job of that name that is not a remote function's has no result."""
    from processing import Processor

    processor = Processor(instance_type="local", instance_count=1, entrypoint=["true"], sagemaker_session=local_session)
    processor.run(job_name="other", logs=False)
    with pytest.raises(DeserializationError, match="it is not the job of a remote function"):
        run(lambda: 1, job_name="other", if_exists="attach")()

"""`map` on the embedded engine: many calls in one job."""

from __future__ import annotations

import concurrent.futures
import math
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError, LocalSession, RemoteFunctionError, SerializationError
from processing.local.transports.in_process import identify
from processing.remote_function import get_future, list_futures, remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from processing.testing import Transport


def _jobs(session: LocalSession) -> int:
    answer = session.client("sagemaker").list_processing_jobs()
    return len(answer["ProcessingJobSummaries"])


def test_a_map_is_one_job_of_several_hosts(local_session: LocalSession) -> None:
    """A hundred calls on three instances are one job, and the results are in order of the calls."""

    variables = {"RESOURCES": "/opt/ml/config/resourceconfig.json"}

    @remote(instance_type="local", instance_count=3, sagemaker_session=local_session, environment_variables=variables)
    def add(x: int, y: int) -> tuple[int, str]:
        import json
        from pathlib import Path

        host = json.loads(Path(os.environ["RESOURCES"]).read_text())["current_host"]
        return x + y, host

    results = list(add.map(range(100), range(100, 300), workers=2))
    assert [value for value, _ in results] == [number + number + 100 for number in range(100)]
    assert [host for _, host in results] == [f"algo-{number % 3 + 1}" for number in range(100)]
    assert _jobs(local_session) == 1


def test_each_call_has_its_own_outcome(local_session: LocalSession) -> None:
    """An exception, `sys.exit`, a death and a time-out end their own calls; the other calls have values."""

    @remote(instance_type="local", sagemaker_session=local_session)
    def call(kind: str) -> Any:
        import time

        if kind == "raise":
            raise LookupError("the user's own")
        if kind == "exit":
            sys.exit(3)
        if kind == "die":
            os._exit(7)
        if kind == "sleep":
            time.sleep(600)
        if kind == "unpicklable":
            return threading.Lock()
        if kind == "close":
            sys.stdout.close()
            os.close(1)
            raise StopIteration(kind)
        return kind.upper()

    kinds = ["a", "raise", "exit", "die", "sleep", "b", "unpicklable", "close"]
    futures = call.submit_map(kinds, workers=2, timeout=2.0)
    concurrent.futures.wait(futures)
    assert [future.exception() is None for future in futures[:6]] == [True, False, False, False, False, True]
    assert (futures[0].result(), futures[5].result()) == ("A", "B")
    with pytest.raises(LookupError, match="the user's own"):
        futures[1].result()
    exited, died = futures[2].exception(), futures[3].exception()
    assert isinstance(exited, RemoteFunctionError)
    assert exited.exit_code == 3
    assert isinstance(died, RemoteFunctionError)
    assert died.exit_code == 7
    with pytest.raises(TimeoutError, match="call 4 of call"):
        futures[4].result()
    with pytest.raises(SerializationError, match=r"call 6 of call: the result of the function cannot be sent: .*lock"):
        futures[6].result()
    with pytest.raises(RemoteFunctionError, match=r"call 7 of call: the function raised StopIteration\(close\)"):
        futures[7].result()
    assert futures.job is not None
    assert futures.job.status == "Completed"


def test_return_exceptions_and_starmap(local_session: LocalSession) -> None:
    """`return_exceptions=True` yields the user's own exceptions in the places of results."""

    @remote(instance_type="local", sagemaker_session=local_session)
    def divide(x: float, y: float) -> float:
        return x / y

    first, second, third = divide.starmap([(1, 2), (1, 0), (3, 1)], return_exceptions=True)
    assert (first, third) == (0.5, 3.0)
    assert isinstance(second, ZeroDivisionError)


def test_a_generator_is_read_to_its_end_first(local_session: LocalSession) -> None:
    """A generator that fails while it is read starts no job, and one without elements needs none."""

    @remote(instance_type="local", sagemaker_session=local_session)
    def double(x: int) -> int:
        return 2 * x

    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the source has ended")

    with pytest.raises(OSError, match="the source has ended"):
        double.map(broken())
    assert list(double.map([])) == []
    assert double.submit_map([]).job is None
    assert _jobs(local_session) == 0


def test_cancelled_calls_stop_the_job(local_session: LocalSession) -> None:
    """Cancelling one call gives its result up; cancelling all stops the job."""

    @remote(instance_type="local", sagemaker_session=local_session)
    def call(number: int) -> int:
        import time

        time.sleep(600 if number else 0)
        return number

    futures = call.submit_map(range(3), workers=2)
    assert futures[1].cancel()
    assert futures[0].result() == 0
    assert not futures[0].cancel()
    assert futures.cancel()
    assert not futures.cancel()
    assert [future.cancelled() for future in futures] == [False, True, True]
    with pytest.raises(concurrent.futures.CancelledError):
        futures[2].result()
    assert futures.job is not None
    assert futures.job.wait(logs=False, on_stop="return").status == "Stopped"
    assert len(futures[1:]) == 2
    assert "3 of 3 calls done" in repr(futures)


class CancellingTransport:
    """A transport that cancels a map while its second job is started."""

    def __init__(self, transport: Transport) -> None:
        self.futures: list[Any] = []
        self.known = threading.Event()
        self._transport = transport
        self._starts = 0

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        if identify(request)[1] == "CreateProcessingJob":
            self._starts += 1
            if self._starts == 2:
                assert self.known.wait(60)
                assert all(futures.cancel() for futures in self.futures)
        return self._transport.send(request)


def test_a_job_that_starts_while_the_map_is_cancelled_is_stopped(tmp_path: Path) -> None:
    """A job that replaces a lost one does not run calls that nobody waits for."""
    transports: list[CancellingTransport] = []

    def wrap(transport: Transport) -> Transport:
        transports.append(CancellingTransport(transport))
        return transports[-1]

    @remote(instance_type="local", sagemaker_session=LocalSession(tmp_path, tick=0.01, transport=wrap))
    def call(mark: Path) -> None:
        import signal
        import time

        if not mark.exists():
            mark.touch()
            os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)

    futures = call.submit_map([tmp_path / "mark"], workers=1, retries=1)
    (transport,) = transports
    transport.futures.append(futures)
    transport.known.set()
    assert futures.shown.wait(180)
    assert [job.status for job in futures.jobs] == ["Failed", "Stopped"]
    assert futures[0].cancelled()


def test_results_come_early_and_in_order_of_their_ends(local_session: LocalSession) -> None:
    """With `ordered=False` the first result is there while another call runs, by a digest in the job's log."""

    @remote(instance_type="local", sagemaker_session=local_session)
    def call(path: str | None) -> str:
        import time
        from pathlib import Path

        while path is not None and not Path(path).exists():
            time.sleep(0.01)
        return path or "early"

    mark = local_session.home / "go"
    results = call.map([str(mark), None], workers=2, ordered=False)
    assert next(results) == "early"
    assert _jobs(local_session) == 1
    mark.touch()
    assert list(results) == [str(mark)]


BAD = {
    "workers": 0,
    "ordered": "yes",
    "return_exceptions": 1,
    "timeout": -1,
    "retries": -1,
    "retry_on": "plattform",
    "chunksize": 0,
    "name": "",
    "chunk_size": 1,
}


@pytest.mark.parametrize(("option", "value"), BAD.items(), ids=BAD)
def test_options_are_checked_first(local_session: LocalSession, option: str, value: Any) -> None:
    """A wrong option is refused by its name before anything is uploaded."""

    @remote(instance_type="local", sagemaker_session=local_session)
    def double(x: int) -> int:
        return 2 * x

    with pytest.raises(ConfigurationError, match=option):
        double.map([1], **{option: value})


def test_arguments_are_checked_first(local_session: LocalSession) -> None:
    """A call whose arguments do not fit the signature is named, and no job starts."""

    @remote(instance_type="local", sagemaker_session=local_session)
    def double(x: int) -> int:
        return 2 * x

    with pytest.raises(ConfigurationError, match="call 1 of double"):
        double.starmap([(1,), (1, 2)])
    with pytest.raises(ConfigurationError, match="starmap: the arguments of call 1: must be an iterable"):
        double.starmap([(1,), 2])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="map"):
        double.map()
    with pytest.raises(ConfigurationError, match="map"):
        double.map(7)  # type: ignore[arg-type]
    assert _jobs(local_session) == 0


def test_values_in_place_of_pickles(local_session: LocalSession) -> None:
    """With `by_reference` and `result_format`, no pickle travels: calls and results are values, exceptions texts."""
    import math

    options: Any = {"instance_type": "local", "sagemaker_session": local_session}
    root = remote(**options)(math.sqrt).options(by_reference=True, result_format="json")
    futures = root.submit_map([4, 9, -1, "x"], retries=1, retry_on=[KeyError])
    assert [future.result() for future in futures[:2]] == [2.0, 3.0]
    for future, text in zip(futures[2:], ("ValueError: math domain error", "TypeError: must be real"), strict=True):
        with pytest.raises(RemoteFunctionError, match=text):
            future.result()


@pytest.mark.parametrize("launcher", ["use_torchrun", "use_mpirun"])
def test_a_launcher_is_refused(local_session: LocalSession, launcher: str) -> None:
    """A map starts its own workers, so a launcher for them is refused by its name."""

    options: Any = {"instance_type": "local", "sagemaker_session": local_session, launcher: True}
    with pytest.raises(ConfigurationError, match=launcher):
        remote(**options)(abs).map([1])


def _say(number: int) -> int:
    sys.stdout.write(f"call {number}\n")
    return number


@pytest.mark.parametrize("hosts", [1, 2])
def test_a_map_shows_the_lines_of_its_workers(
    local_session: LocalSession, capsys: pytest.CaptureFixture[str], hosts: int
) -> None:
    """`map` shows each line, with its host if there are several, and nothing of its own; `submit_map` shows nothing."""
    function = remote(_say, instance_type="local", instance_count=hosts, sagemaker_session=local_session)
    assert list(function.map(range(4))) == [0, 1, 2, 3]
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line.rpartition("call ")[2] for line in lines] == (list("0213") if hosts == 2 else list("0123"))
    assert all(("algo-" in line) is (hosts == 2) for line in lines)
    assert [future.result() for future in function.submit_map(range(4))] == [0, 1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_a_map_shows_lines_before_it_ends(local_session: LocalSession, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of a call is shown while the call runs, and the last one before the iterator ends."""
    mark = local_session.home / "mark"

    def call(path: Path) -> None:
        import time

        sys.stdout.write("begin\n")
        sys.stdout.flush()
        while not path.exists():
            time.sleep(0.01)
        sys.stdout.write("end\n")

    results: Any = remote(call, instance_type="local", sagemaker_session=local_session).map([mark])
    shown, deadline = "", time.monotonic() + 60
    while "begin" not in shown:
        assert time.monotonic() < deadline
        shown += capsys.readouterr().out
        threading.Event().wait(0.01)
    mark.touch()
    list(results)
    assert capsys.readouterr().out == "end\n"


@pytest.mark.parametrize("form", ["pickle", "json"])
def test_another_process_has_the_results_of_a_map(local_session: LocalSession, form: str) -> None:
    """`get_future` of the job has the list of results, and raises the exception of a call in its place."""
    options: Any = {"instance_type": "local", "sagemaker_session": local_session, "result_format": form}
    root = remote(_root, instance_count=2, **options)
    good, bad = root.submit_map([4, 9, 16]), root.submit_map([4, -1, 9])
    concurrent.futures.wait([*good, *bad])
    assert good.job is not None
    assert bad.job is not None
    future: Any = get_future(good.job.job_name, local_session)
    assert list(future.items()) == future.result() == [2.0, 3.0, 4.0]
    failed: Any = get_future(bad.job.job_name, local_session)
    items = failed.items()
    assert next(items) == 2.0
    with pytest.raises(ValueError if form == "pickle" else RemoteFunctionError, match="math domain error"):
        next(items)
    assert failed.exception() is not None
    assert len(list(list_futures("root", local_session))) == 2


def _root(number: int) -> float:
    return math.sqrt(number)


def test_a_change_of_the_function_of_a_named_map_is_reported(local_session: LocalSession) -> None:
    """A later run keeps the values of another version of the function, and says so."""

    def version(factor: int) -> Any:
        def scale(number: int) -> int:
            return number * factor

        return remote(scale, instance_type="local", sagemaker_session=local_session)

    assert list(version(2).map([1, 2], name="kept")) == [2, 4]
    assert list(version(2).map([1, 2], name="kept")) == [2, 4]
    with pytest.warns(UserWarning, match="name: scale has changed since job scale-kept-1"):
        assert list(version(3).map([1, 2, 3], name="kept")) == [2, 4, 9]


def test_the_digest_of_a_function_is_that_of_its_code() -> None:
    """It is the same in each process, whatever the order of sets, and another for another code, value or helper."""
    source = """
def helper(x): return x in {"a", "b", "c", "d", "e"} or {value}
def first(x, y=1): return helper(x)
"""
    program = (
        "import functools, sys; from processing.remote_function.mapping.function_digest import function_digest\n"
        f"source = {source!r}\n"
        "for value in '1', '2':\n"
        "    names = {'__name__': 'm'}; exec(source.replace('{value}', value), names)\n"
        "    print(function_digest(names['first']), function_digest(functools.partial(names['first'], y=2)))\n"
        "print(function_digest(len), function_digest(max))\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(set(runs[0].split())) == 6

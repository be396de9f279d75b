"""The bookkeeping of one job of a pool, step by step: the tests take the parts of its threads."""

from __future__ import annotations

from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

from processing import RemoteFunctionError
from processing.clock import SYSTEM_CLOCK
from processing.remote_function.mapping.results import CallResult
from processing.remote_function.pool.job import PoolJob
from processing.remote_function.pool.messages import OutgoingCall

if TYPE_CHECKING:
    from collections.abc import Callable


class Job:
    """A job that has ended. Its status may be out of reach."""

    job_name = "pool-job"

    def __init__(self, *, in_reach: bool = True) -> None:
        self._in_reach = in_reach

    def describe(self) -> dict[str, Any]:
        if not self._in_reach:
            raise OSError("the network is down")
        return {"ProcessingJobStatus": "Completed"}


class Queues:
    """Queues without messages."""

    def __init__(self, hosts: int) -> None:
        self.calls = [f"queue-{number}" for number in range(hosts)]

    def receive(self, handle: Callable[[dict[str, Any]], None], *, seconds: int = 20) -> bool:
        del handle, seconds
        return False


class Served:
    """A job whose threads have not been started, and whether it has announced its end.

    Args:
        ready: the numbers of the hosts that are ready, each with one worker.
        hosts: the number of hosts.
        in_reach: False if the status of the job cannot be read.
    """

    def __init__(self, *ready: int, hosts: int = 1, in_reach: bool = True) -> None:
        self.ends: list[PoolJob] = []
        job: Any = Job(in_reach=in_reach)
        queues: Any = Queues(hosts)
        values: Any = None
        self.job = PoolJob(job, queues, values, SYSTEM_CLOCK, 300.0, self.ends.append, lambda: None)
        for number in ready:
            self.job._handle({"kind": "ready", "host": f"algo-{number}", "workers": 1})
        self._count = 0

    def add(self, future: Future[Any] | None = None) -> OutgoingCall:
        """Give the job a call."""
        self._count += 1
        call = OutgoingCall(self._count, f"call {self._count}", b"", "", future or Future())
        assert self.job.add(call)
        return call


def test_calls_have_an_outcome_although_the_status_is_out_of_reach() -> None:
    """A job that ends while AWS cannot be reached fails its calls, and the others go to another job."""
    served = Served(1, in_reach=False)
    calls = [served.add() for _ in range(3)]
    assert served.job._given_calls() == {0: calls[:2]}
    served.job._job_ended(None)
    for call in calls[:2]:
        error = call.future.exception(0)
        assert isinstance(error, RemoteFunctionError)
        assert "the network is down" in str(error)
    assert served.ends == [served.job]
    assert not served.job._given_calls()  # an ended job gives no calls to its hosts
    assert served.job.take_waiting() == calls[2:]


class Contended(Future[Any]):
    """A future that another thread finishes at the same moment."""

    def __init__(self, rival: Callable[[], None]) -> None:
        super().__init__()
        self._rivals = [rival]

    def set_exception(self, exception: BaseException | None) -> None:
        while self._rivals:
            self._rivals.pop()()
        super().set_exception(exception)


def test_a_result_at_the_job_s_end_costs_no_other_call() -> None:
    """A call that two threads finish at once has one outcome, and the calls after it have theirs."""
    served = Served(1)
    contended = served.add(Contended(lambda: served.job._finish(contended, CallResult(1))))
    other = served.add()
    assert served.job._given_calls() == {0: [contended, other]}
    served.job._job_ended(None)
    assert isinstance(contended.future.exception(0), RemoteFunctionError)
    assert isinstance(other.future.exception(0), RemoteFunctionError)
    assert served.ends == [served.job]


def test_waiting_for_a_cancelled_call_ends() -> None:
    """`wait` returns at once for a call that was cancelled in a job, between two jobs, or by `close`."""
    served, other = Served(), Served()
    first, second, third = (served.add() for _ in range(3))
    assert first.future.cancel()
    assert served.job.take_waiting() == [second, third]
    assert second.future.cancel()
    for call in (second, third):
        assert other.job.add(call)
    other.job.close(cancel=True)
    assert not wait([call.future for call in (first, second, third)], timeout=0).not_done
    assert all(call.future.cancelled() for call in (first, second, third))
    assert not other.job.take_waiting()


def test_a_host_that_has_ended_gets_no_calls() -> None:
    """Calls go to the hosts that go on; without one they wait for another job."""
    served = Served(1, 2, hosts=2)
    served.job._handle({"kind": "ended", "host": "algo-1"})
    assert served.job.workers == 1
    first = served.add()
    assert served.job._given_calls() == {1: [first]}
    served.job._handle({"kind": "ended", "host": "algo-2"})
    second = served.add()
    assert not served.job._given_calls()
    served.job._job_ended(None)
    assert isinstance(first.future.exception(0), RemoteFunctionError)
    assert served.job.take_waiting() == [second]

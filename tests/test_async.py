"""Waiting in coroutines: the same answers as in threads, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import JobFailedError, JobStoppedError, LocalSession, ProcessingJob, ScriptProcessor, WaitTimeoutError
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws, SimulatedLine
from processing.watching.events import LogEvent, StatusChanged

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Coroutine, Iterator


@pytest.fixture
def aws() -> SimulatedAws:
    return SimulatedAws(VirtualClock())


@pytest.fixture
def processor(local_session: LocalSession) -> ScriptProcessor:
    return ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=local_session
    )


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No thread outlives a test but by an instant."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name == "processing-poller":
            thread.join(30)
            assert not thread.is_alive()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def jobs_of(aws: SimulatedAws, *names: str) -> list[ProcessingJob]:
    session = aws.session()
    return [ProcessingJob(session, name) for name in names]


def is_idle(job: ProcessingJob) -> bool:
    """Return whether the job's session has no subscription."""
    return not job.sagemaker_session.poller._subscribers


def test_a_job_is_awaited(processor: ScriptProcessor, tmp_path: pathlib.Path, capsys: Any) -> None:
    """Its lines are shown, and the job is returned; a second loop of the same process works as well."""
    (tmp_path / "good.py").write_text("print('one'); print('two')")
    (tmp_path / "bad.py").write_text("print('no rows'); exit(2)")
    for _ in range(2):
        job = processor.run(str(tmp_path / "good.py"), wait=False)
        assert run(job.wait_async()) is job
        assert capsys.readouterr().out == "one\ntwo\n"
        assert is_idle(job)
    job = processor.run(str(tmp_path / "bad.py"), wait=False)
    with pytest.raises(JobFailedError) as raised:
        run(job.wait_async(logs=False))
    assert raised.value.log_tail == ("no rows",)


def test_events_are_iterated(processor: ScriptProcessor, tmp_path: pathlib.Path) -> None:
    """`async for` gives what `for` gives."""
    (tmp_path / "script.py").write_text("for n in range(50): print(n, flush=True)")
    job = processor.run(str(tmp_path / "script.py"), wait=False)

    async def follow() -> list[Any]:
        return [event async for event in job.events_async()]

    events = run(follow())
    assert [event.message for event in events if isinstance(event, LogEvent)] == [str(n) for n in range(50)]
    assert isinstance(events[-1], StatusChanged)
    assert events[-1].status == "Completed"


def test_many_are_awaited_together(aws: SimulatedAws) -> None:
    """`wait_async` answers as `wait` does, and `as_completed_async` yields in the order of the ends."""
    for number in range(40):
        aws.add_job(f"run-{number:02}", ends=60 + 20 * number, status="Stopped" if number == 7 else "Completed")
    names = [f"run-{number:02}" for number in range(40)]
    jobs = jobs_of(aws, *names)

    async def both() -> tuple[list[str], Any]:
        ended = [job.job_name async for job in processing.as_completed_async(jobs)]
        return ended, await processing.wait_async(jobs_of(aws, *names))

    ended, result = run(both())
    assert ended == names
    assert len(result.done) == 40
    assert [(job.job_name, type(error)) for job, error in result.failed.items()] == [("run-07", JobStoppedError)]
    assert is_idle(jobs[0])


def test_the_deadline_is_kept(aws: SimulatedAws) -> None:
    """With the errors and the answers that the synchronous ones have."""
    aws.add_job("run-a", ends=None)
    aws.add_job("run-b", ends=20)
    jobs = jobs_of(aws, "run-a", "run-b")

    async def late() -> None:
        result = await processing.wait_async(jobs, timeout=60)
        assert (result.done, result.not_done) == ({jobs[1]}, {jobs[0]})
        with pytest.raises(WaitTimeoutError, match="run-a"):
            await jobs[0].wait_async(timeout=30)
        with pytest.raises(WaitTimeoutError, match="run-a"):
            _ = [job async for job in processing.as_completed_async(jobs, timeout=5)]

    run(late())
    assert is_idle(jobs[0])


def test_hundreds_of_coroutines_hold_no_thread(aws: SimulatedAws) -> None:
    """Each awaits its own job; one poller looks at all of them, in one thread."""
    for number in range(500):
        aws.add_job(f"run-{number:03}", ends=100 + number % 50)
    jobs = jobs_of(aws, *(f"run-{number:03}" for number in range(500)))
    most = 0

    async def each(job: ProcessingJob) -> None:
        nonlocal most
        await job.wait_async(logs=False)
        most = max(most, threading.active_count())

    async def everyone() -> None:
        await asyncio.gather(*map(each, jobs))

    before = threading.active_count()
    run(everyone())
    assert most <= before + 40  # the pump, and the loop's own pool
    assert aws.calls["ListProcessingJobs"] + aws.calls["DescribeProcessingJob"] < 400
    assert is_idle(jobs[0])


@pytest.mark.parametrize("logs", [False, True])
def test_cancelling_leaves_nothing_behind(processor: ScriptProcessor, tmp_path: pathlib.Path, logs: bool) -> None:
    """A wait that is cancelled watches no more; its job goes on, and another wait finds it."""
    gate = tmp_path / "gate"
    (tmp_path / "script.py").write_text(
        f"import os, time\nprint('started', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    )
    job = processor.run(str(tmp_path / "script.py"), wait=False)

    async def cancelled() -> None:
        started = asyncio.create_task(anext_of(job))
        await started
        for _ in range(5):
            task = asyncio.create_task(job.wait_async(logs=logs))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        waiting = asyncio.create_task(job.wait_async(logs=logs))
        _, pending = await asyncio.wait([waiting], timeout=0.05)
        assert pending
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        assert is_idle(job)
        gate.touch()
        await job.wait_async(logs=False)

    run(cancelled())
    assert is_idle(job)


async def anext_of(job: ProcessingJob) -> Any:
    """Return the job's first line, and leave the iteration."""
    async with contextlib.aclosing(job.events_async()) as events:
        async for event in events:
            if isinstance(event, LogEvent):
                return event
    return None


def test_leaving_an_iteration_ends_the_watch(aws: SimulatedAws) -> None:
    """A consumer that breaks off, or closes the iterator, is no longer told."""
    aws.add_job("run-a", ends=500, lines=[SimulatedLine(n, str(n)) for n in range(100)])
    (job,) = jobs_of(aws, "run-a")

    async def leave() -> None:
        assert (await anext_of(job)).message == "0"
        assert is_idle(job)

    run(leave())


@pytest.mark.parametrize("cut", [0, 1, 33, 99, 100])
def test_another_process_goes_on_from_a_checkpoint(aws: SimulatedAws, cut: int) -> None:
    """Wherever one stopped, amid lines that came together as well, there is no gap and no repeat."""
    for name in ("run-a", "run-b"):
        aws.add_job(name, ends=60, lines=[SimulatedLine(n, f"{name} {n}") for n in range(50)])

    async def read(limit: int, checkpoint: str | None = None) -> tuple[list[str], str]:
        seen: list[str] = []
        async with processing.events_async(jobs_of(aws, "run-a", "run-b"), checkpoint=checkpoint) as stream:
            async for event in stream:
                seen += [event.message] if isinstance(event, LogEvent) else []
                if len(seen) == limit:
                    break
            return seen, stream.checkpoint().to_json()

    first, checkpoint = run(read(cut))
    assert len(first) == cut
    rest, _ = run(read(-1, checkpoint))
    assert sorted(first + rest) == sorted(f"{name} {n}" for name in ("run-a", "run-b") for n in range(50))


def test_threads_and_loops_share_a_poller(aws: SimulatedAws) -> None:
    """Two loops in two threads and a synchronous wait: all of them come to the end."""
    aws.add_job("run-a", ends=300)
    jobs = [job for _ in range(3) for job in jobs_of(aws, "run-a")]
    session = jobs[0].sagemaker_session
    for job in jobs:
        job.sagemaker_session = session
    done: list[str] = []

    def loop(job: ProcessingJob) -> None:
        run(job.wait_async(logs=False))
        done.append("async")

    threads = [threading.Thread(target=loop, args=(job,)) for job in jobs[:2]]
    for thread in threads:
        thread.start()
    jobs[2].wait(logs=False)
    for thread in threads:
        thread.join(60)
    assert done == ["async", "async"]
    assert is_idle(jobs[0])

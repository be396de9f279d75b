"""After Ctrl-C the advice comes last, below a short traceback; notebooks show the advice alone."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
import traceback
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws
from processing.watching.detach import detached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


class Interrupting(VirtualClock):
    """A clock on which Ctrl-C comes after a hundred seconds."""

    def wait(self, condition: Any, seconds: float) -> None:
        super().wait(condition, seconds)
        if self.monotonic() >= 100:
            raise KeyboardInterrupt


WAITS: dict[str, Callable[[list[processing.ProcessingJob]], object]] = {
    "job": lambda jobs: jobs[0].wait(logs=False),
    "job with logs": lambda jobs: jobs[0].wait(),
    "jobs": processing.wait,
    "as_completed": lambda jobs: list(processing.as_completed(jobs)),
    "exception": lambda jobs: jobs[0].exception(),
    "lines of a job": lambda jobs: list(jobs[0].logs(follow=True)),
    "events of a job": lambda jobs: list(jobs[0].events()),
    "events of jobs": lambda jobs: list(processing.events(jobs)),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_the_advice_is_the_text_of_the_interrupt(
    wait: Callable[[list[processing.ProcessingJob]], object], caplog: pytest.LogCaptureFixture
) -> None:
    """The interrupt is a KeyboardInterrupt. Its traceback ends with the advice, and IPython gets lines of it."""
    aws = SimulatedAws(Interrupting())
    for name in ("job-0", "job-1"):
        aws.add_job(name, ends=None)
    session = aws.session()
    jobs = [processing.attach(name, session) for name in ("job-0", "job-1")]
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt) as raised:
        wait(jobs)
    interrupt = raised.value
    assert type(interrupt) is KeyboardInterrupt
    lines = "".join(traceback.format_exception(interrupt)).splitlines()
    assert lines[-1].startswith("  stop:   ")
    assert lines[-2].startswith("  attach: ")
    assert len(traceback.extract_tb(interrupt.__traceback__)) <= 8
    assert interrupt.__suppress_context__
    shown: list[str] = interrupt._render_traceback_()  # type: ignore[attr-defined]
    assert shown[0].startswith("KeyboardInterrupt: Detached: the job")
    assert shown[-1] == lines[-1]
    assert [record.message for record in caplog.records] == [str(interrupt)]  # the program has a log


COROUTINES: dict[str, Callable[[list[processing.ProcessingJob]], Coroutine[Any, Any, object]]] = {
    "job": lambda jobs: jobs[0].wait_async(logs=False),
    "jobs": processing.wait_async,
    "as_completed": lambda jobs: _all_of(processing.as_completed_async(jobs)),
    "events of a job": lambda jobs: _all_of(jobs[0].events_async(logs=False)),
    "events of jobs": lambda jobs: _all_of(processing.events_async(jobs, logs=False)),
}


async def _all_of(items: AsyncIterator[object]) -> list[object]:
    return [item async for item in items]


@pytest.mark.parametrize("wait", COROUTINES.values(), ids=COROUTINES)
def test_notebooks_show_the_advice_for_a_cancelled_coroutine(
    wait: Callable[[list[processing.ProcessingJob]], Coroutine[Any, Any, object]],
) -> None:
    """IPython interrupts the coroutine of a cell by cancelling it. The error stays a CancelledError."""
    aws = SimulatedAws(VirtualClock())
    for name in ("job-0", "job-1"):
        aws.add_job(name, ends=None)
    session = aws.session()
    jobs = [processing.attach(name, session) for name in ("job-0", "job-1")]

    async def cancelled() -> asyncio.CancelledError:
        task = asyncio.ensure_future(wait(jobs))
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        return raised.value

    shown: list[str] = asyncio.run(cancelled())._render_traceback_()  # type: ignore[attr-defined]
    assert shown[0].startswith("CancelledError: Detached: the job")
    assert shown[-1].startswith("  stop:   ")


def test_a_program_without_a_log_shows_the_advice_once() -> None:
    """Python prints the advice at the end of standard error, and ends as after any Ctrl-C."""
    code = textwrap.dedent(
        """
        from processing.watching.detach import detached
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise detached("Detached: the job goes on.\\n  attach: ...") from None
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.endswith("KeyboardInterrupt: Detached: the job goes on.\n  attach: ...\n")
    assert done.stderr.count("Detached") == 1 + done.stderr.count('detached("Detached')
    assert done.returncode == -2


def test_earlier_advice_comes_first() -> None:
    """A fleet that is still being submitted adds its own advice."""
    assert str(detached("second", detached("first"))) == "first\nsecond"
    assert str(detached("only", KeyboardInterrupt())) == "only"

"""After Ctrl-C the advice comes last, below a short traceback; notebooks show the advice alone."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import traceback
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing.job.detach import detached
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws

if TYPE_CHECKING:
    from collections.abc import Callable


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


def test_a_program_without_a_log_shows_the_advice_once() -> None:
    """Python prints the advice at the end of standard error, and ends as after any Ctrl-C."""
    code = textwrap.dedent(
        """
        from processing.job.detach import detached
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

"""Time from the end of a job on the embedded engine to the return of its waits, with all lines shown.

Real jobs run, one at a time and 64 at a time. The end is the engine's own ProcessingEndTime. Calls to the engine are
free, so this is the cost of the status calls.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from figures import Figure, finish, scaled

import processing
from processing import LocalSession, ProcessingJob, ScriptProcessor

ALONE, TOGETHER = scaled(10, 2), scaled(64, 8)
SCRIPT = """
import os, sys, time
for number in range(20):
    print("line", number, flush=True)
while not os.path.exists(sys.argv[1]):  # until all jobs have started
    time.sleep(0.2)
time.sleep(max(0.0, float(open(sys.argv[1]).read()) + float(sys.argv[2]) - time.time()))
"""
GATE = "gate"  # the file with the moment that the jobs' ends count from


def start(session: LocalSession, script: Path, ends: float) -> ProcessingJob:
    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)
    return processor.run(script, arguments=[str(script.with_name(GATE)), str(ends)], wait=False)


def open_gate(script: Path) -> None:
    moment = script.with_name("moment")
    moment.write_text(str(time.time() + 1.0))
    moment.replace(script.with_name(GATE))


def late(job: ProcessingJob, now: float) -> float:
    """Return the seconds from the end of a job until now."""
    return float(now - job.describe()["ProcessingEndTime"].timestamp())


def alone(session: LocalSession, script: Path) -> list[float]:
    delays = []
    for turn in range(ALONE):
        job = start(session, script, turn * 0.137)
        open_gate(script)
        with contextlib.redirect_stdout(io.StringIO()):
            job.wait()
        delays.append(late(job, time.time()))
    return delays


def together(session: LocalSession, script: Path) -> list[float]:
    script.with_name(GATE).unlink()
    jobs = [start(session, script, number * 0.1) for number in range(TOGETHER)]
    open_gate(script)
    seen = [(job, time.time()) for job in processing.as_completed(jobs)]
    return [late(job, moment) for job, moment in seen]


def figure(what: str, delays: Sequence[float]) -> Figure:
    ordered = sorted(delays)
    note = f"median {statistics.median(delays) * 1000:.0f} ms of {len(delays)}, at most {ordered[-1] * 1000:.0f} ms"
    return Figure(f"{what}: end to return, 95 %", ordered[len(ordered) * 95 // 100], 0.2, "s", note)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        script = Path(name, "lines.py")
        script.write_text(SCRIPT)
        session = LocalSession(Path(name, "engine"))
        finish(
            [
                figure("a job on the engine, with logs", alone(session, script)),
                figure(f"{TOGETHER} jobs on the engine at one time", together(session, script)),
            ]
        )


if __name__ == "__main__":
    main()

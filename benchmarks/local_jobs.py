"""Time of a trivial job on the embedded engine, from the call of `run` to its return.

There is one process. The kinds of job alternate, after one round that does not count. The figures are medians. The job
is a small script with one input and one output, so the figure contains a host process, a sandbox, a Python and the
transfers. The script alone, as a program of its own, shows the speed of the machine.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figures import Figure, finish, scaled

from processing import LocalSession, ProcessingInput, ProcessingJob, ProcessingOutput, ScriptProcessor

ROUNDS = scaled(20, 3)
DESCRIBES = scaled(200, 20)
SCRIPT = """
import pathlib, sys
print("hello")
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.txt")):
    pathlib.Path(sys.argv[2], path.name).write_text(path.read_text().upper())
"""


def make_program(folder: Path) -> Callable[[], object]:
    """Return a function that runs the script without a job."""
    (folder / "output").mkdir()
    command = [sys.executable, *(str(folder / name) for name in ("upper.py", "data", "output"))]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def make_run(folder: Path, session: LocalSession, hosts: int) -> Callable[[], ProcessingJob]:
    """Return a function that runs one job on a number of hosts."""
    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=hosts, sagemaker_session=session
    )
    distribution = "ShardedByS3Key" if hosts > 1 else "FullyReplicated"
    data = ProcessingInput(folder / "data", "/opt/ml/processing/input/data", s3_data_distribution_type=distribution)
    output = ProcessingOutput("/opt/ml/processing/output", output_name="upper")
    arguments = ["/opt/ml/processing/input/data", "/opt/ml/processing/output"]
    return lambda: processor.run(folder / "upper.py", [data], [output], arguments)


def seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        call()
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # the engine may write until the end
        folder = Path(name)
        (folder / "upper.py").write_text(SCRIPT)
        (folder / "data").mkdir()
        for letter in "ab":
            (folder / "data" / f"{letter}.txt").write_text(letter)
        session = LocalSession(folder / "engine")
        plain = LocalSession(folder / "plain", sandbox="rewriting")
        kinds: dict[str, Callable[[], object]] = {
            "one": make_run(folder, session, 1),
            "two": make_run(folder, session, 2),
            "rewriting": make_run(folder, plain, 1),
            "alone": make_program(folder),
        }
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(ROUNDS + 1):
            for kind, run in kinds.items():
                elapsed = seconds_of(run)
                if number:
                    times[kind].append(elapsed)
        with contextlib.redirect_stdout(io.StringIO()):
            job = make_run(folder, session, 1)()
        describes = [seconds_of(job.describe) for _ in range(DESCRIBES)]
    median = {kind: statistics.median(values) for kind, values in times.items()}
    rounds = f"median of {ROUNDS}"
    finish(
        [
            Figure("run() of a trivial job, one host", median["one"], 0.12, "s", rounds),
            Figure(
                "run() of a trivial job against the script alone",
                median["one"] / median["alone"],
                8,
                note=f"{median['one'] * 1000:.0f} ms and {median['alone'] * 1000:.0f} ms, {rounds}",
            ),
            Figure("run() of a trivial job, two hosts, input sharded", median["two"], 1.0, "s", rounds),
            Figure(
                "what the sandbox adds",
                (median["one"] - median["rewriting"]) * 1000,
                50,
                "ms",
                f"over rewriting, {rounds}",
            ),
            Figure("describe()", statistics.median(describes) * 1000, 1.0, "ms", f"median of {DESCRIBES}"),
        ]
    )


if __name__ == "__main__":
    main()

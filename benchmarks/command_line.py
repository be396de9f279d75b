"""The command `processing`, and the live line of a run.

Fresh interpreters alternate, and the figures are medians. CPU is that of the process with its children. The AWS CLI is
the one on the PATH, or of `scripts/foreign-clients`; without one, its figure is left out.
"""

from __future__ import annotations

import contextlib
import os
import pty
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from clients import SAGEMAKER_2
from figures import Figure, finish, scaled

ROUNDS = scaled(15, 3)
RUNS = scaled(9, 2)
LIVE_SECONDS = scaled(20, 2)
HELP = [sys.executable, "-m", "processing", "--help"]
CLICK = [sys.executable, "-c", "import click"]

SCRIPT = """
from processing import ScriptProcessor
ScriptProcessor(command=["python3"], instance_type="local", instance_count=1).run("hello.py")
"""


def cpu_of(command: list[str], environment: dict[str, str]) -> float:
    """Run a command to its end, and return its CPU time in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def seconds_of(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Run a command to its end, and return its duration in seconds."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
    return time.perf_counter() - began


def helps(environment: dict[str, str]) -> list[Figure]:
    aws = next((str(p) for p in SAGEMAKER_2.parents[2].glob("*/bin/aws")), None) or shutil.which("aws")
    commands = {"help": HELP, "click": CLICK} | ({"aws": [aws, "--version"]} if aws else {})
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(ROUNDS + 1):
        for name, command in commands.items():
            seconds = cpu_of(command, environment)
            if number:  # the first round writes the bytecode
                times[name].append(seconds)
    cost = {name: statistics.median(values) for name, values in times.items()}
    note = ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in cost.items())
    figures = [Figure("CPU of --help / CPU of `import click`", cost["help"] / cost["click"], 1.5, note=note)]
    if aws:
        figures.append(Figure("CPU of --help / CPU of `aws --version`", cost["help"] / cost["aws"], 1.0))
    return figures


def runs(environment: dict[str, str]) -> Figure:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "hello.py").write_text("print('hello')\n")
        (folder / "script.py").write_text(SCRIPT)
        own = {**environment, "PROCESSING_LOCAL_HOME": str(folder / "engine")}
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(RUNS + 1):
            command = seconds_of([sys.executable, "-m", "processing", "run", "hello.py", "-t", "local"], folder, own)
            script = seconds_of([sys.executable, "script.py"], folder, own)
            if number:
                ours.append(command)
                theirs.append(script)
    mine, other = statistics.median(ours), statistics.median(theirs)
    note = f"{mine:.2f} s against {other:.2f} s, medians of {RUNS}"
    return Figure("`processing run` / the same script in Python", mine / other, 1.15, note=note)


def live_line() -> Figure:
    """Measure this process while it does nothing but draw the live line once a second."""
    from processing.watching.render.live_line import LiveLine

    reader, writer = pty.openpty()

    def read() -> None:
        with contextlib.suppress(OSError):  # which Linux reports at the end of a terminal
            while os.read(reader, 4096):
                pass

    threading.Thread(target=read, daemon=True).start()
    out = os.fdopen(writer, "w")
    live = LiveLine(out, lambda: ["InProgress: running, 1:02:03, 0.01 USD so far"])
    live.start()
    began = time.process_time()
    time.sleep(LIVE_SECONDS)
    share = (time.process_time() - began) / LIVE_SECONDS
    live.stop()
    return Figure("CPU of the live line, in % of a core", 100 * share, 1.0, "%", note=f"{LIVE_SECONDS} s")


def main() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    finish([*helps(environment), runs(environment), live_line()])


if __name__ == "__main__":
    main()

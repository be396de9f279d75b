"""Cost of ten thousand finished jobs in the engine's folder for listings, and sixty-four jobs at one time.

The pages are requested in process, through `Engine.handle`, from two folders that alternate. One has only the first
hundred jobs, the other has ten thousand, written directly into its store. The figures are medians. The sixty-four jobs
are real ones, each with an output that names it. They all run at once, and all outputs must be right, on two CPUs or on
sixty-four.
"""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from figures import Figure, finish, scaled

from processing import LocalSession, ProcessingOutput, ScriptProcessor
from processing.local.engine import Engine
from processing.local.stores.jobs import HostEnd, JobStore

MANY = scaled(10_000, 1_000)
FEW = 100
PAGE = 100
ROUNDS = scaled(200, 20)
TOGETHER = scaled(64, 16)
START = 1_700_000_000.0
SCRIPT = """
import pathlib, sys
pathlib.Path(sys.argv[2], "answer.txt").write_text(sys.argv[1])
print("job", sys.argv[1])
"""


def fill(home: Path, count: int) -> None:
    """Put finished jobs into a folder's store, a second apart, with every tenth failed."""
    store = JobStore(home)
    for number in range(count):
        name = f"{'train' if number % 2 else 'prepare'}-{number:05}"
        arn = f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/{name}"
        request = {
            "ProcessingJobName": name,
            "ProcessingResources": {"ClusterConfig": {"InstanceCount": 1, "InstanceType": "local"}},
            "Environment": {f"VARIABLE_{each}": "x" * 100 for each in range(10)},
        }
        now = START + number
        job = store.create(request, arn=arn, folder=f"jobs/{name}", plan={}, hosts=1, tags={}, now=now)
        end = HostEnd("completed") if number % 10 else HostEnd("failed", reason="AlgorithmError: exit code: 1")
        store.record_host_end(job.id, 1, end, now + 0.5)
    store.close()


def moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)


def queries(count: int) -> dict[str, dict[str, Any]]:
    """Return the queries for a folder of a given size, such that each answer has the same length in any folder.

    Pollers list the changes since their last listing.
    """
    recent = moment(START + count - FEW)
    newest: dict[str, Any] = {"SortBy": "CreationTime", "SortOrder": "Descending"}
    return {
        "the first page": {},
        "the newest jobs": newest,
        "by name": {"SortBy": "Name"},
        "by status": {"SortBy": "Status"},
        "with StatusEquals": {**newest, "StatusEquals": "Failed", "MaxResults": FEW // 10},
        "with NameContains": {**newest, "NameContains": "train", "MaxResults": FEW // 2},
        "with LastModifiedTimeAfter": {"LastModifiedTimeAfter": recent},
        "with LastModifiedTimeAfter and NameContains": {"LastModifiedTimeAfter": recent, "NameContains": "train"},
        "with LastModifiedTimeAfter and NameContains, newest": {
            **newest, "LastModifiedTimeAfter": recent, "NameContains": "train",
        },
        "with CreationTimeAfter": {"CreationTimeAfter": recent},
        "that is empty: nothing changed": {"LastModifiedTimeAfter": moment(START + count + 1), "NameContains": "train"},
    }  # fmt: skip


def seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def page(engine: Engine, query: Mapping[str, Any]) -> Callable[[], object]:
    return lambda: engine.handle("sagemaker", "ListProcessingJobs", {"MaxResults": PAGE, **query})


def time_pages(folder: Path) -> list[Figure]:
    """Compare the pages of the two folders."""
    engines = {}
    for count in (FEW, MANY):
        engines[count] = Engine(folder / str(count))
        fill(engines[count].home, count)
    figures = []
    asked = {what: {count: queries(count)[what] for count in engines} for what in queries(FEW)}
    for what, each in asked.items():
        calls = {count: page(engine, each[count]) for count, engine in engines.items()}
        times: dict[int, list[float]] = {count: [] for count in calls}
        gc.collect()
        for _ in range(ROUNDS):
            for count, call in calls.items():
                times[count].append(seconds_of(call))
        figures.append(compare(f"a page of List, {what}", times))
    # Every name is compared: parts of names have no index, and this number needs none.
    rare = page(engines[MANY], {"NameContains": "e-00010"})
    milliseconds = statistics.median(seconds_of(rare) for _ in range(ROUNDS)) * 1e3
    figures.append(Figure(f"the one of {MANY:,} jobs whose name contains a text", milliseconds, 3, "ms"))
    return figures


def compare(what: str, times: Mapping[int, list[float]]) -> Figure:
    few, many = statistics.median(times[FEW]), statistics.median(times[MANY])
    note = f"{many * 1e3:.2f} ms with {MANY:,} finished jobs, {few * 1e3:.2f} ms with {FEW}"
    return Figure(what, many / few, 1.2, "", note)


def run_together(folder: Path) -> list[Figure]:
    """Run many jobs at once on one engine, and check the output of each."""
    (folder / "answer.py").write_text(SCRIPT)
    session = LocalSession(folder / "together")

    def run(number: int) -> bool:
        processor = ScriptProcessor(
            command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session
        )
        output = ProcessingOutput("/opt/ml/processing/output", output_name="answer")
        arguments = [str(number), "/opt/ml/processing/output"]
        job = processor.run(folder / "answer.py", outputs=[output], arguments=arguments, wait=False)
        job.wait(logs=False)
        (path,) = job.outputs["answer"].download(folder / f"out-{number}")
        return path.read_text() == str(number)

    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        right = sum(pool.map(run, range(TOGETHER)))
    elapsed = time.perf_counter() - start
    return [
        Figure(f"of {TOGETHER} jobs at one time, those that are not right", TOGETHER - right, 0),
        Figure(f"{TOGETHER} jobs at one time, from the first call to the last result", elapsed, 60, "s"),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        finish([*time_pages(folder), *run_together(folder)])


if __name__ == "__main__":
    main()

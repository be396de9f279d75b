"""The cards of jobs: their own time beside that of their calls, and beside `json.dumps` of the jobs' descriptions.

A call takes 30 ms, as on AWS. The card's own time is the CPU time of all the rest, without the engine's: the requests,
the reading of their answers, and the drawing. CPU time depends less on what else the machine does. Medians count.
"""

from __future__ import annotations

import gc
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import Figure, finish, scaled

from processing import LocalSession, attach
from processing.local.stores.jobs import HostEnd, JobStore
from processing.report.grid import jobs_card

if TYPE_CHECKING:
    from processing.local.transports.in_process import Transport

ROUNDS = scaled(30, 5)
CALL_SECONDS = 0.03
HOSTS = 4
HOUR = 3600
JOBS = scaled(10_000, 1_000)
START = 1_790_000_000.0


class Timed:
    """A transport that counts the calls, and the CPU time of the engine, which answers them in the same thread."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.calls, self.seconds = 0, 0.0

    def send(self, request: Any) -> Any:
        began = time.thread_time()
        answer = self._inner.send(request)
        self.calls += 1
        self.seconds += time.thread_time() - began
        return answer


def add_job(session: LocalSession) -> None:
    """Put a job with four hosts, an hour of metrics and a log into the engine's stores."""
    store = JobStore(session.home)
    arn = "arn:aws:sagemaker:us-east-1:000000000000:processing-job/hour"
    cluster = {"InstanceCount": HOSTS, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 30}
    request = {
        "ProcessingJobName": "hour",
        "ProcessingResources": {"ClusterConfig": cluster},
        "AppSpecification": {"ImageUri": "image"},
    }
    job = store.create(request, arn=arn, folder="hour", plan={}, hosts=HOSTS, tags={}, now=START)
    for host in range(1, HOSTS + 1):
        store.record_start(job.id, host, 1, None, START + 30)
        samples = [
            (START + 30 + second, {"CPUUtilization": 100.0 + host * second % 90, "MemoryUtilization": second / 50})
            for second in range(0, HOUR, 60)
        ]
        session.engine.metrics.append(f"hour/algo-{host}", samples)
        events = [(int((START + 40 + second) * 1000), f"line {second}") for second in range(0, HOUR - 60, 10)]
        session.engine.logs.append("/aws/sagemaker/ProcessingJobs", f"hour/algo-{host}-1", events)
        store.record_host_end(job.id, host, HostEnd("completed"), START + HOUR)


def card(folder: Path) -> Figure:
    """Compare a card with its calls."""
    timed: list[Timed] = []

    def wrap(inner: Transport) -> Transport:
        timed.append(Timed(inner))
        return timed[-1]

    session = LocalSession(folder / "engine", transport=wrap)
    add_job(session)
    job = attach("hour", session=session)
    job.card()  # makes the clients
    shares, calls = [], 0
    for _ in range(ROUNDS):
        for each in timed:
            each.calls, each.seconds = 0, 0.0
        began = time.thread_time()
        job.card()
        elapsed = time.thread_time() - began
        calls = sum(each.calls for each in timed)
        own = elapsed - sum(each.seconds for each in timed)
        shares.append(own / (calls * CALL_SECONDS))
    share = statistics.median(shares)
    note = f"{share * calls * CALL_SECONDS * 1e3:.1f} ms of its own, {calls} calls"
    return Figure(f"a card of {HOSTS} hosts and an hour / its calls at 30 ms", share, 0.2, note=note)


def grid() -> list[Figure]:
    """Compare a grid with its jobs' descriptions as JSON, and its size with its limit."""
    described = [
        {
            "ProcessingJobName": f"a-job-with-a-name-of-forty-characters-{number:05}",
            "ProcessingJobArn": f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/a-job-{number:05}",
            "ProcessingJobStatus": "Failed" if number % 10 == 0 else "Completed",
            "ProcessingResources": {
                "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 30}
            },
            "AppSpecification": {"ImageUri": "image", "ContainerEntrypoint": ["python3", "clean.py"]},
            "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},
            "RoleArn": "arn:aws:iam::000000000000:role/processing",
            "CreationTime": START + number,
            "ProcessingStartTime": START + number + 60,
            "ProcessingEndTime": START + number + 600,
        }
        for number in range(JOBS)
    ]
    cells = [(str(each["ProcessingJobName"]), str(each["ProcessingJobStatus"])) for each in described]
    drawn, dumped = [], []
    for _ in range(ROUNDS):
        gc.collect()
        began = time.thread_time()
        json.dumps(described)
        middle = time.thread_time()
        jobs_card("fleet", cells)
        dumped.append(middle - began)
        drawn.append(time.thread_time() - middle)
    ours, theirs = statistics.median(drawn), statistics.median(dumped)
    note = f"{ours * 1e3:.0f} ms against {theirs * 1e3:.0f} ms"
    size = len(jobs_card("fleet", cells).encode()) / 1e6
    return [
        Figure(f"a grid of {JOBS:,} jobs / json.dumps of their descriptions", ours / theirs, 3.0, note=note),
        Figure(f"the size of a grid of {JOBS:,} jobs", size, 2.0, "MB"),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        finish([card(Path(name)), *grid()])


if __name__ == "__main__":
    main()

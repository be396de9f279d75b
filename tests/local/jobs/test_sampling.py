"""The resources of a host, sampled while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from processing.local.jobs import resource_sampler as sampling
from processing.local.jobs.resource_sampler import Sampler, usage_of_tree
from processing.local.limits import DiskWatch
from processing.local.stores.metrics import HOST_DIMENSION, JOB_NAMESPACE, Metric, MetricStore

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")

NAMES = ("CPUUtilization", "MemoryUtilization", "DiskUtilization")
_EVER = 1 << 40
"""One period for all samples, in seconds. Two samples may lie in two minutes."""


def _values(jobs: Any, job: str, host: int = 1) -> dict[str, list[float]]:
    store = MetricStore(jobs.home)
    found = {}
    for name in NAMES:
        metric = Metric.of(JOB_NAMESPACE, name, {HOST_DIMENSION: f"{job}/algo-{host}"})
        found[name] = [bucket.maximum for bucket in store.summarize(metric, 0, time.time() + 60, _EVER)]
    return found


def _count(jobs: Any, job: str) -> float:
    metric = Metric.of(JOB_NAMESPACE, "CPUUtilization", {HOST_DIMENSION: f"{job}/algo-1"})
    return sum(bucket.number for bucket in MetricStore(jobs.home).summarize(metric, 0, time.time() + 60, 60))


def test_even_the_shortest_job_has_a_sample(own_programs: Any) -> None:
    """Each host of a job that ran has all three metrics, although it ended before the first look.

    Of a container the kernel notes nothing for us once it has ended.
    """
    jobs = own_programs
    described = jobs.run("data = bytearray(50 << 20)", name="short", hosts=2)
    assert described["ProcessingJobStatus"] == "Completed", described
    for host in (1, 2):
        values = _values(jobs, "short", host)
        assert all(len(each) == 1 for each in values.values()), values
        assert values["CPUUtilization"][0] > 0
        assert 0 < values["MemoryUtilization"][0] < 100
        assert 0 <= values["DiskUtilization"][0] < 1


def test_a_busy_job_is_sampled_while_it_runs(make_jobs: Callable[..., Any]) -> None:
    """Children count, also in a process namespace; the memory is that of the limit."""
    jobs = make_jobs(sample=0.05, memory_gb=1)
    script = (
        "import subprocess, sys\n"
        "code = 'data = bytearray(200 << 20)\\nprint(1, flush=True)\\nwhile True: pass'\n"
        "child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print('up')\n"
        "child.wait()\n"
    )
    name = jobs.create(script)
    jobs.until(lambda: jobs.lines(name) == ["up"])
    seen = _count(jobs, name)
    jobs.until(lambda: _count(jobs, name) > seen + 5)
    jobs.stop(name)
    jobs.wait(name)
    values = _values(jobs, name)
    assert max(values["CPUUtilization"]) > 5  # it is busy, but not alone on the machine
    assert 15 < max(values["MemoryUtilization"]) < 60


def test_the_disk_is_a_part_of_the_volume(jobs: Any) -> None:
    """The size of the host's files at its end, in per cent of VolumeSizeInGB."""
    script = "open('/opt/ml/processing/out/x', 'wb').write(bytes(30 << 20))\n"
    request = jobs.request(script, name="disk", outputs={"out": "s3://data/out"})
    request["ProcessingResources"]["ClusterConfig"]["VolumeSizeInGB"] = 1
    jobs.call("CreateProcessingJob", **request)
    assert jobs.wait("disk")["ProcessingJobStatus"] == "Completed"
    assert 2.9 < _values(jobs, "disk")["DiskUtilization"][0] < 3.5


def test_a_job_whose_program_never_ran_has_none(jobs: Any) -> None:
    """There is nothing to measure where nothing was started."""
    jobs.run("pass", name="never", inputs={"in": "s3://data/nothing/"})
    assert _values(jobs, "never") == {name: [] for name in NAMES}


def test_use_is_that_of_all_descendants() -> None:
    """Memory and CPU time of grandchildren are in the sum, CPU time of ended ones too."""
    hungry = "data = bytearray(100 << 20)\nsum(range(3_000_000))\nprint(1, flush=True)\nimport sys\nsys.stdin.read()\n"
    between = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {hungry!r}])\nsys.stdin.read()\n"
    with subprocess.Popen([sys.executable, "-c", between], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as top:
        assert top.stdout is not None
        assert top.stdin is not None
        top.stdout.readline()
        use = usage_of_tree(top.pid)
        top.stdin.close()
        top.wait()
    assert use.memory > 100 << 20
    assert use.cpu > 0
    with pytest.raises(OSError, match="No such"):
        usage_of_tree(top.pid)


class _Kept:
    """Keeps samples in a list."""

    def __init__(self) -> None:
        self.samples: list[dict[str, float]] = []

    def append(self, samples: list[tuple[float, dict[str, float]]]) -> None:
        self.samples += [values for _, values in samples]


def test_a_restarted_program_is_sampled_from_its_start(tmp_path: Path) -> None:
    """After a restart the samples are those of the new process, and begin with its own CPU time."""
    kept = _Kept()
    sampler = Sampler(kept, DiskWatch(tmp_path, 1 << 30), None, 3600.0)
    busy = "sum(range(3_000_000))\nprint(1, flush=True)\nimport sys\nsys.stdin.read()\n"
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as restarted:
        assert restarted.stdout is not None
        assert restarted.stdin is not None
        restarted.stdout.readline()
        for process in (os.getpid(), restarted.pid):  # this process has used more CPU time
            sampler.watch(1, lambda found=process: found)  # type: ignore[misc]
            assert sampler._process() == process
            sampler._sample(usage_of_tree(process))
        restarted.stdin.close()
    sampler.stop()
    assert kept.samples[-1]["CPUUtilization"] > 0


def test_without_proc_nothing_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system has no figures, and no errors either."""
    monkeypatch.setattr(sampling, "_PROC", tmp_path / "none")
    kept = _Kept()
    sampler = Sampler(kept, DiskWatch(tmp_path, 1 << 30), None, 0.001)
    sampler.watch(os.getpid())
    sampler.finish()
    assert kept.samples == []


def test_sampling_costs_next_to_nothing(tmp_path: Path) -> None:
    """A sample of a process costs less than a hundredth of the second between two of them."""
    kept = _Kept()
    sampler = Sampler(kept, DiskWatch(tmp_path, 1 << 30), None, 1.0)
    began = time.thread_time()
    for _ in range(100):
        sampler._sample(usage_of_tree(os.getpid()))
    assert (time.thread_time() - began) / 100 < 0.01
    assert len(kept.samples) == 100

"""Limits on CPUs, memory and disk: enforced in every sandbox, or reported as without effect."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from processing.local import limits
from processing.local.jobs import host_processes as hosts
from processing.local.limits import DiskWatch

if TYPE_CHECKING:
    from collections.abc import Callable

HUNGRY = "data = bytearray(300 << 20)\nprint('had it', len(data))\n"
MANY = (
    "import subprocess, sys\n"
    "code = 'import sys; data = bytearray(80 << 20); print(1, flush=True); sys.stdin.read()'\n"
    "hungry = [sys.executable, '-c', code]\n"
    "children = [subprocess.Popen(hungry, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]\n"
    "print([child.stdout.readline() for child in children])\n"
    "print([child.communicate() for child in children])\n"
    "sys.exit(any(child.returncode for child in children))\n"
)
FILL = (
    "import os, signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "with open(sys.argv[1] + '/big', 'wb') as file:\n"
    "    os.posix_fallocate(file.fileno(), 0, 1100 << 20)\n"
    "    print('full', flush=True)\n"
    "    try:\n"
    "        time.sleep(600)\n"
    "    finally:\n"
    "        os.truncate(file.fileno(), 0)\n"
)


@pytest.fixture(params=["bubblewrap", "namespaces", "rewriting"])
def make_own(request: pytest.FixtureRequest, make_jobs: Callable[..., Any]) -> Callable[..., Any]:
    """Makes engines whose limits are this package's business, not a container program's."""
    return lambda **settings: make_jobs(sandbox=request.param, **settings)


@pytest.fixture
def _without_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no control group can be made."""
    monkeypatch.setattr(limits, "memory_group_parent", lambda: (None, "it is not allowed"))


def _groups(job: str) -> list[Path]:
    parent, reason = limits.memory_group_parent()
    if parent is None:
        pytest.skip(f"memory control groups: {reason}")
    return list(Path(parent.parent).glob(f"{job}-*"))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system ties no process to CPUs")
def test_a_job_has_the_cpus_that_it_may_use(make_own: Callable[..., Any]) -> None:
    """From its first moment on, the program is bound to so many CPUs."""
    jobs = make_own(cpus=1)
    described = jobs.run("import os\nprint(len(os.sched_getaffinity(0)))\n", name="bound")
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("bound") == ["1"]


def test_memory_is_counted_for_all_processes_together(make_own: Callable[..., Any]) -> None:
    """A host whose processes need too much together is ended with SageMaker's reason; no control group is left."""
    name = f"many-{os.getpid()}"
    assert _groups(name) == []
    jobs = make_own(memory_gb=0.2)
    described = jobs.run(MANY, name=name)
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"] == limits.OUT_OF_MEMORY
    assert jobs.run("print('small')")["ProcessingJobStatus"] == "Completed"
    assert _groups(name) == []


@pytest.mark.usefixtures("_without_groups")
def test_without_control_groups_each_process_is_limited(
    make_own: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A process that asks for too much gets no more memory, and a warning explains that the limit is each process's."""
    jobs = make_own(memory_gb=0.2)
    described = jobs.run(HUNGRY, name="hungry")
    assert described["ProcessingJobStatus"] == "Failed"
    assert "MemoryError" in jobs.lines("hungry")[-1]
    assert described["FailureReason"].startswith("AlgorithmError: ")
    assert jobs.run(MANY)["ProcessingJobStatus"] == "Completed"
    assert "holds for each process of a job on its own (RLIMIT_DATA)" in caplog.text
    assert "it is not allowed" in caplog.text


def test_without_a_limit_nothing_is_limited(jobs: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The default setting leaves a job the whole machine, without a warning."""
    script = "import os, resource\nprint(len(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_DATA)[0])\n"
    jobs.run(script, name="free")
    import resource

    assert jobs.lines("free") == [f"{len(os.sched_getaffinity(0))} {resource.getrlimit(resource.RLIMIT_DATA)[0]}"]
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_a_limit_that_cannot_be_kept_is_a_warning(
    make_jobs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a system without affinity and limits the job runs, and each setting without effect is a warning."""
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    decided, warnings = limits.enforceable_limits(2, 4.0)
    assert decided == limits.ResourceLimits()
    assert warnings == [
        "cpus=2 has no effect: darwin does not tie a process to CPUs.",
        "memory_gb=4 has no effect: darwin does not limit it.",
    ]


def test_more_cpus_than_there_are_is_a_warning(caplog: pytest.LogCaptureFixture, make_jobs: Callable[..., Any]) -> None:
    """The job has all that there are."""
    jobs = make_jobs(cpus=10_000)
    assert (
        jobs.run("import os\nprint(len(os.sched_getaffinity(0)))\n", name="all")["ProcessingJobStatus"] == "Completed"
    )
    assert jobs.lines("all") == [str(len(os.sched_getaffinity(0)))]
    assert "cpus=10000 is more than" in caplog.text


def test_a_killed_supervisor_leaves_no_control_group(make_jobs: Callable[..., Any]) -> None:
    """The process that finds the dead host removes its group with all processes in it."""
    name = f"killed-{os.getpid()}"
    assert _groups(name) == []
    jobs = make_jobs(memory_gb=1)
    jobs.create("import time\nprint('up')\ntime.sleep(600)\n", name=name)
    jobs.until(lambda: jobs.lines(name) == ["up"])
    assert len(_groups(name)) == 1
    hosts._children[-1].kill()
    hosts._children[-1].wait()
    assert jobs.wait(name)["ProcessingJobStatus"] == "Failed"
    assert _groups(name) == []


def test_a_host_that_exceeds_its_volume_is_ended(every_sandbox: Any) -> None:
    """VolumeSizeInGB is the most that a host's files may take, be it for a while; the reason gives the size."""
    jobs = every_sandbox
    request = jobs.request(FILL, arguments=["/opt/ml/processing/scratch"], inputs={"scratch": "s3://data/code/"})
    request["ProcessingResources"]["ClusterConfig"]["VolumeSizeInGB"] = 1
    jobs.call("CreateProcessingJob", **request)
    described = jobs.wait(request["ProcessingJobName"])
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"] == (
        "ClientError: Insufficient disk space: the host's files exceed VolumeSizeInGB (1)"
    )


def test_the_disk_is_looked_at_seldom_where_it_takes_long(tmp_path: Path) -> None:
    """Looking takes one per cent of the time at most, and half a second passes between two looks at least."""
    now = [100.0]
    watch = DiskWatch(tmp_path, 1 << 30, clock=lambda: now[0])
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_bytes(bytes(1 << 20))
    (tmp_path / "link").symlink_to("/")
    watch.measure_if_due()
    assert watch.used == 0
    now[0] += 0.5
    watch.measure_if_due()
    assert 1 << 20 <= watch.used < 2 << 20
    assert not watch.exceeded
    assert watch.pause == pytest.approx(0.5)

    ticks = iter([200.0, 200.0, 203.0])
    slow = DiskWatch(tmp_path, 1 << 30, clock=lambda: next(ticks, 203.0))
    slow.measure()
    assert slow.pause == pytest.approx(300.0)


V1 = "9:name=systemd:/\n4:memory:/user/one\n0::/\n"
V2 = "0::/user.slice/app.scope\n"


@pytest.mark.parametrize(
    ("own", "mounts", "expected"),
    [
        (V1, "cgroup {root} cgroup rw,relatime,memory 0 0\n", [("user/one", 1)]),
        (V2, "cgroup2 {root} cgroup2 rw,relatime 0 0\n", [("user.slice", 2)]),
        (V2, "proc /proc proc rw 0 0\n", []),
    ],
)
def test_the_places_for_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, mounts: str, expected: list[tuple[str, int]]
) -> None:
    """Below the process's own group in version 1; in version 2 beside it, where the controller is handed down."""
    for name, controllers in (("user.slice/app.scope", ""), ("user.slice", "cpu memory"), (".", "cpu")):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "cgroup.subtree_control").write_text(controllers)
    texts = {"/proc/self/mounts": mounts.format(root=tmp_path), "/proc/self/cgroup": own}
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *rest: texts.get(str(path)) or read(path, *rest))
    assert list(limits._candidates()) == [(tmp_path / name, version) for name, version in expected]

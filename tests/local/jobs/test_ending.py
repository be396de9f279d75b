"""Jobs that are stopped, run out of time, fail on one host, or lose their supervisor, their creator or the disk."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from processing.local import processes
from processing.local.jobs import host_processes as hosts
from processing.local.stores.jobs import JobStore

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
SLEEP = "import time\nprint('up')\ntime.sleep(600)\n"
STUBBORN = (
    "import signal, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True))\n"
    "print('up', flush=True)\n"
    "while True:\n"
    "    time.sleep(1)\n"
)
POLITE = (
    "import signal, sys, time\n"
    "def end(*_):\n"
    "    open(sys.argv[1] + '/saved', 'w').write('x')\n"
    "    sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, end)\n"
    "print('up', flush=True)\n"
    "time.sleep(600)\n"
)


def _up(jobs: Any, name: str) -> None:
    jobs.until(lambda: "up" in jobs.lines(name))


def test_a_stopped_job_may_tidy_up(every_sandbox: Any) -> None:
    """Stop sends SIGTERM; files that the program writes then are uploaded, and the job ends as Stopped."""
    jobs = every_sandbox
    jobs.settings = attrs.evolve(jobs.settings, grace=600)
    name = jobs.create(POLITE, arguments=["/opt/ml/processing/out"], outputs={"out": "s3://data/out"})
    _up(jobs, name)
    jobs.stop(name)
    assert jobs.describe(name)["ProcessingJobStatus"] in {"Stopping", "Stopped"}
    described = jobs.wait(name)
    assert described["ProcessingJobStatus"] == "Stopped"
    assert "FailureReason" not in described
    assert jobs.keys("out") == ["out/saved"]


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(every_sandbox: Any) -> None:
    """After the grace comes SIGKILL, for the whole group."""
    jobs = every_sandbox
    for grace in (0.3, 3, 30):  # on a busy machine the program notices the SIGTERM later
        jobs.settings = attrs.evolve(jobs.settings, grace=grace)
        name = jobs.create(STUBBORN)
        _up(jobs, name)
        started = time.monotonic()
        jobs.stop(name)
        assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"
        assert time.monotonic() - started >= grace
        if "no" in jobs.lines(name):
            break
    assert "no" in jobs.lines(name)


def test_the_programs_children_get_the_sigterm_too(own_programs: Any) -> None:
    """A shell that waits for a child does not keep the child from the signal."""
    jobs = own_programs
    jobs.settings = attrs.evolve(jobs.settings, grace=600)
    name = jobs.create(entrypoint=["/bin/sh", "-c", "sleep 600; echo never"], script=None, inputs=None)
    jobs.until(lambda: "ProcessingStartTime" in jobs.describe(name))
    jobs.stop(name)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"
    assert jobs.lines(name) in ([], ["Terminated"])


@pytest.mark.parametrize("sandbox", ["bubblewrap", "namespaces"])
def test_a_stop_in_the_moment_of_the_start_is_not_lost(make_jobs: Callable[..., Any], sandbox: str) -> None:
    """The program gets its SIGTERM in any state of the sandbox, and is not killed after the grace."""
    jobs = make_jobs(sandbox=sandbox, grace=600, tick=0.001)
    for _ in range(8):
        name = jobs.create(entrypoint=["sleep", "600"])
        jobs.until(lambda name=name: "ProcessingStartTime" in jobs.describe(name))
        jobs.stop(name)
        assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"


def test_a_job_that_runs_too_long_is_stopped(every_sandbox: Any) -> None:
    """MaxRuntimeInSeconds ends the program like a stop, and the FailureReason names it."""
    described = every_sandbox.run(SLEEP, StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert described["ProcessingJobStatus"] == "Stopped"
    assert described["FailureReason"].startswith("MaxRuntimeExceeded")
    elapsed = described["ProcessingEndTime"] - described["ProcessingStartTime"]
    assert elapsed.total_seconds() >= 1


def test_a_failing_host_stops_the_others(jobs: Any) -> None:
    """The reason is that of the host that failed, and names it."""
    script = (
        "import json, sys, time\n"
        "host = json.load(open('/opt/ml/config/resourceconfig.json'))['current_host']\n"
        "print('up')\n"
        "if host == 'algo-2':\n"
        "    sys.exit(7)\n"
        "time.sleep(600)\n"
    )
    described = jobs.run(script, hosts=3)
    assert described["ProcessingJobStatus"] == "Failed"
    expected = "AlgorithmError: See job logs for more information, exit code: 7, host: algo-2"
    assert described["FailureReason"] == expected


def test_a_job_is_stopped_before_its_program_starts(jobs: Any) -> None:
    """A stop while inputs are still fetched ends the job without starting the program."""
    for number in range(200):
        jobs.objects.put("data", f"many/{number}", b"x")
    name = jobs.create(SLEEP, inputs={"in": "s3://data/many/"})
    jobs.stop(name)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"


def test_a_killed_supervisor_is_noticed(own_programs: Any) -> None:
    """The job fails with an InternalServerError at the next look, its program dies, its files go."""
    jobs = own_programs
    name = jobs.create("import os, time\nprint(os.getpid())\nprint('up')\ntime.sleep(600)\n")
    _up(jobs, name)
    (host,) = JobStore(jobs.home).hosts(JobStore(jobs.home).get(name).id)
    assert host.process_group is not None
    hosts._children[-1].kill()
    hosts._children[-1].wait()
    described = jobs.wait(name)
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("InternalServerError: ")
    jobs.until(lambda: processes.start_id(host.process_group) != host.group_started or _zombie(host.process_group))
    jobs.check_nothing_left()


def test_a_supervisor_that_is_told_to_end_fails_the_job(jobs: Any) -> None:
    """SIGTERM for the supervisor, as a machine sends it when it shuts down, is noted as the job's end."""
    name = jobs.create(SLEEP)
    _up(jobs, name)
    hosts._children[-1].terminate()
    assert jobs.wait(name)["FailureReason"].startswith("InternalServerError: ")


def test_list_notices_a_killed_supervisor(jobs: Any) -> None:
    """Describe is not needed to find out: List looks as well."""
    name = jobs.create(SLEEP)
    _up(jobs, name)
    hosts._children[-1].kill()
    hosts._children[-1].wait()
    (summary,) = jobs.call("ListProcessingJobs")["ProcessingJobSummaries"]
    assert summary["ProcessingJobStatus"] == "Failed"


def test_a_job_whose_supervisors_were_never_started_fails(jobs: Any) -> None:
    """A creator that is killed between noting the job and starting its hosts leaves one that fails."""
    request = jobs.request("pass", name="stillborn")
    arn = "arn:aws:sagemaker:us-east-1:000000000000:processing-job/stillborn"
    locks = hosts.HostLocks(jobs.home / "jobs/stillborn-1", 1)
    locks.close()
    JobStore(jobs.home).create(request, arn=arn, folder="jobs/stillborn-1", plan={}, hosts=1, tags={}, now=time.time())
    described = jobs.describe("stillborn")
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("InternalServerError: ")


def test_a_supervisor_that_cannot_be_started_fails_the_job(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job exists, and its reason is the error of the start."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(hosts, "_Supervisor", refuse)
    described = jobs.run("pass")
    assert described["ProcessingJobStatus"] == "Failed"
    assert "could not be started: [Errno 11]" in described["FailureReason"]


def test_a_job_outlives_its_killed_creator(jobs: Any) -> None:
    """kill -9 of the process that created the job changes nothing: status, log and output are all there later."""
    script = (
        "import time\nprint('up')\ntime.sleep(0.5)\nopen('/opt/ml/processing/out/x', 'w').write('done')\nprint('end')\n"
    )
    request = jobs.request(script, name="orphan", outputs={"out": "s3://data/out"})
    creator = (
        "import json, os, pathlib, sys\n"
        "from processing.local.engine import Engine\n"
        "from processing.local.settings import EngineSettings\n"
        "home, request = sys.argv[1:]\n"
        "engine = Engine(pathlib.Path(home), EngineSettings(tick=0.01))\n"
        "engine.handle('sagemaker', 'CreateProcessingJob', json.loads(request))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", creator, str(jobs.home), json.dumps(request)], cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert jobs.wait("orphan")["ProcessingJobStatus"] == "Completed"
    assert jobs.lines("orphan") == ["up", "end"]
    assert jobs.text("out/x") == "done"


def _on_a_small_disk(tmp_path: Path, megabytes: int, kind: str, request: dict[str, Any]) -> list[Any]:
    """Run a job of a kind on a tmpfs. Return its description, its lines, the free bytes, and what is left of it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the program needs a small file system of its own")
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    unshare = shutil.which("unshare") or "unshare"
    if subprocess.run([unshare, *user, "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives nobody a file system of its own")
    place = tmp_path / "small"
    place.mkdir()
    words = shlex.join([sys.executable, "-c", _ON_A_SMALL_DISK, str(place), kind, json.dumps(request)])
    command = f"mount -t tmpfs -o size={megabytes}m none {shlex.quote(str(place))} && exec {words}"
    done = subprocess.run(
        [unshare, *user, "-m", "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


FILLED_BY_ITS_OUTPUT = {
    "AppSpecification": {
        "ImageUri": "i",
        "ContainerEntrypoint": [
            "/bin/sh",
            "-c",
            "dd if=/dev/zero of=/opt/ml/processing/out/x bs=64k; while :; do head -c 100000 /dev/zero; echo; done",
        ],
    },
    "ProcessingResources": {"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}},
    "ProcessingOutputConfig": {
        "Outputs": [
            {
                "OutputName": "o",
                "S3Output": {
                    "S3Uri": "s3://data/o",
                    "LocalPath": "/opt/ml/processing/out",
                    "S3UploadMode": "EndOfJob",
                },
            }
        ]
    },
}
FILLED_BY_ITS_MODEL = {
    "AlgorithmSpecification": {
        "TrainingImage": "i",
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["/bin/sh", "-c", "head -c 18000000 /dev/urandom > /opt/ml/model/x; exit 3"],
    },
    "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1},
    "OutputDataConfig": {"S3OutputPath": "s3://data/out"},
}


def test_a_full_disk_ends_the_job_with_a_reason(tmp_path: Path) -> None:
    """A job that fills the disk ends as Failed with that reason, and frees the space."""
    described, lines, free, left = _on_a_small_disk(tmp_path, 16, "Processing", FILLED_BY_ITS_OUTPUT)
    assert described["ProcessingJobStatus"] == "Failed"
    assert "space" in described["FailureReason"] or "exit code" in described["FailureReason"]
    assert free > 4 << 20
    assert left == []
    assert "No space left on device" in "".join(lines) or "space" in described["FailureReason"]


def test_artifacts_that_fill_the_disk_do_not_hide_the_end(tmp_path: Path) -> None:
    """If a model has no room in S3, a failed program is the reason, and a line of the log names the model."""
    described, lines, free, left = _on_a_small_disk(tmp_path, 24, "Training", FILLED_BY_ITS_MODEL)
    assert described["TrainingJobStatus"] == "Failed"
    assert described["FailureReason"] == "AlgorithmError: See job logs for more information, exit code: 3"
    assert [line.partition(": [Errno")[0] for line in lines] == ["ClientError: /opt/ml/model could not be uploaded"]
    assert free > 20 << 20
    assert left == []


_ON_A_SMALL_DISK = r"""
import json, os, pathlib, sys, time
from processing.local.engine import Engine
from processing.local.errors import ApiError
from processing.local.handlers.sagemaker import SageMakerHandler
from processing.local.settings import EngineSettings
home, kind, request = pathlib.Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
engine = Engine(home, EngineSettings(tick=0.01, sandbox="rewriting"))
engine.objects.create_bucket("data")
operations = SageMakerHandler(engine).operations
name = {f"{kind}JobName": "full"}
operations[f"Create{kind}Job"]({**name, "RoleArn": "arn:aws:iam::000000000000:role/x", **request})
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    described = operations[f"Describe{kind}Job"](name)
    if described[f"{kind}JobStatus"] == "Failed" and not os.listdir(home / "jobs"):
        break
    time.sleep(0.01)
try:
    lines = [event.message[:200] for event in engine.logs.filter(f"/aws/sagemaker/{kind}Jobs")[0]]
except ApiError:  # the disk was full before the first line
    lines = []
state = os.statvfs(home)
print(json.dumps([described, lines, state.f_bavail * state.f_frsize, os.listdir(home / "jobs")], default=str))
"""


def test_a_job_may_lock_its_own_directories(jobs: Any) -> None:
    """Directories without permissions do not keep the job's files from being removed."""
    script = "import os\nos.makedirs('/opt/ml/processing/out/a/b')\nos.chmod('/opt/ml/processing/out/a', 0)\n"
    jobs.run(script, outputs={"out": "s3://data/locked"})
    jobs.check_nothing_left()


@pytest.mark.parametrize("depth", [400, 3000])
def test_a_job_may_nest_directories_as_deep_as_it_likes(jobs: Any, depth: int) -> None:
    """Deeper than a path is long or a recursion deep: the job ends, and nothing is left of its files."""
    script = (
        "import os\n"
        "os.chdir('/opt/ml/processing/out')\n"
        f"for _ in range({depth}):\n"
        "    os.mkdir('d')\n"
        "    os.chdir('d')\n"
        "open('file', 'w').write('1')\n"
    )
    described = jobs.run(script, outputs={"out": "s3://data/deep"})
    if depth == 400:
        assert described["ProcessingJobStatus"] == "Completed", described
        assert jobs.keys("deep/") == ["deep/" + depth * "d/" + "file"]
    else:
        assert described["ProcessingJobStatus"] == "Failed"
        reason = described["FailureReason"]  # the second where neither Python nor the system has a limit before S3
        assert "/opt/ml/processing/out is nested too deeply" in reason or "too long" in reason
    jobs.check_nothing_left()


def test_all_hosts_of_a_stopped_job_stop(make_jobs: Callable[..., Any]) -> None:
    """One stop reaches every host."""
    jobs = make_jobs()
    name = jobs.create(SLEEP, hosts=3)
    jobs.until(lambda: jobs.lines(name) == ["up"] * 3)
    jobs.stop(name)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True

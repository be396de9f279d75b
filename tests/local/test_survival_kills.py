"""kill -9 at random moments: afterwards every job is right, and nothing is left over.

The moments come from a seed. `PROCESSING_TEST_KILLS=1000` kills that often, `PROCESSING_TEST_SEED=7` at other moments.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from job_processes import without_children
from processing.local.engine import Engine
from processing.local.sandboxes.bubblewrap import Bubblewrap
from processing.local.sandboxes.namespaces import Namespaces
from processing.local.settings import EngineSettings
from processing.local.stores.jobs import JobStore

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its victims in /proc")

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("PROCESSING_TEST_KILLS", "64"))
SEED = int(os.environ.get("PROCESSING_TEST_SEED", "1"))
PATIENCE = 60.0
KINDS = ("Processing", "Training")
LINES = [f"line {number}" for number in range(30)]
FILES = 5
INPUT = b"x" * 100_000
GONE = "InternalServerError: the supervisor of the job's host is gone"
# Enough of everything that a kill finds it at each step: inputs, a program with children, lines, outputs.
PROGRAM = (
    "set -e; i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); done; sleep 0.05; "
    'for i in 0 1 2 3 4; do cp "$1/$i" "$0/$i"; done'
)


class House:
    """One engine folder, its jobs, and the processes that work for it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.engine = Engine(home, EngineSettings(tick=0.01, grace=0.3))
        self.engine.objects.create_bucket("data")
        for number in range(FILES):
            self.engine.objects.put("data", f"in/{number}", INPUT)
        self.store = JobStore(home)

    def request(self, name: str, hosts: int = 1, upload: str = "EndOfJob", kind: str = "Processing") -> dict[str, Any]:
        if kind == "Training":
            return self._training_request(name, hosts)
        out = "/opt/ml/processing/out"
        return {
            "ProcessingJobName": name,
            "RoleArn": "arn:aws:iam::000000000000:role/local",
            "AppSpecification": {
                "ImageUri": "image",
                "ContainerEntrypoint": ["/bin/sh", "-c", PROGRAM],
                "ContainerArguments": [out, "/opt/ml/processing/in"],
            },
            "ProcessingResources": {
                "ClusterConfig": {"InstanceCount": hosts, "InstanceType": "local", "VolumeSizeInGB": 1}
            },
            "ProcessingInputs": [
                {
                    "InputName": "in",
                    "S3Input": {
                        "S3Uri": "s3://data/in/",
                        "LocalPath": "/opt/ml/processing/in",
                        "S3DataType": "S3Prefix",
                        "S3InputMode": "File",
                    },
                }
            ],
            "ProcessingOutputConfig": {
                "Outputs": [
                    {
                        "OutputName": "out",
                        "S3Output": {"S3Uri": f"s3://data/{name}", "LocalPath": out, "S3UploadMode": upload},
                    }
                ]
            },
        }

    def _training_request(self, name: str, hosts: int) -> dict[str, Any]:
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}}
        return {
            "TrainingJobName": name,
            "RoleArn": "arn:aws:iam::000000000000:role/local",
            "AlgorithmSpecification": {
                "TrainingImage": "image",
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["/bin/sh", "-c", PROGRAM],
                "ContainerArguments": ["/opt/ml/model", "/opt/ml/input/data/in"],
            },
            "ResourceConfig": {"InstanceCount": hosts, "InstanceType": "local", "VolumeSizeInGB": 1},
            "InputDataConfig": [{"ChannelName": "in", "DataSource": source}],
            "OutputDataConfig": {"S3OutputPath": "s3://data/models"},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        }

    def call(self, operation: str, **params: Any) -> Any:
        return self.engine.handle("sagemaker", operation, params)

    def wait(self, name: str, kind: str = "Processing") -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while True:
            described: dict[str, Any] = self.call(f"Describe{kind}Job", **{f"{kind}JobName": name})
            if described[f"{kind}JobStatus"] in {"Completed", "Failed", "Stopped"}:
                return described
            assert time.monotonic() < deadline, described
            _pause(0.01)

    def processes(self) -> list[_Process]:
        """The processes of this folder: supervisors and their descendants."""
        found = []
        mark = os.fsencode(self.home)
        for place in Path("/proc").glob("[1-9]*"):
            with contextlib.suppress(OSError):
                command, environment = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
                state, parent, group = (place / "stat").read_bytes().rpartition(b")")[2].split()[:3]
                supervises = b"processing.local.jobs.supervisor" in command and mark in command
                if state != b"Z" and (supervises or mark in command or mark + b"/jobs/" in environment):
                    found.append(_Process(int(place.name), int(parent), int(group), supervisor=supervises))
        supervisors = without_children({each.pid: each.parent for each in found if each.supervisor})
        return [each for each in found if not each.supervisor or each.pid in supervisors]

    def check(self, reason: str) -> list[dict[str, Any]]:
        """Wait for all jobs and compare each with its promise; a failed job must have this reason."""
        with self.store._database.read() as connection:
            found = connection.execute("SELECT kind, name FROM jobs ORDER BY id").fetchall()
        ended = []
        for resource, name in found:
            kind = resource.partition("-")[0].capitalize()
            ended.append(self.wait(name, kind))
            self._check_job(ended[-1], kind, reason)
        self._check_rest()
        return ended

    def statuses(self) -> set[str]:
        """The statuses of all jobs, after the ends of dead hosts are recorded."""
        self.call("ListProcessingJobs")
        with self.store._database.read() as connection:
            return {status for (status,) in connection.execute("SELECT status FROM jobs")}

    def _check_job(self, job: dict[str, Any], kind: str, reason: str) -> None:
        name, status = job[f"{kind}JobName"], job[f"{kind}JobStatus"]
        assert job["CreationTime"] <= job[f"{kind}EndTime"], job
        cluster = job["ResourceConfig"] if kind == "Training" else job["ProcessingResources"]["ClusterConfig"]
        for number in range(cluster["InstanceCount"]):
            lines = self._lines(kind, f"{name}/algo-{number + 1}-")
            assert lines == LINES[: len(lines)], (name, lines)
            assert status != "Completed" or lines == LINES, (name, lines)
        if kind == "Training":
            _check_phases(job)
        if status == "Completed":
            found = self._model(name) if kind == "Training" else self._output(name)
            assert found == {str(number): INPUT for number in range(FILES)}, name
            return
        assert status == "Failed", job
        assert reason in job["FailureReason"], job

    def _lines(self, kind: str, prefix: str) -> list[str]:
        try:
            events, _ = self.engine.logs.filter(f"/aws/sagemaker/{kind}Jobs", prefix=prefix)
        except Exception as error:  # noqa: BLE001 - there is no group before the first line
            assert "does not exist" in str(error)  # noqa: PT017 - the other outcome is tested below
            return []
        # A shell or a launcher says something of a child that was killed.
        return [event.message for event in events if event.message.startswith("line ")]

    def _output(self, name: str) -> dict[str, bytes]:
        return {key.rpartition("/")[2]: body for key, body in self._objects(f"{name}/")}

    def _model(self, name: str) -> dict[str, bytes]:
        ((_, archive),) = self._objects(f"models/{name}/output/model")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]

    def _objects(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        for listed in self.engine.objects.iter_prefix("data", prefix):
            record, descriptor = self.engine.objects.open("data", listed.key)
            with os.fdopen(descriptor, "rb") as file:
                body = file.read()
            assert len(body) == record.size, listed.key
            yield listed.key, body

    def _check_rest(self) -> None:
        """No process, no folder, no object that is not whole, no database that is not."""
        self.call("ListProcessingJobs")
        deadline = time.monotonic() + PATIENCE
        while found := self.processes():
            assert time.monotonic() < deadline, found
            _pause(0.01)
        self.call("ListProcessingJobs")
        assert list((self.home / "jobs").glob("[!.]*")) == []
        for _ in self._objects():
            pass
        for path in self.home.glob("*.sqlite3"):
            with contextlib.closing(sqlite3.connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def _check_phases(job: dict[str, Any]) -> None:
    """Hold that the phases of a training job follow each other without a gap, and end in its status."""
    phases = job["SecondaryStatusTransitions"]
    assert [phase["EndTime"] for phase in phases[:-1]] == [phase["StartTime"] for phase in phases[1:]], job
    assert phases[-1]["Status"] == job["SecondaryStatus"] == job["TrainingJobStatus"], job
    names = [phase["Status"] for phase in phases[:-1]]
    # A program that is killed while it starts has no phase of its own.
    assert names == [each for each in ("Starting", "Downloading", "Training", "Uploading") if each in names], job


class _Process:
    def __init__(self, pid: int, parent: int, group: int, *, supervisor: bool) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.supervisor = supervisor

    def __repr__(self) -> str:
        with contextlib.suppress(OSError):
            return f"{self.pid}: {Path(f'/proc/{self.pid}/cmdline').read_bytes()!r}"
        return f"{self.pid}: gone"


def _pause(seconds: float) -> None:
    """Wait for a random moment before the next check or kill. These tests need any moment."""
    threading.Event().wait(seconds)


def _kill(victim: _Process, *, group: bool) -> bool:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(victim.group if group else victim.pid, signal.SIGKILL)
        return True
    return False


def _sandboxes() -> list[str]:
    return ["rewriting", *(kind.name for kind in (Bubblewrap, Namespaces) if not kind.probe()[1])]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "engine")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("victim", ["supervisor", "program", "group"])
def test_jobs_are_right_whatever_of_them_is_killed(house: House, victim: str, kind: str) -> None:
    """A job whose host was killed fails with a reason; one that was not reached in time completes, whole."""
    random_ = random.Random(f"{SEED} {victim} {kind}")
    sandboxes = _sandboxes()
    kills = rounds = 0
    while kills < KILLS // 8 or "Failed" not in house.statuses():
        rounds += 1
        house.engine.settings = EngineSettings(tick=0.01, grace=0.3, sandbox=random_.choice(sandboxes))  # type: ignore[arg-type]
        upload = random_.choice(["EndOfJob", "Continuous"])
        for number in range(3):
            request = house.request(f"{victim}-{rounds}-{number}", random_.choice([1, 1, 2]), upload, kind)
            house.engine.handle("sagemaker", f"Create{kind}Job", request)
        _pause(random_.uniform(0, 0.4))
        for _ in range(2):
            wanted = [each for each in house.processes() if each.supervisor == (victim == "supervisor")]
            if wanted:
                kills += _kill(random_.choice(wanted), group=victim == "group")
            _pause(random_.uniform(0, 0.05))
        assert rounds < 10 * KILLS
    ended = house.check(GONE if victim == "supervisor" else "exit code: ")
    assert {job[f"{kind}JobStatus"] for job in ended} == {"Completed", "Failed"}


CREATOR = """
import json, pathlib, sys
from processing.local.engine import Engine
from processing.local.settings import EngineSettings
engine = Engine(pathlib.Path(sys.argv[1]), EngineSettings(tick=0.01, sandbox="rewriting"))
engine.handle("sagemaker", "ListProcessingJobs", {})  # what takes its time is loaded
print("ready", flush=True)
kind = sys.argv[3]
for request in json.load(open(sys.argv[2])):
    name = request[f"{kind}JobName"]
    engine.objects.put("data", f"code/{name}", b"c" * 200_000)
    engine.handle("sagemaker", f"Create{kind}Job", request)
    print(name, flush=True)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_are_right_whenever_their_creator_is_killed(house: House, tmp_path: Path, kind: str) -> None:
    """A created job goes on without its creator; an unanswered one is whole, failed or missing."""
    import json

    random_ = random.Random(SEED)
    known: list[str] = []
    for number in range(max(3, KILLS // 16)):
        requests = tmp_path / f"requests-{number}"
        requests.write_text(json.dumps([house.request(f"made-{number}-{each}", kind=kind) for each in range(3)]))
        command = [sys.executable, "-c", CREATOR, str(house.home), str(requests), kind]
        creator = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True)
        assert creator.stdout is not None
        assert creator.stdout.readline() == b"ready\n"
        known += [creator.stdout.readline().decode().strip() for _ in range(random_.randrange(3))]
        _pause(random_.uniform(0, 0.03))
        os.killpg(creator.pid, signal.SIGKILL)
        known += creator.stdout.read().decode().split()
        creator.wait()
        creator.stdout.close()
    ended = {job[f"{kind}JobName"]: job[f"{kind}JobStatus"] for job in house.check(GONE)}
    assert known
    assert {ended[name] for name in known} == {"Completed"}


@pytest.mark.parametrize("mark", ["another boot:1", "{boot}:1"])
def test_a_process_group_of_the_same_number_is_left_alone(house: House, mark: str) -> None:
    """After a restart of the machine, or when the number has gone round: the job fails, the stranger lives."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        job = house.store.create(
            house.request("before"), arn="arn:x", folder="jobs/before-0123456789ab", plan={}, hosts=1, tags={}, now=1.0
        )
        house.store.record_start(job.id, 1, stranger.pid, mark.format(boot=boot), 2.0)
        ended = house.wait("before")
        assert ended["ProcessingJobStatus"] == "Failed"
        assert "(killed, or the machine was restarted)" in ended["FailureReason"]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_program_whose_group_was_never_noted_dies_with_its_job(house: House) -> None:
    """The supervisor was killed after it had started the program, and before it could write that down."""
    folder = house.home / "jobs" / "early-0123456789ab"
    house.store.create(
        house.request("early"), arn="arn:x", folder=f"jobs/{folder.name}", plan={}, hosts=1, tags={}, now=1.0
    )
    program = subprocess.Popen(["sleep", "600"], start_new_session=True, env={"TMPDIR": f"{folder}/algo-1/tmp"})
    assert house.wait("early")["ProcessingJobStatus"] == "Failed"
    assert program.wait() == -signal.SIGKILL


class _Server:
    """`python -m processing.local serve`, on the same port after each start."""

    def __init__(self, home: Path) -> None:
        # While this socket is bound, the system gives its port to nobody else who binds any free one.
        self._reserving = socket.socket()
        self._reserving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserving.bind(("127.0.0.1", 0))
        self._port = self._reserving.getsockname()[1]
        self._command = [sys.executable, "-m", "processing.local", "serve", "--home", str(home)]
        self._command += ["--port", str(self._port), "--tick", "0.01"]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
        assert self.process.stdout is not None
        said: dict[str, str] = {}
        while "AWS_SECRET_ACCESS_KEY" not in said or "AWS_ACCESS_KEY_ID" not in said:
            line = self.process.stdout.readline()
            assert line, "it does not start"
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").strip().partition("=")
                said[name] = value.strip("'\"")
        self._keys = said

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def close(self) -> None:
        self.kill()
        self._reserving.close()

    def client(self, service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=f"http://127.0.0.1:{self._port}",
            region_name="us-east-1",
            aws_access_key_id=self._keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self._keys["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )


class _User(threading.Thread):
    """A client that puts objects and log lines and creates jobs over HTTP, and remembers the answers."""

    def __init__(self, house: House, server: _Server, number: int) -> None:
        super().__init__()
        self._house = house
        self._number = number
        self._clients = [server.client(name) for name in ("s3", "logs", "sagemaker")]
        self._turn = 0
        self.objects: list[str] = []
        self.lines: list[str] = []
        self.jobs: list[str] = []
        self.done = threading.Event()

    def run(self) -> None:
        s3, logs, sagemaker = self._clients
        while not self.done.is_set():
            self._turn += 1
            name = f"user-{self._number}-{self._turn}"
            with contextlib.suppress(BotoCoreError, ClientError):  # the server is being killed
                s3.put_object(Bucket="data", Key=f"put/{name}", Body=INPUT)
                self.objects.append(f"put/{name}")
                events = [{"timestamp": int(time.time() * 1000), "message": name}]
                logs.put_log_events(logGroupName="users", logStreamName=str(self._number), logEvents=events)
                self.lines.append(name)
                if self._turn % 20 == 0:
                    sagemaker.create_processing_job(**self._house.request(name))
                    self.jobs.append(name)
                elif self._turn % 20 == 10:
                    sagemaker.create_training_job(**self._house.request(name, kind="Training"))
                    self.jobs.append(name)


def test_what_a_killed_server_answered_is_there(house: House) -> None:
    """Objects are whole, log lines are there once, jobs go on without it; a new server takes over."""
    random_ = random.Random(SEED)
    server = _Server(house.home)
    for number in range(2):
        house.engine.logs.append("users", str(number), [])
    users = [_User(house, server, number) for number in range(2)]
    for user in users:
        user.start()
    for _ in range(max(3, KILLS // 16)):
        _pause(random_.uniform(0.3, 0.8))
        server.kill()
        server.start()
    deadline = time.monotonic() + PATIENCE
    while not all(len(user.jobs) > 1 for user in users):
        assert time.monotonic() < deadline
        _pause(0.05)
    for user in users:
        user.done.set()
        user.join()
    server.close()
    ended = {}
    for job in house.check(GONE):
        kind = "Training" if "TrainingJobName" in job else "Processing"
        ended[job[f"{kind}JobName"]] = job[f"{kind}JobStatus"]
    whole = dict(house._objects("put/"))
    assert set(whole.values()) == {INPUT}
    for user in users:
        assert user.objects
        assert set(user.objects) <= set(whole)
        assert {ended[name] for name in user.jobs} == {"Completed"}
        said = [event.message for event in house.engine.logs.filter("users", streams=[str(user._number)])[0]]
        assert set(user.lines) <= set(said)
        assert len(said) == len(set(said))

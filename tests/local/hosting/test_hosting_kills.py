"""kill -9 at random moments: afterwards endpoints and transform jobs are right, and nothing is left over.

The moments come from a seed. `PROCESSING_TEST_HOSTING_KILLS=40` kills each kind of process that often, and
`PROCESSING_TEST_SEED=7` at other moments.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from job_processes import without_children

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its victims in /proc")

KILLS = int(os.environ.get("PROCESSING_TEST_HOSTING_KILLS", "2"))
SEED = int(os.environ.get("PROCESSING_TEST_SEED", "1"))
KINDS = ("supervisor", "relay", "program", "wrapper")
CLIENT = (
    "import sys, processing\n"
    "runtime = processing.LocalSession(sys.argv[1]).boto_session.client('sagemaker-runtime')\n"
    "while True:\n"
    "    runtime.invoke_endpoint(EndpointName='e', Body=b'x' * 100_000)['Body'].read()\n"
    "    print('answered', flush=True)\n"
)
SERVED = (
    "import boto3, sys, threading, processing\n"
    "from processing.local.transports.server import Server\n"
    "with Server(processing.LocalSession(sys.argv[1]).engine) as server:\n"
    "    keys = server.environment()\n"
    "    runtime = boto3.client('sagemaker-runtime', endpoint_url=server.endpoint, region_name='us-east-1',\n"
    "        aws_access_key_id=keys['AWS_ACCESS_KEY_ID'], aws_secret_access_key=keys['AWS_SECRET_ACCESS_KEY'])\n"
    "    while True:\n"
    "        runtime.invoke_endpoint(EndpointName='e', Body=b'x' * 100_000)['Body'].read()\n"
    "        print('answered', flush=True)\n"
)


class Process(NamedTuple):
    """A process of an engine's folder."""

    pid: int
    kind: str


def processes(home: Path) -> list[Process]:
    """The processes that serve for a folder: supervisors, and what runs in their sandboxes."""
    found, supervisors = [], dict[int, int]()
    mark = os.fsencode(home)
    for place in Path("/proc").glob("[1-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            environment = (place / "environ").read_bytes()
            state, parent = (place / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            if state == b"Z":
                continue
            if any(b"processing.local.hosting.supervisor" in word for word in words) and mark in words:
                supervisors[int(place.name)] = int(parent)
            elif mark + b"/jobs/" in environment:
                found.append(Process(int(place.name), _kind(words)))
    return [*(Process(pid, "supervisor") for pid in without_children(supervisors)), *found]


def _kind(words: list[bytes]) -> str:
    if words[1:2] == [b"-m"]:
        return "program"
    if words[1:2] == [b"-c"]:
        return "behind the shim"
    return "relay" if words[3:4] and words[3].endswith(b"relay.py") else "wrapper"


def kill(home: Path, kind: str) -> bool:
    """Kill one process of a kind, and return whether there was one."""
    victims = [process for process in processes(home) if process.kind == kind]
    for victim in victims[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
    return bool(victims)


def check_nothing_is_left(hosting: Any) -> None:
    """Wait until no process is left, and check that no folder and no row of the store is."""
    hosting.until(lambda: not processes(hosting.home))
    hosting.sagemaker.list_processing_jobs()  # removes what killed processes left
    assert list((hosting.home / "jobs").iterdir()) == []
    with contextlib.closing(sqlite3.connect(hosting.home / "jobs.sqlite3")) as connection:
        assert connection.execute("SELECT name, status FROM jobs WHERE kind = 'endpoint-host'").fetchall() == []
        assert connection.execute("SELECT name FROM resources WHERE kind = 'endpoint'").fetchall() == []


@contextlib.contextmanager
def load(hosting: Any) -> Iterator[list[bytes]]:
    """Invoke the endpoint `e` in threads, and give the answers."""
    answers: list[bytes] = []
    stopped = threading.Event()

    def invoke() -> None:
        while not stopped.is_set():
            with contextlib.suppress(ClientError, BotoCoreError):
                answers.append(hosting.invoke("e", b"version"))

    threads = [threading.Thread(target=invoke) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_an_endpoint_serves_again_after_a_kill(hosting: Any, kind: str) -> None:
    """Whatever dies under load, the endpoint is in service, its next answers are right, and its end leaves nothing."""
    moments = random.Random(SEED)
    hosting.deploy("e", VERSION="1")
    with load(hosting) as answers:
        for _ in range(KILLS):
            time.sleep(moments.uniform(0, 0.3))
            hosting.until(lambda: kill(hosting.home, kind))
            before = len(answers)
            hosting.until(lambda before=before: len(answers) > before + 2)
            assert hosting.describe("e")["EndpointStatus"] == "InService"
    assert set(answers) == {b"1"}
    hosting.delete("e")
    check_nothing_is_left(hosting)


def test_a_program_reaches_the_engine_after_each_kill_of_its_gateway(hosting: Any) -> None:
    """The server between a program and the engine is replaced, however often it is killed."""
    hosting.deploy("e")
    for _ in range(max(12, KILLS)):
        assert hosting.invoke("e", "engine") == b"403"
        hosting.until(lambda: _gateways(hosting.home))
        for pid in _gateways(hosting.home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        hosting.until(lambda: not _gateways(hosting.home))
    hosting.delete("e")
    check_nothing_is_left(hosting)


def _gateways(home: Path) -> list[int]:
    """The servers of an engine's folder between programs and the engine."""
    found = []
    for place in Path("/proc").glob("[1-9]*"):
        with contextlib.suppress(OSError):
            line = (place / "cmdline").read_bytes()
            if b"transports.gateway" in line and os.fsencode(home) in line:
                found.append(int(place.name))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_an_endpoint_settles_after_a_kill_in_a_change(hosting: Any, kind: str) -> None:
    """A kill within a creation, an update or a deletion ends in service, in a failure with a reason, or in its end."""
    moments = random.Random(SEED)
    hosting.config("first", hosting.model("first", VERSION="1"))
    hosting.config("second", hosting.model("second", VERSION="2"))
    for _ in range(KILLS):
        hosting.sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="first")
        time.sleep(moments.uniform(0, 0.4))
        kill(hosting.home, kind)
        status = _settled(hosting)
        if status == "InService":
            hosting.sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="second")
            time.sleep(moments.uniform(0, 0.4))
            kill(hosting.home, kind)
            _settled(hosting)
            with load(hosting) as answers:  # the first call may be one that the killed program got
                hosting.until(lambda answers=answers: answers)
            assert set(answers) <= {b"1", b"2"}
        hosting.sagemaker.delete_endpoint(EndpointName="e")
        kill(hosting.home, kind)
        hosting.until(lambda: not hosting.exists("e"))
        check_nothing_is_left(hosting)


def _settled(hosting: Any) -> str:
    described = hosting.settled("e")
    status: str = described["EndpointStatus"]
    assert status in {"InService", "Failed"}
    assert (status == "Failed") == bool(described.get("FailureReason"))
    return status


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_killed_caller_holds_nothing(hosting: Any, who: str) -> None:
    """After a client or a server is killed within an invocation, the endpoint is updated and deleted without delay."""
    moments = random.Random(SEED)
    hosting.deploy("e", VERSION="1")
    for _ in range(KILLS):
        with _caller(hosting, who) as caller:
            time.sleep(moments.uniform(0, 0.1))
            caller.kill()
        assert hosting.invoke("e", b"version") == b"1"
    began = time.monotonic()
    hosting.delete("e")
    assert time.monotonic() - began < 30  # far below the time that a held lease would take
    check_nothing_is_left(hosting)


@contextlib.contextmanager
def _caller(hosting: Any, who: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that invokes the endpoint `e` again and again, or one that serves such a process."""
    with contextlib.ExitStack() as stack:
        program = CLIENT if who == "client" else SERVED
        command = [sys.executable, "-c", program, str(hosting.home)]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        assert process.stdout is not None
        assert process.stdout.readline() == b"answered\n", process.stderr and process.stderr.read()
        yield process


@pytest.mark.parametrize("kind", KINDS)
def test_a_transform_job_ends_after_a_kill(hosting: Any, kind: str) -> None:
    """A job one of whose processes dies is Failed with a reason, or was done, and leaves nothing."""
    moments = random.Random(SEED)
    hosting.model("m")
    content = b"".join(b"sleep 0.001\n" for _ in range(300))
    hosting.s3.put_object(Bucket="data", Key="in/a", Body=content)
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}}
    for number in range(KILLS):
        hosting.sagemaker.create_transform_job(
            TransformJobName=f"t{number}",
            ModelName="m",
            BatchStrategy="SingleRecord",
            TransformInput={"DataSource": source, "SplitType": "Line"},
            TransformOutput={"S3OutputPath": "s3://data/out"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        )
        time.sleep(moments.uniform(0, 0.8))
        kill(hosting.home, kind)

        def status(name: str = f"t{number}") -> dict[str, Any]:
            described: dict[str, Any] = hosting.sagemaker.describe_transform_job(TransformJobName=name)
            return described

        hosting.until(lambda status=status: status()["TransformJobStatus"] != "InProgress")
        described = status()
        assert described["TransformJobStatus"] in {"Completed", "Failed"}
        assert (described["TransformJobStatus"] == "Failed") == bool(described.get("FailureReason"))
        check_nothing_is_left(hosting)


BEHIND = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
ThreadingHTTPServer(("127.0.0.1", 9000), Handler).serve_forever()
"""


@pytest.mark.parametrize("kind", ["supervisor", "program", "behind the shim"])
def test_two_endpoints_with_the_shim_serve_again_after_a_kill(shim_hosting: Any, kind: str) -> None:
    """The supervisor, the shim or the program behind it dies: both endpoints answer right again, and leave nothing."""
    moments = random.Random(SEED)
    variables = {
        "PROCESSING_SHIM_PROGRAM": shlex.join([sys.executable, "-c", BEHIND]),
        "PROCESSING_SHIM_PROXY_PORT": "9000",
    }
    for name in ("e", "f"):
        shim_hosting.deploy(name, **variables)
    with load(shim_hosting) as answers:
        for _ in range(KILLS):
            time.sleep(moments.uniform(0, 0.3))
            shim_hosting.until(lambda: kill(shim_hosting.home, kind))
            before = len(answers)
            shim_hosting.until(lambda before=before: len(answers) > before + 2)
            assert shim_hosting.describe("e")["EndpointStatus"] == "InService"
            shim_hosting.until(lambda: answer_of(shim_hosting, "f") == b"version")
    assert set(answers) == {b"version"}
    for name in ("e", "f"):
        shim_hosting.delete(name)
    check_nothing_is_left(shim_hosting)


COPY = """
import os, shutil, time
for folder, _, names in os.walk("/tmp/input", followlinks=True):
    for name in names:
        time.sleep(0.2)
        shutil.copy(os.path.join(folder, name), "/tmp/output")
"""
TASK_FOLDERS = {f"PROCESSING_SHIM_{name}_PATH": f"/tmp/{name.lower()}" for name in ("INPUT", "OUTPUT")}


@pytest.mark.complete("each round takes some seconds")
@pytest.mark.parametrize("kind", ["supervisor", "program", "behind the shim"])
def test_jobs_with_the_shim_end_after_a_kill(shim_hosting: Any, kind: str) -> None:
    """A training job and a transform job are done and right, or Failed with a reason; results are whole or missing."""
    moments = random.Random(SEED)
    variables = {**TASK_FOLDERS, "PROCESSING_SHIM_PROGRAM": shlex.join([sys.executable, "-c", COPY])}
    shim_hosting.model("m", **variables)
    source = {"relative_path": "a", "bucket_name": "data", "bucket_key": "in/a"}
    tasks = [
        {"pk": f"{n}", "inputs": [source], "output_bucket_name": "data", "output_prefix": f"out/{n}"} for n in range(4)
    ]
    shim_hosting.s3.put_object(Bucket="data", Key="tasks/a", Body="\n".join(map(json.dumps, tasks)).encode())
    for number in range(KILLS):
        name = f"{kind.split(maxsplit=1)[0]}{number}"
        _start_jobs(shim_hosting, name, variables)
        time.sleep(moments.uniform(0, 1.5))
        for _ in range(2):
            kill(shim_hosting.home, kind)
        for status, reason in _ends_of_jobs(shim_hosting, name):
            assert status in {"Completed", "Failed"}
            assert (status == "Failed") == bool(reason)
        for key, body in shim_hosting.keys("out/").items():
            if key.endswith("inference_result.json"):
                assert json.loads(body)["return_code"] in {0, 1, 137}
            else:
                assert body == b"x y z"
        check_nothing_is_left(shim_hosting)


def _start_jobs(hosting: Any, name: str, variables: dict[str, str]) -> None:
    def source(prefix: str) -> dict[str, Any]:
        return {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://data/{prefix}"}}

    hosting.sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File"},
        InputDataConfig=[{"ChannelName": "c", "DataSource": source("in/a")}],
        OutputDataConfig={"S3OutputPath": "s3://data/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        RoleArn="arn:aws:iam::000000000000:role/r",
        Environment=variables,
    )
    hosting.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName="m",
        BatchStrategy="SingleRecord",
        TransformInput={"DataSource": source("tasks/"), "SplitType": "Line"},
        TransformOutput={"S3OutputPath": "s3://data/results"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )


def _ends_of_jobs(hosting: Any, name: str) -> list[tuple[str, str]]:
    """The status and the FailureReason of the training job and of the transform job, at their ends."""
    found = []
    for kind, member in (("training", "Training"), ("transform", "Transform")):
        describe = getattr(hosting.sagemaker, f"describe_{kind}_job")

        def described(describe: Any = describe, member: str = member) -> dict[str, Any]:
            answer: dict[str, Any] = describe(**{f"{member}JobName": name})
            return answer

        hosting.until(lambda ask=described, member=member: ask()[f"{member}JobStatus"] != "InProgress")
        found.append((described()[f"{member}JobStatus"], described().get("FailureReason", "")))
    return found


def answer_of(hosting: Any, name: str) -> bytes | None:
    """The answer of an endpoint; None after an error, as while its program starts again."""
    with contextlib.suppress(ClientError, BotoCoreError):
        answer: bytes = hosting.invoke(name, b"version")
        return answer
    return None


def test_a_cleaning_keeps_what_an_endpoint_needs(hosting: Any) -> None:
    """The model's archive and the record of a dead host stay, so that the endpoint can start again."""
    hosting.deploy("e", {"weights": b"1"}, VERSION="1")
    assert kill(hosting.home, "supervisor")
    assert hosting.describe("e")["EndpointStatus"] == "InService"  # records the death
    hosting.session.clean(older_than=0)
    assert hosting.keys("e/") != {}
    assert hosting.invoke("e", b"model /opt/ml/model") == b'["weights"]'


def test_a_host_that_is_killed_while_it_drains_is_forgotten(hosting: Any) -> None:
    """The former host of an updated endpoint dies within an invocation: its caller has an error, nothing is left."""
    hosting.deploy("e", VERSION="1")
    hosting.config("second", hosting.model("second", VERSION="2"))
    (former,) = (process for process in processes(hosting.home) if process.kind == "supervisor")
    failed: list[ClientError] = []

    def invoke() -> None:
        try:
            hosting.invoke("e", b"sleep 60")
        except ClientError as error:
            failed.append(error)

    thread = threading.Thread(target=invoke)
    thread.start()
    hosting.until(lambda: hosting.invoke("e", b"sleeping") == b"1")
    hosting.sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="second")
    assert hosting.settled("e")["EndpointStatus"] == "InService"
    os.kill(former.pid, signal.SIGKILL)
    thread.join()
    assert "without an answer" in str(failed[0])
    assert hosting.invoke("e", b"version") == b"2"
    hosting.delete("e")
    check_nothing_is_left(hosting)

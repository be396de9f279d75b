"""Traps of `sagemaker` 2.x and 3.x: each test shows this package's behaviour in its place."""

from __future__ import annotations

import copy
import pathlib
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from processing import (
    AthenaDatasetDefinition,
    ConfigurationError,
    DatasetDefinition,
    JobFailedError,
    LocalSession,
    ProcessingInput,
    ProcessingOutput,
    ScriptProcessor,
    Session,
)
from processing.aws.retry import RetryingApi
from processing.local.sandboxes.base import HostSpec
from processing.local.sandboxes.container import Container
from processing.processors import FrameworkProcessor
from processing.testing.clock import VirtualClock
from processing.testing.cloudwatch import ScriptedLine, ScriptedLogs
from processing.testing.faults import FaultInjector
from processing.testing.wire import JsonService, make_client, operation_of
from processing.watching.events import LogEvent, StatusChanged
from processing.watching.feed import Feed
from processing.watching.polling import Polling
from processing.watching.status.model import WatchTarget
from processing.watching.status.poller import Poller
from processing.watching.stream import EventStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from processing.testing.wire import Transport

ROLE = "arn:aws:iam::123456789012:role/etl"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/etl:1"
KEY = "arn:aws:kms:us-east-1:123456789012:key/k"


class Noted:
    """A way to the engine that records the calls."""

    def __init__(self) -> None:
        self.requests: list[AWSPreparedRequest] = []
        self._inner: Any = None

    def wrap(self, inner: Transport) -> Noted:
        self._inner = inner
        return self

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        self.requests.append(request)
        answer: AWSResponse = self._inner.send(request)
        return answer

    @property
    def operations(self) -> list[str]:
        return [operation_of(request) for request in self.requests]


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def engine(tmp_path: pathlib.Path, noted: Noted) -> LocalSession:
    """An engine whose calls are noted; its bucket is one that the user names, and exists."""
    session = LocalSession(
        tmp_path / "engine", default_bucket="mine", tick=0.01, grace=1.0, transport=noted.wrap, code_layout="content"
    )
    session.boto_session.client("s3").create_bucket(Bucket="mine")
    noted.requests.clear()
    return session


@pytest.fixture
def script(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "clean.py"
    path.write_text("print('cleaned')\n")
    return path


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.csv").write_text(str(number))
    return folder


def on_aws(**changes: Any) -> ScriptProcessor:
    """A processor for AWS; nothing of these tests reaches it."""
    session = changes.pop("sagemaker_session", None) or Session(region_name="us-east-1")
    given = {"command": ["python3"], "instance_count": 1, "instance_type": "ml.m5.xlarge", **changes}
    return ScriptProcessor(ROLE, IMAGE, sagemaker_session=session, **given)


def here(session: LocalSession, **changes: Any) -> ScriptProcessor:
    """A processor for this machine."""
    given = {"command": ["python3"], "instance_count": 1, "instance_type": "local", **changes}
    return ScriptProcessor(ROLE, IMAGE, sagemaker_session=session, **given)


# What the user gives.


@pytest.mark.parametrize("form", [pathlib.Path, str, lambda path: path.as_uri()], ids=["Path", "str", "file://"])
def test_paths_in_every_form(
    form: Callable[[pathlib.Path], Any], engine: LocalSession, script: pathlib.Path, data: pathlib.Path
) -> None:
    """A script and an input may be a pathlib path, a string or a file:// URI; the job runs."""
    target = pathlib.PurePosixPath("/opt/ml/processing/input/data")
    job = here(engine).run(form(script), [ProcessingInput(form(data), target)], logs=False)
    assert job.status == "Completed"


def test_an_empty_directory_is_refused(engine: LocalSession, noted: Noted, tmp_path: pathlib.Path) -> None:
    """An input without files is an error before any call, instead of a job that finds nothing."""
    (tmp_path / "empty").mkdir()
    script = tmp_path / "clean.py"
    script.write_text("pass\n")
    with pytest.raises(ConfigurationError, match=r"^inputs\[0\].source: .* is a directory without a file in it"):
        here(engine).run(script, [ProcessingInput(tmp_path / "empty", "/opt/ml/processing/input/data")])
    assert noted.operations == []


def test_a_missing_command_is_found_before_the_upload(engine: LocalSession, noted: Noted, script: pathlib.Path) -> None:
    """command=None is an error before any call."""
    with pytest.raises(ConfigurationError, match=r"^command: missing"):
        here(engine, command=None).run(script)
    assert noted.operations == []


def test_a_second_run_has_its_own_place(script: pathlib.Path, data: pathlib.Path) -> None:
    """The user's inputs and outputs stay as they are, so a second run writes nowhere near the first."""
    inputs = [ProcessingInput(data, "/opt/ml/processing/input/data")]
    outputs = [ProcessingOutput("/opt/ml/processing/out")]
    before = copy.deepcopy((inputs, outputs))
    processor = on_aws()
    requests = [processor.request(script, inputs, outputs, job_name=name) for name in ("one", "two")]
    assert (inputs, outputs) == before
    bucket = "s3://sagemaker-us-east-1-123456789012"
    assert [request.inputs[0].source for request in requests] == [f"{bucket}/{n}/input/input-1" for n in ("one", "two")]
    assert [request.outputs[0].destination for request in requests] == [
        f"{bucket}/{name}/output/output-1" for name in ("one", "two")
    ]


def test_two_names_in_one_millisecond(script: pathlib.Path) -> None:
    """The same millisecond makes two names."""
    processor = on_aws(sagemaker_session=Session(region_name="us-east-1", clock=VirtualClock()))
    names = {processor.request(script).job_name for _ in range(50)}
    assert len(names) == 50


@pytest.mark.parametrize("base", ["my_job", "my.job", "me@home", "_my job_"])
def test_names_are_made_valid(base: str, script: pathlib.Path) -> None:
    """Characters that a job name may not have are replaced, and the request passes the service's own pattern."""
    name = on_aws(base_job_name=base).request(script).job_name
    assert name.startswith(("my-job-2", "me-home-2"))


# What runs in the job.


def test_a_script_in_s3_is_run_by_the_command() -> None:
    """A FrameworkProcessor runs s3://.../clean.py with its command; bash never sees Python."""
    processor = FrameworkProcessor(
        IMAGE, ROLE, 1, "ml.m5.xlarge", ["python3"], sagemaker_session=Session(region_name="us-east-1")
    )
    request = processor.request("s3://mine/code/clean.py")
    assert request.entrypoint is not None
    assert (request.entrypoint[0], request.entrypoint[-1].rpartition("/")[2]) == ("python3", "clean.py")
    assert not any("sh" in part.rpartition("/")[2].split(".") for part in request.entrypoint)


def test_a_broken_bundle_stops_the_bootstrap(engine: LocalSession, script: pathlib.Path) -> None:
    """If the code cannot be unpacked, the job fails at that point with a log line for it; the script never runs."""
    engine.boto_session.client("s3").put_object(Bucket="mine", Key="code.tar.gz", Body=b"no archive")
    processor = FrameworkProcessor(IMAGE, ROLE, 1, "local", ["python3"], sagemaker_session=engine)
    with pytest.raises(JobFailedError) as raised:
        processor.run("clean.py", source_dir="s3://mine/code.tar.gz", logs=False)
    assert "cleaned" not in str(raised.value)
    assert raised.value.failure_reason is not None
    assert "unpack" in "\n".join(raised.value.log_tail)


# What is uploaded.


def test_the_kms_key_is_on_every_upload(engine: LocalSession, noted: Noted, script: pathlib.Path) -> None:
    """Bundle, start script and data: each PUT of a run carries the key."""
    folder = script.parent / "source"
    folder.mkdir()
    script.rename(folder / script.name)
    (folder / "requirements.txt").write_text("")
    (script.parent / "data.csv").write_text("1")
    inputs = [ProcessingInput(script.parent / "data.csv", "/opt/ml/processing/input/data")]
    processor = FrameworkProcessor(IMAGE, ROLE, 1, "local", ["python3"], sagemaker_session=engine)
    processor.run(script.name, source_dir=folder, inputs=inputs, kms_key=KEY, wait=False).wait(logs=False)
    puts = [request for request in noted.requests if operation_of(request) in {"PutObject", "CreateMultipartUpload"}]
    assert len(puts) >= 3
    for put in puts:
        found: Any = put.headers.get("x-amz-server-side-encryption-aws-kms-key-id")
        assert (found.decode() if isinstance(found, bytes) else found) == KEY, put.url


class Gate:
    """A way to the engine on which no PUT arrives before four are on their way."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(4)
        self._inner: Any = None

    def wrap(self, inner: Transport) -> Gate:
        self._inner = inner
        return self

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        if operation_of(request) == "PutObject" and request.url.endswith(".csv"):
            self.barrier.wait(timeout=20)
        answer: AWSResponse = self._inner.send(request)
        return answer


def test_files_travel_side_by_side(tmp_path: pathlib.Path, script: pathlib.Path, data: pathlib.Path) -> None:
    """Four files are on their way at once: one after another, none would ever arrive here."""
    gate = Gate()
    session = LocalSession(tmp_path / "engine", tick=0.01, grace=1.0, transport=gate.wrap)
    job = here(session).run(script, [ProcessingInput(data, "/opt/ml/processing/input/data")], logs=False)
    assert job.status == "Completed"


def test_the_calls_before_a_job(engine: LocalSession, noted: Noted, script: pathlib.Path, data: pathlib.Path) -> None:
    """A run costs the PUTs of its files, one look for the code, and one Create; unchanged code is not sent again."""
    inputs = [ProcessingInput(data, "/opt/ml/processing/input/data")]
    here(engine).run(script, inputs, wait=False).wait(logs=False)
    first = noted.operations[: noted.operations.index("CreateProcessingJob") + 1]
    assert sorted(first) == ["CreateProcessingJob", "HeadObject", *["PutObject"] * 5]
    noted.requests.clear()
    here(engine).run(script, wait=False).wait(logs=False)
    assert noted.operations[:2] == ["HeadObject", "CreateProcessingJob"]


def test_a_dataset_definition_is_sent(script: pathlib.Path) -> None:
    """A query is in the request, whole."""
    athena = AthenaDatasetDefinition("c", "d", "SELECT 1", "s3://mine/out", output_format="PARQUET")
    query = DatasetDefinition(local_path="/opt/ml/processing/input/query", athena_dataset_definition=athena)
    request = on_aws().request(script, [ProcessingInput(input_name="query", dataset_definition=query)]).to_boto()
    assert request["ProcessingInputs"][0] == {
        "InputName": "query",
        "AppManaged": False,
        "DatasetDefinition": {
            "DataDistributionType": "ShardedByS3Key",
            "InputMode": "File",
            "LocalPath": "/opt/ml/processing/input/query",
            "AthenaDatasetDefinition": {
                "Catalog": "c",
                "Database": "d",
                "QueryString": "SELECT 1",
                "OutputS3Uri": "s3://mine/out",
                "OutputFormat": "PARQUET",
            },
        },
    }


# How a job is watched.

START = 1_700_000_000


class WatchedJobs:
    """A job on AWS that writes lines on some hosts for a number of seconds, and a wait that follows it."""

    def __init__(self, hosts: int, seconds: float, *, every: float) -> None:
        self.clock = VirtualClock(START)
        self.seconds = seconds
        lines = [
            ScriptedLine(f"job/algo-{host}-1", at * 1000, at * 1000, f"{host * 10**6 + at:056d}", f"{host}: {at}")
            for host in range(1, hosts + 1)
            for at in range(START + 1, START + round(seconds), round(every))
        ]
        self.lines = len(lines)
        logs = ScriptedLogs(lines, self.clock, page=50)
        service = JsonService({"DescribeProcessingJob": self._describe, **logs.handlers()}, clock=self.clock)
        self.faults = FaultInjector()
        transport = self.faults.wrap(service)
        clients = {name: make_client(name, transport) for name in ("sagemaker", "logs")}
        self.api = RetryingApi(clients.__getitem__, clock=self.clock, random=random.Random(1))
        self.polling = Polling()
        self.poller = Poller(self.api, self.polling, random=random.Random(2))
        self._hosts = hosts

    def _describe(self, _: dict[str, Any]) -> dict[str, Any]:
        ended = self.clock.monotonic() >= self.seconds
        return {
            "ProcessingJobName": "job",
            "ProcessingJobArn": "arn",
            "ProcessingJobStatus": "Completed" if ended else "InProgress",
            "ProcessingResources": {"ClusterConfig": {"InstanceCount": self._hosts, "VolumeSizeInGB": 1}},
            "AppSpecification": {"ImageUri": "image"},
            "CreationTime": START,
            **({"ProcessingEndTime": START + self.seconds} if ended else {}),
        }

    def follow(self) -> list[LogEvent | StatusChanged]:
        return list(EventStream([Feed(self, [WatchTarget("job")], logs=True)], alone=True))


def test_an_hour_on_four_hosts_costs_few_calls() -> None:
    """An hour of following four hosts takes fewer than 800 calls, hardly any of them for the list of streams."""
    world = WatchedJobs(4, 3600, every=60)
    assert len(world.follow()) == world.lines + 2
    assert len(world.faults.calls) < 800
    assert world.faults.count()["DescribeLogStreams"] <= 2


def test_more_than_fifty_hosts_come_to_an_end() -> None:
    """A job on 60 hosts is followed to its end, and every line is there once."""
    world = WatchedJobs(60, 30, every=20)
    messages = [event.message for event in world.follow() if isinstance(event, LogEvent)]
    assert len(messages) == len(set(messages)) == world.lines == 120


def test_the_return_comes_soon_after_the_end() -> None:
    """The wait is over within some seconds of the job's end: no longer than the longest pause and the last lines."""
    world = WatchedJobs(1, 1805, every=600)
    world.follow()
    polling = Polling()
    assert world.clock.monotonic() - world.seconds <= polling.longest + 4 * polling.settle


def test_the_failure_reason_arrives(engine: LocalSession, tmp_path: pathlib.Path) -> None:
    """A failed job's error carries the service's reason, the exit message and the last lines."""
    script = tmp_path / "fail.py"
    script.write_text("import sys\nprint('so far')\nsys.exit(7)\n")
    with pytest.raises(JobFailedError, match="exit code: 7") as raised:
        here(engine).run(script, logs=False)
    assert raised.value.failure_reason is not None
    assert raised.value.actual_status == "Failed"
    assert [line.rpartition("] ")[2] for line in raised.value.log_tail] == ["so far"]


DOCKER = """#!/bin/sh
case "$1" in
--version) echo "Docker version 28.2.2" ;;
version) echo 28.2.2 ;;
esac
"""


def test_keys_are_on_no_command_line(tmp_path: pathlib.Path) -> None:
    """A container's environment travels in the client's own; everybody on the machine can list a command line."""
    program = tmp_path / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    sandbox, reason = Container.probe(str(program))
    assert sandbox is not None, reason
    host = HostSpec("/w/ml", [], "algo-1", network=True, hosts=1, key="job-1", image="image")
    launch = sandbox.command(["python3"], host, env={"AWS_SECRET_ACCESS_KEY": "sesame"}, cwd="/w", report_fd=None)
    assert not any("sesame" in word for word in launch.argv)
    assert "AWS_SECRET_ACCESS_KEY" in launch.argv
    assert launch.env["AWS_SECRET_ACCESS_KEY"] == "sesame"


def test_the_lock_of_an_editor_stops_no_run(engine: LocalSession, tmp_path: pathlib.Path) -> None:
    """Links that lead nowhere stay behind in code, dependencies and data; a script's name may begin with a dash."""
    for folder in ("code", "lib", "data"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text("1")
        for link in (".#main.py", "z.lnk"):
            (tmp_path / folder / link).symlink_to("me@host.1234:1")
    check = "import os; print(sorted(os.listdir('.')), os.listdir('lib'), os.listdir('/opt/ml/processing/input/d'))"
    (tmp_path / "code" / "-main.py").write_text(check)
    for reuse in (False, True):
        job = here(engine).run(
            "-main.py",
            source_dir=tmp_path / "code",
            dependencies=[tmp_path / "lib"],
            inputs=[ProcessingInput(tmp_path / "data", "/opt/ml/processing/input/d", reuse=reuse)],
            logs=False,
        )
        listed = [line.message for line in job.logs()]
        assert listed == ["['-main.py', 'lib', 'sourcedir.tar.gz', 'x.txt'] ['x.txt'] ['x.txt']"]

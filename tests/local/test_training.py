"""Training jobs: their operations through each transport, and what a program finds, leaves and says."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import json
import sys
import tarfile
import time
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from processing import LocalSession
from processing.local.jobs import host_processes
from processing.local.settings import EngineSettings
from processing.local.stores.jobs import JobStore
from processing.testing import FaultInjector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ARN = "arn:aws:sagemaker:us-east-1:000000000000:training-job/"
GROUP = "/aws/sagemaker/TrainingJobs"
ROLE = "arn:aws:iam::000000000000:role/r"
IMAGE = "registry/mine:1"
ALGORITHM = {"TrainingImage": IMAGE, "TrainingInputMode": "File"}
PROGRAM = """
import json, os, pathlib, signal, sys, time
ML = pathlib.Path("/opt/ml")
def read(name):
    return json.loads((ML / "input/config" / f"{name}.json").read_text())
def train():
%s
{"train": train}[sys.argv[1]]()
"""
_numbers = itertools.count(1)


def channel(name: str, uri: str, **others: Any) -> dict[str, Any]:
    """Return a channel; members of its source are recognised by their names."""
    source = {each: others.pop(each) for each in ("S3DataType", "S3DataDistributionType") if each in others}
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri, **source}},
        **others,
    }


class Trainer:
    """An engine with a program for `IMAGE`, and a client of it."""

    def __init__(self, session: LocalSession, make_client: Callable[..., Any], folder: Path) -> None:
        self.session = session
        self.sagemaker = make_client("sagemaker")
        self.s3 = make_client("s3")
        self.logs = make_client("logs")
        self.s3.create_bucket(Bucket="data")
        self._folder = folder

    def program(self, body: str) -> None:
        """Let a module with this function `train` stand in for the image."""
        module = f"mine_{next(_numbers)}"
        indented = "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))
        (self._folder / f"{module}.py").write_text(PROGRAM % indented)
        engine = self.session.engine
        engine.settings = attrs.evolve(engine.settings, programs={"*/mine:*": module}, tick=0.01, grace=60.0)

    def put(self, **objects: str) -> None:
        for name, body in objects.items():
            self.s3.put_object(Bucket="data", Key=name.replace("__", "/"), Body=body.encode())

    def request(self, name: str = "job", *, hosts: int = 1, **others: Any) -> dict[str, Any]:
        return {
            "TrainingJobName": name,
            "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": "s3://data/out/"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            **others,
        }

    def create(self, name: str = "job", **others: Any) -> str:
        return str(self.sagemaker.create_training_job(**self.request(name, **others))["TrainingJobArn"])

    def describe(self, name: str = "job") -> dict[str, Any]:
        answer: dict[str, Any] = self.sagemaker.describe_training_job(TrainingJobName=name)
        answer.pop("ResponseMetadata")
        return answer

    def wait(self, name: str = "job") -> dict[str, Any]:
        waiter = self.sagemaker.get_waiter("training_job_completed_or_stopped")
        try:
            waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 0.01, "MaxAttempts": 6000})
        except WaiterError as error:
            assert "terminal failure state" in str(error)  # noqa: PT017 - of a job that should fail
        return self.describe(name)

    def run(self, name: str = "job", **others: Any) -> dict[str, Any]:
        self.create(name, **others)
        return self.wait(name)

    def lines(self, name: str = "job") -> list[str]:
        events = self.logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")["events"]
        return [event["message"] for event in events]

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.005)

    def keys(self, prefix: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket="data", Prefix=prefix).get("Contents", ())
        return [each["Key"].removeprefix(prefix) for each in found]

    def text(self, key: str) -> str:
        body: bytes = self.s3.get_object(Bucket="data", Key=key)["Body"].read()
        return body.decode()

    def archive(self, key: str) -> dict[str, str]:
        """Return the files in an archive."""
        body = self.s3.get_object(Bucket="data", Key=key)["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as tar:
            return {member.name: tar.extractfile(member).read().decode() for member in tar}  # type: ignore[union-attr]


def _has_line(trainer: Trainer, line: str, name: str) -> bool:
    try:
        return line in trainer.lines(name)
    except ClientError:  # there is no log yet
        return False


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, for programs."""
    place = tmp_path / "programs"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    return place


@pytest.fixture
def trainer(client: Callable[..., Any], local_session: LocalSession, folder: Path) -> Trainer:
    """A trainer through each transport."""
    return Trainer(local_session, client, folder)


@pytest.fixture
def local(local_session: LocalSession, folder: Path) -> Trainer:
    """A trainer in this process: for behaviour in which the transport has no part."""
    return Trainer(local_session, local_session.boto_session.client, folder)


def statuses(described: Mapping[str, Any]) -> list[str]:
    return [phase["Status"] for phase in described["SecondaryStatusTransitions"]]


def test_a_job_finds_its_contract_and_leaves_its_artifacts(trainer: Trainer) -> None:
    """Channels, hyperparameters, configuration and variables are there; model and output data go to S3."""
    trainer.put(in__a="1", in__sub__b="2", other__c="3", manifest=json.dumps([{"prefix": "s3://data/other/"}, "c"]))
    trainer.program("""
files = [path for path in sorted((ML / "input/data").rglob("*")) if path.is_file()]
found = {str(path.relative_to(ML)): path.read_text() for path in files}
print(json.dumps(found))
print(json.dumps([read("hyperparameters"), read("inputdataconfig"), read("resourceconfig")]))
print(os.environ["TRAINING_JOB_NAME"], os.environ["TRAINING_JOB_ARN"], os.environ["MINE"])
print("loss=0.5; loss=0.25;")
(ML / "model/sub").mkdir()
(ML / "model/sub/weights").write_text("w")
(ML / "output/data/plot").write_text("p")
""")
    before = dt.datetime.now(dt.timezone.utc) - dt.timedelta(seconds=1)
    arn = trainer.create(
        InputDataConfig=[
            channel("train", "s3://data/in", ContentType="text/csv"),
            channel("listed", "s3://data/manifest", S3DataType="ManifestFile", InputMode="FastFile"),
        ],
        HyperParameters={"k": "3"},
        Environment={"MINE": "yes"},
        AlgorithmSpecification={
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*?);"}],
        },
        Tags=[{"Key": "k", "Value": "v"}],
    )
    described = trainer.wait()
    assert arn == described["TrainingJobArn"] == f"{ARN}job"
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Completed", "Completed"), described
    files, config, variables, _ = trainer.lines()
    assert json.loads(files) == {
        "input/data/train/a": "1",
        "input/data/train/sub/b": "2",
        "input/data/listed/c": "3",
    }
    hyperparameters, channels, resources = json.loads(config)
    assert hyperparameters == {"k": "3"}
    common = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    assert channels == {"train": {**common, "ContentType": "text/csv"}, "listed": common}
    assert (resources["current_host"], resources["hosts"]) == ("algo-1", ["algo-1"])
    assert resources["network_interface_name"] == "lo"
    assert variables == f"job {arn} yes"
    assert described["ModelArtifacts"] == {"S3ModelArtifacts": "s3://data/out/job/output/model.tar.gz"}
    assert trainer.archive("out/job/output/model.tar.gz") == {"sub/weights": "w"}
    assert trainer.archive("out/job/output/output.tar.gz") == {"plot": "p"}
    assert statuses(described) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    (metric,) = described["FinalMetricDataList"]
    assert (metric["MetricName"], metric["Value"]) == ("loss", 0.25)
    assert before <= described["CreationTime"] <= described["TrainingStartTime"] <= described["TrainingEndTime"]
    assert described["TrainingTimeInSeconds"] == described["BillableTimeInSeconds"] >= 1
    assert described["HyperParameters"] == {"k": "3"}
    assert "Tags" not in described
    assert "FailureReason" not in described
    assert trainer.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]


def test_names_states_and_pages(trainer: Trainer) -> None:
    """AWS's errors for taken and unknown names and for ended jobs; a processing job may have the same name."""
    trainer.program("pass")
    trainer.run("a")
    trainer.run("b")
    calls: list[tuple[str, dict[str, Any], str, str]] = [
        ("create_training_job", trainer.request("a"), "ResourceInUse", f"already exists ({ARN}a)"),
        ("describe_training_job", {"TrainingJobName": "c"}, "ValidationException", "Requested resource not found."),
        ("stop_training_job", {"TrainingJobName": "c"}, "ValidationException", "Requested resource not found."),
        ("stop_training_job", {"TrainingJobName": "a"}, "ValidationException", "training job is in status Completed."),
        ("describe_processing_job", {"ProcessingJobName": "a"}, "ValidationException", "Could not find requested job"),
    ]
    for operation, params, code, message in calls:
        with pytest.raises(ClientError) as caught:
            getattr(trainer.sagemaker, operation)(**params)
        assert caught.value.response["Error"]["Code"] == code
        assert message in caught.value.response["Error"]["Message"]
    first = trainer.sagemaker.list_training_jobs(MaxResults=1)
    second = trainer.sagemaker.list_training_jobs(MaxResults=1, NextToken=first["NextToken"])
    summaries = first["TrainingJobSummaries"] + second["TrainingJobSummaries"]
    assert [(job["TrainingJobName"], job["SecondaryStatus"]) for job in summaries] == [
        ("a", "Completed"),
        ("b", "Completed"),
    ]
    for none in ({"StatusEquals": "Failed"}, {"NameContains": "c"}, {"WarmPoolStatusEquals": "Available"}):
        assert trainer.sagemaker.list_training_jobs(**none)["TrainingJobSummaries"] == []
    assert trainer.sagemaker.list_processing_jobs()["ProcessingJobSummaries"] == []
    trainer.sagemaker.delete_training_job(TrainingJobName="a")
    trainer.program("pass")
    assert trainer.run("a")["TrainingJobStatus"] == "Completed"


def test_pipe_mode_has_a_pipe_for_each_epoch(local: Trainer) -> None:
    """The pipe of the first epoch ends in `_0`; with Gzip each object is inflated."""
    import gzip

    local.put(in__a="1", in__b="2")
    local.s3.put_object(Bucket="data", Key="packed/a", Body=gzip.compress(b"plain"))
    local.program("""
assert read("inputdataconfig")["train"]["TrainingInputMode"] == "Pipe"
for epoch in range(2):
    with open(f"/opt/ml/input/data/train_{epoch}") as pipe:
        print(pipe.read())
with open("/opt/ml/input/data/packed_0") as pipe:
    print(pipe.read())
""")
    packed = channel("packed", "s3://data/packed/", CompressionType="Gzip", InputMode="Pipe")
    described = local.run(InputDataConfig=[channel("train", "s3://data/in/", InputMode="Pipe"), packed])
    assert described["TrainingJobStatus"] == "Completed", described
    assert local.lines() == ["12", "12", "plain"]


def test_the_hosts_of_a_job_share_its_data_and_its_artifacts(local: Trainer) -> None:
    """ShardedByS3Key gives each host a part. The archives have the files of all hosts; of two, the later host's."""
    local.put(in__a="1", in__b="2", in__c="3")
    local.program("""
config = read("resourceconfig")
host = config["current_host"]
assert config["hosts"] == ["algo-1", "algo-2"]
shard = sorted(path.name for path in (ML / "input/data/train").iterdir())
(ML / "model" / host).write_text(" ".join(shard))
(ML / "model/shared").write_text(host)
""")
    sharded = channel("train", "s3://data/in/", S3DataDistributionType="ShardedByS3Key")
    described = local.run(hosts=2, InputDataConfig=[sharded])
    assert described["TrainingJobStatus"] == "Completed", described
    assert local.archive("out/job/output/model.tar.gz") == {"algo-1": "a c", "algo-2": "b", "shared": "algo-2"}
    assert statuses(described) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("(ML / 'output/failure').write_text('no data\\n'); sys.exit(3)", "AlgorithmError: no data, exit code: 3"),
        ("(ML / 'output/failure').write_bytes(b'\\xff' * 2000); sys.exit(3)", f"AlgorithmError: {chr(0xFFFD) * 1008}"),
        ("sys.exit(3)", "AlgorithmError: See job logs for more information, exit code: 3"),
        ("(ML / 'output/failure').symlink_to('/etc/passwd'); sys.exit(3)", "AlgorithmError: See job logs"),
    ],
    ids=["text", "bytes", "none", "link"],
)
def test_the_failure_of_a_program_is_the_reason(local: Trainer, body: str, reason: str) -> None:
    """The first KB of /opt/ml/output/failure; the model of a failed job is uploaded if there is one."""
    local.program(f"(ML / 'model/half').write_text('h'); {body}")
    described = local.run()
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Failed", "Failed")
    assert described["FailureReason"].startswith(reason)
    assert len(described["FailureReason"]) <= 1024
    assert statuses(described)[-2:] == ["Uploading", "Failed"]
    assert local.archive("out/job/output/model.tar.gz") == {"half": "h"}


def test_one_host_that_fails_stops_the_others(local: Trainer) -> None:
    """The reason names it, and what the hosts left is uploaded."""
    local.program("""
host = read("resourceconfig")["current_host"]
(ML / "model" / host).write_text("m")
if host == "algo-2":
    sys.exit("broken")
print("up", flush=True)
time.sleep(600)
""")
    described = local.run(hosts=2)
    assert described["TrainingJobStatus"] == "Failed"
    assert described["FailureReason"].endswith("exit code: 1, host: algo-2")
    assert "algo-2" in local.archive("out/job/output/model.tar.gz")


def test_jobs_of_one_name_have_keys_of_their_own(local: Trainer) -> None:
    """All hosts of a job have its key, by which they meet. A later job of that name cannot meet them."""
    local.program("print(os.environ['PROCESSING_LOCAL_JOB'])")
    keys = []
    for _ in range(2):
        local.run(hosts=2)
        first, second = local.lines()
        assert first == second
        keys.append(first)
        local.sagemaker.delete_training_job(TrainingJobName="job")
        local.logs.delete_log_group(logGroupName=GROUP)
    assert keys[0] != keys[1]


_LATE_HOST = """
import sys, time
sys.path.append(sys.argv[1])
from processing.local.jobs import supervisor, training_host

def wait_for_the_other(self):
    while self._jobs.hosts(self._record.id)[1].outcome is None:
        time.sleep(0.005)
    %s

if sys.argv[4] == "1":
    training_host.TrainingHost.begin = wait_for_the_other
supervisor.main(sys.argv[2:])
"""


_SLOW_TO_TIDY_UP = """
import sys, time
sys.path.append(sys.argv[1])
from processing.local import file_trees
from processing.local.jobs import supervisor
from processing.local.stores.jobs import JobStore

def wait_for_the_other(path, remove=file_trees.remove_tree):
    while JobStore(sys.argv[2]).hosts(int(sys.argv[3]))[1].outcome is None:
        time.sleep(0.005)
    remove(path)

if sys.argv[4] == "1":
    file_trees.remove_tree = wait_for_the_other
supervisor.main(sys.argv[2:])
"""


def test_a_failed_host_stops_the_others_before_it_tidies_up(local: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is recorded first, however many files it has."""
    monkeypatch.setattr(host_processes, "_SUPERVISOR_PROGRAM", _SLOW_TO_TIDY_UP + "# {}")
    local.program("sys.exit('broken') if read('resourceconfig')['current_host'] == 'algo-1' else time.sleep(600)")
    assert local.run(hosts=2)["FailureReason"].endswith("exit code: 1, host: algo-1")
    assert [host.outcome for host in JobStore(local.session.home).hosts(1)] == ["failed", "cancelled"]


@pytest.mark.parametrize(
    ("end", "error", "reason"),
    [
        pytest.param("sys.exit('broken')", "", "exit code: 1, host: algo-2", id="interrupted"),
        pytest.param("pass", "raise OSError('gone')", "OSError: gone, host: algo-1", id="failed"),
        pytest.param(
            "pass", "raise training_host.DataError('ClientError: no data')", "no data, host: algo-1", id="no data"
        ),
    ],
)
def test_a_host_that_never_starts_its_program_leaves_the_others_files(
    end: str, error: str, reason: str, local: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last host uploads what all others left, however it ends."""
    monkeypatch.setattr(host_processes, "_SUPERVISOR_PROGRAM", _LATE_HOST % error + "# {}")
    local.program(f"(ML / 'model' / read('resourceconfig')['current_host']).write_text('m'); {end}")
    described = local.run(hosts=2)
    assert described["TrainingJobStatus"] == "Failed"
    assert described["FailureReason"].endswith(reason)
    assert statuses(described)[-2:] == ["Uploading", "Failed"]
    assert local.archive("out/job/output/model.tar.gz") == {"algo-2": "m"}


def test_a_stopped_job_keeps_its_model(trainer: Trainer) -> None:
    """The program has time to save it after SIGTERM."""
    trainer.program("""
def save(*_):
    (ML / "model/saved").write_text("s")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
(ML / "model/early").write_text("e")
print("up", flush=True)
time.sleep(600)
""")
    trainer.create()
    trainer.until(lambda: _has_line(trainer, "up", "job"))
    assert trainer.describe()["SecondaryStatus"] == "Training"
    trainer.sagemaker.stop_training_job(TrainingJobName="job")
    assert trainer.describe()["TrainingJobStatus"] in {"Stopping", "Stopped"}
    described = trainer.wait()
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert statuses(described) == ["Starting", "Downloading", "Training", "Stopping", "Stopped"]
    assert described["ModelArtifacts"] == {"S3ModelArtifacts": "s3://data/out/job/output/model.tar.gz"}
    assert trainer.archive("out/job/output/model.tar.gz") == {"early": "e", "saved": "s"}
    assert "FailureReason" not in described


def test_a_job_beyond_its_maximum_runtime_is_stopped(local: Trainer) -> None:
    """It counts as stopped, the secondary status has the reason, and there is no FailureReason."""
    local.program("(ML / 'model/early').write_text('e'); time.sleep(600)")

    def keeps_its_model(seconds: int) -> bool:
        name = f"job-{seconds}"
        described = local.run(name, StoppingCondition={"MaxRuntimeInSeconds": seconds})
        assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
        assert "FailureReason" not in described
        prefix = f"out/{name}/output/"
        return local.keys(prefix) == ["model.tar.gz"] and local.archive(f"{prefix}model.tar.gz") == {"early": "e"}

    assert any(map(keeps_its_model, (1, 5, 25)))  # in a short time the program may write nothing


def test_checkpoints_outlive_their_job(local: Trainer) -> None:
    """A job finds those of the job before, and its own are in S3 when it ends."""
    local.program("""
place = ML / "checkpoints"
before = sorted(path.name for path in place.iterdir())
print(" ".join(before), read("checkpointconfig")["LocalPath"])
(place / str(len(before))).write_text("c")
""")
    checkpoints = {"S3Uri": "s3://data/checkpoints"}
    for name in ("first", "second"):
        assert local.run(name, CheckpointConfig=checkpoints)["TrainingJobStatus"] == "Completed"
    assert local.lines("first") == [" /opt/ml/checkpoints"]
    assert local.lines("second") == ["0 /opt/ml/checkpoints"]
    assert local.keys("checkpoints/") == ["0", "1"]


def test_artifacts_without_compression_are_single_files(local: Trainer) -> None:
    """CompressionType NONE: they are below model/ and data/."""
    local.program("(ML / 'model/a').write_text('m'); (ML / 'output/data/b').write_text('o')")
    described = local.run(OutputDataConfig={"S3OutputPath": "s3://data/out", "CompressionType": "NONE"})
    assert described["ModelArtifacts"] == {"S3ModelArtifacts": "s3://data/out/job/output/model/"}
    assert local.keys("out/job/output/") == ["data/b", "model/a"]


def test_a_completed_job_has_a_model_without_files(local: Trainer) -> None:
    """So whoever downloads it finds an archive. Links are not followed into this machine."""
    local.program("(ML / 'model/link').symlink_to('/etc/passwd')")
    assert local.run()["TrainingJobStatus"] == "Completed"
    assert local.archive("out/job/output/model.tar.gz") == {}
    assert local.keys("out/job/output/") == ["model.tar.gz"]


def test_links_of_a_model_stay_links_within_it(local: Trainer) -> None:
    """A link that leads out is left out, and the log says so: no file of this machine is in the archive."""
    local.program(
        """
        (ML / 'model/a').mkdir()
        (ML / 'model/a/weights').write_text('1')
        (ML / 'model/latest').symlink_to('a')
        (ML / 'model/a/up').symlink_to('../latest/weights')
        (ML / 'model/whole').symlink_to(ML / 'model/a/weights')
        (ML / 'model/passwd').symlink_to('/etc/passwd')
        (ML / 'model/climbs').symlink_to('../../../etc/passwd')
        """
    )
    assert local.run()["TrainingJobStatus"] == "Completed"
    body = local.s3.get_object(Bucket="data", Key="out/job/output/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        found = {member.name: (member.linkname if member.issym() else "") for member in tar}
    assert found == {"a/weights": "", "latest": "a", "a/up": "../latest/weights", "whole": "a/weights"}
    lines = local.lines()
    assert "/opt/ml/model/passwd is left out: it links to /etc/passwd, outside of /opt/ml/model" in lines
    assert "/opt/ml/model/climbs is left out: it links to ../../../etc/passwd, outside of /opt/ml/model" in lines
    assert any(line.startswith("/opt/ml/model/a/up is a symbolic link. SageMaker cannot host") for line in lines)


def test_files_of_this_machine_take_the_place_of_s3(local: Trainer, tmp_path: Path) -> None:
    """Channels and the output path may be `file://`."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_text("1")
    local.program("(ML / 'model/copy').write_text((ML / 'input/data/train/a').read_text())")
    described = local.run(
        InputDataConfig=[channel("train", f"file://{tmp_path}/in")],
        OutputDataConfig={"S3OutputPath": f"file://{tmp_path}/out"},
    )
    assert described["TrainingJobStatus"] == "Completed", described
    with tarfile.open(tmp_path / "out/job/output/model.tar.gz") as tar:
        assert tar.getnames() == ["copy"]


def test_an_entrypoint_runs_in_place_of_the_image(local: Trainer) -> None:
    """Such a job needs no program for its image, and sees the same files."""
    code = "import os; print(os.environ['TRAINING_JOB_NAME']); open('/opt/ml/model/x', 'w').write('y')"
    described = local.run(
        AlgorithmSpecification={
            "TrainingImage": "any",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "-c", code],
        }
    )
    assert described["TrainingJobStatus"] == "Completed", described
    assert local.lines() == ["job"]


def test_missing_data_fails_the_job(local: Trainer) -> None:
    """Before the program starts, with AWS's reason."""
    local.program("pass")
    described = local.run(InputDataConfig=[channel("train", "s3://data/none/")])
    assert described["TrainingJobStatus"] == "Failed"
    assert "No S3 objects found" in described["FailureReason"]
    assert "TrainingStartTime" not in described


def test_state_changes_are_events(local: Trainer) -> None:
    """One for each change of the secondary status, with Describe's members and times in milliseconds."""
    found: list[dict[str, Any]] = []
    local.program("pass")
    with local.session.watch_events(found.append):
        local.run()
    assert {event["detail-type"] for event in found} == {"SageMaker Training Job State Change"}
    assert [event["detail"]["SecondaryStatus"] for event in found] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert [event["detail"]["TrainingJobStatus"] for event in found] == ["InProgress"] * 4 + ["Completed"]
    assert isinstance(found[-1]["detail"]["SecondaryStatusTransitions"][0]["StartTime"], int)
    assert found[0]["resources"] == [f"{ARN}job"]


def test_hosts_and_programs_have_metrics(local: Trainer) -> None:
    """In the namespace of training jobs: samples of each host, and all values that the program says."""
    local.session.engine.settings = EngineSettings(sample=0.01)
    local.program("print('loss=4;'); print('loss=2;'); print('loss=nan; loss=none;'); time.sleep(0.1)")
    local.run(AlgorithmSpecification={**ALGORITHM, "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*?);"}]})
    cloudwatch = local.session.boto_session.client("cloudwatch")
    metrics = cloudwatch.list_metrics(Namespace=GROUP)["Metrics"]
    found = {each["MetricName"]: each["Dimensions"] for each in metrics}
    assert {"CPUUtilization", "MemoryUtilization", "DiskUtilization", "loss"} == set(found)
    assert found["CPUUtilization"] == [{"Name": "Host", "Value": "job/algo-1"}]
    assert found["loss"] == [{"Name": "TrainingJobName", "Value": "job"}]
    now = dt.datetime.now(dt.timezone.utc)
    (point,) = cloudwatch.get_metric_statistics(
        Namespace=GROUP,
        MetricName="loss",
        Dimensions=found["loss"],
        StartTime=now - dt.timedelta(hours=1),
        EndTime=now + dt.timedelta(hours=1),
        Period=86_400,
        Statistics=["Sum", "SampleCount"],
    )["Datapoints"]
    assert (point["Sum"], point["SampleCount"]) == (6.0, 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "TrainingImage is missing"),
        ({"AlgorithmSpecification": {"AlgorithmName": "a", "TrainingInputMode": "File"}}, "no algorithm resources"),
        ({"AlgorithmSpecification": {**ALGORITHM, "TrainingImage": "other:1"}}, "does not run the image other:1"),
        ({"AlgorithmSpecification": {**ALGORITHM, "TrainingImage": "a b"}}, "AlgorithmSpecification.TrainingImage"),
        ({"AlgorithmSpecification": {**ALGORITHM, "TrainingInputMode": "Disk"}}, "enum value set"),
        (
            {"AlgorithmSpecification": {**ALGORITHM, "MetricDefinitions": [{"Name": "m", "Regex": "("}]}},
            "The Regex of the metric m is not valid",
        ),
        ({"TrainingJobName": "no_underscores"}, "regular expression pattern"),
        ({"ResourceConfig": {"InstanceType": "ml.none", "InstanceCount": 1, "VolumeSizeInGB": 1}}, "enum value set"),
        ({"ResourceConfig": {"InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}}, "InstanceCount is missing"),
        (
            {
                "ResourceConfig": {
                    "InstanceGroups": [{"InstanceType": "ml.m5.large", "InstanceCount": 1, "InstanceGroupName": "g"}]
                }
            },
            "does not have groups of instances",
        ),
        ({"EnableManagedSpotTraining": True}, "MaxWaitTimeInSeconds must be at least"),
        ({"InputDataConfig": [channel("a", "s3://data/x"), channel("a", "s3://data/y")]}, "used more than once"),
        (
            {"InputDataConfig": [channel("a", "s3://data/x", InputMode="Pipe"), channel("a_0", "s3://data/y")]},
            "InputDataConfig[1].ChannelName: '/opt/ml/input/data/a_0' is in the way of the named pipes",
        ),
        ({"InputDataConfig": [channel("a", "s3://data/x", CompressionType="Gzip")]}, "needs the input mode Pipe"),
        ({"InputDataConfig": [channel("a", "s3://Bad_Bucket/x")]}, "InputDataConfig[0].DataSource.S3DataSource.S3Uri"),
        (
            {"InputDataConfig": [channel("a", "s3://data/x", S3DataType="AugmentedManifestFile")]},
            "AugmentedManifestFile",
        ),
        ({"InputDataConfig": [channel("a", "s3://data/x", RecordWrapperType="RecordIO")]}, "wrap objects as RecordIO"),
        ({"OutputDataConfig": {"S3OutputPath": "https://data/x"}}, "neither s3:// nor file://"),
        ({"CheckpointConfig": {"S3Uri": "s3://data/c", "LocalPath": "/opt/ml/model/c"}}, "directory of its own below"),
        ({"CheckpointConfig": {"S3Uri": "s3://data/c", "LocalPath": "/tmp/c"}}, "directory of its own below"),
        ({"HyperParameters": {"k": "a\0b"}}, "HyperParameters.k: contains a NUL character"),
    ],
)
def test_requests_that_cannot_run_are_refused(local: Trainer, change: dict[str, Any], message: str) -> None:
    """Before a job exists; the message names the member and the remedy."""
    local.program("pass")
    with pytest.raises(ClientError) as caught:
        local.sagemaker.create_training_job(**{**local.request(), **change})
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert message in caught.value.response["Error"]["Message"]
    assert local.sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


@pytest.mark.parametrize(
    ("kind", "error", "created"),
    [
        ("throttle", "ThrottlingException", False),
        ("error503", "ServiceUnavailable", False),
        ("reset_before", "ConnectionClosedError|reset|closed", False),
        ("reset_after", "ConnectionClosedError|reset|closed", True),
        ("double", "ResourceInUse", True),
    ],
)
def test_the_faults_of_tests_hold_for_training(
    tmp_path: Path, folder: Path, kind: Any, error: str, created: bool
) -> None:
    """A job whose answer was lost is there, once; a refused one is not."""
    faults = FaultInjector()
    faults.on("CreateTrainingJob", kind)
    session = LocalSession(tmp_path / "engine", transport=faults.wrap)
    trainer = Trainer(session, session.boto_session.client, folder)
    trainer.program("pass")
    with pytest.raises((ClientError, BotoCoreError), match=error):
        trainer.create()
    jobs = trainer.sagemaker.list_training_jobs()["TrainingJobSummaries"]
    assert [job["TrainingJobName"] for job in jobs] == (["job"] if created else [])
    if not created:
        trainer.create()
    assert trainer.wait()["TrainingJobStatus"] == "Completed"


def test_a_program_has_to_exist(local: Trainer) -> None:
    """The error names the setting, the module and the image."""
    engine = local.session.engine
    engine.settings = attrs.evolve(engine.settings, programs={"*/mine:*": "no_such.module"})
    with pytest.raises(
        ClientError, match=r"programs: there is no module no_such\.module for the image registry/mine:1"
    ):
        local.create()


def test_a_program_that_names_its_folder_needs_a_sandbox(local: Trainer) -> None:
    """Under path rewriting it would miss its files, and write to this machine's own /opt/ml."""
    local.program("pass")
    engine = local.session.engine
    engine.settings = attrs.evolve(engine.settings, sandbox="rewriting")
    with pytest.raises(ClientError, match=r"mine_\d+\.py:3: .*names a path below /opt/ml"):
        local.create()


def test_a_program_in_a_package_is_found_without_an_import(local: Trainer, folder: Path) -> None:
    """The parents of a module are not imported by the process that creates the job."""
    (folder / "my_package_for_training").mkdir()
    (folder / "my_package_for_training/__init__.py").write_text("")
    (folder / "my_package_for_training/kmeans.py").write_text("print('trained')\n")
    engine = local.session.engine
    engine.settings = attrs.evolve(engine.settings, programs={"*/mine:*": "my_package_for_training.kmeans"})
    assert local.run()["TrainingJobStatus"] == "Completed"
    assert local.lines() == ["trained"]
    assert "my_package_for_training" not in sys.modules

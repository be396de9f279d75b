"""Transform jobs: each really serves a model and feeds objects to it."""

from __future__ import annotations

import errno
import gzip
import io
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from processing.local.hosting.networks import only_server
from processing.local.hosting.program_client import Answer, Call
from processing.local.hosting.transforms import feed
from processing.local.hosting.transforms.data_processing import DataProcessing
from processing.local.hosting.transforms.settings import ProposedSettings, TransformSettings, proposed_settings

GROUP = "/aws/sagemaker/TransformJobs"
LINES = b"".join(b"%d,x\n" % number for number in range(300))


class Transforms:
    """Short ways to transform jobs on an engine."""

    def __init__(self, hosting: Any) -> None:
        self.hosting = hosting

    def create(self, name: str, model: str = "model", **changes: Any) -> str:
        request: dict[str, Any] = {
            "TransformJobName": name,
            "ModelName": model,
            "TransformInput": {
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}},
                "SplitType": "Line",
                "ContentType": "text/csv",
            },
            "TransformOutput": {"S3OutputPath": f"s3://data/out/{name}", "AssembleWith": "Line", "Accept": "text/csv"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        }
        for member, value in changes.items():
            request[member] = {**request[member], **value} if isinstance(request.get(member), dict) else value
        self.hosting.sagemaker.create_transform_job(**request)
        return name

    def describe(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.hosting.sagemaker.describe_transform_job(TransformJobName=name)
        return answer

    def wait(self, name: str) -> dict[str, Any]:
        over = {"Completed", "Failed", "Stopped"}
        self.hosting.until(lambda: self.describe(name)["TransformJobStatus"] in over)
        return self.describe(name)

    def run(self, name: str, **changes: Any) -> dict[str, bytes]:
        """Run a job to its end, and return its outputs."""
        described = self.wait(self.create(name, **changes))
        assert described["TransformJobStatus"] == "Completed", described
        return self.outputs(name)

    def outputs(self, name: str) -> dict[str, bytes]:
        found: dict[str, bytes] = self.hosting.keys(f"out/{name}/")
        return found

    def put(self, key: str, body: bytes) -> None:
        self.hosting.s3.put_object(Bucket="data", Key=key, Body=body)

    def log(self, name: str) -> list[str]:
        logs: Any = self.hosting.client("logs")
        events = logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")["events"]
        return [event["message"] for event in events]


@pytest.fixture
def transforms(either: Any) -> Transforms:
    either.model("model")
    return Transforms(either)


def test_each_object_becomes_one_output(transforms: Transforms) -> None:
    """Names, order and content are those of the input, and Describe, List, waiter and log tell the story."""
    transforms.put("in/a.csv", LINES)
    transforms.put("in/sub/b.csv", b"1\n2\n3")
    outputs = transforms.run("whole", BatchStrategy="MultiRecord", MaxPayloadInMB=1)
    assert outputs == {"a.csv.out": LINES, "sub/b.csv.out": b"1\n2\n3\n"}
    sagemaker = transforms.hosting.sagemaker
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName="whole")
    described = transforms.describe("whole")
    assert described["TransformInput"]["CompressionType"] == "None"
    assert described["DataProcessing"] == {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    assert described["CreationTime"] <= described["TransformStartTime"] <= described["TransformEndTime"]
    assert "Model" not in described
    (listed,) = sagemaker.list_transform_jobs(StatusEquals="Completed")["TransformJobSummaries"]
    assert listed["TransformJobArn"] == described["TransformJobArn"]
    assert sorted(transforms.log("whole")) == [  # the program's line and the host's arrive by different ways
        "[sagemaker logs]: MaxConcurrentTransforms=1, MaxPayloadInMB=1, BatchStrategy=MULTI_RECORD",
        "serving",
    ]


def test_a_program_that_ignores_sigterm_delays_no_end(with_long_grace: Any) -> None:
    """Everything is answered and stored, so the job does not wait for the grace of jobs."""
    with_long_grace.model("model", STUBBORN="1")
    transforms = Transforms(with_long_grace)
    transforms.put("in/a.csv", LINES)
    assert transforms.run("whole") == {"a.csv.out": LINES}


def test_concurrent_requests_keep_the_order(transforms: Transforms) -> None:
    """Single records in flight at once become one output in the order of the input, also from gzip."""
    transforms.put("in/a.csv.gz", gzip.compress(LINES))
    outputs = transforms.run(
        "single",
        BatchStrategy="SingleRecord",
        MaxConcurrentTransforms=4,
        TransformInput={"CompressionType": "Gzip"},
        Environment={"VERSION": "of the job"},
    )
    assert outputs == {"a.csv.gz.out": LINES}


def test_the_program_decides_what_the_request_leaves_open(hosting: Any) -> None:
    """GET /execution-parameters gives the settings, and the program learns those of the request by its variables."""
    proposed = {"MaxConcurrentTransforms": 3, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 2}
    hosting.model("model", PARAMETERS=json.dumps(proposed))
    transforms = Transforms(hosting)
    transforms.put("in/a", b"env SAGEMAKER_BATCH\nenv SAGEMAKER_MAX_PAYLOAD_IN_MB\n")
    assert transforms.run("open", MaxPayloadInMB=5) == {"a.out": b"true\n5\n"}
    expected = "[sagemaker logs]: MaxConcurrentTransforms=3, MaxPayloadInMB=5, BatchStrategy=SINGLE_RECORD"
    assert expected in transforms.log("open")


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        (
            b'{"MaxConcurrentTransforms": 4, "MaxPayloadInMB": 0, "BatchStrategy": "SINGLE_RECORD"}',
            ProposedSettings(4, 0, "SINGLE_RECORD"),
        ),
        (b'{"MaxConcurrentTransforms": -1, "MaxPayloadInMB": 101, "BatchStrategy": 1}', ProposedSettings()),
        (b'{"MaxConcurrentTransforms": true, "MaxPayloadInMB": "6"}', ProposedSettings()),
        (b"[1]", ProposedSettings()),
        (b"\xff", ProposedSettings()),
    ],
)
def test_settings_that_a_job_cannot_have_are_no_proposal(answer: bytes, settings: ProposedSettings) -> None:
    """Wrong types, negative numbers and those above AWS's limits are left out."""
    assert proposed_settings(answer) == settings


def test_hosts_share_the_objects(transforms: Transforms) -> None:
    """With two instances each object is transformed once, and an unsplit object is one request."""
    for number in range(5):
        transforms.put(f"in/{number}", b"%d\n\0" % number)
    options = {"TransformInput": {"SplitType": "None"}, "TransformOutput": {"AssembleWith": "None"}}
    outputs = transforms.run("two", TransformResources={"InstanceCount": 2}, **options)
    assert outputs == {f"{number}.out": b"%d\n\0" % number for number in range(5)}
    assert transforms.log("two").count("serving") == 2


def test_answers_are_joined_with_their_records(transforms: Transforms) -> None:
    """The filters choose the columns of the request and of the output."""
    transforms.put("in/a.csv", b"id1,5\nid2,6\n")
    processing = {"InputFilter": "$[1]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}
    assert transforms.run("joined", DataProcessing=processing) == {"a.csv.out": b"id1,5\nid2,6\n"}


@pytest.mark.parametrize(
    ("content", "reason", "line"),
    [
        (b"status 400", "ClientError: See job logs", "data/in/bad: Bad HTTP status received from algorithm: 400"),
        (b"status 500", "AlgorithmError: See job logs", "data/in/bad: Bad HTTP status received from algorithm: 500"),
        (b"x" * ((1 << 20) + 1), "ClientError: data/in/bad: a record of", "data/in/bad: a record of"),
    ],
)
def test_an_object_that_fails_fails_the_job(transforms: Transforms, content: bytes, reason: str, line: str) -> None:
    """The other objects have their outputs, the log names the object, and the reason says whose fault it is."""
    transforms.put("in/a", b"1\n")
    transforms.put("in/bad", content)
    transforms.put("in/c", b"3\n")
    described = transforms.wait(transforms.create("partly", MaxPayloadInMB=1))
    assert described["TransformJobStatus"] == "Failed"
    assert described["FailureReason"].startswith(reason)
    assert transforms.outputs("partly") == {"a.out": b"1\n", "c.out": b"3\n"}
    assert any(each.startswith(f"[sagemaker logs]: {line}") for each in transforms.log("partly"))


@pytest.mark.parametrize(
    ("variables", "content", "reason"),
    [
        ({}, b"die\n", "exit code: 3"),
        ({}, b"die 0\n", "the program ended before its job did, exit code: 0"),
        ({"EXIT": "4"}, b"1\n", "did not pass the ping health check. See job logs"),
    ],
)
def test_a_program_that_ends_fails_the_job(
    hosting: Any, variables: dict[str, str], content: bytes, reason: str
) -> None:
    """A program that ends before the last object, or before it is healthy, is an AlgorithmError."""
    hosting.model("model", **variables)
    transforms = Transforms(hosting)
    transforms.put("in/a", content)
    described = transforms.wait(transforms.create("ended"))
    assert described["TransformJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("AlgorithmError: ")
    assert reason in described["FailureReason"]


def test_a_job_is_stopped(transforms: Transforms) -> None:
    """It ends as Stopped while its program answers, and a second stop is AWS's error."""
    transforms.put("in/a", b"sleep 30\n")
    transforms.create("long")
    transforms.hosting.until(lambda: any("MaxConcurrent" in line for line in _lines(transforms, "long")))
    transforms.hosting.sagemaker.stop_transform_job(TransformJobName="long")
    assert transforms.wait("long")["TransformJobStatus"] == "Stopped"
    assert transforms.outputs("long") == {}
    with pytest.raises(ClientError, match="transform job is in status Stopped"):
        transforms.hosting.sagemaker.stop_transform_job(TransformJobName="long")


def _lines(transforms: Transforms, name: str) -> list[str]:
    try:
        return transforms.log(name)
    except ClientError:  # there is no group before the first line
        return []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MaxPayloadInMB": 101}, "must not exceed 100"),
        ({"MaxPayloadInMB": 50, "MaxConcurrentTransforms": 3}, "must not exceed 100"),
        ({"DataProcessing": {"InputFilter": "$..a"}}, "not supported"),
        ({"ModelName": "nothing"}, 'Could not find model "arn:'),
        (
            {"DataCaptureConfig": {"DestinationS3Uri": "s3://data/capture"}},
            "DataCaptureConfig: the local engine does not have data capture",
        ),
    ],
)
def test_requests_that_cannot_run_are_refused(transforms: Transforms, changes: dict[str, Any], message: str) -> None:
    """AWS's limits, unknown models and features that the engine lacks are refused before anything starts."""
    with pytest.raises(ClientError, match=message):
        transforms.create("refused", **changes)
    assert transforms.hosting.sagemaker.list_transform_jobs()["TransformJobSummaries"] == []


def test_names_are_unique_and_jobs_without_objects_fail(transforms: Transforms) -> None:
    """A second job of a name is ResourceInUse, an unknown one is not found, and no object is AWS's ClientError."""
    described = transforms.wait(transforms.create("empty"))
    assert described["TransformJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("ClientError: No S3 objects found under S3 URL")
    with pytest.raises(transforms.hosting.sagemaker.exceptions.ResourceInUse):
        transforms.create("empty")
    with pytest.raises(ClientError, match="Could not find requested job with name: nothing"):
        transforms.describe("nothing")


def test_without_networks_a_second_host_does_not_start(without_networks: Any) -> None:
    """A host that starts while the program of another one is not listening yet would reach that program."""
    without_networks.model("model")
    transforms = Transforms(without_networks)
    transforms.put("in/a", b"1\n")
    with only_server(without_networks.home), only_server(without_networks.home) as second:
        described = transforms.wait(transforms.create("second"))
    assert not second
    assert described["TransformJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("The port 8080 of this machine is in use, and the sandbox rewriting")


def test_a_request_without_a_free_file_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal of a socket counts as one of the attempts, like a program that gives no answer."""
    tries: list[bytes] = []
    stored: list[bytes] = []

    def ask(call: Call) -> Answer:
        tries.append(call.body)
        if len(tries) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return Answer(200, {}, b"answer")

    monkeypatch.setattr(feed, "_BACKOFF", 0.0)
    processing = DataProcessing({"TransformInput": {}, "TransformOutput": {}})
    settings = TransformSettings("None", False, None, 1, False, {}, 60.0, 1)  # noqa: FBT003 - a tuple's members
    each = feed.TransformObject("name", lambda: [b"x"], io.BytesIO, lambda file: stored.append(file.read()))
    assert feed.Transform(settings, processing, ask, print, lambda: None).run([each]) is None
    assert (tries, stored) == ([b"x"] * 2, [b"answer"])

"""Endpoints from their creation to their end."""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
import threading
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from processing.local.handlers.sagemaker import named_resources
from processing.local.hosting.networks import port_in_use
from processing.local.stores.resources import ENDPOINT_CONFIG

if TYPE_CHECKING:
    from pathlib import Path

ARN = "arn:aws:sagemaker:us-east-1:000000000000:endpoint/"


def test_an_endpoint_is_described_from_its_creation_to_its_end(either: Any, tmp_path: Path) -> None:
    """Describe, List, tags, waiters and events tell the same story."""
    events: list[tuple[str, str]] = []
    gate = tmp_path / "gate"
    with either.session.watch_events(lambda event: events.append(_story(event))):
        either.config("config", either.model("model", WAIT_FOR=str(gate)))
        made = either.sagemaker.create_endpoint(
            EndpointName="one", EndpointConfigName="config", Tags=[{"Key": "team", "Value": "a"}]
        )
        assert made["EndpointArn"] == f"{ARN}one"
        described = either.describe("one")
        assert described["EndpointStatus"] == "Creating"
        assert described["EndpointConfigName"] == "config"
        assert "ProductionVariants" not in described
        gate.touch()
        _await(either, "endpoint_in_service", "one")
        (variant,) = either.describe("one")["ProductionVariants"]
        assert (variant["VariantName"], variant["CurrentWeight"], variant["CurrentInstanceCount"]) == ("model", 1, 1)
        assert variant["DeployedImages"][0]["SpecifiedImage"] == "image"
        (listed,) = either.sagemaker.list_endpoints(NameContains="on", StatusEquals="InService")["Endpoints"]
        assert listed["EndpointArn"] == f"{ARN}one"
        assert either.sagemaker.list_tags(ResourceArn=f"{ARN}one")["Tags"] == [{"Key": "team", "Value": "a"}]
        either.sagemaker.delete_endpoint(EndpointName="one")
        _await(either, "endpoint_deleted", "one")
        either.until(lambda: len(events) == 3)
    assert events == [("one", "CREATING"), ("one", "IN_SERVICE"), ("one", "DELETING")]
    either.until(lambda: not list((either.home / "jobs").iterdir()))  # its host removes them after it has ended
    with pytest.raises(ClientError, match="Could not find"):
        either.sagemaker.list_tags(ResourceArn=f"{ARN}one")


def _story(event: dict[str, Any]) -> tuple[str, str]:
    assert event["detail-type"] == "SageMaker Endpoint State Change"
    return event["detail"]["EndpointName"], event["detail"]["EndpointStatus"]


def _await(hosting: Any, waiter: str, name: str) -> None:
    hosting.sagemaker.get_waiter(waiter).wait(EndpointName=name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 2000})


@pytest.mark.parametrize(
    ("variables", "details"),
    [
        ({"EXIT": "7"}, r"it ended with exit code 7\. Its last lines: serving / no such weights"),
        ({"EXIT": "0"}, r"it ended with exit code 0\."),
        ({"EXIT": "1", "LAST_WORDS": "x" * 1000 + " the error"}, r"Its last lines: \.\.\.x+ the error$"),
    ],
    ids=["an error", "no error", "long lines"],
)
def test_a_program_that_ends_before_it_is_healthy_fails_the_endpoint(
    hosting: Any, variables: dict[str, str], details: str
) -> None:
    """The reason has AWS's words, the exit code and the last lines. The failed endpoint can only be deleted."""
    hosting.config("config", hosting.model("model", **variables))
    hosting.sagemaker.create_endpoint(EndpointName="broken", EndpointConfigName="config")
    with pytest.raises(WaiterError):
        _await(hosting, "endpoint_in_service", "broken")
    described = hosting.describe("broken")
    assert described["EndpointStatus"] == "Failed"
    assert described["FailureReason"].startswith(
        "The primary container for production variant model did not pass the ping health check. Please check "
        "CloudWatch logs for this endpoint."
    )
    assert re.search(details, described["FailureReason"])
    with pytest.raises(ClientError, match="not found"):
        hosting.invoke("broken")
    with pytest.raises(ClientError, match="status Failed"):
        hosting.sagemaker.update_endpoint(EndpointName="broken", EndpointConfigName="config")


@pytest.mark.parametrize(
    ("variables", "sign"),
    [
        ({"UNHEALTHY": "1"}, "it answered GET /ping with 'HTTP/1.1 404 Not Found'"),
        ({"WAIT_FOR": "/no/such/file"}, "it accepted no connection at port 8080"),
    ],
    ids=["unhealthy", "not listening"],
)
def test_a_program_that_is_not_healthy_in_time_fails_the_endpoint(
    hosting: Any, variables: dict[str, str], sign: str
) -> None:
    """The reason has its last sign of life and its last lines, and the program is stopped."""
    hosting.model("model", **variables)
    reason = f"The program was never healthy: {sign}. Its last lines: serving"
    # In a short time a program may give no sign.
    assert any(reason in _reason_after(hosting, seconds) for seconds in (1, 5, 25))
    hosting.until(lambda: not list((hosting.home / "jobs").iterdir()))


def _reason_after(hosting: Any, seconds: int) -> str:
    """The FailureReason of an endpoint whose program is not healthy for so many seconds."""
    name = f"late-{seconds}"
    variant = {"VariantName": "one", "ModelName": "model", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    # AWS's shortest time is a minute, so the record is made without the API.
    variants = [{**variant, "ContainerStartupHealthCheckTimeoutInSeconds": seconds}]
    store = named_resources.resource_store(hosting.session.engine, ENDPOINT_CONFIG)
    named_resources.create(store, {"EndpointConfigName": name, "ProductionVariants": variants})
    hosting.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    described = hosting.settled(name)
    assert described["EndpointStatus"] == "Failed"
    reason: str = described["FailureReason"]
    assert "The program was never healthy: " in reason
    return reason


def test_every_sandbox_serves_and_transforms(sandboxed: Any) -> None:
    """The program sees its model and reaches the engine, whatever keeps it apart. At the end nothing is left."""
    sandboxed.deploy("e", {"weights.txt": b"1"}, MODEL="/opt/ml/model")
    assert sandboxed.invoke("e", "model $MODEL") == b'["weights.txt"]'
    assert sandboxed.invoke("e", "engine") == b"403"
    sandboxed.delete("e")
    sandboxed.s3.put_object(Bucket="data", Key="in/rows", Body=b"model $MODEL")
    sandboxed.sagemaker.create_transform_job(
        TransformJobName="t",
        ModelName="e",
        TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}}},
        TransformOutput={"S3OutputPath": "s3://data/out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    sandboxed.until(lambda: not list((sandboxed.home / "jobs").iterdir()))
    described = sandboxed.sagemaker.describe_transform_job(TransformJobName="t")
    assert described["TransformJobStatus"] == "Completed", described
    assert sandboxed.keys("out/") == {"rows.out": b'["weights.txt"]'}


def _broken_archive() -> bytes:
    """A compressed archive with a wrong byte beyond its first member."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as tar:
        member = tarfile.TarInfo("weights")
        member.size = 1 << 20
        tar.addfile(member, io.BytesIO(random.Random(1).randbytes(member.size)))
    broken = bytearray(content.getvalue())
    broken[len(broken) - 64 : len(broken) - 32] = bytes(32)
    return bytes(broken)


def _with_link() -> bytes:
    """An archive with a link to a file in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        link = tarfile.TarInfo("latest")
        link.type, link.linkname = tarfile.SYMTYPE, "weights"
        made.addfile(link)
    return buffer.getvalue()


def _leading_out() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../weights"))
    return content.getvalue()


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (None, "Could not find model data at s3://data/model.tar.gz: "),
        (b"not an archive", "is a valid tar.gz archive. file could not be opened successfully."),
        (_broken_archive(), "is a valid tar.gz archive. Corrupt input data."),
        (_leading_out(), "archive. Its member '../../weights' leads out of /opt/ml/model, or is no file"),
        (_with_link(), "archive. Its member 'latest' is a symbolic link, and SageMaker unpacks no model with links"),
    ],
    ids=["missing", "no archive", "broken", "leading out", "link"],
)
def test_model_data_that_cannot_be_used_fails_the_endpoint(hosting: Any, data: bytes | None, cause: str) -> None:
    """A missing archive, a file that is none, and a member outside are the reason of the failure, in one line."""
    hosting.s3.put_object(Bucket="data", Key="model.tar.gz", Body=data or b"")
    container = {"Image": "image", "ModelDataUrl": "s3://data/model.tar.gz"}
    hosting.sagemaker.create_model(
        ModelName="m", PrimaryContainer=container, ExecutionRoleArn="arn:aws:iam::000000000000:role/r"
    )
    if data is None:
        hosting.s3.delete_object(Bucket="data", Key="model.tar.gz")
    hosting.config("config", "m")
    hosting.sagemaker.create_endpoint(EndpointName="broken", EndpointConfigName="config")
    described = hosting.settled("broken")
    assert described["EndpointStatus"] == "Failed"
    assert "s3://data/model.tar.gz" in described["FailureReason"]
    assert cause in described["FailureReason"]
    assert "\n" not in described["FailureReason"]


def test_two_endpoints_serve_at_once(hosting: Any) -> None:
    """Each program has a network of its own, although both listen at port 8080."""
    hosting.deploy("first", VERSION="1")
    hosting.deploy("second", VERSION="2")
    assert [hosting.invoke(name, b"version") for name in ("first", "second", "first")] == [b"1", b"2", b"1"]


def test_variants_share_invocations_by_weight(either: Any) -> None:
    """A variant without weight gets none, TargetVariant chooses one, and weights change without a new host."""
    either.model("left", VERSION="left")
    either.model("right", VERSION="right")
    either.config("both", "left", "right", weights={"left": 1.0, "right": 0.0})
    either.sagemaker.create_endpoint(EndpointName="both", EndpointConfigName="both")
    assert either.settled("both")["EndpointStatus"] == "InService"
    assert {either.invoke("both", b"version") for _ in range(20)} == {b"left"}
    assert either.invoke("both", b"version", TargetVariant="right") == b"right"
    changes = [{"VariantName": "left", "DesiredWeight": 0.0}, {"VariantName": "right", "DesiredWeight": 3.0}]
    either.sagemaker.update_endpoint_weights_and_capacities(EndpointName="both", DesiredWeightsAndCapacities=changes)
    assert {either.invoke("both", b"version") for _ in range(20)} == {b"right"}
    weights = {each["VariantName"]: each["CurrentWeight"] for each in either.describe("both")["ProductionVariants"]}
    assert weights == {"left": 0.0, "right": 3.0}
    unknown = [{"VariantName": "middle", "DesiredWeight": 1.0}]
    with pytest.raises(ClientError, match="variant middle does not exist"):
        either.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="both", DesiredWeightsAndCapacities=unknown
        )


def test_an_update_under_load_fails_no_invocation(hosting: Any) -> None:
    """The present program answers until the next one is healthy, and no answer is lost in between."""
    hosting.deploy("busy", VERSION="1")
    hosting.config("second", hosting.model("second", VERSION="2"))
    answers: list[bytes] = []
    errors: list[Exception] = []
    stopped = threading.Event()

    def load() -> None:
        while not stopped.is_set():
            try:
                answers.append(hosting.invoke("busy", b"version"))
            except Exception as error:  # noqa: BLE001, PERF203 - the test shows it
                errors.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for config in ("second", "busy", "second"):
        hosting.sagemaker.update_endpoint(EndpointName="busy", EndpointConfigName=config)
        assert hosting.settled("busy")["EndpointStatus"] == "InService"
    stopped.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(answers) == {b"1", b"2"}
    assert hosting.invoke("busy", b"version") == b"2"
    assert hosting.describe("busy")["EndpointConfigName"] == "second"


def test_an_update_that_fails_leaves_the_present_program(hosting: Any, tmp_path: Path) -> None:
    """While it runs the status is Updating. Then it is Failed with the reason, and invocations go on."""
    hosting.deploy("kept", VERSION="1")
    gate = tmp_path / "gate"
    hosting.config("worse", hosting.model("worse", EXIT="7"), hosting.model("waiting", WAIT_FOR=str(gate)))
    hosting.sagemaker.update_endpoint(EndpointName="kept", EndpointConfigName="worse")
    described = hosting.settled("kept")
    assert described["EndpointStatus"] == "Failed"
    assert "exit code 7" in described["FailureReason"]
    assert described["EndpointConfigName"] == "kept"
    assert hosting.invoke("kept", b"version") == b"1"
    hosting.until(lambda: len(list((hosting.home / "jobs").iterdir())) == 1)  # the other new host ends, too


def test_an_update_is_described_while_it_runs(either: Any, tmp_path: Path) -> None:
    """The pending variants are in the summary, and a second update or a deletion has to wait."""
    either.deploy("slow")
    gate = tmp_path / "gate"
    either.config("next", either.model("next", WAIT_FOR=str(gate)))
    either.sagemaker.update_endpoint(EndpointName="slow", EndpointConfigName="next")
    described = either.describe("slow")
    assert described["EndpointStatus"] == "Updating"
    pending = described["PendingDeploymentSummary"]
    assert (pending["EndpointConfigName"], pending["ProductionVariants"][0]["VariantName"]) == ("next", "next")
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        either.sagemaker.update_endpoint(EndpointName="slow", EndpointConfigName="slow")
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        either.sagemaker.delete_endpoint(EndpointName="slow")
    gate.touch()
    assert either.settled("slow")["ProductionVariants"][0]["VariantName"] == "next"


def test_a_running_invocation_survives_a_deletion(hosting: Any, tmp_path: Path) -> None:
    """The program is stopped after the invocations that it has begun."""
    gate = tmp_path / "gate"
    hosting.deploy("leaving", GATE=str(gate))
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(hosting.invoke("leaving", b"wait $GATE")))
    thread.start()
    hosting.until(lambda: hosting.invoke("leaving", b"sleeping") == b"1")
    hosting.sagemaker.delete_endpoint(EndpointName="leaving")
    assert hosting.describe("leaving")["EndpointStatus"] == "Deleting"
    gate.touch()
    thread.join()
    assert answers == [b"late"]
    hosting.until(lambda: not hosting.exists("leaving"))


def test_names_and_references_are_checked(either: Any) -> None:
    """Duplicates, unknown names and unmapped images have AWS's words or say what to do."""
    either.deploy("taken")
    refusals = [
        ("create_endpoint", {"EndpointConfigName": "taken"}, 'Cannot create already existing endpoint "arn:'),
        ("update_endpoint", {"EndpointConfigName": "nothing"}, "Could not find endpoint configuration"),
    ]
    for operation, params, message in refusals:
        with pytest.raises(ClientError, match=message):
            getattr(either.sagemaker, operation)(EndpointName="taken", **params)
    for operation in ("describe_endpoint", "delete_endpoint"):
        with pytest.raises(ClientError, match=f'Could not find endpoint "{ARN}nothing"'):
            getattr(either.sagemaker, operation)(EndpointName="nothing")
    either.sagemaker.delete_model(ModelName="taken")
    either.sagemaker.delete_endpoint_config(EndpointConfigName="taken")
    assert either.invoke("taken", b"x") == b"x"


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        (
            {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": "CANARY", "WaitIntervalInSeconds": 60}}},
            "all traffic at once, not CANARY",
        ),
        (
            {
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
                    "WaitIntervalInSeconds": 60,
                }
            },
            "rolling updates",
        ),
    ],
)
def test_deployments_that_the_engine_lacks_are_refused(either: Any, deployment: dict[str, Any], message: str) -> None:
    """The refusal names the member and the feature, and nothing is created."""
    with pytest.raises(ClientError, match=message):
        either.sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c", DeploymentConfig=deployment)
    assert either.sagemaker.list_endpoints()["Endpoints"] == []


def test_another_process_invokes_and_deletes_an_endpoint(hosting: Any) -> None:
    """Endpoints outlive the session that made them: they are in the folder."""
    from processing import LocalSession

    hosting.deploy("shared-by-all", VERSION="1")
    other = LocalSession(hosting.home).boto_session
    runtime: Any = other.client("sagemaker-runtime")
    answer = runtime.invoke_endpoint(EndpointName="shared-by-all", Body=b"env AWS_ENDPOINT_URL")
    assert answer["Body"].read().startswith(b"http://127.0.0.1:")
    assert json.loads(hosting.invoke("shared-by-all", b"model /opt/ml/model")) == []
    sagemaker: Any = other.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName="shared-by-all")
    hosting.until(lambda: not hosting.exists("shared-by-all"))


def test_without_networks_one_program_serves_at_a_time(without_networks: Any) -> None:
    """A second endpoint, a second variant, an update and a transform job are refused, and the error says why."""
    alone = without_networks
    alone.config("two", alone.model("first", VERSION="1"), alone.model("second"))
    with pytest.raises(ClientError, match="another variant of this endpoint"):
        alone.sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="two")
    alone.config("one", "first")
    if port_in_use():  # by a program of this machine
        with pytest.raises(ClientError, match="a program of this machine"):
            alone.sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="one")
        return
    alone.sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="one")
    assert alone.settled("e")["EndpointStatus"] == "InService"
    assert alone.invoke("e", b"version") == b"1"
    message = "every program serves at port 8080: one at a time. It is in use by the endpoint e"
    with pytest.raises(ClientError, match=message):
        alone.sagemaker.create_endpoint(EndpointName="f", EndpointConfigName="one")
    with pytest.raises(ClientError, match=message):
        alone.sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="one")
    alone.delete("e")

"""Endpoints and transform jobs whose image itself runs: networks, kills, and the removal of every container."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from processing.local import processes, sandboxes

if TYPE_CHECKING:
    from container_fixtures import Containers

pytestmark = pytest.mark.complete("containers start slowly")


def test_an_image_trains_and_serves_its_model(container_hosting: Any, containers: Containers) -> None:
    """The same image runs with `train`, then with `serve`, and then in a transform job, by its own user."""
    sagemaker = container_hosting.sagemaker
    sagemaker.create_training_job(
        TrainingJobName="trained",
        RoleArn="arn:aws:iam::000000000000:role/training",
        AlgorithmSpecification={"TrainingImage": containers.MODEL, "TrainingInputMode": "File"},
        OutputDataConfig={"S3OutputPath": "s3://data/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    container_hosting.until(
        lambda: sagemaker.describe_training_job(TrainingJobName="trained")["TrainingJobStatus"] != "InProgress"
    )
    model = sagemaker.describe_training_job(TrainingJobName="trained")["ModelArtifacts"]["S3ModelArtifacts"]
    container = {"Image": containers.MODEL, "ModelDataUrl": model, "Environment": {"VERSION": "1"}}
    sagemaker.create_model(
        ModelName="m", PrimaryContainer=container, ExecutionRoleArn="arn:aws:iam::000000000000:role/hosting"
    )
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName=container_hosting.config("c", "m"))
    assert container_hosting.settled("e")["EndpointStatus"] == "InService", container_hosting.describe("e")
    assert container_hosting.invoke("e", "model /opt/ml/model") == b'["weights.txt"]'
    assert container_hosting.invoke("e", "env HOSTNAME") == b"algo-1"
    container_hosting.until(lambda: container_hosting.lines("/aws/sagemaker/Endpoints/e") == ["serving"])

    container_hosting.s3.put_object(Bucket="data", Key="in/rows", Body=b"a\nb\n")
    sagemaker.create_transform_job(
        TransformJobName="t",
        ModelName="m",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}},
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": "s3://data/answers"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    container_hosting.until(
        lambda: sagemaker.describe_transform_job(TransformJobName="t")["TransformJobStatus"] != "InProgress"
    )
    described = sagemaker.describe_transform_job(TransformJobName="t")
    assert described["TransformJobStatus"] == "Completed", described
    assert container_hosting.keys("answers/") == {"rows.out": b"a\nb\n"}


def test_two_endpoints_serve_at_once_and_reach_the_engine(container_hosting: Any, containers: Containers) -> None:
    """Both images listen at port 8080. An update changes one of them, and the other one goes on."""
    for name in ("one", "two"):
        container_hosting.deploy(name, VERSION=name)
    assert len(containers.names()) == 2
    assert [container_hosting.invoke(name, "version") for name in ("one", "two")] == [b"one", b"two"]
    assert [container_hosting.invoke(name, "engine") for name in ("one", "two")] == [b"403", b"403"]
    body = b"x" * (6 << 20)
    assert container_hosting.invoke("one", body) == body

    container_hosting.config("next", container_hosting.model("next", VERSION="three"))
    container_hosting.sagemaker.update_endpoint(EndpointName="one", EndpointConfigName="next")
    assert container_hosting.settled("one")["EndpointStatus"] == "InService"
    assert [container_hosting.invoke(name, "version") for name in ("one", "two")] == [b"three", b"two"]
    container_hosting.delete("one")
    container_hosting.until(lambda: len(containers.names()) == 1)
    assert container_hosting.invoke("two", "version") == b"two"


def test_an_isolated_image_serves_without_the_engine(container_hosting: Any, containers: Containers) -> None:
    """Invocations reach it. Its network has no way out."""
    container_hosting.sagemaker.create_model(
        ModelName="m",
        PrimaryContainer={"Image": containers.MODEL},
        ExecutionRoleArn="arn:aws:iam::000000000000:role/hosting",
        EnableNetworkIsolation=True,
    )
    container_hosting.sagemaker.create_endpoint(EndpointName="e", EndpointConfigName=container_hosting.config("c", "m"))
    assert container_hosting.settled("e")["EndpointStatus"] == "InService"
    assert container_hosting.invoke("e", "engine") == b"KeyError('AWS_ENDPOINT_URL')"


def test_an_image_that_dies_is_started_again(container_hosting: Any, containers: Containers) -> None:
    """By itself, or with its container: the next invocation waits for the next container."""
    container_hosting.deploy("e")
    with pytest.raises(ClientError):
        container_hosting.invoke("e", "die 3")
    assert container_hosting.invoke("e", "again") == b"again"
    containers.call("rm", "--force", *containers.names())
    assert container_hosting.invoke("e", "and again") == b"and again"
    assert container_hosting.describe("e")["EndpointStatus"] == "InService"
    assert len(containers.names()) == 1


@pytest.mark.parametrize("victim", ["supervisor", "client", "relay", "program"])
def test_a_kill_leaves_no_container(container_hosting: Any, containers: Containers, victim: str) -> None:
    """Whatever is killed, the endpoint serves again from one container, and its end leaves none."""
    container_hosting.deploy("e")
    for _ in range(int(os.environ.get("PROCESSING_TEST_HOSTING_KILLS", "2"))):
        killed = _pids(container_hosting, containers, victim)
        os.kill(killed[0], signal.SIGKILL)
        container_hosting.until(lambda killed=killed: _serves_anew(container_hosting, containers, victim, killed))
        assert container_hosting.describe("e")["EndpointStatus"] == "InService"
        assert len(containers.names()) == 1


def _serves_anew(hosting: Any, containers: Containers, victim: str, killed: list[int]) -> bool:
    """True if the endpoint answers, and another process has taken the place of the killed one.

    The program of a dead supervisor answers on kept connections, until a call reads the endpoint's state.
    """
    hosting.describe("e")
    answered = _answered(hosting) == b"here"
    present = _pids(hosting, containers, victim)
    return answered and len(present) == 1 and present != killed


def _answered(hosting: Any) -> bytes:
    """The answer of the endpoint. The invocation that meets the kill may fail."""
    try:
        answer: bytes = hosting.invoke("e", "here")
    except ClientError:
        answer = hosting.invoke("e", "here")
    return answer


def _pids(hosting: Any, containers: Containers, victim: str) -> list[int]:
    """The processes of a kind that serve the endpoint `e`."""
    if victim == "supervisor":
        lines = processes.command_lines_with(str(hosting.home))
        return [pid for pid, line in lines.items() if any("hosting.supervisor" in word for word in line)]
    names = [name for name in containers.names() if name.startswith("processing-e-")]
    lines = {pid: line for name in names for pid, line in processes.command_lines_with(name).items()}
    if victim == "program":
        found = [containers.call("inspect", "--format", "{{.State.Pid}}", name).stdout.strip() for name in names]
        return [int(pid) for pid in found if pid.isdigit() and pid != "0"]
    relays = [pid for pid, line in lines.items() if any(word.endswith("relay.py") for word in line)]
    return relays if victim == "relay" else [pid for pid, line in lines.items() if "run" in line and pid not in relays]


def test_an_image_that_cannot_serve_fails_the_endpoint(container_hosting: Any) -> None:
    """The reason has the exit code and the last lines."""
    container_hosting.config("c", container_hosting.model("m", EXIT="7"))
    container_hosting.sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
    described = container_hosting.settled("e")
    assert described["EndpointStatus"] == "Failed"
    assert "exit code 7" in described["FailureReason"]
    assert "no such weights" in described["FailureReason"]


@pytest.mark.usefixtures("machine_port")
def test_without_networks_one_image_serves_at_a_time(container_hosting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that cannot share a network of the engine's, such as docker's, shares this machine's."""
    sandbox = sandboxes.sandbox_for(container_hosting.session.engine.settings)
    monkeypatch.setattr(sandbox, "network_command", None)
    container_hosting.deploy("e", VERSION="1")
    assert container_hosting.invoke("e", "version") == b"1"
    assert container_hosting.invoke("e", "engine") == b"403"
    with pytest.raises(ClientError, match="cannot give a program a network of its own with the sandbox container"):
        container_hosting.sagemaker.create_endpoint(EndpointName="second", EndpointConfigName="e")

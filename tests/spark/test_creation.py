"""Resources of SageMaker are created exactly once, and only a model's own are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import boto3
import moto
import pytest

from processing import LocalSession, Session
from processing.exceptions import ConfigurationError, NameTakenError, SubmissionError
from processing.spark.ml.creation import ENDPOINT_CONFIG, MODEL, create_once, describe
from processing.spark.ml.hosting import EndpointError, Hosting
from processing.spark.ml.names import (
    CustomNamePolicy,
    CustomNamePolicyFactory,
    CustomNamePolicyWithTimeStampSuffixFactory,
    RandomNamePolicy,
    RandomNamePolicyFactory,
    check_names,
)
from processing.spark.ml.resources import CreatedResources, SageMakerResourceCleanup, SageMakerResourceCleanupException
from processing.spark.ml.roles_and_paths import IAMRole, IAMRoleFromConfig
from processing.testing import FaultInjector, VirtualClock

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Summing  # type: ignore[import-not-found]

REQUEST = {
    "ModelName": "made-once",
    "PrimaryContainer": {"Image": "image", "Environment": {"A": "1"}},
    "ExecutionRoleArn": "arn:aws:iam::000000000000:role/r",
    "Tags": [{"Key": "team", "Value": "blue"}],
}


@pytest.fixture
def faults() -> FaultInjector:
    """Faults of the wire."""
    return FaultInjector(clock=VirtualClock())


@pytest.fixture
def session(tmp_path: Path, faults: FaultInjector) -> LocalSession:
    """An engine behind that wire, whose waits take no time."""
    return LocalSession(tmp_path / "engine", transport=faults.wrap, clock=VirtualClock())


def models(session: LocalSession) -> list[str]:
    return [each["ModelName"] for each in session.boto_session.client("sagemaker").list_models()["Models"]]


@pytest.mark.parametrize(
    "kind", ["reset_before", "reset_after", "timeout_after", "error500", "truncate", "double", "throttle"]
)
def test_a_lost_answer_makes_no_second_resource(session: LocalSession, faults: FaultInjector, kind: Any) -> None:
    """There is one model with the requested members, after any fault of its answer."""
    faults.on("CreateModel", kind, times=2)
    create_once(session.api, MODEL, REQUEST)
    assert models(session) == ["made-once"]
    assert {fault for _, fault in faults.injected} == {kind}


@pytest.mark.parametrize("created", [True, False])
def test_an_interruption_of_the_call(session: LocalSession, monkeypatch: pytest.MonkeyPatch, *, created: bool) -> None:
    """Ctrl-C while a resource is created: its owner learns of it if it exists, so that it can be deleted."""
    owned: list[bool] = []
    call = session.api.call

    def interrupted(service: str, operation: str, request: Any, **options: Any) -> Any:
        if operation != "CreateModel":
            return call(service, operation, request, **options)
        if created:
            call(service, operation, request, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(session.api, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        create_once(session.api, MODEL, REQUEST, owned=lambda: owned.append(True))
    assert owned == [True] * created


def test_a_name_of_another_request(session: LocalSession) -> None:
    """A resource that has the name and other members is not taken over."""
    create_once(session.api, MODEL, REQUEST)
    with pytest.raises(NameTakenError, match="model made-once belongs to another request"):
        create_once(session.api, MODEL, {**REQUEST, "PrimaryContainer": {"Image": "other"}})


def test_a_refused_request(session: LocalSession) -> None:
    """AWS's reason is in the error, and nothing was created."""
    config = {
        "EndpointConfigName": "without-model",
        "ProductionVariants": [
            {"VariantName": "a", "ModelName": "missing", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        ],
    }
    with pytest.raises(SubmissionError, match=r"endpoint configuration without-model was not created: .*missing"):
        create_once(session.api, ENDPOINT_CONFIG, config)
    assert describe(session.api, ENDPOINT_CONFIG, "without-model") is None


def test_hosting_makes_one_of_each_despite_lost_answers(summing: Summing) -> None:
    """Each Create operation loses its answer once: one model, one configuration, one endpoint; then none."""
    faults = FaultInjector()
    for operation in ("CreateModel", "CreateEndpointConfig", "CreateEndpoint", "DeleteEndpoint", "DeleteModel"):
        faults.on(operation, "reset_after")
    session = summing.session(faults)
    hosting = Hosting(session, CustomNamePolicy("lost", "lost", "lost", "lost"))
    model = {"PrimaryContainer": {"Image": "image"}, "ExecutionRoleArn": REQUEST["ExecutionRoleArn"]}
    variant = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    assert hosting.ensure_endpoint(model, variant, []) == hosting.ensure_endpoint(model, variant, []) == "lost"
    assert hosting.created == CreatedResources("lost", "lost", "lost")
    hosting.close()
    assert not hosting.created
    assert len(faults.injected) == 5
    assert models(session) == ["sums"]


def test_an_endpoint_that_fails_leaves_nothing(summing: Summing) -> None:
    """Model and configuration of an endpoint that did not come into service are deleted."""
    session = summing.session()
    hosting = Hosting(session, CustomNamePolicy("broken", "broken", "broken", "broken"))
    model = {
        "PrimaryContainer": {"Image": "image", "ModelDataUrl": "s3://nowhere/model.tar.gz"},
        "ExecutionRoleArn": REQUEST["ExecutionRoleArn"],
    }
    with pytest.raises((EndpointError, SubmissionError)):
        hosting.ensure_endpoint(model, {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}, [])
    assert not hosting.created
    assert models(session) == ["sums"]


def test_cleanup_reports_what_remains(session: LocalSession, faults: FaultInjector) -> None:
    """All resources are tried, and the error has those that could not be deleted."""
    create_once(session.api, MODEL, REQUEST)
    cleanup = SageMakerResourceCleanup(session)
    cleanup.deleteModel("never-made")
    faults.on("DescribeModel", "denied", times=99)
    with pytest.raises(SageMakerResourceCleanupException) as raised:
        cleanup.deleteResources(CreatedResources(model_name="made-once", endpoint_name="never-made"))
    assert raised.value.createdResources == CreatedResources(model_name="made-once")
    faults.clear()
    cleanup.delete_resources(CreatedResources(modelName="made-once"))
    assert models(session) == []


def test_names_of_the_policies() -> None:
    """Random names are new each time, names of the user's own are kept, and both fit SageMaker."""
    first, second = RandomNamePolicyFactory("team-").createNamePolicy(), RandomNamePolicyFactory().createNamePolicy()
    assert isinstance(first, RandomNamePolicy)
    assert first.trainingJobName.startswith("team-trainingJob-")
    assert first.endpointName != second.endpointName
    check_names("namePolicyFactory", first)
    own = CustomNamePolicyFactory("a", "b", "c", endpoint_name="d").create_name_policy()
    assert (own.trainingJobName, own.modelName, own.endpointConfigName, own.endpointName) == ("a", "b", "c", "d")
    stamped = CustomNamePolicyWithTimeStampSuffixFactory("a", "b", "c", "d").createNamePolicy()
    assert stamped.modelName.startswith("b-20")
    check_names("namePolicyFactory", stamped)
    with pytest.raises(ValueError, match="namePolicy: the modelName 'no good'"):
        check_names("namePolicy", CustomNamePolicy("a", "no good", "c", "d"))


def test_a_role_s_name_is_looked_up() -> None:
    """IAM has the ARN of a role that is given by its name, and of one that Spark's configuration names."""

    class Configured:
        conf: ClassVar[dict[str, str]] = {"spark.sagemaker.role": "learning"}

    with moto.mock_aws():
        iam: Any = boto3.client("iam", region_name="us-east-1")
        created = iam.create_role(RoleName="learning", Path="/team/", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        session = Session(boto3.Session(region_name="us-east-1"), sagemaker_config={})
        assert IAMRole("learning").arn(session, None) == created
        assert IAMRoleFromConfig().arn(session, Configured) == created
        assert IAMRole(created).arn(session, None) == created
        with pytest.raises(ConfigurationError, match="sagemakerRole: IAM has no role 'unknown'"):
            IAMRole("unknown").arn(session, None)


@pytest.mark.parametrize("interrupted", ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"])
def test_an_interruption_of_hosting_leaves_nothing(
    summing: Summing, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    """Ctrl-C when a resource has just been created: all that was created is deleted."""
    session = summing.session()
    call = session.api.call

    def calling(service: str, operation: str, request: Any, **options: Any) -> Any:
        answer = call(service, operation, request, **options)
        if operation == interrupted:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(session.api, "call", calling)
    hosting = Hosting(session, CustomNamePolicy("cut", "cut", "cut", "cut"))
    model = {"PrimaryContainer": {"Image": "image"}, "ExecutionRoleArn": REQUEST["ExecutionRoleArn"]}
    with pytest.raises(KeyboardInterrupt):
        hosting.ensure_endpoint(model, {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}, [])
    assert not hosting.created
    sagemaker: Any = session.boto_session.client("sagemaker")
    endpoints = sagemaker.list_endpoints()["Endpoints"]
    assert {each["EndpointName"] for each in endpoints if each["EndpointStatus"] != "Deleting"} == {"sums"}
    assert [each["EndpointConfigName"] for each in sagemaker.list_endpoint_configs()["EndpointConfigs"]] == ["sums"]
    assert models(session) == ["sums"]

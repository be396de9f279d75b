"""Endpoints and transform jobs through other people's clients: `sagemaker` 2.x, the core of 3.x, and the AWS CLI."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

SAGEMAKER_2 = """
import boto3, io, json, sagemaker, tarfile
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer
from sagemaker.deserializers import BytesDeserializer

boto3.client("s3").create_bucket(Bucket="v2-hosting")
session = sagemaker.Session(boto3.Session(region_name="us-east-1"), default_bucket="v2-hosting")
archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w:gz") as tar:
    tar.addfile(tarfile.TarInfo("weights"), io.BytesIO())
boto3.client("s3").put_object(Bucket="v2-hosting", Key="model.tar.gz", Body=archive.getvalue())
model = Model(
    "hosted:1", "s3://v2-hosting/model.tar.gz", role="arn:aws:iam::000000000000:role/any", env={"VERSION": "7"},
    sagemaker_session=session, name="v2-model", predictor_cls=Predictor)
predictor = model.deploy(1, "ml.m5.large", endpoint_name="v2-endpoint",
    serializer=CSVSerializer(), deserializer=BytesDeserializer())
print("predicted", predictor.predict([[1, 2], [3, 4]]))
print("version", predictor.predict("version"), json.loads(predictor.predict("model /opt/ml/model")))
try:
    predictor.predict("status 400")
except Exception as error:
    print("refused", error)
boto3.client("s3").put_object(Bucket="v2-hosting", Key="rows/a.csv", Body=b"1,2\\n3,4\\n")
transformer = model.transformer(1, "ml.m5.large", strategy="MultiRecord", assemble_with="Line",
    output_path="s3://v2-hosting/transformed", accept="text/csv")
transformer.transform("s3://v2-hosting/rows/",
    content_type="text/csv", split_type="Line", join_source="Input", logs=True)
print("transformed", boto3.client("s3").get_object(Bucket="v2-hosting", Key="transformed/a.csv.out")["Body"].read())
predictor.delete_model()
predictor.delete_endpoint()
"""
SAGEMAKER_2_ESTIMATOR = """
import boto3, sagemaker
from sagemaker.deserializers import BytesDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput

s3 = boto3.client("s3")
s3.create_bucket(Bucket="v2-estimator")
s3.put_object(Bucket="v2-estimator", Key="train/a.csv", Body=b"1,2\\n")
session = sagemaker.Session(boto3.Session(region_name="us-east-1"), default_bucket="v2-estimator")
estimator = Estimator("hosted:1", "arn:aws:iam::000000000000:role/any", 1, "ml.m5.large",
    output_path="s3://v2-estimator/out", sagemaker_session=session)
estimator.fit({"train": TrainingInput("s3://v2-estimator/train/", content_type="text/csv")}, logs="All")
predictor = estimator.deploy(1, "ml.m5.large", deserializer=BytesDeserializer())
print("model", predictor.predict(b"model /opt/ml/model"))
transformer = estimator.transformer(1, "ml.m5.large", strategy="MultiRecord", assemble_with="Line",
    output_path="s3://v2-estimator/transformed")
transformer.transform("s3://v2-estimator/train/", content_type="text/csv", split_type="Line", wait=True, logs=False)
print("transformed", s3.get_object(Bucket="v2-estimator", Key="transformed/a.csv.out")["Body"].read())
predictor.delete_model()
predictor.delete_endpoint()
"""
SAGEMAKER_3 = """
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant

Model.create(
    model_name="v3-model", primary_container=ContainerDefinition(image="hosted:1", environment={"VERSION": "8"}),
    execution_role_arn="arn:aws:iam::000000000000:role/any")
EndpointConfig.create(endpoint_config_name="v3-config", production_variants=[ProductionVariant(
    variant_name="AllTraffic", model_name="v3-model", initial_instance_count=1, instance_type="ml.m5.large")])
endpoint = Endpoint.create(endpoint_name="v3-endpoint", endpoint_config_name="v3-config")
endpoint.wait_for_status("InService", poll=1)
answer = endpoint.invoke(body=b"version", content_type="text/csv", accept="text/csv")
print("answered", answer.body.read() if hasattr(answer.body, "read") else answer.body)
print("listed", [each.endpoint_name for each in Endpoint.get_all(name_contains="v3")])
endpoint.delete()
"""


@pytest.mark.parametrize("foreign", ["sagemaker-2"], indirect=True)
def test_a_model_is_deployed_asked_and_transforms_with_sagemaker_2(foreign: Client) -> None:
    """`deploy` waits for the endpoint, `predict` has the program's answers, and a Transformer joins its output."""
    printed = foreign.script(SAGEMAKER_2)
    for expected in (
        "predicted b'1,2\\n3,4'",
        "version b'7' ['weights']",
        'Received client error (400) from primary with message "no good"',
        "transformed b'1,2,1,2\\n3,4,3,4\\n'",
    ):
        assert expected in printed, printed


@pytest.mark.parametrize("foreign", ["sagemaker-2"], indirect=True)
def test_an_estimator_of_sagemaker_2_trains_deploys_and_transforms(foreign: Client) -> None:
    """`fit`, `deploy`, `predict` and a Transformer follow each other, as in AWS's notebooks."""
    printed = foreign.script(SAGEMAKER_2_ESTIMATOR)
    for expected in ("model b'[\"weights.txt\"]'", "transformed b'1,2\\n'"):
        assert expected in printed, printed


@pytest.mark.parametrize("foreign", ["sagemaker-3"], indirect=True)
def test_an_endpoint_of_the_core_of_sagemaker_3(foreign: Client) -> None:
    """Its resource classes create, wait for, invoke and list an endpoint."""
    printed = foreign.script(SAGEMAKER_3)
    assert "answered b'8'" in printed, printed
    assert "listed ['v3-endpoint']" in printed, printed


@pytest.mark.parametrize("foreign", ["aws-cli"], indirect=True)
def test_an_endpoint_of_the_aws_cli(foreign: Client) -> None:
    """A user types the commands, waits with the CLI's own waiters, and has the answer in a file."""
    role = "arn:aws:iam::000000000000:role/any"
    container = json.dumps({"Image": "hosted:1", "Environment": {"VERSION": "9"}})
    variant = {"VariantName": "v", "ModelName": "cli-model", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}

    def sagemaker(*words: str) -> None:
        foreign.run("aws", "sagemaker", *words)

    sagemaker(
        "create-model", "--model-name", "cli-model", "--primary-container", container, "--execution-role-arn", role
    )
    variants = json.dumps([variant])
    sagemaker("create-endpoint-config", "--endpoint-config-name", "cli-config", "--production-variants", variants)
    sagemaker("create-endpoint", "--endpoint-name", "cli", "--endpoint-config-name", "cli-config")
    sagemaker("wait", "endpoint-in-service", "--endpoint-name", "cli")
    invocation = ["invoke-endpoint", "--endpoint-name", "cli", "--content-type", "text/csv", "--body", "version"]
    printed = foreign.run("aws", "sagemaker-runtime", *invocation, "answer.txt", "--output", "json")
    assert json.loads(printed)["InvokedProductionVariant"] == "v"
    assert (foreign.folder / "answer.txt").read_text() == "9"
    sagemaker("delete-endpoint", "--endpoint-name", "cli")

"""Models and endpoint configurations through each transport: records that are checked, listed, tagged and deleted."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing import LocalSession

ARN = "arn:aws:sagemaker:us-east-1:000000000000:"
ROLE = "arn:aws:iam::000000000000:role/r"
CONTAINER = {"Image": "image", "ModelDataUrl": "s3://bucket/model.tar.gz", "Environment": {"A": "b"}}
SOURCE = {"CompressionType": "None"}
VARIANT = {"VariantName": "one", "ModelName": "model", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}


@pytest.fixture
def sagemaker(client: Callable[..., Any]) -> Any:
    s3 = client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="model.tar.gz", Body=b"")
    return client("sagemaker")


def _model(sagemaker: Any, name: str = "model", **others: Any) -> str:
    request = {"ModelName": name, "PrimaryContainer": CONTAINER, "ExecutionRoleArn": ROLE, **others}
    return str(sagemaker.create_model(**request)["ModelArn"])


def _config(sagemaker: Any, name: str = "config", **others: Any) -> str:
    request = {"EndpointConfigName": name, "ProductionVariants": [VARIANT], **others}
    return str(sagemaker.create_endpoint_config(**request)["EndpointConfigArn"])


def _refusal(call: Callable[..., Any], **params: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**params)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    return caught.value.response["Error"]["Message"]


def test_a_model_is_described_as_it_was_made(sagemaker: Any) -> None:
    """With SageMaker's defaults, and without its tags."""
    assert _model(sagemaker, Tags=[{"Key": "k", "Value": "v"}]) == f"{ARN}model/model"
    described = sagemaker.describe_model(ModelName="model")
    assert described["PrimaryContainer"] == {
        **CONTAINER,
        "Mode": "SingleModel",
        "ModelDataSource": {
            "S3DataSource": {"S3Uri": CONTAINER["ModelDataUrl"], "S3DataType": "S3Object", "CompressionType": "Gzip"}
        },
    }
    assert (described["ExecutionRoleArn"], described["EnableNetworkIsolation"]) == (ROLE, False)
    assert described["CreationTime"] <= dt.datetime.now(dt.timezone.utc)
    assert "Tags" not in described


@pytest.mark.parametrize(
    "container",
    [
        {"ModelDataUrl": "s3://bucket/other.tar.gz"},
        {"ModelDataUrl": "s3://bucket/model.tar"},
        {"ModelDataUrl": "s3://no-such-bucket/model.tar.gz"},
        {"ModelDataSource": {"S3DataSource": {**SOURCE, "S3Uri": "s3://bucket/folder/", "S3DataType": "S3Prefix"}}},
    ],
    ids=["key", "part of a key", "bucket", "prefix"],
)
def test_the_data_of_a_model_has_to_exist(sagemaker: Any, container: dict[str, Any]) -> None:
    """AWS's message names the place. Without data a model needs none."""
    message = _refusal(_model, sagemaker=sagemaker, PrimaryContainer={"Image": "image", **container})
    assert message.startswith("Could not find model data at s3://")
    assert _model(sagemaker, PrimaryContainer={"Image": "image"})


def test_a_configuration_is_described_as_it_was_made(sagemaker: Any) -> None:
    """A variant without a weight has the weight 1."""
    _model(sagemaker)
    assert _config(sagemaker) == f"{ARN}endpoint-config/config"
    described = sagemaker.describe_endpoint_config(EndpointConfigName="config")
    assert described["ProductionVariants"] == [{**VARIANT, "InitialVariantWeight": 1.0}]


@pytest.mark.parametrize("kind", ["model", "endpoint configuration"])
def test_names_are_unique_and_unknown_ones_are_errors(sagemaker: Any, kind: str) -> None:
    """The messages are AWS's."""
    _model(sagemaker)
    _config(sagemaker)
    if kind == "model":
        taken, arn = _refusal(_model, sagemaker=sagemaker), f"{ARN}model/model"
        calls, params = (sagemaker.describe_model, sagemaker.delete_model), {"ModelName": "none"}
    else:
        taken, arn = _refusal(_config, sagemaker=sagemaker), f"{ARN}endpoint-config/config"
        calls = (sagemaker.describe_endpoint_config, sagemaker.delete_endpoint_config)
        params = {"EndpointConfigName": "none"}
    assert taken == f'Cannot create already existing {kind} "{arn}".'
    missing = arn.rpartition("/")[0] + "/none"
    for call in calls:
        assert _refusal(call, **params) == f'Could not find {kind} "{missing}".'


def test_a_configuration_needs_its_models(sagemaker: Any) -> None:
    """A variant with an unknown model is refused with AWS's message."""
    assert _refusal(_config, sagemaker=sagemaker) == f'Could not find model "{ARN}model/model".'


def test_a_model_in_use_can_be_deleted(sagemaker: Any) -> None:
    """As on AWS: a configuration keeps the name. A deleted name can be used again."""
    _model(sagemaker)
    _config(sagemaker)
    sagemaker.delete_model(ModelName="model")
    assert sagemaker.describe_endpoint_config(EndpointConfigName="config")["ProductionVariants"]
    _model(sagemaker)
    sagemaker.delete_endpoint_config(EndpointConfigName="config")
    _config(sagemaker)


def test_resources_are_listed_in_pages(sagemaker: Any) -> None:
    """By name or by time, the newest first by default, as on AWS."""
    for name in ("a", "b", "c"):
        _model(sagemaker, name)
    first = sagemaker.list_models(SortBy="Name", SortOrder="Ascending", MaxResults=2)
    assert [model["ModelName"] for model in first["Models"]] == ["a", "b"]
    rest = sagemaker.list_models(SortBy="Name", SortOrder="Ascending", MaxResults=2, NextToken=first["NextToken"])
    assert [model["ModelName"] for model in rest["Models"]] == ["c"]
    assert "NextToken" not in rest
    assert [model["ModelName"] for model in sagemaker.list_models()["Models"]] == ["c", "b", "a"]
    assert [model["ModelName"] for model in sagemaker.list_models(NameContains="b")["Models"]] == ["b"]
    assert sagemaker.list_models(CreationTimeBefore=dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc))["Models"] == []
    assert "NextToken" in _refusal(sagemaker.list_models, NextToken=first["NextToken"])
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []


def test_resources_have_tags(sagemaker: Any, client: Callable[..., Any]) -> None:
    """They are found by type, and go with the resource."""
    arn = _model(sagemaker, Tags=[{"Key": "k", "Value": "v"}])
    config = _config(sagemaker, Tags=[{"Key": "k", "Value": "w"}])
    assert sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "l", "Value": "x"}])["Tags"] == [
        {"Key": "k", "Value": "v"},
        {"Key": "l", "Value": "x"},
    ]
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["l"])
    assert sagemaker.list_tags(ResourceArn=config)["Tags"] == [{"Key": "k", "Value": "w"}]
    tagging = client("resourcegroupstaggingapi")
    found = tagging.get_resources(ResourceTypeFilters=["sagemaker:model"])["ResourceTagMappingList"]
    assert [each["ResourceARN"] for each in found] == [arn]
    assert len(tagging.get_resources(ResourceTypeFilters=["sagemaker"])["ResourceTagMappingList"]) == 2
    sagemaker.delete_model(ModelName="model")
    assert "Could not find" in _refusal(sagemaker.list_tags, ResourceArn=arn)


@pytest.mark.parametrize(
    ("operation", "change", "message"),
    [
        ("create_model", {"Tags": [{"Key": "aws:a", "Value": ""}]}, "Tags[0].Key: 'aws:a' begins with aws:"),
        (
            "create_model",
            {"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]},
            "Tags[1].Key: 'a' is also Tags[0].Key",
        ),
        (
            "create_model",
            {"PrimaryContainer": {**CONTAINER, "Environment": {"A": "b\0"}}},
            "PrimaryContainer.Environment.A: contains a NUL",
        ),
        ("add_tags", {"Tags": [{"Key": "AWS:a", "Value": ""}]}, "Tags[0].Key: 'AWS:a' begins with aws:"),
        ("create_endpoint", {"Tags": [{"Key": "aws:a", "Value": ""}]}, "Tags[0].Key: 'aws:a' begins with aws:"),
    ],
)
def test_tags_and_characters_that_aws_refuses(
    sagemaker: Any, operation: str, change: dict[str, Any], message: str
) -> None:
    """They are refused by each operation, as for processing jobs."""
    arn = _model(sagemaker, "present")
    requests: dict[str, dict[str, Any]] = {
        "create_model": {"ModelName": "model", "PrimaryContainer": CONTAINER, "ExecutionRoleArn": ROLE},
        "create_endpoint": {"EndpointName": "one", "EndpointConfigName": "config"},
        "add_tags": {"ResourceArn": arn},
    }
    assert message in _refusal(getattr(sagemaker, operation), **{**requests[operation], **change})


def test_an_infinite_weight_is_refused(local_session: LocalSession) -> None:
    """No client can send it over HTTP."""
    sagemaker = local_session.boto_session.client("sagemaker")
    _model(sagemaker, PrimaryContainer={"Image": "image"})
    refused = _refusal(_config, sagemaker=sagemaker, ProductionVariants=[{**VARIANT, "InitialVariantWeight": math.inf}])
    assert refused == "ProductionVariants[0].InitialVariantWeight: inf is not a finite number"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PrimaryContainer": {"ModelDataUrl": "s3://b/m.tar.gz"}}, "Image is missing"),
        ({"PrimaryContainer": {**CONTAINER, "Mode": "MultiModel"}}, "no multi-model endpoints"),
        ({"PrimaryContainer": {"Image": "i", "ModelPackageName": "p"}}, "does not have a model package"),
        ({"Containers": [CONTAINER]}, "either PrimaryContainer or Containers"),
        ({"ModelName": "no_underscores"}, "regular expression pattern"),
        ({"PrimaryContainer": {"Image": "i", "ModelDataUrl": "ftp://x"}}, "regular expression pattern"),
    ],
)
def test_models_that_cannot_be_served_are_refused(sagemaker: Any, change: dict[str, Any], message: str) -> None:
    """The message names the member and the feature."""
    assert message in _refusal(_model, sagemaker=sagemaker, **change)


@pytest.mark.parametrize(
    ("variants", "others", "message"),
    [
        ([VARIANT, VARIANT], {}, "The VariantName one is used more than once"),
        ([{**VARIANT, "VolumeSizeInGB": 999}], {}, "less than or equal to 512"),
        ([{**VARIANT, "InstanceType": "ml.none"}], {}, "enum value set"),
        ([{"VariantName": "one", "ModelName": "model"}], {}, "InstanceType is missing"),
        (
            [
                {
                    "VariantName": "one",
                    "ModelName": "model",
                    "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
                }
            ],
            {},
            "does not have serverless endpoints",
        ),
        ([VARIANT], {"ShadowProductionVariants": [{**VARIANT, "VariantName": "two"}]}, "shadow variants"),
    ],
)
def test_configurations_that_cannot_run_are_refused(
    sagemaker: Any, variants: list[dict[str, Any]], others: dict[str, Any], message: str
) -> None:
    """The message names the variant and the feature."""
    _model(sagemaker)
    assert message in _refusal(_config, sagemaker=sagemaker, ProductionVariants=variants, **others)

"""The frozen request and its form for boto3."""

from __future__ import annotations

import datetime as dt
import pathlib
import uuid
from decimal import Decimal
from typing import Any, cast

import attrs
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from processing import (
    AthenaDatasetDefinition,
    ConfigurationError,
    DatasetDefinition,
    FeatureStoreOutput,
    NetworkConfig,
    ProcessingInput,
    ProcessingOutput,
    RedshiftDatasetDefinition,
    S3Input,
)
from processing.request.build import ProcessingRequest, build_request, request_from_describe
from processing.request.service_model import processing_model, violations
from processing.request.validate import check_request

REQUEST: Any = processing_model().operation_model("CreateProcessingJob").input_shape
ROLE = "arn:aws:iam::123456789012:role/etl"
MINIMAL: dict[str, Any] = {
    "job_name": "job",
    "role_arn": ROLE,
    "image_uri": "image",
    "instance_count": 1,
    "instance_type": "ml.m5.xlarge",
}

words = st.text("abcXYZ019-", min_size=1, max_size=12).map(lambda text: "a" + text.replace("-", "x"))
container_paths = words.map(lambda word: f"/opt/ml/processing/in/{word}")
output_paths = words.map(lambda word: f"/opt/ml/processing/out/{word}")
uris = words.map(lambda word: f"s3://bucket/{word}")
s3_inputs = st.builds(
    ProcessingInput,
    source=uris,
    destination=container_paths,
    input_name=words,
    s3_data_type=st.sampled_from(["S3Prefix", "ManifestFile"]),
    s3_input_mode=st.just("Pipe"),
    s3_data_distribution_type=st.sampled_from(["FullyReplicated", "ShardedByS3Key"]),
    s3_compression_type=st.sampled_from([None, "None", "Gzip"]),
    app_managed=st.booleans(),
)
athena = st.builds(
    AthenaDatasetDefinition, words, words, words, uris, work_group=st.none() | words, output_format=st.just("PARQUET")
)
redshift = st.builds(
    RedshiftDatasetDefinition, words, words, words, words, st.just(ROLE), uris, output_format=st.just("CSV")
)
datasets = st.builds(
    ProcessingInput,
    input_name=words,
    dataset_definition=st.one_of(
        st.builds(DatasetDefinition, local_path=container_paths, athena_dataset_definition=athena),
        st.builds(DatasetDefinition, local_path=container_paths, redshift_dataset_definition=redshift),
    ),
)
outputs = st.one_of(
    st.builds(ProcessingOutput, output_paths, uris, words, st.sampled_from(["EndOfJob", "Continuous"]), st.booleans()),
    st.builds(
        ProcessingOutput,
        output_name=words,
        app_managed=st.just(True),  # noqa: FBT003 - a positional call is the rule
        feature_store_output=st.builds(FeatureStoreOutput, words),
    ),
)
networks = st.builds(
    NetworkConfig,
    st.booleans(),
    st.lists(words, min_size=1, max_size=5),
    st.lists(words, min_size=1, max_size=5),
    st.none() | st.booleans(),
)


def unique(entries: st.SearchStrategy[Any], name: str, path: Any) -> st.SearchStrategy[Any]:
    """Lists of entries of which no two have the same name or path."""
    return st.lists(entries, max_size=5, unique_by=(lambda entry: getattr(entry, name), path))


requests = st.builds(
    build_request,
    job_name=words,
    role_arn=st.just(ROLE),
    image_uri=words,
    instance_count=st.integers(1, 100),
    instance_type=st.sampled_from(["ml.m5.xlarge", "ml.t3.medium"]),
    entrypoint=st.none() | st.lists(words, max_size=3),
    arguments=st.none() | st.lists(st.text("ab -=", min_size=1, max_size=9), max_size=3),
    environment=st.none()
    | st.dictionaries(words, st.text(max_size=9).map(lambda text: text.replace("\0", "")), max_size=3),
    inputs=unique(
        s3_inputs | datasets, "input_name", lambda entry: entry.destination or entry.dataset_definition.local_path
    ),
    outputs=unique(outputs, "output_name", lambda entry: entry.source or id(entry)),
    volume_size_in_gb=st.integers(1, 16384),
    volume_kms_key=st.none() | words,
    output_kms_key=st.none() | words,
    max_runtime_in_seconds=st.none() | st.integers(1, 777600),
    tags=st.none() | st.dictionaries(words, words, max_size=3),
    network_config=st.none() | networks,
    experiment_config=st.none() | st.dictionaries(st.sampled_from(["ExperimentName", "TrialName"]), words),
)


@given(request_=requests)
def test_valid_for_us_and_for_botocore(request_: ProcessingRequest) -> None:
    """A request of valid parts passes our check, the model and botocore's own validator."""
    boto = request_.to_boto()
    check_request(request_)
    assert violations(REQUEST, boto) == []
    assert not ParamValidator().validate(boto, REQUEST).has_errors()


@given(request_=requests)
def test_round_trip_through_describe(request_: ProcessingRequest) -> None:
    """From what Describe answers comes the request that was sent, but for the tags, which it does not answer."""
    boto = request_.to_boto()
    boto.pop("Tags", None)
    if "ProcessingOutputConfig" not in boto:  # a key for outputs is not sent where there are none
        request_ = attrs.evolve(request_, output_kms_key=None)
    answer = {**boto, "ProcessingJobArn": "arn", "ProcessingJobStatus": "InProgress", "CreationTime": 1}
    assert request_from_describe(answer).to_boto() == boto


@given(request_=requests)
def test_to_boto_is_new_each_time(request_: ProcessingRequest) -> None:
    """The dictionary is the caller's: emptying it, all the way down, changes no other one."""
    before = request_.to_boto()

    def empty(value: Any) -> None:
        for member in list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()):
            empty(member)
        if isinstance(value, (dict, list)):
            value.clear()

    empty(request_.to_boto())
    assert request_.to_boto() == before
    hash(request_)


def test_minimal() -> None:
    """Omitted values are absent."""
    assert build_request(**MINIMAL).to_boto() == {
        "ProcessingJobName": "job",
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 30}
        },
        "AppSpecification": {"ImageUri": "image"},
        "RoleArn": ROLE,
    }


def test_everything() -> None:
    """The exact dictionary of a request in which everything is given: v2's."""
    request = build_request(
        **MINIMAL,
        entrypoint=["python3", cast("str", pathlib.PurePosixPath("/opt/ml/processing/input/code/x.py"))],
        arguments=["--n", "1"],
        environment={"A": "b"},
        inputs=[
            ProcessingInput("s3://b/in", "/opt/ml/processing/in", "in"),
            ProcessingInput(s3_input=S3Input("s3://b/x", "/opt/ml/processing/x", s3_input_mode="Pipe"), input_name="x"),
        ],
        outputs=[ProcessingOutput("/opt/ml/processing/out", "s3://b/out", "out", "Continuous")],
        volume_kms_key="volume",
        output_kms_key="output",
        max_runtime_in_seconds=60,
        tags=[{"Key": "k", "Value": "v"}],
        network_config=NetworkConfig(
            enable_network_isolation=True,
            security_group_ids=["sg-1"],
            subnets=["subnet-1"],
            encrypt_inter_container_traffic=True,
        ),
        experiment_config={"ExperimentName": "e"},
    )
    assert request.to_boto() == {
        "ProcessingJobName": "job",
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": "ml.m5.xlarge",
                "VolumeSizeInGB": 30,
                "VolumeKmsKeyId": "volume",
            }
        },
        "AppSpecification": {
            "ImageUri": "image",
            "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/x.py"],
            "ContainerArguments": ["--n", "1"],
        },
        "RoleArn": ROLE,
        "Environment": {"A": "b"},
        "ProcessingInputs": [
            {
                "InputName": "in",
                "AppManaged": False,
                "S3Input": {
                    "S3Uri": "s3://b/in",
                    "LocalPath": "/opt/ml/processing/in",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                    "S3DataDistributionType": "FullyReplicated",
                    "S3CompressionType": "None",
                },
            },
            {
                "InputName": "x",
                "AppManaged": False,
                "S3Input": {
                    "S3Uri": "s3://b/x",
                    "LocalPath": "/opt/ml/processing/x",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "Pipe",
                    "S3DataDistributionType": "FullyReplicated",
                },
            },
        ],
        "ProcessingOutputConfig": {
            "KmsKeyId": "output",
            "Outputs": [
                {
                    "OutputName": "out",
                    "AppManaged": False,
                    "S3Output": {
                        "S3Uri": "s3://b/out",
                        "LocalPath": "/opt/ml/processing/out",
                        "S3UploadMode": "Continuous",
                    },
                }
            ],
        },
        "NetworkConfig": {
            "EnableNetworkIsolation": True,
            "EnableInterContainerTrafficEncryption": True,
            "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "Tags": [{"Key": "k", "Value": "v"}],
        "ExperimentConfig": {"ExperimentName": "e"},
    }


def test_nothing_given_is_kept() -> None:
    """A change to what was given, or to what is handed out, changes no request."""
    entry = ProcessingInput("s3://b/in", "/opt/ml/processing/in", "in")
    network = NetworkConfig(subnets=["a"], security_group_ids=["b"])
    arguments, environment = ["x"], {"A": "b"}
    request = build_request(
        **MINIMAL, inputs=[entry], network_config=network, arguments=arguments, environment=environment
    )
    before = request.to_boto()
    entry.source = "s3://other"
    network.subnets = []
    arguments.append("y")
    environment.clear()
    request.inputs[0].source = "s3://other"
    assert request.network_config is not None
    assert request.network_config.subnets is not None
    request.network_config.subnets.append("c")
    assert request.to_boto() == before


def test_frozen() -> None:
    """The request has no attribute that can be set."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        build_request(**MINIMAL).job_name = "other"  # type: ignore[misc]


def test_with_name() -> None:
    """A request under another name is otherwise equal."""
    request = build_request(**MINIMAL)
    assert request.with_name("other").with_name("job") == request
    assert request.with_name("other").to_boto()["ProcessingJobName"] == "other"


def test_preferences() -> None:
    """Instance preferences are names, or names with counts; the type itself stays absent."""
    request = build_request(
        **{**MINIMAL, "instance_type": None, "instance_count": None},
        instance_preferences=["ml.m5.xlarge", {"InstanceType": "ml.m5.large", "InstanceCount": 2}],
    )
    assert request.to_boto()["ProcessingResources"]["ClusterConfig"] == {
        "InstancePreferences": [{"InstanceType": "ml.m5.xlarge"}, {"InstanceType": "ml.m5.large", "InstanceCount": 2}],
        "VolumeSizeInGB": 30,
    }


@pytest.mark.parametrize(
    ("given_", "field"),
    [
        ({"environment": ["A"]}, "env:"),
        ({"tags": "k"}, "tags:"),
        ({"tags": [{"Key": "k"}]}, r"tags\[0\]:"),
        ({"instance_preferences": "ml.m5.xlarge"}, "instance_preferences:"),
        ({"instance_preferences": [5]}, r"instance_preferences\[0\]:"),
        ({"experiment_config": 5}, "experiment_config:"),
    ],
)
def test_values_in_the_wrong_form(given_: dict[str, Any], field: str) -> None:
    """The error names the field of a value in the wrong form, such as a tag without a value."""
    with pytest.raises(ConfigurationError, match=field):
        build_request(**MINIMAL, **given_)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (42, "42"),
        (True, "True"),
        (1.5, "1.5"),
        (Decimal("1.50"), "1.50"),
        (dt.date(2024, 5, 1), "2024-05-01"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/data"), "/data"),
    ],
)
def test_plain_values_in_tags_become_text(value: Any, text: str) -> None:
    """A number, a date or a path in a tag is its `str`, in a dictionary and in a list."""
    for tags in ({"k": value, value: "v"}, [{"Key": "k", "Value": value}, {"Key": value, "Value": "v"}]):
        request = build_request(**MINIMAL, tags=tags)
        check_request(request)
        assert request.to_boto()["Tags"] == [{"Key": "k", "Value": text}, {"Key": text, "Value": "v"}]


@pytest.mark.parametrize("value", [None, b"x", ["x"], {"x": 1}, object()])
def test_other_values_in_tags_are_refused(value: Any) -> None:
    """A tag without a text is a mistake, and the error names it."""
    with pytest.raises(ConfigurationError, match=r"tags\[0\]\.Value"):
        check_request(build_request(**MINIMAL, tags={"k": value}))


def test_empty_lists_count_as_none() -> None:
    """AWS refuses empty lists of arguments; what the user means by one is no arguments."""
    boto = build_request(**MINIMAL, arguments=[], entrypoint=[], inputs=[], outputs=[]).to_boto()
    assert boto == build_request(**MINIMAL).to_boto()


def test_the_attributes_of_the_models_are_members_of_the_service() -> None:
    """Each attribute of a dataset definition has a member of the service behind it."""
    athena_all = AthenaDatasetDefinition("c", "d", "q", "s3://b/k", "w", "k", "PARQUET", "GZIP")
    redshift_all = RedshiftDatasetDefinition("c", "d", "u", "q", ROLE, "s3://b/k", "k", "CSV", "GZIP")
    for definition in (
        DatasetDefinition(
            local_path="/opt/ml/processing/d",
            athena_dataset_definition=athena_all,
        ),
        DatasetDefinition(local_path="/opt/ml/processing/d", redshift_dataset_definition=redshift_all),
    ):
        request = build_request(**MINIMAL, inputs=[ProcessingInput(input_name="d", dataset_definition=definition)])
        check_request(request)
        assert not ParamValidator().validate(request.to_boto(), REQUEST).has_errors()

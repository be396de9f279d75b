"""The values that users pass to a processor."""

from __future__ import annotations

from pathlib import PurePath, PurePosixPath, PureWindowsPath

import pytest

from processing import (
    AthenaDatasetDefinition,
    DatasetDefinition,
    FeatureStoreOutput,
    NetworkConfig,
    ProcessingInput,
    ProcessingOutput,
    S3Input,
)


@pytest.mark.parametrize("kind", [PurePath, PurePosixPath, PureWindowsPath])
def test_container_paths_have_forward_slashes(kind: type[PurePath]) -> None:
    """A `pathlib` path of any system becomes a container path; text does not change."""
    path = kind("/opt/ml/processing") / "x"
    assert ProcessingInput("s", path).destination == "/opt/ml/processing/x"
    assert ProcessingOutput(path).source == "/opt/ml/processing/x"
    assert ProcessingInput("s", r"/opt\x").destination == r"/opt\x"


def test_reuse_is_asked_for_by_name() -> None:
    """`reuse` is not part of v2's positional order, and False by default."""
    assert not ProcessingInput("s", "/d").reuse
    assert ProcessingInput("s", "/d", reuse=True) != ProcessingInput("s", "/d")


def test_models_give_boto3_s_dictionaries() -> None:
    """`_to_request_dict` of inputs, outputs and networks gives the members of CreateProcessingJob, as in 2.x."""
    entry = ProcessingInput("s3://b/k", "/opt/ml/processing/x", "i", s3_data_distribution_type="ShardedByS3Key")
    assert entry._to_request_dict() == {
        "InputName": "i",
        "AppManaged": False,
        "S3Input": {
            "S3Uri": "s3://b/k",
            "LocalPath": "/opt/ml/processing/x",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "ShardedByS3Key",
            "S3CompressionType": "None",
        },
    }
    written = ProcessingOutput("/opt/ml/processing/o", output_name="n")._to_request_dict()
    s3_output = {"S3Uri": None, "LocalPath": "/opt/ml/processing/o", "S3UploadMode": "EndOfJob"}
    assert written == {"OutputName": "n", "AppManaged": False, "S3Output": s3_output}
    store = ProcessingOutput(output_name="n", app_managed=True, feature_store_output=FeatureStoreOutput("group"))
    assert store._to_request_dict() == {
        "OutputName": "n",
        "AppManaged": True,
        "FeatureStoreOutput": {"FeatureGroupName": "group"},
    }
    assert NetworkConfig()._to_request_dict() == {"EnableNetworkIsolation": False}
    assert NetworkConfig(enable_network_isolation=True, subnets=["subnet-1"])._to_request_dict() == {
        "EnableNetworkIsolation": True,
        "VpcConfig": {"Subnets": ["subnet-1"]},
    }
    encrypted = NetworkConfig(encrypt_inter_container_traffic=False)._to_request_dict()
    assert encrypted == {"EnableNetworkIsolation": False, "EnableInterContainerTrafficEncryption": False}


def test_gzip_needs_the_pipe_mode() -> None:
    """`_to_request_dict` refuses a compressed input in the File mode, as in 2.x."""
    with pytest.raises(ValueError, match="Data can only be gzipped when the input mode is Pipe"):
        ProcessingInput("s3://b/k", "/opt/ml/processing/x", s3_compression_type="Gzip")._to_request_dict()


def test_models_are_converted_both_ways() -> None:
    """`to_boto` and `from_boto` of the definitions are those of 2.x: absent members keep their defaults."""
    query = AthenaDatasetDefinition(catalog="c", database="d", kms_key_id="k")
    definition = DatasetDefinition(local_path="/opt/ml/processing/x", athena_dataset_definition=query)
    boto = {
        "DataDistributionType": "ShardedByS3Key",
        "InputMode": "File",
        "LocalPath": "/opt/ml/processing/x",
        "AthenaDatasetDefinition": {"Catalog": "c", "Database": "d", "KmsKeyId": "k"},
    }
    assert DatasetDefinition.to_boto(definition) == boto
    assert DatasetDefinition.from_boto({**boto, "ResponseMetadata": {}}) == definition
    assert DatasetDefinition.from_boto({}) == DatasetDefinition()
    assert DatasetDefinition.from_boto(None) is None
    assert S3Input.from_boto({"S3Uri": "s3://b/k"}, local_path="/x") == S3Input("s3://b/k", "/x")

"""`sagemaker` 2.x: the same models give the same dictionaries for boto3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import processing

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

CLIENT = "sagemaker-2"
EXPRESSIONS = (
    "NetworkConfig()._to_request_dict()",
    "NetworkConfig(True, ['sg-1'], ['subnet-1'], True)._to_request_dict()",
    "NetworkConfig(subnets=[], encrypt_inter_container_traffic=False)._to_request_dict()",
    "ProcessingInput('s3://b/k', '/opt/ml/processing/x', 'i')._to_request_dict()",
    "ProcessingInput('s3://b/k', '/x', s3_input_mode='Pipe', s3_compression_type='Gzip')._to_request_dict()",
    "ProcessingInput(input_name='i', s3_input=S3Input('s3://b/k', '/x'))._to_request_dict()",
    "ProcessingInput(dataset_definition=DatasetDefinition('FullyReplicated', 'Pipe', '/x'))._to_request_dict()",
    "DatasetDefinition.to_boto(DatasetDefinition(athena_dataset_definition=AthenaDatasetDefinition('c', 'd')))",
    "ProcessingOutput()._to_request_dict()",
    "ProcessingOutput('/x')._to_request_dict()",
    "ProcessingOutput('/x', 's3://b/o', 'n', 'Continuous', True)._to_request_dict()",
    "ProcessingOutput(feature_store_output=FeatureStoreOutput(feature_group_name='g'))._to_request_dict()",
    "S3Input.to_boto(S3Input('s3://b/k', '/x', s3_compression_type='None'))",
    "RedshiftDatasetDefinition.to_boto(RedshiftDatasetDefinition('c', cluster_role_arn='r', output_s3_uri='s3://o'))",
    "DatasetDefinition.to_boto(DatasetDefinition.from_boto({'AthenaDatasetDefinition': {'OutputS3Uri': 's3://o'}}))",
    "S3Input.to_boto(S3Input.from_boto({'S3Uri': 's3://b/k', 'S3DataType': 'ManifestFile'}, local_path='/x'))",
    "[sorted(each.items()) for each in processor({'cost': 42, 'ratio': 1.5, 'live': True, 3: 'x'})]",
)
SCRIPT = """
import json
import boto3, sagemaker
from sagemaker.dataset_definition.inputs import *
from sagemaker.network import NetworkConfig
from sagemaker.processing import *

def processor(tags):
    session = sagemaker.Session(boto3.Session(region_name="us-east-1"))
    role = "arn:aws:iam::123456789012:role/r"
    return Processor(role, "i", 1, "ml.m5.large", tags=tags, sagemaker_session=session).tags

print("RESULT" + json.dumps([eval(each) for each in EXPRESSIONS]))
"""


def _tags(tags: dict[Any, Any]) -> Any:
    session = processing.Session(region_name="us-east-1", default_bucket="b")
    role = "arn:aws:iam::123456789012:role/r"
    made = processing.Processor(role, "i", 1, "ml.m5.large", tags=tags, sagemaker_session=session)
    return made.request().to_boto()["Tags"]


def test_models_give_the_same_dictionaries(foreign: Client) -> None:
    """`_to_request_dict`, `to_boto` and the tags of a dictionary are those of 2.x."""
    printed = foreign.script(f"EXPRESSIONS = {EXPRESSIONS!r}\n{SCRIPT}").partition("RESULT")[2]
    theirs = json.loads(printed.splitlines()[0])
    names = {name: getattr(processing, name) for name in processing.__all__}
    ours = [eval(each, {**names, "processor": _tags}) for each in EXPRESSIONS]
    assert json.loads(json.dumps(ours)) == theirs

"""The config file: what AWS is sent with it, for processors that are given much or nothing."""

import copy
import json
import os
import pathlib

import boto3
import sagemaker
from sagemaker.dataset_definition.inputs import (
    AthenaDatasetDefinition,
    DatasetDefinition,
    RedshiftDatasetDefinition,
)
from sagemaker.network import NetworkConfig
from sagemaker.processing import ProcessingInput, ProcessingOutput, Processor

pathlib.Path("admin.yaml").write_text("""
SchemaVersion: '1.0'
CustomParameters: {Anything: goes}
SageMaker:
  PythonSDK:
    Modules:
      Session: {DefaultS3Bucket: config-bucket, DefaultS3ObjectKeyPrefix: admin/prefix}
      RemoteFunction: {InstanceType: ml.m5.large}
  TrainingJob: {RoleArn: 'arn:aws:iam::000000000000:role/training'}
  ProcessingJob:
    RoleArn: arn:aws:iam::000000000000:role/admin
    Environment: {STAGE: admin, ONLY: admin}
    Tags: [{Key: team, Value: admin}, {Key: cost, Value: '17'}]
    NetworkConfig:
      EnableNetworkIsolation: true
      EnableInterContainerTrafficEncryption: true
      VpcConfig: {SecurityGroupIds: [sg-1], Subnets: [subnet-1, subnet-2]}
    ProcessingInputs:
    - DatasetDefinition: {AthenaDatasetDefinition: {KmsKeyId: athena-key}}
    - DatasetDefinition:
        RedshiftDatasetDefinition: {KmsKeyId: redshift-key, ClusterRoleArn: 'arn:aws:iam::000000000000:role/cluster'}
    ProcessingOutputConfig: {KmsKeyId: output-key}
    ProcessingResources: {ClusterConfig: {VolumeKmsKeyId: volume-key}}
""")
pathlib.Path("user").mkdir()
pathlib.Path("user/config.yaml").write_text("""
SchemaVersion: '1.0'
SageMaker:
  PythonSDK: {Modules: {Session: {DefaultS3ObjectKeyPrefix: user}}}
  ProcessingJob:
    Environment: {STAGE: user}
    Tags: [{Key: team, Value: user}]
    NetworkConfig: {VpcConfig: {Subnets: [subnet-9]}}
""")
pathlib.Path("partly.yaml").write_text("""
SchemaVersion: '1.0'
SageMaker:
  PythonSDK: {Modules: {Session: {DefaultS3Bucket: config-bucket}}}
  ProcessingJob: {NetworkConfig: {EnableInterContainerTrafficEncryption: true}}
""")


def query(kind, number):
    athena = AthenaDatasetDefinition("c", "d", "select 1", "s3://b/out", output_format="PARQUET")
    redshift = RedshiftDatasetDefinition(
        "c", "d", "u", "select 1", "arn:aws:iam::000000000000:role/mine", "s3://b/o", None, "CSV"
    )
    return DatasetDefinition(
        local_path=f"/opt/ml/processing/input/query{number}",
        athena_dataset_definition=athena if kind == "athena" else None,
        redshift_dataset_definition=redshift if kind == "redshift" else None,
    )


def queries(*kinds):
    return [ProcessingInput(input_name=f"q{i}", dataset_definition=query(kind, i)) for i, kind in enumerate(kinds)]


boto3.client("s3").create_bucket(Bucket="config-bucket")
ROLE = "arn:aws:iam::000000000000:role/given"
given = {
    "nothing": {},
    "much": {
        "role": ROLE,
        "env": {"MINE": "1"},
        "tags": [{"Key": "team", "Value": "mine"}, {"Key": "x", "Value": "y"}],
        "volume_kms_key": "mine",
        "output_kms_key": "mine",
        "network_config": NetworkConfig(False, ["sg-other"], ["subnet-mine"]),
    },
    "little": {"role": ROLE, "env": {}, "tags": [], "network_config": NetworkConfig(security_group_ids=["sg-mine"])},
}
inputs = {"nothing": queries("athena", "athena"), "much": queries("redshift", "redshift"), "little": []}
for case, (admin, user) in enumerate(
    (("admin.yaml", "user"), ("admin.yaml", "partly.yaml"), ("partly.yaml", "user"), ("user", "partly.yaml"))
):
    os.environ["SAGEMAKER_ADMIN_CONFIG_OVERRIDE"] = os.path.abspath(admin)
    os.environ["SAGEMAKER_USER_CONFIG_OVERRIDE"] = os.path.abspath(user)
    session = sagemaker.Session()
    print("RESULT", session.default_bucket(), session.default_bucket_prefix)
    for name, options in copy.deepcopy(given).items():  # a processor of 2.x writes into what it is given
        request = {}
        session.sagemaker_client.meta.events.register(
            "before-parameter-build.sagemaker.CreateProcessingJob", lambda params, **_: request.update(params)
        )
        try:
            processor = Processor(
                **{"role": None, **options},
                image_uri="image",
                entrypoint=["true"],
                instance_count=1,
                instance_type="ml.m5.large",
                sagemaker_session=session,
            )
            output = ProcessingOutput(source="/opt/ml/processing/out", output_name="out")
            processor.run(inputs[name], [output], wait=False, logs=False, job_name=f"{name}-{case}")
        except ValueError:  # no role anywhere
            print("RESULT", name, "ValueError")
            continue
        except Exception:  # the engine runs no queries, and every name has one job
            pass
        print("RESULT", name, json.dumps(request, sort_keys=True))

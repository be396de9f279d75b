"""XGBoost on the engine, as on AWS: a training job, an endpoint, a transform job, and the library's predictions."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sklearn.datasets
import xgboost

from processing import LocalSession
from processing.local.programs import csv_rows, libsvm, recordio
from processing.local.programs.rows import from_dense
from processing.local.sandboxes.bubblewrap import Bubblewrap
from processing.local.sandboxes.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
ROLE = "arn:aws:iam::000000000000:role/learning"
FEATURES, TARGETS = sklearn.datasets.load_diabetes(return_X_y=True)
TRAINED, HELD_OUT = slice(0, 400), slice(400, None)
BODIES = {
    "text/csv": csv_rows.write(FEATURES[HELD_OUT]),
    "text/libsvm": libsvm.write(from_dense(FEATURES[HELD_OUT])),
    "application/x-recordio-protobuf": recordio.encode(FEATURES[HELD_OUT]),
}
# The engine's jobs take seconds, and botocore's waiters ask every 30 or 60 seconds.
PATIENCE = {"Delay": 0.1, "MaxAttempts": 3000}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[LocalSession]:
    """Return an engine of the test's own, without endpoints at its end."""
    if Bubblewrap.probe()[0] is None and Namespaces.probe()[0] is None:
        pytest.fail("this machine gives programs no network of their own: install bubblewrap")
    made = LocalSession(tmp_path / "engine", tick=0.02)
    yield made
    sagemaker: Any = made.boto_session.client("sagemaker")
    for endpoint in sagemaker.list_endpoints()["Endpoints"]:
        sagemaker.delete_endpoint(EndpointName=endpoint["EndpointName"])
        sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=endpoint["EndpointName"], WaiterConfig=PATIENCE)


def channel(name: str, uri: str, content_type: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "ContentType": content_type, "DataSource": {"S3DataSource": source}}


def expected() -> list[float]:
    """Return what the library itself predicts."""
    parameters = {"objective": "reg:squarederror", "max_depth": 3}
    booster = xgboost.train(parameters, xgboost.DMatrix(FEATURES[TRAINED], TARGETS[TRAINED]), 20)
    predictions: list[float] = booster.predict(xgboost.DMatrix(FEATURES[HELD_OUT])).tolist()
    return predictions


def numbers(answer: bytes) -> list[float]:
    """Return the predictions in CSV, as the library's type."""
    values: list[float] = np.array(answer.split(), np.float32).tolist()
    return values


def train(session: LocalSession) -> dict[str, Any]:
    """Train in a job, and return its description."""
    s3: Any = session.boto_session.client("s3")
    sagemaker: Any = session.boto_session.client("sagemaker")
    s3.create_bucket(Bucket="data")
    for name, rows in (("train", TRAINED), ("validation", HELD_OUT)):
        table = np.column_stack([TARGETS[rows], FEATURES[rows]])
        s3.put_object(Bucket="data", Key=f"{name}/data.csv", Body=csv_rows.write(table))
    sagemaker.create_training_job(
        TrainingJobName="diabetes",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters={"num_round": "20", "objective": "reg:squarederror", "max_depth": "3"},
        InputDataConfig=[channel(name, f"s3://data/{name}/", "text/csv") for name in ("train", "validation")],
        OutputDataConfig={"S3OutputPath": "s3://data/out/"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        RoleArn=ROLE,
    )
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="diabetes", WaiterConfig=PATIENCE)
    described: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName="diabetes")
    return described


def test_predictions_are_the_librarys_all_the_way(session: LocalSession) -> None:
    """Endpoint and transform predict what the library predicts, from CSV, libsvm and RecordIO alike."""
    sagemaker: Any = session.boto_session.client("sagemaker")
    runtime: Any = session.boto_session.client("sagemaker-runtime")
    s3: Any = session.boto_session.client("s3")
    job = train(session)
    assert job["TrainingJobStatus"] == "Completed"
    lines = session.boto_session.client("logs").filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs")["events"]
    assert [line["message"] for line in lines if "#011validation-rmse:" in line["message"]]

    container = {"Image": IMAGE, "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"]}
    sagemaker.create_model(ModelName="diabetes", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "all", "ModelName": "diabetes", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="diabetes", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="diabetes", EndpointConfigName="diabetes")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="diabetes", WaiterConfig=PATIENCE)
    for content_type, body in BODIES.items():
        answer = runtime.invoke_endpoint(EndpointName="diabetes", ContentType=content_type, Body=body)
        assert answer["ContentType"] == "text/csv"
        assert numbers(answer["Body"].read()) == expected(), content_type

    for number, (content_type, body) in enumerate(BODIES.items()):
        s3.put_object(Bucket="data", Key=f"batch-{number}/rows", Body=body)
        sagemaker.create_transform_job(
            TransformJobName=f"batch-{number}",
            ModelName="diabetes",
            BatchStrategy="MultiRecord",
            TransformInput={
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://data/batch-{number}/"}},
                "ContentType": content_type,
                "SplitType": "RecordIO" if "recordio" in content_type else "Line",
            },
            TransformOutput={"S3OutputPath": f"s3://data/out-{number}", "AssembleWith": "Line"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        )
    for number in range(len(BODIES)):
        waiter = sagemaker.get_waiter("transform_job_completed_or_stopped")
        waiter.wait(TransformJobName=f"batch-{number}", WaiterConfig=PATIENCE)
        output = s3.get_object(Bucket="data", Key=f"out-{number}/rows.out")["Body"].read()
        assert numbers(output) == expected(), number


def test_hosts_train_one_model_together(session: LocalSession) -> None:
    """Each has its share of the data, and the model is that of the whole. Two such jobs at a time do not meet."""
    s3: Any = session.boto_session.client("s3")
    sagemaker: Any = session.boto_session.client("sagemaker")
    s3.create_bucket(Bucket="data")
    table = np.column_stack([TARGETS[TRAINED], FEATURES[TRAINED]])
    for number in range(2):
        s3.put_object(Bucket="data", Key=f"train/{number}.csv", Body=csv_rows.write(table[number::2]))
    source = channel("train", "s3://data/train/", "text/csv")
    source["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    names = ["together", "meanwhile"]
    for name in names:
        sagemaker.create_training_job(
            TrainingJobName=name,
            AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            HyperParameters={"num_round": "20", "objective": "reg:squarederror", "max_depth": "3"},
            InputDataConfig=[source],
            OutputDataConfig={"S3OutputPath": "s3://data/out/"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10},
            StoppingCondition={"MaxRuntimeInSeconds": 600},
            RoleArn=ROLE,
        )
    for name in names:
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=PATIENCE)
        described = sagemaker.describe_training_job(TrainingJobName=name)
        assert described["TrainingJobStatus"] == "Completed", described["FailureReason"]
        body = s3.get_object(Bucket="data", Key=f"out/{name}/output/model.tar.gz")["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            model = archive.extractfile("xgboost-model")
            assert model is not None
            booster = xgboost.Booster(model_file=bytearray(model.read()))
        found = booster.predict(xgboost.DMatrix(FEATURES[HELD_OUT]))
        assert np.corrcoef(found, expected())[0, 1] > 0.97
        assert np.abs(found - expected()).mean() < 10  # of targets between 25 and 346; half of the data differ by 25


def test_reason_of_a_failure_is_the_programs(session: LocalSession) -> None:
    """A training job with a wrong hyperparameter fails with the reason that the program gives."""
    s3: Any = session.boto_session.client("s3")
    sagemaker: Any = session.boto_session.client("sagemaker")
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="train/data.csv", Body=b"1,2\n")
    sagemaker.create_training_job(
        TrainingJobName="wrong",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters={"num_round": "none"},
        InputDataConfig=[channel("train", "s3://data/train/", "text/csv")],
        OutputDataConfig={"S3OutputPath": "s3://data/out/"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        RoleArn=ROLE,
    )
    with pytest.raises(Exception, match="encountered a terminal failure state"):
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="wrong", WaiterConfig=PATIENCE)
    reason = sagemaker.describe_training_job(TrainingJobName="wrong")["FailureReason"]
    assert "num_round: must be an integer of at least 1, not 'none'" in reason

"""Faults of the driver's calls during fit and transform: the results are those without faults, each resource once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pyspark.ml.linalg import Vectors

from faulty_driver import FaultyDriver
from processing.spark.ml import KMeansSageMakerEstimator, SageMakerModel
from processing.testing import FaultInjector

if TYPE_CHECKING:
    from pathlib import Path

CREATED = ("CreateTrainingJob", "CreateModel", "CreateEndpointConfig", "CreateEndpoint", "CreateTransformJob")
OTHERS = (
    "DescribeTrainingJob",
    "DescribeEndpoint",
    "DescribeTransformJob",
    "PutObject",
    "ListObjectsV2",
    "CreateBucket",
)


@pytest.fixture(scope="module")
def frame(spark: Any) -> Any:
    """Ten points around two centers."""
    rows = [(number, Vectors.dense(number % 2 * 5 + number / 100, 1.0)) for number in range(10)]
    return spark.createDataFrame(rows, ["id", "features"]).coalesce(2).cache()


def predicted(
    frame: Any, home: Path, faults: FaultInjector, instances: dict[str, Any]
) -> tuple[list[Any], dict[str, int]]:
    """Return the predictions of an endpoint and of a transform job, and how many resources there were."""
    session = FaultyDriver(home, faults)
    sagemaker: Any = session.boto_session.client("sagemaker")
    estimator = KMeansSageMakerEstimator(**instances, session=session)
    with estimator.fit(frame) as model:
        found = list(model.transform(frame).orderBy("id").collect())
        in_batch = SageMakerModel.fromTrainingJob(
            trainingJobName=estimator.latestTrainingJob,
            modelImage=estimator.modelImage,
            modelExecutionRoleARN=instances["sagemakerRole"],
            endpointInstanceType="ml.m5.xlarge",
            endpointInitialInstanceCount=1,
            requestRowSerializer=model.requestRowSerializer,
            responseRowDeserializer=model.responseRowDeserializer,
            transformBy="batch",
            session=session,
        )
        with in_batch:
            found += in_batch.transform(frame).orderBy("id").collect()
        counts = {
            "training jobs": len(sagemaker.list_training_jobs()["TrainingJobSummaries"]),
            "transform jobs": len(sagemaker.list_transform_jobs()["TransformJobSummaries"]),
            "endpoints": len(sagemaker.list_endpoints()["Endpoints"]),
            "configurations": len(sagemaker.list_endpoint_configs()["EndpointConfigs"]),
        }
    objects: Any = session.boto_session.client("s3").list_objects_v2(
        Bucket=f"{session.account_id()}-sagemaker-{session.boto_region_name}"
    )
    assert [each["Key"].rpartition("/")[2] for each in objects["Contents"]] == ["model.tar.gz"]
    assert sagemaker.list_models()["Models"] == []
    return found, counts


def test_results_are_those_without_faults(frame: Any, tmp_path: Path, instances: dict[str, Any]) -> None:
    """Answers that are lost, cut off or refused change nothing, and a lost answer makes no second resource."""
    expected, counts = predicted(frame, tmp_path / "whole", FaultInjector(), instances)
    assert counts == {"training jobs": 1, "transform jobs": 1, "endpoints": 1, "configurations": 1}
    faults = FaultInjector(seed=5)
    for operation in CREATED:
        faults.on(operation, "reset_after")
    for operation in OTHERS:
        faults.on(operation, "throttle").on(operation, "error500").on(operation, "truncate")
    assert predicted(frame, tmp_path / "faulty", faults, instances) == (expected, counts)
    assert {operation for operation, _ in faults.injected} >= {*CREATED, *OTHERS}

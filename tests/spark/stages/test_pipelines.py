"""Stages in pipelines, end to end on the engine: fit, transform, save, load, and what remains afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import PCA, VectorAssembler
from pyspark.ml.linalg import Vectors

from processing.spark.ml import (
    IAMRole,
    KMeansSageMakerEstimator,
    PCASageMakerEstimator,
    ProtobufRequestRowSerializer,
    SageMakerModel,
    XGBoostSageMakerEstimator,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processing import Session

CENTERS = (0.0, 3.0, 9.0)
POINTS = np.concatenate([np.random.default_rng(0).normal(center, 0.1, (20, 4)) for center in CENTERS])


@pytest.fixture(scope="module")
def points(spark: Any) -> Any:
    """Points around three centers, on three partitions, of which one is empty."""
    rows = [(number, *map(float, point)) for number, point in enumerate(POINTS)]
    return spark.createDataFrame(rows, ["id", "a", "b", "c", "d"]).repartition(3).cache()


def clusters(frame: Any) -> list[set[float]]:
    rows = frame.orderBy("id").select("closest_cluster").collect()
    found = [row[0] for row in rows]
    return [set(found[start : start + 20]) for start in (0, 20, 40)]


def test_kmeans_in_a_pipeline(
    points: Any, session: Session, instances: dict[str, Any], keys: Callable[[], set[str]], tmp_path: Path
) -> None:
    """A Pipeline of native stages and K-Means trains, predicts, and does the same after it was saved and loaded."""
    before = keys()
    kmeans = KMeansSageMakerEstimator(**instances, session=session).setK(3)
    stages = [
        VectorAssembler(inputCols=["a", "b", "c", "d"], outputCol="raw"),
        PCA(k=2, inputCol="raw", outputCol="features"),
        kmeans,
    ]
    unfitted = str(tmp_path / "unfitted")
    Pipeline(stages=stages).save(unfitted)
    pipeline = Pipeline.load(unfitted)
    loaded = pipeline.getStages()[-1]
    assert (loaded.uid, loaded.getK(), loaded.sagemakerRole) == (kmeans.uid, 3, kmeans.sagemakerRole)
    loaded.session = session
    model = pipeline.fit(points)
    found = clusters(model.transform(points))
    assert [len(each) for each in found] == [1, 1, 1]
    assert len(set().union(*found)) == 3

    fitted = str(tmp_path / "fitted")
    model.write().overwrite().save(fitted)
    again = PipelineModel.load(fitted)
    again.stages[-1].session = session
    assert again.stages[-1].getCreatedResources() == type(model.stages[-1].getCreatedResources())()
    assert clusters(again.transform(points)) == found
    left = keys() - before
    assert len(left) == 1, "the model alone: staging data are gone"
    assert left.pop().endswith("output/model.tar.gz")
    created = model.stages[-1].getCreatedResources()
    with model.stages[-1]:
        assert created.endpoint_name == again.stages[-1].endpointName
    sagemaker: Any = session.boto_session.client("sagemaker")
    assert sagemaker.list_models(NameContains=created.model_name)["Models"] == []


def test_two_sagemaker_stages(points: Any, session: Session, instances: dict[str, Any]) -> None:
    """PCA's projection is the input of K-Means, both on SageMaker."""
    assembler = VectorAssembler(inputCols=["a", "b", "c", "d"], outputCol="features")
    pca = PCASageMakerEstimator(**instances, session=session).setNumComponents(2)
    kmeans = KMeansSageMakerEstimator(
        **instances,
        session=session,
        training_spark_data_format_options={"featuresColumnName": "projection"},
        request_row_serializer=ProtobufRequestRowSerializer(features_column_name="projection"),
    ).setK(3)
    model = Pipeline(stages=[assembler, pca, kmeans]).fit(points)
    found = model.transform(points)
    assert [len(each) for each in clusters(found)] == [1, 1, 1]
    centered = POINTS - POINTS.mean(axis=0)
    expected = np.abs(centered @ np.linalg.svd(centered, full_matrices=False)[2][0])
    projected = np.array([row[0].toArray() for row in found.orderBy("id").select("projection").collect()])
    assert np.allclose(np.abs(projected[:, -1]), expected, atol=1e-3)
    for stage in model.stages[1:]:
        stage.close()


def test_xgboost_predicts_as_the_library_does(spark: Any, session: Session, instances: dict[str, Any]) -> None:
    """Predictions of the endpoint, and of a batch transform job, equal those of xgboost called directly."""
    import xgboost
    from sklearn.datasets import load_diabetes

    features, targets = load_diabetes(return_X_y=True)
    rows = [(i, float(y), Vectors.dense(x)) for i, (x, y) in enumerate(zip(features, targets, strict=True))]
    frame = spark.createDataFrame(rows, ["id", "label", "features"])
    estimator = XGBoostSageMakerEstimator(**instances, session=session, transformBy="batch")
    estimator.setNumRound(5).setMaxDepth(3).setObjective("reg:squarederror")
    model = estimator.fit(frame.filter("id < 400"))
    unseen = frame.filter("id >= 400")
    booster = xgboost.train(
        {"max_depth": 3, "objective": "reg:squarederror"}, xgboost.DMatrix(features[:400], targets[:400]), 5
    )
    expected = booster.predict(xgboost.DMatrix(features[400:])).astype(float)
    in_batch = [row["prediction"] for row in model.transform(unseen).orderBy("id").collect()]
    assert np.allclose(in_batch, expected, rtol=1e-6)
    assert model.endpointName is None
    model.close()

    hosted = SageMakerModel.from_training_job(
        training_job_name=estimator.latestTrainingJob,
        model_image=estimator.modelImage,
        model_execution_role_arn=IAMRole(instances["sagemakerRole"]).role,
        endpoint_instance_type="ml.m5.xlarge",
        endpoint_initial_instance_count=1,
        request_row_serializer=estimator.requestRowSerializer,
        response_row_deserializer=estimator.responseRowDeserializer,
        session=session,
        maxPayloadInBytes=4000,
    )
    with hosted:
        answers = [row["prediction"] for row in hosted.transform(unseen).orderBy("id").collect()]
        assert np.allclose(answers, expected, rtol=1e-6)

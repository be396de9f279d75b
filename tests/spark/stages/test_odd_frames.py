"""Frames that users bring: odd names of columns, odd values and streams. All is found before a byte is uploaded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions
from pyspark.sql.types import StructField, StructType

from processing.exceptions import ConfigurationError
from processing.spark.ml import (
    KMeansProtobufResponseRowDeserializer,
    KMeansSageMakerEstimator,
    LinearLearnerRegressor,
    PCASageMakerEstimator,
    ProtobufRequestRowSerializer,
    SageMakerModel,
    write_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processing import Session

OPTIONS = "trainingSparkDataFormatOptions"


@pytest.fixture(scope="module")
def frame(spark: Any) -> Any:
    rows = [(number, float(number), Vectors.dense(number % 2, 1.0)) for number in range(6)]
    return spark.createDataFrame(rows, ["id", "label", "features"]).coalesce(1).cache()


@pytest.fixture
def unhosted(session: Session, frame: Any) -> SageMakerModel:
    """A model of which nothing exists."""
    return SageMakerModel(
        modelImage="image",
        modelPath="s3://nothing/model.tar.gz",
        modelExecutionRoleARN="arn:aws:iam::000000000000:role/stages",
        requestRowSerializer=ProtobufRequestRowSerializer(),
        responseRowDeserializer=KMeansProtobufResponseRowDeserializer(),
        endpointCreationPolicy="CREATE_ON_TRANSFORM",
        endpointInstanceType="ml.m5.large",
        endpointInitialInstanceCount=1,
        session=session,
    )


@pytest.fixture
def untouched(session: Session, keys: Callable[[], set[str]]) -> Any:
    """No object, job or model is left by the test."""
    sagemaker: Any = session.boto_session.client("sagemaker")

    def state() -> Any:
        jobs = len(sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"])
        return keys(), jobs, len(sagemaker.list_models(MaxResults=100)["Models"])

    before = state()
    yield
    assert state() == before


@pytest.mark.parametrize("way", ["endpoint", "batch"])
def test_names_that_expressions_would_misread(
    way: str, session: Session, instances: dict[str, Any], frame: Any, tmp_path: Path
) -> None:
    """Columns with dots, backticks and several scripts are trained on, predicted and kept."""
    odd = frame.toDF("i.d", "la`bel", "fé.ä x")
    estimator = KMeansSageMakerEstimator(
        **instances,
        session=session,
        transformBy=way,
        trainingSparkDataFormatOptions={"featuresColumnName": "fé.ä x", "labelColumnName": "la`bel"},
        requestRowSerializer=ProtobufRequestRowSerializer(featuresColumnName="fé.ä x"),
        responseRowDeserializer=KMeansProtobufResponseRowDeserializer("d.t", "ü"),
    )
    with estimator.fit(odd) as model:
        found = model.transform(odd).collect()
    assert found[0].__fields__ == ["i.d", "la`bel", "fé.ä x", "d.t", "ü"]
    assert sorted(row["i.d"] for row in found) == list(range(6))
    assert len({row["ü"] for row in found if row["i.d"] % 2}) == 1
    assert write_records(odd, str(tmp_path / "out"), featuresColumnName="fé.ä x", labelColumnName="la`bel") == 6


def test_columns_of_one_name_are_kept(unhosted: Any, session: Session, instances: dict[str, Any], frame: Any) -> None:
    """Two columns of one name pass through; a setting that names them does not know which is meant."""
    twice = frame.select("features", "id", "id")
    with KMeansSageMakerEstimator(**instances, session=session).fit(twice) as model:
        assert len(model.transform(twice).collect()[0]) == 5
    both = frame.select("features", "features")
    with pytest.raises(ConfigurationError, match=r"featuresColumnName\]: there are several columns 'features'"):
        KMeansSageMakerEstimator(**instances, session=session).fit(both)
    with pytest.raises(ConfigurationError, match="featuresColumnName: there are several columns 'features'"):
        unhosted.transform(both)


def test_frames_of_one_model_keep_their_own_columns(
    frame: Any, spark: Any, session: Session, instances: dict[str, Any]
) -> None:
    """Results that are read later know the columns of their own frame, although the model has seen another one."""
    other = spark.createDataFrame([("a", Vectors.dense(0.0, 1.0), True)], ["name", "features", "flag"])
    with KMeansSageMakerEstimator(**instances, session=session).setK(2).fit(frame.select("features")) as model:
        first, second = model.transform(frame), model.transform(other)
        assert sorted(row["id"] for row in first.collect()) == list(range(6))
        assert [(row["name"], row["flag"]) for row in second.collect()] == [("a", True)]
        assert first.schema.names[:3] == frame.schema.names


def labels(spark: Any, value: float | None) -> Any:
    return spark.createDataFrame([(value, Vectors.dense(1.0)), (1.0, Vectors.dense(2.0))], ["label", "features"])


def features(spark: Any, *values: Any) -> Any:
    return spark.createDataFrame([(value,) for value in values], ["features"])


ODD_VALUES: dict[str, tuple[str, str, dict[str, Any], Callable[[Any, Any], Any]]] = {
    "a label that is no number": (
        "dataset: 1 rows have a label in 'label' that is no finite number",
        "LinearLearnerRegressor",
        {},
        lambda spark, _: labels(spark, math.nan),
    ),
    "an infinite label": (
        "dataset: 1 rows have a label in 'label' that is no finite number",
        "LinearLearnerRegressor",
        {},
        lambda spark, _: labels(spark, math.inf),
    ),
    "no label": (
        "dataset: 1 rows have null in 'label'",
        "LinearLearnerRegressor",
        {},
        lambda spark, _: labels(spark, None),
    ),
    "a null in an array": (
        "dataset: 1 rows have null in 'features'",
        "KMeansSageMakerEstimator",
        {},
        lambda spark, _: features(spark, [1.0, None], [1.0, 2.0]),
    ),
    "no vector at all": (
        "dataset: 1 rows have null in 'features'",
        "KMeansSageMakerEstimator",
        {},
        lambda spark, _: spark.createDataFrame([(None,)], StructType([StructField("features", VectorUDT())])),
    ),
    "vectors without elements": (
        "dataset: the vectors of 'features' have no elements",
        "KMeansSageMakerEstimator",
        {},
        lambda spark, _: features(spark, Vectors.dense([]), Vectors.dense([])),
    ),
    "sparse vectors of several sizes": (
        "have different sizes, from 3 to 4",
        "KMeansSageMakerEstimator",
        {},
        lambda spark, _: features(spark, Vectors.sparse(3, [0], [1.0]), Vectors.sparse(4, [0], [1.0])),
    ),
    "more components than features": (
        "PCASageMakerEstimator.num_components: is 5, and the vectors have 2 elements",
        "PCASageMakerEstimator",
        {},
        lambda _, frame: frame,
    ),
    "a structure as CSV": (
        r"dataset: CSV cannot hold the column 's' of struct<label:double>; drop it",
        "KMeansSageMakerEstimator",
        {"trainingSparkDataFormat": "csv"},
        lambda _, frame: frame.select(functions.struct("label").alias("s")),
    ),
    "an array as CSV": (
        "dataset: CSV cannot hold the column 'a' of array<double>",
        "KMeansSageMakerEstimator",
        {"trainingSparkDataFormat": "csv"},
        lambda _, frame: frame.select(functions.array("label").alias("a")),
    ),
    "vectors of another name as CSV": (
        r"\[featuresColumnName\]: missing; the column 'x' has vectors",
        "KMeansSageMakerEstimator",
        {"trainingSparkDataFormat": "csv"},
        lambda _, frame: frame.withColumnRenamed("features", "x"),
    ),
    "a separator of two characters": (
        r"\[sep\]: must be one character, not 'ab'",
        "KMeansSageMakerEstimator",
        {"trainingSparkDataFormat": "csv", OPTIONS: {"sep": "ab"}},
        lambda _, frame: frame.select("label"),
    ),
    "a compression that Parquet lacks": (
        r"\[compression\]: must be one of snappy.*, not 'best'",
        "KMeansSageMakerEstimator",
        {"trainingSparkDataFormat": "parquet", OPTIONS: {"compression": "best"}},
        lambda _, frame: frame,
    ),
    "a label that a whole frame lacks": (
        r"\[labelColumnName\]: there is no column 'nope'",
        "LinearLearnerRegressor",
        {"trainingSparkDataFormat": "csv", OPTIONS: {"labelColumnName": "nope"}},
        lambda _, frame: frame.select("label"),
    ),
    "no frame": ("dataset: must be a DataFrame of Spark, not a list", "KMeansSageMakerEstimator", {}, lambda *_: [1]),
    "a frame of pandas": (
        r"dataset: must be a DataFrame of Spark, not a DataFrame of pandas.*; spark\.createDataFrame",
        "KMeansSageMakerEstimator",
        {},
        lambda _, frame: frame.select("id").toPandas(),
    ),
    "a stream": ("dataset: is a stream", "KMeansSageMakerEstimator", {}, lambda spark, _: stream(spark)),
}


def stream(spark: Any) -> Any:
    return spark.readStream.format("rate").load().selectExpr("array(cast(value as double)) features")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", ODD_VALUES)
def test_odd_values(name: str, spark: Any, session: Session, instances: dict[str, Any], frame: Any) -> None:
    """Values that cannot be trained on are refused, and the error says which and why."""
    text, owner, options, change = ODD_VALUES[name]
    classes = {
        each.__name__: each
        for each in (
            KMeansSageMakerEstimator,
            LinearLearnerRegressor,
            PCASageMakerEstimator,
        )
    }
    estimator: Any = classes[owner](**instances, session=session, **options)
    if owner == "PCASageMakerEstimator":
        estimator.setNumComponents(5)
    with pytest.raises(ConfigurationError, match=text):
        estimator.fit(change(spark, frame))


@pytest.mark.usefixtures("untouched")
def test_a_frame_that_cannot_be_predicted(unhosted: Any, spark: Any, frame: Any) -> None:
    """`transform` refuses it before it creates a model or an endpoint."""
    with pytest.raises(ConfigurationError, match="featuresColumnName: the column 'features' must have vectors"):
        unhosted.transform(frame.withColumn("features", functions.lit("x")))
    with pytest.raises(ConfigurationError, match="dataset: must be a DataFrame of Spark, not a NoneType"):
        unhosted.transform(None)
    unhosted.transformBy = "batch"
    with pytest.raises(ConfigurationError, match=r"dataset: is a stream, which has no end; .* in foreachBatch"):
        unhosted.transform(stream(spark))


@pytest.mark.spark_context
@pytest.mark.usefixtures("untouched")
def test_a_session_that_was_stopped(
    unhosted: Any, instances: dict[str, Any], frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`transform` without a running Spark creates no endpoint, although this session was in use before."""
    from pyspark import SparkContext

    from processing.spark.ml.shipping import check_workers

    check_workers(frame.sparkSession)
    monkeypatch.setattr(SparkContext, "_active_spark_context", None)
    with pytest.raises(ConfigurationError, match="dataset: its Spark session does not run"):
        unhosted.transform(frame)
    with pytest.raises(ConfigurationError, match="dataset: its Spark session does not run"):
        KMeansSageMakerEstimator(**instances, session=unhosted.session).fit(frame)


def test_labels_lead_the_columns_of_a_whole_frame(session: Session, instances: dict[str, Any], frame: Any) -> None:
    """An algorithm with labels finds the column `label` in a frame that is written whole, and gets it first."""
    estimator = LinearLearnerRegressor(**instances, session=session, trainingSparkDataFormat="csv")
    chosen, layout = estimator._layout(frame.select("id", "label"))
    assert (chosen.columns, layout.label) == (["label", "id"], "label")
    kmeans = KMeansSageMakerEstimator(**instances, session=session, trainingSparkDataFormat="csv")
    assert kmeans._layout(frame.select("id", "label"))[0].columns == ["id", "label"]

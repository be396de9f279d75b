"""Other ways to fit: without a wait, several at once, in a CrossValidator, with names of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pyspark.ml.linalg import Vectors

from processing.exceptions import JobFailedError, NameTakenError
from processing.spark.ml import (
    CustomNamePolicyFactory,
    KMeansSageMakerEstimator,
    LinearLearnerBinaryClassifier,
    ProtobufRequestRowSerializer,
    S3DataPath,
    SageMakerModel,
    SageMakerResourceCleanup,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing import Session


@pytest.fixture(scope="module")
def frame(spark: Any) -> Any:
    """Twelve labelled points around two centers."""
    rows = [
        (number, float(number % 2), Vectors.dense(number % 2 * 5 + number / 100, 1.0 + number / 100))
        for number in range(12)
    ]
    return spark.createDataFrame(rows, ["id", "label", "features"]).coalesce(2).cache()


def test_a_fit_without_a_wait(frame: Any, session: Session, instances: dict[str, Any]) -> None:
    """`fit` returns while the job trains. The first transform waits, hosts, and deletes the training data."""
    s3: Any = session.boto_session.client("s3")
    s3.create_bucket(Bucket="stages-of-ours")
    estimator = KMeansSageMakerEstimator(
        **instances,
        session=session,
        wait=False,
        tags={"team": "blue"},
        trainingInputS3DataPath=S3DataPath("stages-of-ours", "in"),
        trainingOutputS3DataPath="s3a://stages-of-ours/out",
        trainingS3DataDistribution="FullyReplicated",
        trainingCompressionCodec="gzip",
        trainingInputMode="Pipe",
        modelPrependInputRowsToTransformationRows=False,
    )
    with estimator.fit(frame) as model:
        assert model.endpointName is None
        assert 'class="sm-card"' in model._repr_html_()
        result = model.transform(frame)
        assert result.columns == ["distance_to_cluster", "closest_cluster"]
        assert {row["closest_cluster"] for row in result.collect()} == {0.0, 1.0}
        found = [each["Key"] for each in s3.list_objects_v2(Bucket="stages-of-ours")["Contents"]]
        assert [key.startswith("out/") for key in found] == [True]
        arn = session.boto_session.client("sagemaker").describe_endpoint(EndpointName=model.endpointName)["EndpointArn"]
        card = model._repr_html_()
        assert ">InService<" in card
        assert model._repr_html_() is card
        tags: Any = session.boto_session.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]
        assert tags == [{"Key": "team", "Value": "blue"}]
        other = SageMakerModel.fromEndpoint(
            endpointName=model.endpointName,
            requestRowSerializer=model.requestRowSerializer,
            responseRowDeserializer=model.responseRowDeserializer,
            session=session,
        )
        with other:
            assert not other.getCreatedResources(), "an endpoint that existed is not this model's to delete"
        assert other.transform(frame).count() == 12
        with model.copy() as copied:
            assert copied.endpointName == model.endpointName
    assert not model.getCreatedResources()


def test_a_cross_validator(frame: Any, session: Session, instances: dict[str, Any]) -> None:
    """A CrossValidator fits a native stage and ours for each fold and set of parameters, and leaves no endpoint."""
    from pyspark.ml import Pipeline
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.ml.feature import StandardScaler
    from pyspark.ml.tuning import CrossValidator, ParamGridBuilder

    sagemaker: Any = session.boto_session.client("sagemaker")
    before = len(sagemaker.list_endpoints(MaxResults=100)["Endpoints"])
    scaler = StandardScaler(inputCol="features", outputCol="scaled", withMean=True)
    estimator = LinearLearnerBinaryClassifier(
        **instances,
        session=session,
        transformBy="batch",
        trainingSparkDataFormatOptions={"labelColumnName": "label", "featuresColumnName": "scaled"},
        requestRowSerializer=ProtobufRequestRowSerializer(featuresColumnName="scaled"),
    )
    validator = CrossValidator(
        estimator=Pipeline(stages=[scaler, estimator]),
        estimatorParamMaps=ParamGridBuilder().addGrid(estimator.wd, [0.0, 0.1]).build(),
        evaluator=BinaryClassificationEvaluator(rawPredictionCol="score", labelCol="label"),
        numFolds=2,
        seed=3,
        parallelism=2,
    )
    fitted = validator.fit(frame)
    assert len(fitted.avgMetrics) == 2
    rows = fitted.transform(frame).collect()
    assert all(row["predicted_label"] == row["label"] for row in rows)
    fitted.bestModel.stages[-1].close()
    assert len(sagemaker.list_endpoints(MaxResults=100)["Endpoints"]) <= before


def test_a_failed_training_job(
    frame: Any, session: Session, instances: dict[str, Any], keys: Callable[[], set[str]]
) -> None:
    """A job that fails is an error with its reason, nothing is hosted, and the training data are deleted."""
    before = keys()
    estimator = KMeansSageMakerEstimator(**instances, session=session).setK(100)
    with pytest.raises(JobFailedError, match="k is 100, and there are 12 rows") as raised:
        estimator.fit(frame)
    assert raised.value.job_name == estimator.latestTrainingJob
    assert keys() == before


def test_names_are_used_once(
    frame: Any, session: Session, instances: dict[str, Any], keys: Callable[[], set[str]]
) -> None:
    """A second fit with the names of the first one is refused. The first job, its model and its data stay."""
    factory = CustomNamePolicyFactory("own-job", "own-model", "own-config", "own-endpoint")
    before = keys()
    options = {"session": session, "namePolicyFactory": factory, "endpointCreationPolicy": "DO_NOT_CREATE"}
    options["deleteStagingDataAfterTraining"] = False
    estimator: Any = KMeansSageMakerEstimator(**instances, **options)
    model = estimator.fit(frame)
    assert estimator.latestTrainingJob == "own-job"
    assert not model.getCreatedResources()
    other: Any = KMeansSageMakerEstimator(**instances, **options).setK(3)
    with pytest.raises(NameTakenError, match="training job own-job belongs to another request"):
        other.fit(frame)
    kept = {key for key in keys() - before if key.endswith((".pbr", "manifest.json"))}
    assert len(kept) == 3, "deleteStagingDataAfterTraining=False keeps them"
    SageMakerResourceCleanup(session).deleteEndpoint("own-endpoint")


@pytest.mark.parametrize("created", [True, False])
def test_an_interruption_of_fit(
    frame: Any, session: Session, instances: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *, created: bool
) -> None:
    """Ctrl-C while the job is created: a job that exists is named, and keeps its data; without one, nothing is left."""
    s3: Any = session.boto_session.client("s3")
    s3.create_bucket(Bucket="stages-of-ours")
    call = session.api.call

    def interrupted(service: str, operation: str, request: Any, **options: Any) -> Any:
        if operation != "CreateTrainingJob":
            return call(service, operation, request, **options)
        if created:
            call(service, operation, request, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(session.api, "call", interrupted)
    place = S3DataPath("stages-of-ours", f"interrupted-{created}")
    estimator = KMeansSageMakerEstimator(**instances, session=session, trainingInputS3DataPath=place)
    with pytest.raises(KeyboardInterrupt):
        estimator.setK(2).fit(frame.select("features"))
    found = s3.list_objects_v2(Bucket="stages-of-ours", Prefix=place.objectPath).get("Contents", [])
    assert ("manifest.json" in {each["Key"].rpartition("/")[2] for each in found}) == bool(found) == created
    assert (estimator.latestTrainingJob is not None) == created

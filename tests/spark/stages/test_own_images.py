"""Images of the user's own: trained as a training job and as a processing job, and what each refuses."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.ml.linalg import Vectors

import slope_program
from processing import LocalSession
from processing.exceptions import ConfigurationError, JobFailedError, ProcessingError
from processing.spark.ml import KMeansSageMakerEstimator, SageMakerEstimator, XGBoostSageMakerEstimator
from row_helpers import FirstElements, Numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing import Session

IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/own:1"
WAYS = ("training", "processing")


@pytest.fixture(scope="module")
def frame(spark: Any) -> Any:
    """Labels that are three times the first features."""
    rows = [(number, 3.0 * number, Vectors.dense(number, -1.0)) for number in range(1, 9)]
    return spark.createDataFrame(rows, ["id", "label", "features"]).coalesce(2).cache()


@pytest.fixture
def own(session: Session, instances: dict[str, Any]) -> Callable[..., SageMakerEstimator]:
    """Return an estimator of the user's own image."""

    def made(**options: Any) -> SageMakerEstimator:
        # An engine over HTTP has the image's program for training jobs alone, as AWS has the image.
        if options["runAs"] == "processing" and not session.is_local:
            options.setdefault("trainingCommand", [sys.executable, slope_program.__file__, "train"])
        return SageMakerEstimator(
            **{
                "trainingImage": IMAGE,
                "modelImage": IMAGE,
                "requestRowSerializer": FirstElements(),
                "responseRowDeserializer": Numbers(),
                "trainingChannelName": "points",
                "trainingSparkDataFormat": "csv",
                "hyperParameters": {"channel": "points"},
                "session": session,
                **instances,
                **options,
            }
        )

    return made


@pytest.mark.parametrize("way", WAYS)
def test_an_own_image_with_own_serializers(
    own: Callable[..., Any], frame: Any, keys: Callable[[], set[str]], session: Session, way: str
) -> None:
    """Training image, model image, channel, variables and both serializers are the user's; the data are deleted."""
    before = keys()
    estimator = own(runAs=way, modelEnvironmentVariables={"OFFSET": "0.5"}, wait=way == "training", tags={"a": "b"})
    with estimator.fit(frame) as model:
        answers = {row["id"]: row["answer"] for row in model.transform(frame).collect()}
    assert answers == {number: 3 * number + 0.5 for number in range(1, 9)}
    (left,) = keys() - before
    assert left.endswith("output/model.tar.gz")
    name = estimator.latestTrainingJob
    sagemaker: Any = session.boto_session.client("sagemaker")
    if way == "training":
        assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Completed"
    else:
        described = sagemaker.describe_processing_job(ProcessingJobName=name)
        assert described["AppSpecification"]["ImageUri"] == IMAGE
        assert sagemaker.list_tags(ResourceArn=described["ProcessingJobArn"])["Tags"] == [{"Key": "a", "Value": "b"}]


@pytest.mark.spark_4
@pytest.mark.parametrize("way", WAYS)
def test_a_format_of_the_cluster(
    own: Callable[..., Any], spark: Any, frame: Any, keys: Callable[[], set[str]], session: Session, way: str
) -> None:
    """A format that Spark itself writes is the data of the job: here one in Python, which Spark 4 allows."""
    spark.dataSource.register(lines_format(session))
    before = keys()
    estimator = own(runAs=way, trainingSparkDataFormat="lines", trainingContentType="text/csv")
    estimator.trainingSparkDataFormatOptions = {"factor": "2"}
    with estimator.fit(frame.select("label", "id")) as model:
        answers = {row["id"]: row["answer"] for row in model.transform(frame).collect()}
    assert answers == {number: 6 * number for number in range(1, 9)}
    assert len(keys() - before) == 1


def lines_format(session: Session) -> type:
    """Return a data source that writes labels, times the option `factor`, and a second column as CSV."""
    from pyspark.sql.datasource import DataSource, DataSourceWriter

    class Writer(DataSourceWriter):  # type: ignore[misc]  # untyped in Spark
        def __init__(self, path: str, factor: float) -> None:
            self.path, self.factor = path, factor

        def write(self, iterator: Any) -> Any:
            from pyspark import TaskContext
            from pyspark.sql.datasource import WriterCommitMessage

            bucket, _, key = self.path.removeprefix("s3a://").partition("/")
            text = "".join([f"{self.factor * label},{second}\n" for label, second in iterator])
            task: Any = TaskContext.get()
            s3 = session.client("s3")
            s3.put_object(Bucket=bucket, Key=f"{key}/part={task.partitionId()}/rows.csv", Body=text.encode())
            s3.put_object(Bucket=bucket, Key=f"{key}/_log/{task.partitionId()}.csv", Body=b"no,data\n")
            return WriterCommitMessage()

    class Source(DataSource):  # type: ignore[misc]  # untyped in Spark
        @classmethod
        def name(cls) -> str:
            return "lines"

        def writer(self, schema: Any, overwrite: bool) -> Any:  # noqa: ARG002 - the signature of Spark
            return Writer(self.options["path"], float(self.options["factor"]))

    return Source


@pytest.mark.parametrize("way", WAYS)
def test_a_failure_has_the_program_s_reason(
    own: Callable[..., Any], frame: Any, keys: Callable[[], set[str]], way: str
) -> None:
    """The text of /opt/ml/output/failure is in the error, and nothing is left in S3."""
    before = keys()
    estimator = own(runAs=way, hyperParameters={"channel": "points", "fail": "points lie badly"})
    with pytest.raises(JobFailedError, match=rf"{way} job .* failed: .*points lie badly.*/aws/sagemaker/") as raised:
        estimator.fit(frame)
    assert raised.value.job_name == estimator.latestTrainingJob
    assert keys() == before


def test_xgboost_in_a_processing_job(frame: Any, session: Session, instances: dict[str, Any]) -> None:
    """XGBoost's model is the same from a training job and from a processing job."""
    command = ["train"]
    if not session.is_local:
        command = [sys.executable, "-m", "processing.local.programs.xgboost", "train", "--root", "/opt/ml"]
    options = {"session": session, "transformBy": "batch", "trainingCommand": command}
    found = []
    for way in WAYS:
        estimator = XGBoostSageMakerEstimator(**instances, **options, runAs=way)
        with estimator.setNumRound(2).setObjective("reg:squarederror").fit(frame) as model:
            found.append([row["prediction"] for row in model.transform(frame).orderBy("id").collect()])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"trainingInstanceCount": 2}, "trainingInstanceCount: with runAs='processing', nothing puts the models"),
        ({"trainingInputMode": "Pipe"}, "trainingInputMode: with runAs='processing', the data of a processing job"),
        ({"spot": True}, "spot: with runAs='processing', processing jobs have no spot"),
        ({"extra": {"CreateTrainingJob": {}}}, r"extra\[CreateTrainingJob\]: with runAs='processing', there is no"),
        ({"trainingInstanceType": "ml.none"}, "trainingInstanceType: 'ml.none' is not an instance type"),
        ({"trainingMaxRuntimeInSeconds": 10**7}, "trainingMaxRuntimeInSeconds: must be at most 777600"),
        ({"extra": {"CreateProcessingJob": {"None": 1}}}, r"extra\[CreateProcessingJob\]\.None: is not known"),
    ],
)
def test_settings_that_processing_jobs_do_not_have(
    own: Callable[..., Any], frame: Any, keys: Callable[[], set[str]], options: dict[str, Any], text: str
) -> None:
    """Each is refused by its name before an upload."""
    before = keys()
    with pytest.raises(ConfigurationError, match=text):
        own(runAs="processing", **options).fit(frame)
    assert keys() == before


def test_images_that_cannot_run_in_processing_jobs(
    session: Session, instances: dict[str, Any], frame: Any, keys: Callable[[], set[str]], tmp_path: Any
) -> None:
    """AWS's closed images are refused, and so is one without a program on the engine."""
    before = keys()
    with pytest.raises(ConfigurationError, match="runAs: the image of KMeansSageMakerEstimator is made for training"):
        KMeansSageMakerEstimator(**instances, session=session, runAs="processing").fit(frame)
    with pytest.raises(ConfigurationError, match="runAs: must be 'training' or 'processing', not"):
        KMeansSageMakerEstimator(**instances, runAs="transform")
    bare = LocalSession(tmp_path / "engine")
    estimator = SageMakerEstimator(
        **instances,
        trainingImage=IMAGE,
        modelImage=IMAGE,
        requestRowSerializer=FirstElements(),
        responseRowDeserializer=Numbers(),
        runAs="processing",
        session=bare,
    )
    with pytest.raises(ProcessingError, match=r"trainingImage: the local engine does not run the image .*own:1"):
        estimator.fit(frame)
    assert bare.boto_session.client("s3").list_buckets()["Buckets"] == []
    assert keys() == before

"""The examples of the READMEs of sagemaker_pyspark and SageMaker Spark, rewritten for Python, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.feature import PCA
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql.types import DoubleType, StructField, StructType

import processing.compat
from processing.local.programs import recordio as files
from processing.spark.ml import S3PathFromConfig, register, write_records
from processing.spark.ml.roles_and_paths import parse_uri
from processing.spark.ml.upload import list_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processing import Session

ROLE = "arn:aws:iam::000000000000:role/rolename"
IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1"
WIDTH, K = 6, 4
INSTANCES: dict[str, Any] = {
    "trainingInstanceType": "ml.m4.xlarge",
    "trainingInstanceCount": 1,
    "endpointInstanceType": "ml.m4.xlarge",
    "endpointInitialInstanceCount": 1,
}


@pytest.fixture(autouse=True)
def _imports() -> Iterator[None]:
    processing.compat.install()
    yield
    processing.compat.uninstall()


@pytest.fixture(scope="module")
def digits(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A file of libsvm, as Spark reads it: `label`, and `features` of four clusters."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(40):
        elements = rng.normal(0, 0.1, WIDTH)
        elements[number % K] += 5
        lines.append(" ".join([str(number % K), *(f"{index + 1}:{value}" for index, value in enumerate(elements))]))
    file = tmp_path_factory.mktemp("digits") / "digits.libsvm"
    file.write_text("\n".join(lines))
    reader = spark.read.format("libsvm").option("numFeatures", str(WIDTH))
    return {kind: reader.option("vectorType", kind).load(str(file)).cache() for kind in ("dense", "sparse")}


def clusters(frame: Any, column: str = "closest_cluster") -> list[int]:
    """Return how many clusters the rows of each label have."""
    found: dict[float, set[float]] = {}
    for row in frame.select("label", column).collect():
        found.setdefault(row[0], set()).add(row[1])
    return [len(each) for each in found.values()]


def test_the_examples_of_sagemaker_pyspark(spark: Any, digits: Any, session: Session) -> None:
    """Class path, K-Means with its parameters explained, fit and transform."""
    from pyspark import SparkConf
    from sagemaker_pyspark import IAMRole, classpath_jars
    from sagemaker_pyspark.algorithms import KMeansSageMakerEstimator

    conf = SparkConf(loadDefaults=False).set("spark.driver.extraClassPath", ":".join(classpath_jars()))
    assert conf.get("spark.driver.extraClassPath") == ""
    kmeans_estimator = KMeansSageMakerEstimator(**INSTANCES, sagemakerRole=IAMRole(ROLE), session=session)
    kmeans_estimator.setK(K)
    kmeans_estimator.setFeatureDim(WIDTH)
    assert "feature_dim" in kmeans_estimator.explainParams()
    kmeans_model = kmeans_estimator.fit(digits["dense"])
    transformed_data = kmeans_model.transform(digits["dense"])
    assert clusters(transformed_data) == [1] * K
    transformed_data.show()

    # "Tearing down": the client of the README is boto3's here.
    from sagemaker_pyspark import SageMakerResourceCleanup

    client: Any = session.boto_session.client("sagemaker")
    created = kmeans_model.getCreatedResources()
    SageMakerResourceCleanup(client).deleteResources(created)
    serving: Any = client.list_endpoints(MaxResults=100, StatusEquals="InService")["Endpoints"]
    assert created.endpoint_name not in {each["EndpointName"] for each in serving}
    assert client.list_models(NameContains=created.model_name)["Models"] == []


def test_any_algorithm_and_models_that_exist(digits: Any, session: Session) -> None:
    """`SageMakerEstimator` with the image of K-Means; then models of its endpoint, its data and its training job."""
    from sagemaker_pyspark import IAMRole, SageMakerEstimator, SageMakerModel
    from sagemaker_pyspark.transformation.deserializers import (
        KMeansProtobufResponseRowDeserializer,
        ProtobufResponseRowDeserializer,
    )
    from sagemaker_pyspark.transformation.serializers import ProtobufRequestRowSerializer

    estimator = SageMakerEstimator(
        **INSTANCES,
        trainingImage=IMAGE,
        modelImage=IMAGE,
        requestRowSerializer=ProtobufRequestRowSerializer(),
        responseRowDeserializer=KMeansProtobufResponseRowDeserializer(),
        hyperParameters={"k": str(K), "feature_dim": str(WIDTH)},
        sagemakerRole=IAMRole(ROLE),
        trainingSparkDataFormat="sagemaker",
        session=session,
    )
    sparse = digits["sparse"]
    with estimator.fit(sparse) as model:
        assert clusters(model.transform(sparse)) == [1] * K
        attached = SageMakerModel.fromEndpoint(
            endpointName=model.endpointName,
            requestRowSerializer=ProtobufRequestRowSerializer(featuresColumnName="MyFeaturesColumn"),
            responseRowDeserializer=KMeansProtobufResponseRowDeserializer(
                distance_to_cluster_column_name="DistanceToCluster", closest_cluster_column_name="ClusterLabel"
            ),
            session=session,
        )
        found = attached.transform(sparse.withColumnRenamed("features", "MyFeaturesColumn"))
        assert found.columns[-2:] == ["DistanceToCluster", "ClusterLabel"]
        assert clusters(found, "ClusterLabel") == [1] * K
    client: Any = session.boto_session.client("sagemaker")
    job = client.describe_training_job(TrainingJobName=estimator.latestTrainingJob)
    hosted = {
        "modelExecutionRoleARN": ROLE,
        "modelImage": IMAGE,
        "endpointInstanceType": "ml.c4.xlarge",
        "endpointInitialInstanceCount": 1,
        "requestRowSerializer": ProtobufRequestRowSerializer(),
        "responseRowDeserializer": KMeansProtobufResponseRowDeserializer(),
        "session": session,
    }
    path = job["ModelArtifacts"]["S3ModelArtifacts"]
    with SageMakerModel.fromModelS3Path(modelPath=path, **hosted) as model:
        assert clusters(model.transform(sparse)) == [1] * K
    # Answers of any image: each label of a record is a column of numbers or of vectors.
    schema = StructType([StructField("distance", DoubleType()), StructField("nearest", VectorUDT())])
    keys = ["distance_to_cluster", "closest_cluster"]
    hosted["responseRowDeserializer"] = ProtobufResponseRowDeserializer(schema=schema, protobufKeys=keys)
    with SageMakerModel.fromTrainingJob(trainingJobName=estimator.latestTrainingJob, **hosted) as model:
        found = model.transform(sparse).select("label", "distance", vector_to_array("nearest")[0].alias("nearest"))
        assert clusters(found, "nearest") == [1] * K
        assert all(0 < row["distance"] < 1 for row in found.collect())


def test_pipelines_with_a_role_from_the_configuration(spark: Any, digits: Any, session: Session) -> None:
    """PCA of Spark, then K-Means; PCA of SageMaker, then K-Means. Role and bucket come from Spark's configuration."""
    from sagemaker_pyspark import EndpointCreationPolicy, IAMRoleFromConfig, S3DataPath
    from sagemaker_pyspark.algorithms import KMeansSageMakerEstimator, PCASageMakerEstimator
    from sagemaker_pyspark.transformation.deserializers import (
        KMeansProtobufResponseRowDeserializer,
        PCAProtobufResponseRowDeserializer,
    )
    from sagemaker_pyspark.transformation.serializers import ProtobufRequestRowSerializer

    old = "com.amazonaws.services.sagemaker.sparksdk."
    s3: Any = session.boto_session.client("s3")
    s3.create_bucket(Bucket="training-bucket")
    settings = {f"{old}sagemakerrole": ROLE, f"{old}s3-data-bucket": "training-bucket"}
    for key, value in settings.items():
        spark.conf.set(key, value)
    dense = digits["dense"]
    try:
        projected = {
            "requestRowSerializer": ProtobufRequestRowSerializer(featuresColumnName="projectedFeatures"),
            "trainingSparkDataFormatOptions": {"featuresColumnName": "projectedFeatures"},
            "trainingInputS3DataPath": S3PathFromConfig(),
            "deleteStagingDataAfterTraining": False,
        }
        native = PCA().setInputCol("features").setOutputCol("projectedFeatures").setK(4)
        kmeans = KMeansSageMakerEstimator(**INSTANCES, **projected, session=session).setK(K).setFeatureDim(4)
        model = Pipeline().setStages([native, kmeans]).fit(dense)
        with model.stages[-1]:
            assert clusters(model.transform(dense)) == [1] * K
        client: Any = session.boto_session.client("sagemaker")
        job = client.describe_training_job(TrainingJobName=kmeans.latestTrainingJob)
        assert job["RoleArn"] == ROLE
        manifest = job["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
        assert manifest == f"s3://training-bucket/{kmeans.latestTrainingJob}/manifest.json"
        s3.head_object(Bucket="training-bucket", Key=manifest.removeprefix("s3://training-bucket/"))

        places = {
            "trainingInputS3DataPath": S3DataPath("training-bucket", "input"),
            "trainingOutputS3DataPath": S3DataPath("training-bucket", "output"),
            "endpointCreationPolicy": EndpointCreationPolicy.CREATE_ON_TRANSFORM,
            "sagemakerRole": IAMRoleFromConfig(),
            "session": session,
        }
        pca = PCASageMakerEstimator(
            **INSTANCES,
            **places,
            responseRowDeserializer=PCAProtobufResponseRowDeserializer(projectionColumnName="projectionDim"),
        )
        pca.setNumComponents(4).setFeatureDim(WIDTH)
        second = KMeansSageMakerEstimator(
            **INSTANCES,
            **places,
            trainingSparkDataFormatOptions={"featuresColumnName": "projectionDim"},
            requestRowSerializer=ProtobufRequestRowSerializer(featuresColumnName="projectionDim"),
            responseRowDeserializer=KMeansProtobufResponseRowDeserializer(),
        )
        model = Pipeline().setStages([pca, second.setK(K).setFeatureDim(4)]).fit(dense)
        with model.stages[0], model.stages[1]:
            assert clusters(model.transform(dense)) == [1] * K
    finally:
        for key in settings:
            spark.conf.unset(key)


def test_amazon_records(spark: Any, digits: Any, session: Session, tmp_path: Path) -> None:
    """A DataFrame as records below a prefix of S3, with columns of other names."""
    s3: Any = session.boto_session.client("s3")
    s3.create_bucket(Bucket="my-s3-bucket")
    frame = digits["dense"].withColumnsRenamed({"label": "myLabelColumn", "features": "myFeaturesColumn"})
    place = parse_uri(f"s3://my-s3-bucket/{tmp_path.name}", "path")
    if spark.version.startswith("3."):
        columns = {"labelColumnName": "myLabelColumn", "featuresColumnName": "myFeaturesColumn"}
        write_records(frame, str(place), **columns, session=session)
    else:
        register(spark, session)
        writer = frame.write.format("sagemaker").mode("append").option("labelColumnName", "myLabelColumn")
        writer.option("featuresColumnName", "myFeaturesColumn").save(str(place))
    keys = [key for key in list_keys(session, place) if key.endswith(".pbr")]
    rows = [files.decode(s3.get_object(Bucket="my-s3-bucket", Key=key)["Body"].read()) for key in keys]
    labels = sorted(label for part in rows if part.labels is not None for label in part.labels.tolist())
    assert labels == sorted(float(number % K) for number in range(40))

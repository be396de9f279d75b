"""Mistakes that are found before a byte is uploaded, each by the parameter's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pyspark.ml.linalg import DenseVector, Vectors
from pyspark.sql import functions

from processing.exceptions import ConfigurationError, EngineError
from processing.spark.ml import (
    CustomNamePolicyFactory,
    IAMRole,
    IAMRoleFromConfig,
    KMeansProtobufResponseRowDeserializer,
    KMeansSageMakerEstimator,
    LDASageMakerEstimator,
    LibSVMRequestRowSerializer,
    LinearLearnerRegressor,
    PCASageMakerEstimator,
    ProtobufRequestRowSerializer,
    S3DataPath,
    S3PathFromConfig,
    SageMakerModel,
    XGBoostSageMakerEstimator,
)
from processing.spark.ml.formats import format_of

if TYPE_CHECKING:
    from processing import Session

ODD = (
    ("no rows", ConfigurationError, "dataset: the DataFrame has no rows", lambda frame: frame.filter("id < 0")),
    ("missing", ConfigurationError, "there is no column 'features'", lambda frame: frame.drop("features")),
    (
        "no vectors",
        ConfigurationError,
        "the column 'features' must have vectors, not string",
        lambda frame: frame.withColumn("features", functions.lit("x")),
    ),
    (
        "no numbers",
        ConfigurationError,
        "the column 'label' must have numbers, not string",
        lambda frame: frame.withColumn("label", functions.lit("x")),
    ),
)


@pytest.fixture(scope="module")
def frame(spark: Any) -> Any:
    """Three labelled vectors."""
    rows = [(number, float(number), Vectors.dense(number, 1.0)) for number in range(3)]
    return spark.createDataFrame(rows, ["id", "label", "features"]).cache()


@pytest.fixture
def kmeans(session: Session, instances: dict[str, Any]) -> KMeansSageMakerEstimator:
    return KMeansSageMakerEstimator(**instances, session=session)


@pytest.fixture(autouse=True)
def _nothing_is_uploaded(session: Session, keys: Any) -> Any:
    """No test here leaves an object or a training job."""
    sagemaker: Any = session.boto_session.client("sagemaker")
    before = keys(), len(sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"])
    yield
    assert (keys(), len(sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"])) == before


@pytest.mark.parametrize(("error", "text", "change"), [each[1:] for each in ODD], ids=[each[0] for each in ODD])
def test_odd_frames(kmeans: Any, frame: Any, error: type, text: str, change: Any) -> None:
    """A frame that cannot be trained on is refused, and the error says why."""
    with pytest.raises(error, match=text):
        kmeans.fit(change(frame))


def test_vectors_of_different_sizes_and_nulls(kmeans: Any, spark: Any) -> None:
    """Sizes that differ between rows, and nulls, are found in the data."""
    with pytest.raises(ConfigurationError, match="the vectors of 'features' have different sizes, from 1 to 2"):
        kmeans.fit(spark.createDataFrame([(Vectors.dense(1.0),), (Vectors.dense(1.0, 2.0),)], ["features"]))
    with_null = spark.createDataFrame([(Vectors.dense(1.0), 1.0), (None, None)], ["features", "label"])
    with pytest.raises(ConfigurationError, match="1 rows have null in 'features'"):
        kmeans.fit(with_null)


def test_columns_that_are_named(session: Session, instances: dict[str, Any], frame: Any) -> None:
    """A column that a setting names has to be there, and the setting is in the message."""
    odd: dict[str, dict[str, Any]] = {
        "trainingProjectedColumns: there is no column 'nope'": {"trainingProjectedColumns": ["nope"]},
        r"trainingSparkDataFormatOptions\[featuresColumnName\]: there is no column 'nope'": {
            "trainingSparkDataFormatOptions": {"featuresColumnName": "nope"}
        },
        r"trainingSparkDataFormatOptions\[labelColumnName\]: there is no column 'nope'": {
            "trainingSparkDataFormatOptions": {"labelColumnName": "nope"}
        },
        "has no option 'wrong'": {"trainingSparkDataFormatOptions": {"wrong": "1"}},
        r"this Spark .* has no format 'avro'; .*=org\.apache\.spark:spark-avro_2\.1[23]:": {
            "trainingSparkDataFormat": "avro"
        },
        r"has no format 'delta'; .*=io\.delta:delta-spark_2": {"trainingSparkDataFormat": "delta"},
        "has no format 'unheard'; .*the package that has it": {"trainingSparkDataFormat": "unheard"},
        "Spark writes 'orc' itself, and it has no file system for s3a:// .*hadoop-aws": {
            "trainingSparkDataFormat": "orc"
        },
        "Spark's format 'noop' has written no object": {"trainingSparkDataFormat": "noop"},
        "trainingKmsKeyId: Spark writes 'orc' itself; set": {
            "trainingSparkDataFormat": "orc",
            "trainingKmsKeyId": "key",
        },
        "trainingCompressionCodec: Spark writes 'orc' itself; give the option": {
            "trainingSparkDataFormat": "orc",
            "trainingCompressionCodec": "gzip",
            "trainingInputMode": "Pipe",
        },
        "trainingCompressionCodec: must be 'gzip' or None, not 'zstd'": {"trainingCompressionCodec": "zstd"},
        "trainingCompressionCodec: .* only with trainingInputMode='Pipe'": {"trainingCompressionCodec": "gzip"},
        "securityGroupIds: missing": {"subnets": ["subnet-1"]},
        r"trainingChannelName: must match .*, not 'a b'": {"trainingChannelName": "a b"},
        "trainingInstanceType: 'm5.large' is no instance type": {"trainingInstanceType": "m5.large"},
        "endpointInstanceType: 'm5.large' is no instance type": {"endpointInstanceType": "m5.large"},
        r"modelEnvironmentVariables\[a b\]: must match": {"modelEnvironmentVariables": {"a b": 1}},
        r"tags\[0\]\.Key: has 129 characters, at most 128": {"tags": {"k" * 129: "v"}},
        r"extra\[CreateTrainingJob\]\.Nope: is not known": {"extra": {"CreateTrainingJob": {"Nope": 1}}},
        r"extra\[CreateModel\]\.Nope: is not known": {"extra": {"CreateModel": {"Nope": 1}}},
        r"extra\[ProductionVariant\]\.VolumeSizeInGB: must be an integer": {
            "extra": {"ProductionVariant": {"VolumeSizeInGB": "5"}}
        },
        r"extra\[InvokeEndpoint\]\.Nope: is not known": {"extra": {"InvokeEndpoint": {"Nope": 1}}},
        "trainingInputS3DataPath": {"trainingInputS3DataPath": S3DataPath("No_Bucket", "x")},
        "trainingOutputS3DataPath: set spark.sagemaker.s3-data-bucket": {
            "trainingOutputS3DataPath": S3PathFromConfig()
        },
        "namePolicyFactory: the endpointName 'no good'": {
            "namePolicyFactory": CustomNamePolicyFactory("a", "b", "c", "no good")
        },
    }
    for text, options in odd.items():
        with pytest.raises(ConfigurationError, match=text):
            KMeansSageMakerEstimator(**{**instances, **options}, session=session).fit(frame)


def test_hyperparameters(session: Session, instances: dict[str, Any], frame: Any) -> None:
    """A missing hyperparameter, or one that contradicts the data, is named with its algorithm."""
    with pytest.raises(ConfigurationError, match=r"PCASageMakerEstimator\.num_components: missing"):
        PCASageMakerEstimator(**instances, session=session).fit(frame)
    with pytest.raises(ConfigurationError, match=r"LDASageMakerEstimator\.mini_batch_size: missing"):
        LDASageMakerEstimator(**instances, session=session).setNumTopics(2).fit(frame)
    with pytest.raises(ConfigurationError, match=r"KMeansSageMakerEstimator\.feature_dim: is 5, .* have 2 elements"):
        KMeansSageMakerEstimator(**instances, session=session).setFeatureDim(5).fit(frame)
    estimator = XGBoostSageMakerEstimator(**instances, session=session).setNumRound(1).setObjective("multi:softmax")
    with pytest.raises(ConfigurationError, match=r"XGBoostSageMakerEstimator\.num_class: missing"):
        estimator.fit(frame)
    if session.is_local:
        with pytest.raises(EngineError, match=r"trainingImage: the local engine does not run .*/lda:1; name a module"):
            LDASageMakerEstimator(**instances, session=session).setNumTopics(2).setMiniBatchSize(2).fit(frame)
    mixed = XGBoostSageMakerEstimator(
        **instances, session=session, requestRowSerializer=ProtobufRequestRowSerializer()
    ).setNumRound(1)
    with pytest.raises(ConfigurationError, match=r"requestRowSerializer: .* take LibSVMRequestRowSerializer\(\)"):
        mixed.fit(frame)
    mixed.requestRowSerializer, mixed.trainingSparkDataFormat = LibSVMRequestRowSerializer(), "csv"
    with pytest.raises(ConfigurationError, match=r"requestRowSerializer: .* UnlabeledCSVRequestRowSerializer\(\)"):
        mixed.fit(frame)
    with pytest.raises(ConfigurationError, match="LinearLearnerRegressor needs labels"):
        LinearLearnerRegressor(**instances, session=session).fit(frame.drop("label"))


def test_role_from_the_configuration(session: Session, spark: Any) -> None:
    """The old key and the new one are read; without both, the error names them."""
    aws: Any = type("Session", (), {"is_local": False, "expand_role": lambda _, role: f"expanded {role}"})()
    with pytest.raises(ConfigurationError, match=r"sagemakerRole: missing; .*spark\.sagemaker\.role or com\.amazonaws"):
        IAMRoleFromConfig().arn(aws, spark)
    for key in ("com.amazonaws.services.sagemaker.sparksdk.sagemakerrole", "spark.sagemaker.role"):
        spark.conf.set(key, "name")
        assert IAMRoleFromConfig().arn(aws, spark) == "expanded name", "not the key itself, as in 1.4.5"
        spark.conf.unset(key)
    assert IAMRole("arn:aws:iam::1:role/r").arn(session, spark) == "arn:aws:iam::1:role/r"


def test_models_that_cannot_be_hosted(session: Session) -> None:
    """DO_NOT_CREATE, an endpoint that is not in service, and missing parameters are refused."""
    helpers: dict[str, Any] = {
        "requestRowSerializer": ProtobufRequestRowSerializer(),
        "responseRowDeserializer": KMeansProtobufResponseRowDeserializer(),
        "session": session,
    }
    model: dict[str, Any] = {"modelImage": "image", "modelExecutionRoleARN": "arn:aws:iam::1:role/r", **helpers}
    with pytest.raises(ConfigurationError, match="endpointCreationPolicy: DO_NOT_CREATE"):
        SageMakerModel.fromModelS3Path(modelPath="s3://b/m", endpointCreationPolicy="DO_NOT_CREATE", **model)
    with pytest.raises(ConfigurationError, match="endpointInstanceType: missing"):
        SageMakerModel.fromModelS3Path(modelPath="s3://b/m", **model)
    with pytest.raises(ConfigurationError, match="endpointName: the endpoint 'nowhere' does not exist"):
        SageMakerModel.fromEndpoint(endpointName="nowhere", **helpers)
    with pytest.raises(ConfigurationError, match="requestRowSerializer: must be a RequestRowSerializer, not 1"):
        SageMakerModel.fromEndpoint(endpointName="nowhere", **{**helpers, "requestRowSerializer": 1})


def test_columns_of_a_prediction(session: Session, frame: Any) -> None:
    """The columns that a model reads have to be there, and those that it adds must not."""
    model = SageMakerModel(
        existingEndpointName="somewhere",
        requestRowSerializer=ProtobufRequestRowSerializer(),
        responseRowDeserializer=KMeansProtobufResponseRowDeserializer(closest_cluster_column_name="label"),
        session=session,
        endpointInstanceType=None,
        endpointInitialInstanceCount=None,
    )
    with pytest.raises(ConfigurationError, match="the DataFrame has a column 'label' already"):
        model.transform(frame)
    with pytest.raises(ConfigurationError, match="featuresColumnName: there is no column 'features'"):
        model.transform(frame.drop("features"))
    assert model.transformSchema(frame.drop("label").schema).names == [
        "id",
        "features",
        "distance_to_cluster",
        "label",
    ]
    assert isinstance(frame.first()["features"], DenseVector)


@pytest.mark.parametrize("separator", ["||", "", '"', "é", "\n"])
def test_separators_of_csv(frame: Any, separator: str) -> None:
    """A separator that is no single character of ASCII is refused."""
    for option in ("sep", "delimiter"):
        with pytest.raises(ConfigurationError, match=rf"\[{option}\]: must be one character, not"):
            format_of("csv", {option: separator, "featuresColumnName": "features"}, frame.schema)

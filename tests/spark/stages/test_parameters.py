"""Params, settings and their getters and setters, against the list of sagemaker_pyspark 1.4.5."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

from processing.exceptions import ConfigurationError
from processing.spark import ml
from processing.spark.ml import EndpointCreationPolicy, IAMRole, KMeansSageMakerEstimator, SageMakerEstimator
from processing.spark.ml.values import snake_case

# The number of hyperparameters of each class.
COUNTS = {
    "FactorizationMachinesBinaryClassifier": 26,
    "FactorizationMachinesRegressor": 26,
    "KMeansSageMakerEstimator": 12,
    "LDASageMakerEstimator": 7,
    "LinearLearnerBinaryClassifier": 41,
    "LinearLearnerMultiClassClassifier": 40,
    "LinearLearnerRegressor": 37,
    "PCASageMakerEstimator": 6,
    "XGBoostSageMakerEstimator": 35,
}

# Setters whose names differ from their hyperparameters'.
SETTERS = {
    "KMeansSageMakerEstimator": "MaxIter Tol TrialNum LocalInitMethod HalflifeTime CenterFactor K EvalMetrics",
    "XGBoostSageMakerEstimator": "NThread ColSampleByTree ColSampleByLevel Lambda NumClasses MaxDepth LambdaBias",
    "LinearLearnerMultiClassClassifier": "BalanceMultiClassWeights Beta1 L1 LrSchedulerMinimumLr FBeta Wd",
}


def made(name: str, instances: dict[str, Any], **options: Any) -> Any:
    return getattr(ml, name)(**instances, **options)


@pytest.mark.parametrize("name", COUNTS)
def test_every_hyperparameter_is_a_param(name: str, instances: dict[str, Any]) -> None:
    """Each class has its hyperparameters as Params, with getters and setters in both spellings."""
    estimator = made(name, instances)
    assert len(estimator.params) == COUNTS[name]
    assert len(estimator.explainParams().splitlines()) == COUNTS[name]
    for param in estimator.params:
        words = "".join(word[:1].upper() + word[1:] for word in param.name.split("_"))
        assert callable(getattr(estimator, f"set{words}"))
        assert callable(getattr(estimator, f"get_{snake_case(words)}"))
    for end in SETTERS.get(name, "FeatureDim").split():
        assert callable(getattr(estimator, f"set{end}"))
        assert callable(getattr(estimator, f"get{end}"))


def test_hyperparameters_are_sent_as_the_algorithms_take_them(instances: dict[str, Any]) -> None:
    """`lambda_weights` is sent as `lambda`, metrics as a list, booleans as words, defaults where there are some."""
    xgboost = made("XGBoostSageMakerEstimator", instances).setLambda(0.5).setNumRound(3)
    assert xgboost.hyperParameters == {"lambda": "0.5", "num_round": "3"}
    kmeans = made("KMeansSageMakerEstimator", instances).setEvalMetrics("msd,ssd").setTrialNum("auto").setTol(1e-05)
    assert kmeans.hyperParameters == {
        "k": "2",
        "mini_batch_size": "5000",
        "eval_metrics": '["msd", "ssd"]',
        "local_lloyd_num_trials": "auto",
        "local_lloyd_tol": "1e-05",
    }
    pca = made("PCASageMakerEstimator", instances).setSubtractMean(value=False).setExtraComponents(-1)
    assert (pca.hyperParameters["subtract_mean"], pca.hyperParameters["extra_components"]) == ("false", "-1")
    assert pca.setSubtractMean("True").getSubtractMean() == "True"
    learner = made("LinearLearnerBinaryClassifier", instances)
    assert learner.hyperParameters["predictor_type"] == "binary_classifier"


@pytest.mark.parametrize(
    ("name", "setter", "value"),
    [
        ("KMeansSageMakerEstimator", "setK", 1),
        ("KMeansSageMakerEstimator", "setK", "ten"),
        ("KMeansSageMakerEstimator", "setK", True),
        ("KMeansSageMakerEstimator", "setTol", float("nan")),
        ("KMeansSageMakerEstimator", "setEvalMetrics", "mse"),
        ("KMeansSageMakerEstimator", "setCenterFactor", 0),
        ("PCASageMakerEstimator", "setSubtractMean", "maybe"),
        ("PCASageMakerEstimator", "setExtraComponents", 0),
        ("LinearLearnerMultiClassClassifier", "setNumClasses", 2),
        ("LinearLearnerRegressor", "setMomentum", 1.0),
        ("XGBoostSageMakerEstimator", "setSubsample", 0),
        ("XGBoostSageMakerEstimator", "setTweedieVariancePower", 2),
    ],
)
def test_wrong_values_are_named(name: str, setter: str, value: Any, instances: dict[str, Any]) -> None:
    """A wrong value is refused at once, with the class and the hyperparameter, as a ValueError."""
    estimator = made(name, instances)
    with pytest.raises(ConfigurationError, match=rf"{name}\.\w+: must be "):
        getattr(estimator, setter)(value)


def test_settings_in_both_spellings(instances: dict[str, Any]) -> None:
    """Each parameter of the constructor can be written in snake_case, and read and set in both."""
    snake = {snake_case(name): value for name, value in instances.items()}
    estimator: Any = KMeansSageMakerEstimator(**snake, training_instance_volume_size_in_gb=7, region="eu-west-1")
    assert estimator.trainingInstanceVolumeSizeInGB == estimator.training_instance_volume_size_in_gb == 7
    assert estimator.sagemaker_role == IAMRole(instances["sagemakerRole"])
    assert estimator.endpointCreationPolicy == EndpointCreationPolicy.CREATE_ON_CONSTRUCT
    assert estimator.trainingImage.startswith("438346466558.dkr.ecr.eu-west-1.amazonaws.com/kmeans")
    estimator.endpoint_creation_policy = "DO_NOT_CREATE"
    assert estimator.endpointCreationPolicy == "DO_NOT_CREATE"
    with pytest.raises(ConfigurationError, match="trainingInstanceCount: is given twice"):
        KMeansSageMakerEstimator(**instances, training_instance_count=1)
    with pytest.raises(ConfigurationError, match="trainingInstanceType: missing; KMeansSageMakerEstimator needs it"):
        KMeansSageMakerEstimator()
    with pytest.raises(TypeError, match="has no parameter 'colour'"):
        KMeansSageMakerEstimator(**instances, colour="red")
    with pytest.raises(ConfigurationError, match="trainingInputMode: must be one of File, Pipe, FastFile"):
        KMeansSageMakerEstimator(**instances, trainingInputMode="Bucket")
    with pytest.raises(ConfigurationError, match="trainingInstanceCount: must be an integer of at least 1"):
        estimator.trainingInstanceCount = 0


def test_copies_are_independent(instances: dict[str, Any]) -> None:
    """A copy has the same settings and Params, and a change of it leaves the original as it is."""
    estimator = KMeansSageMakerEstimator(**instances, uid="kmeans-1").setK(5)
    copied = estimator.copy({estimator.k: 7})
    copied.trainingChannelName = "other"
    assert (copied.uid, copied.getK(), estimator.getK()) == ("kmeans-1", 7, 5)
    assert estimator.trainingChannelName == "train"
    assert copied.sagemakerRole == estimator.sagemakerRole


def test_any_image(spark: Any, instances: dict[str, Any], tmp_path: Any) -> None:
    """An estimator for any image is saved with its helpers, and its hyperparameters are texts."""
    estimator = SageMakerEstimator(
        trainingImage="image:1",
        modelImage="image:2",
        requestRowSerializer=ml.UnlabeledCSVRequestRowSerializer(features_column_name="x"),
        responseRowDeserializer=ml.XGBoostCSVRowDeserializer(),
        hyperParameters={"depth": 3, "rate": 0.5},
        namePolicyFactory=ml.RandomNamePolicyFactory("team-"),
        trainingInputS3DataPath="s3a://bucket/in",
        **instances,
    )
    estimator.write().overwrite().save(str(tmp_path / "stage"))
    loaded = SageMakerEstimator.load(str(tmp_path / "stage"))
    assert loaded._hyperparameters(None) == {"depth": "3", "rate": "0.5"}
    assert loaded.requestRowSerializer == estimator.requestRowSerializer
    assert loaded.trainingInputS3DataPath == ml.S3DataPath("bucket", "in")
    assert loaded.namePolicyFactory == estimator.namePolicyFactory
    assert loaded._images() == ("image:1", "image:2")
    with pytest.raises(ConfigurationError, match=r"has a processing\.spark\.ml\.estimator\.SageMakerEstimator, not a"):
        KMeansSageMakerEstimator.load(str(tmp_path / "stage"))


def test_clients_of_the_user_s_own(instances: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's clients make the driver's calls. Workers make their own, and no key travels to them."""
    import pickle

    import boto3

    for name, value in {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hidden"}.items():
        monkeypatch.setenv(name, value)
    sagemaker: Any = boto3.client("sagemaker", region_name="eu-west-1")
    s3: Any = boto3.client("s3", region_name="eu-west-1")
    estimator: Any = KMeansSageMakerEstimator(**instances, sagemakerClient=sagemaker, s3Client=s3)
    session = estimator.copy()._session
    assert (session.client("sagemaker"), session.client("s3")) == (sagemaker, s3)
    sent = pickle.dumps(session)
    assert b"hidden" not in sent
    assert pickle.loads(sent).client("s3").meta.region_name == "eu-west-1"
    explicit: Any = boto3.client(
        "sagemaker", region_name="eu-west-1", aws_access_key_id="other", aws_secret_access_key="hidden"
    )
    estimator.sagemakerClient = explicit
    with pytest.raises(ConfigurationError, match="its keys exist in this process only"):
        pickle.dumps(estimator._session)


GENERIC: dict[str, Any] = {
    "trainingImage": "image:1",
    "modelImage": "image:2",
    "requestRowSerializer": ml.ProtobufRequestRowSerializer(),
    "responseRowDeserializer": ml.KMeansProtobufResponseRowDeserializer(),
}


class _Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class _WithoutSchema(ml.ResponseRowDeserializer):
    pass


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("hyperParameters", {"a": None}, r"hyperParameters\[a\]: must be a text, a number or a boolean, not None"),
        ("hyperParameters", {"a": [1]}, r"hyperParameters\[a\]: must be a text"),
        ("hyperParameters", {None: 1}, "hyperParameters: the name: must be a string that is not blank, not None"),
        ("modelEnvironmentVariables", {"a": None}, r"modelEnvironmentVariables\[a\]: must be"),
        ("trainingSparkDataFormatOptions", {"featuresColumnName": None}, r"Options\[featuresColumnName\]: must be"),
        ("trainingSparkDataFormatOptions", {1: "x"}, "trainingSparkDataFormatOptions: the name: must be"),
        ("trainingProjectedColumns", [], "trainingProjectedColumns: must be a list of texts, and not empty"),
        ("trainingProjectedColumns", ["a", 1], r"trainingProjectedColumns\[1\]: must be a string"),
        ("trainingCommand", [], "trainingCommand: must be a list of texts, and not empty"),
        ("trainingCommand", [None], r"trainingCommand\[0\]: must be a string"),
        ("subnets", b"subnet", "subnets: must be a list of texts"),
        ("securityGroupIds", [None], r"securityGroupIds\[0\]: must be a string"),
        ("tags", "a=b", "tags: must be a dictionary or a list of tags"),
        ("tags", {"a": None}, r"tags\[0\]\.Value: must be a string or an integer, not None"),
        ("tags", [{"Key": "a"}], r"tags\[0\]: must be a dictionary with Key and Value"),
        ("session", "default", "session: must be a processing.Session or a sagemaker.Session, not 'default'"),
        ("extra", {"CreateTrainJob": {}}, "extra: 'CreateTrainJob' is not one of CreateTrainingJob, "),
        ("extra", {"CreateModel": None}, r"extra\[CreateModel\]: must be a dictionary, not None"),
        ("sagemakerRole", " ", "sagemakerRole: must be a string that is not blank"),
        ("sagemakerRole", _Unshowable(), "sagemakerRole: must be an IAMRole or an IAMRoleFromConfig"),
        ("trainingInputS3DataPath", _Unshowable(), "trainingInputS3DataPath: must be an S3DataPath"),
        ("endpointCreationPolicy", _Unshowable(), "endpointCreationPolicy: must be one of"),
        ("responseRowDeserializer", _WithoutSchema(), r"_WithoutSchema\.schema must be a StructType"),
        (
            "responseRowDeserializer",
            ml.KMeansProtobufResponseRowDeserializer("a", "a"),
            "responseRowDeserializer: its columns a, a need different names",
        ),
    ],
)
def test_wrong_settings_are_refused_at_once(
    setting: str, value: Any, text: str, instances: dict[str, Any], session: Any
) -> None:
    """The constructor names a wrong setting, and the wrong item in it; so does an assignment."""
    estimator = SageMakerEstimator(**{**GENERIC, **instances, "session": session})
    with pytest.raises(ConfigurationError, match=text):
        setattr(estimator, setting, value)
    with pytest.raises(ConfigurationError, match=text):
        SageMakerEstimator(**{**GENERIC, **instances, "session": session, setting: value})


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("IAMRole", [None], "sagemakerRole: must be"),
        ("IAMRoleFromConfig", [""], "configKey: must be"),
        ("S3PathFromConfig", [None], "configKey: must be"),
        ("S3DataPath", [None, "x"], "bucket: must be"),
        ("S3DataPath", ["bucket", None], "objectPath: must be"),
        ("RandomNamePolicy", [None], "prefix: must be"),
        ("RandomNamePolicyFactory", [1], "prefix: must be"),
        ("CustomNamePolicy", ["a", None, "c", "d"], "modelName: must be"),
        ("CustomNamePolicyFactory", ["a", "b", 1, "d"], "endpointConfigName: must be"),
        ("CustomNamePolicyWithTimeStampSuffix", ["a", "b", "c", None], "endpointName: must be"),
        ("CustomNamePolicyWithTimeStampSuffixFactory", ["", "b", "c", "d"], "trainingJobName: must be"),
        ("ProtobufRequestRowSerializer", [None, 1], "featuresColumnName: must be"),
        ("LibSVMRequestRowSerializer", [None, None], "labelColumnName: must be"),
        ("XGBoostCSVRowDeserializer", [""], "prediction_column_name: must be"),
        ("KMeansProtobufResponseRowDeserializer", [1], "distance_to_cluster_column_name: must be"),
        ("PCAProtobufResponseRowDeserializer", [None], "projection_column_name: must be"),
        ("LinearLearnerRegressorProtobufResponseRowDeserializer", [None], "score_column_name: must be"),
        ("LibSVMResponseRowDeserializer", [0, "a", "b"], "dim: must be an integer of at least 1, not 0"),
        ("ProtobufResponseRowDeserializer", ["a"], "schema: must be a StructType"),
    ],
)
def test_wrong_arguments_of_values_are_refused_at_once(name: str, arguments: list[Any], text: str) -> None:
    """Roles, places, names, serializers and deserializers refuse what they could not use later."""
    with pytest.raises(ConfigurationError, match=text):
        getattr(ml, name)(*arguments)


def test_wrong_resources_are_refused(session: Any) -> None:
    """The methods of the cleanup name the argument, in the spelling of sagemaker_pyspark."""
    cleanup: Any = ml.SageMakerResourceCleanup(session)
    with pytest.raises(ConfigurationError, match="created_resources: must be a CreatedResources, not None"):
        cleanup.deleteResources(created_resources=None)
    for delete in (cleanup.deleteEndpoint, cleanup.deleteEndpointConfig, cleanup.deleteModel):
        with pytest.raises(ConfigurationError, match="name: must be a string that is not blank, not None"):
            delete(None)
    cleanup.deleteResources(createdResources=ml.CreatedResources())
    for name in (None, "no good"):
        with pytest.raises(ConfigurationError, match="endpointName: must be the name of an endpoint"):
            ml.SageMakerModel.fromEndpoint(
                name,
                GENERIC["requestRowSerializer"],
                GENERIC["responseRowDeserializer"],
                session=session,
            )


def test_positions_are_those_of_sagemaker_pyspark() -> None:
    """Arguments by position have the order of its constructor, in which the role follows the client."""
    parameters = list(inspect.signature(SageMakerEstimator).parameters)
    assert parameters[9:12] == ["trainingInputS3DataPath", "trainingOutputS3DataPath", "trainingInstanceVolumeSizeInGB"]
    assert parameters[24:27] == ["sagemakerClient", "sagemakerRole", "s3Client"]


@pytest.mark.parametrize("name", COUNTS)
def test_every_hyperparameter_says_what_it_means(name: str, instances: dict[str, Any]) -> None:
    """`explainParams` and `help` have the meaning before the valid values."""
    estimator = made(name, instances)
    for param in estimator.params:
        meaning, _, values = param.doc.partition(". Must be ")
        assert len(meaning.split()) > 2, param
        assert values.endswith("."), param
    assert KMeansSageMakerEstimator.setMaxIter.__name__ == "setMaxIter"
    assert "of at least 0 and of at most 1" in KMeansSageMakerEstimator(**instances).local_lloyd_tol.doc


def test_estimators_can_be_pickled(instances: dict[str, Any]) -> None:
    """A copy in another process has the settings and Params, and checks values as this one does."""
    copied = pickle.loads(pickle.dumps(KMeansSageMakerEstimator(**instances).setK(7)))
    assert (copied.getK(), copied.trainingInstanceCount) == (7, 1)
    with pytest.raises(ConfigurationError, match=r"KMeansSageMakerEstimator\.k: must be an integer of at least 2"):
        copied.setK(2**31)


@pytest.mark.parametrize("path", [None, "", 1])
def test_places_of_saved_stages(path: Any, instances: dict[str, Any]) -> None:
    """A path that is no text is refused: `None/metadata` would be a folder."""
    with pytest.raises(ConfigurationError, match="path: must be a string that is not blank"):
        KMeansSageMakerEstimator(**instances).save(path)
    with pytest.raises(ConfigurationError, match="path: must be a string that is not blank"):
        KMeansSageMakerEstimator.load(path)


def test_schemas_of_serializers_can_be_set() -> None:
    """`setSchema` is a method of sagemaker_pyspark's serializers."""
    serializer = ml.ProtobufRequestRowSerializer()
    serializer.setSchema("schema")
    assert serializer.schema == "schema"

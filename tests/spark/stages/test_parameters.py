"""Params, settings and their getters and setters, against the list of sagemaker_pyspark 1.4.5."""

from __future__ import annotations

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

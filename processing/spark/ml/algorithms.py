"""Estimators of SageMaker's own algorithms: the image, the formats and the hyperparameters of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from processing.exceptions import ConfigurationError
from processing.images import image_uri
from processing.spark.ml import hyperparameters as table
from processing.spark.ml.deserializers import (
    FactorizationMachinesBinaryClassifierDeserializer,
    FactorizationMachinesRegressorDeserializer,
    KMeansProtobufResponseRowDeserializer,
    LDAProtobufResponseRowDeserializer,
    LinearLearnerBinaryClassifierProtobufResponseRowDeserializer,
    LinearLearnerMultiClassClassifierProtobufResponseRowDeserializer,
    LinearLearnerRegressorProtobufResponseRowDeserializer,
    PCAProtobufResponseRowDeserializer,
    XGBoostCSVRowDeserializer,
)
from processing.spark.ml.estimator import SageMakerEstimatorBase
from processing.spark.ml.formats import plain_name
from processing.spark.ml.hyperparameters import AlgorithmParameter, add_params, texts_of
from processing.spark.ml.serializers import (
    FeaturesSerializer,
    LibSVMRequestRowSerializer,
    ProtobufRequestRowSerializer,
    UnlabeledLibSVMRequestRowSerializer,
)
from processing.spark.ml.settings import algorithm_settings, signature_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from processing.session.session import Session
    from processing.spark.ml.upload import Contents

_XGBOOST = "1.7-1"  # the last version that reads libsvm without a warning


class _Algorithm(SageMakerEstimatorBase):
    """An estimator of one of SageMaker's algorithms. Its hyperparameters are Params."""

    _framework: ClassVar[str]
    _version: ClassVar[str | None] = None
    _labeled: ClassVar[bool] = False
    _hyperparameter_table: ClassVar[Mapping[str, AlgorithmParameter]]

    def __init_subclass__(
        cls,
        framework: str = "",
        hyperparameters: Iterable[AlgorithmParameter] = (),
        deserializer: Any = None,
        serializer: Any = ProtobufRequestRowSerializer,
        data_format: str = "sagemaker",
        labeled: bool = False,
        **options: Any,
    ) -> None:
        if framework:
            cls._framework, cls._labeled = framework, labeled
            cls._table = algorithm_settings(serializer, deserializer, data_format)
            cls.__signature__ = signature_of(cls._table)
            add_params(cls, hyperparameters)
        super().__init_subclass__(**options)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._set_defaults()

    def _set_defaults(self) -> None:
        defaults = {each.name: each.default for each in self._hyperparameter_table.values() if each.default is not None}
        self._setDefault(**defaults)

    @property
    def hyperParameters(self) -> dict[str, str]:
        """The hyperparameters that have a value, as they are sent."""
        return texts_of(self, self._hyperparameter_table)

    hyper_parameters = hyperParameters

    @property
    def trainingImage(self) -> str:
        """The image that trains."""
        return self._images()[0]

    training_image = trainingImage

    @property
    def modelImage(self) -> str:
        """The image that serves the model."""
        return self._images()[1]

    model_image = modelImage

    def _images(self) -> tuple[str, str]:
        region = self._settings["region"] or self._session.boto_region_name
        image = image_uri(self._framework, self._version, region)
        return image, image

    def _needs_label(self) -> bool:
        return self._labeled

    def _check_image_for_processing(self) -> None:
        if self._framework != "xgboost":  # the others are closed, and for training jobs alone
            raise ConfigurationError(
                f"runAs: the image of {type(self).__name__} is made for training jobs; leave runAs out, or take "
                "SageMakerEstimator with an image of your own"
            )

    def _hyperparameters(self, contents: Contents | None) -> dict[str, str]:
        for name, each in self._hyperparameter_table.items():
            if each.required and not self.isDefined(name):
                raise ConfigurationError(f"{type(self).__name__}.{name}: missing; it must be {each.description}")
        found = texts_of(self, self._hyperparameter_table)
        if contents is None or contents.width is None or "feature_dim" not in self._hyperparameter_table:
            return found
        if self.isDefined("feature_dim") and self.getOrDefault("feature_dim") != contents.width:
            raise ConfigurationError(
                f"{type(self).__name__}.feature_dim: is {self.getOrDefault('feature_dim')}, and the vectors have "
                f"{contents.width} elements; leave it out to take the size of the vectors"
            )
        return {**found, "feature_dim": str(contents.width)}


class KMeansSageMakerEstimator(
    _Algorithm,
    framework="kmeans",
    hyperparameters=table.KMEANS,
    deserializer=KMeansProtobufResponseRowDeserializer,
):
    """K-Means. The model adds `distance_to_cluster` and `closest_cluster`.

    The hyperparameters are Params: `explainParams()` lists them. `feature_dim` is taken from the data. The arguments
    are those of `SageMakerEstimator`, without the images and `hyperParameters`, and with `region`. Serializer and
    deserializer have defaults.
    """


class PCASageMakerEstimator(
    _Algorithm,
    framework="pca",
    hyperparameters=table.PCA,
    deserializer=PCAProtobufResponseRowDeserializer,
):
    """Principal component analysis. The model adds `projection`, a vector.

    `num_components` is required, and `feature_dim` is taken from the data. The arguments are those of
    `KMeansSageMakerEstimator`.
    """

    def _hyperparameters(self, contents: Contents | None) -> dict[str, str]:
        found = super()._hyperparameters(contents)
        width = None if contents is None else contents.width
        if width is not None and self.getOrDefault("num_components") > width:
            raise ConfigurationError(
                f"{type(self).__name__}.num_components: is {found['num_components']}, and the vectors have {width} "
                "elements"
            )
        return found


class LDASageMakerEstimator(
    _Algorithm,
    framework="lda",
    hyperparameters=table.LDA,
    deserializer=LDAProtobufResponseRowDeserializer,
):
    """Latent Dirichlet Allocation. The model adds `topic_mixture`, a vector.

    `num_topics` and `mini_batch_size`, the number of documents, are required. The arguments are those of
    `KMeansSageMakerEstimator`.
    """


class LinearLearnerBinaryClassifier(
    _Algorithm,
    framework="linear-learner",
    hyperparameters=table.LINEAR_LEARNER_BINARY,
    deserializer=LinearLearnerBinaryClassifierProtobufResponseRowDeserializer,
    labeled=True,
):
    """Linear Learner for two classes. The model adds `score` and `predicted_label`.

    The data need a column of labels. The arguments are those of `KMeansSageMakerEstimator`.
    """


class LinearLearnerMultiClassClassifier(
    _Algorithm,
    framework="linear-learner",
    hyperparameters=table.LINEAR_LEARNER_MULTICLASS,
    deserializer=LinearLearnerMultiClassClassifierProtobufResponseRowDeserializer,
    labeled=True,
):
    """Linear Learner for several classes. The model adds `score`, a vector, and `predicted_label`.

    The data need a column of labels, and `num_classes` is required. The arguments are those of
    `KMeansSageMakerEstimator`.
    """


class LinearLearnerRegressor(
    _Algorithm,
    framework="linear-learner",
    hyperparameters=table.LINEAR_LEARNER_REGRESSOR,
    deserializer=LinearLearnerRegressorProtobufResponseRowDeserializer,
    labeled=True,
):
    """Linear Learner for numbers. The model adds `score`.

    The data need a column of labels. The arguments are those of `KMeansSageMakerEstimator`.
    """


class FactorizationMachinesBinaryClassifier(
    _Algorithm,
    framework="factorization-machines",
    hyperparameters=table.FACTORIZATION_MACHINES_BINARY,
    deserializer=FactorizationMachinesBinaryClassifierDeserializer,
    labeled=True,
):
    """Factorization Machines for two classes. The model adds `score` and `predicted_label`.

    The data need a column of labels, and `num_factors` is required. The arguments are those of
    `KMeansSageMakerEstimator`.
    """


class FactorizationMachinesRegressor(
    _Algorithm,
    framework="factorization-machines",
    hyperparameters=table.FACTORIZATION_MACHINES_REGRESSOR,
    deserializer=FactorizationMachinesRegressorDeserializer,
    labeled=True,
):
    """Factorization Machines for numbers. The model adds `score`.

    The data need a column of labels, and `num_factors` is required. The arguments are those of
    `KMeansSageMakerEstimator`.
    """


class XGBoostSageMakerEstimator(
    _Algorithm,
    framework="xgboost",
    hyperparameters=table.XGBOOST,
    serializer=LibSVMRequestRowSerializer,
    deserializer=XGBoostCSVRowDeserializer,
    data_format="libsvm",
    labeled=True,
):
    """XGBoost. The model adds `prediction`: a number, or a vector for the objective `multi:softprob`.

    The data need a column of labels, and `num_round` is required. Elements that a sparse vector does not hold are
    missing values to XGBoost, not zeros. The arguments are those of `KMeansSageMakerEstimator`.
    """

    _version = _XGBOOST

    def _check_settings(self, session: Session, spark: Any) -> None:
        """Refuse requests whose columns are not those of the training: libsvm counts them from 1, and others from 0."""
        super()._check_settings(session, spark)
        serializer = self._settings["requestRowSerializer"]
        data_format = self._settings["trainingSparkDataFormat"]
        in_libsvm = plain_name(data_format) == "libsvm"
        asks_in_libsvm = isinstance(serializer, UnlabeledLibSVMRequestRowSerializer)
        if isinstance(serializer, FeaturesSerializer) and in_libsvm != asks_in_libsvm:
            suitable = "LibSVMRequestRowSerializer" if in_libsvm else "UnlabeledCSVRequestRowSerializer"
            raise ConfigurationError(
                f"requestRowSerializer: with trainingSparkDataFormat={data_format!r}, the model reads the columns of "
                f"{type(serializer).__name__} as others: libsvm counts from 1; take {suitable}()"
            )

    def _hyperparameters(self, contents: Contents | None) -> dict[str, str]:
        found = super()._hyperparameters(contents)
        if found.get("objective", "").startswith("multi:") and "num_class" not in found:
            raise ConfigurationError(f"{type(self).__name__}.num_class: missing; {found['objective']} needs it")
        return found

    def _deserializer(self) -> Any:
        given = super()._deserializer()
        if self.isDefined("objective") and self.getOrDefault("objective") == "multi:softprob":
            name = getattr(given, "prediction_column_name", None)
            return given if name is None else XGBoostCSVRowDeserializer(name, vector=True)
        return given

"""SageMaker's algorithms, and images of your own, as stages of Spark ML pipelines.

`fit` trains on SageMaker from a DataFrame, and `transform` predicts with an endpoint or a batch transform job. All of it
is Python: no code of the JVM, and no `sparkContext`, so that Spark Connect works. Names and parameters are those of
`sagemaker_pyspark`, in camelCase and in snake_case. Needs `pip install sm-processing[spark]`.
"""

try:
    import numpy as _numpy
    import pandas as _pandas
    import pyarrow as _pyarrow
    import pyspark as _pyspark
except ImportError as _error:
    raise ImportError(
        f"processing.spark.ml needs Spark and Arrow: pip install 'sm-processing[spark]' ({_error})", name=_error.name
    ) from _error

from processing.spark.ml.algorithms import (
    FactorizationMachinesBinaryClassifier,
    FactorizationMachinesRegressor,
    KMeansSageMakerEstimator,
    LDASageMakerEstimator,
    LinearLearnerBinaryClassifier,
    LinearLearnerMultiClassClassifier,
    LinearLearnerRegressor,
    PCASageMakerEstimator,
    XGBoostSageMakerEstimator,
)
from processing.spark.ml.datasource import register, write_records
from processing.spark.ml.deserializers import (
    AnswerError,
    FactorizationMachinesBinaryClassifierDeserializer,
    FactorizationMachinesRegressorDeserializer,
    KMeansProtobufResponseRowDeserializer,
    LDAProtobufResponseRowDeserializer,
    LibSVMResponseRowDeserializer,
    LinearLearnerBinaryClassifierProtobufResponseRowDeserializer,
    LinearLearnerMultiClassClassifierProtobufResponseRowDeserializer,
    LinearLearnerRegressorProtobufResponseRowDeserializer,
    PCAProtobufResponseRowDeserializer,
    ProtobufResponseRowDeserializer,
    ResponseRowDeserializer,
    XGBoostCSVRowDeserializer,
)
from processing.spark.ml.estimator import SageMakerEstimator, SageMakerEstimatorBase
from processing.spark.ml.hosting import EndpointError
from processing.spark.ml.invoke import TransformError
from processing.spark.ml.model import SageMakerModel
from processing.spark.ml.names import (
    CustomNamePolicy,
    CustomNamePolicyFactory,
    CustomNamePolicyWithTimeStampSuffix,
    CustomNamePolicyWithTimeStampSuffixFactory,
    NamePolicy,
    NamePolicyFactory,
    RandomNamePolicy,
    RandomNamePolicyFactory,
)
from processing.spark.ml.resources import (
    CreatedResources,
    SageMakerResourceCleanup,
    SageMakerResourceCleanupException,
)
from processing.spark.ml.roles_and_paths import (
    IAMRole,
    IAMRoleFromConfig,
    IAMRoleResource,
    S3AutoCreatePath,
    S3DataPath,
    S3PathFromConfig,
    S3Resource,
)
from processing.spark.ml.serializers import (
    LibSVMRequestRowSerializer,
    ProtobufRequestRowSerializer,
    RequestRowSerializer,
    UnlabeledCSVRequestRowSerializer,
    UnlabeledLibSVMRequestRowSerializer,
)
from processing.spark.ml.settings import EndpointCreationPolicy

__all__ = [
    "AnswerError",
    "CreatedResources",
    "CustomNamePolicy",
    "CustomNamePolicyFactory",
    "CustomNamePolicyWithTimeStampSuffix",
    "CustomNamePolicyWithTimeStampSuffixFactory",
    "EndpointCreationPolicy",
    "EndpointError",
    "FactorizationMachinesBinaryClassifier",
    "FactorizationMachinesBinaryClassifierDeserializer",
    "FactorizationMachinesRegressor",
    "FactorizationMachinesRegressorDeserializer",
    "IAMRole",
    "IAMRoleFromConfig",
    "IAMRoleResource",
    "KMeansProtobufResponseRowDeserializer",
    "KMeansSageMakerEstimator",
    "LDAProtobufResponseRowDeserializer",
    "LDASageMakerEstimator",
    "LibSVMRequestRowSerializer",
    "LibSVMResponseRowDeserializer",
    "LinearLearnerBinaryClassifier",
    "LinearLearnerBinaryClassifierProtobufResponseRowDeserializer",
    "LinearLearnerMultiClassClassifier",
    "LinearLearnerMultiClassClassifierProtobufResponseRowDeserializer",
    "LinearLearnerRegressor",
    "LinearLearnerRegressorProtobufResponseRowDeserializer",
    "NamePolicy",
    "NamePolicyFactory",
    "PCAProtobufResponseRowDeserializer",
    "PCASageMakerEstimator",
    "ProtobufRequestRowSerializer",
    "ProtobufResponseRowDeserializer",
    "RandomNamePolicy",
    "RandomNamePolicyFactory",
    "RequestRowSerializer",
    "ResponseRowDeserializer",
    "S3AutoCreatePath",
    "S3DataPath",
    "S3PathFromConfig",
    "S3Resource",
    "SageMakerEstimator",
    "SageMakerEstimatorBase",
    "SageMakerModel",
    "SageMakerResourceCleanup",
    "SageMakerResourceCleanupException",
    "TransformError",
    "UnlabeledCSVRequestRowSerializer",
    "UnlabeledLibSVMRequestRowSerializer",
    "XGBoostCSVRowDeserializer",
    "XGBoostSageMakerEstimator",
    "register",
    "write_records",
]

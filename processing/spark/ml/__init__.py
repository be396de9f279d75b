"""SageMaker's algorithms, and images of your own, as stages of Spark ML pipelines.

`fit` trains on SageMaker from a DataFrame, and `transform` predicts with an endpoint or a batch transform job. All is
Python: no code of the JVM, and no `sparkContext`, so that Spark Connect works. Names and parameters are those of
`sagemaker_pyspark`, in camelCase and in snake_case. Needs `pip install sm-processing[spark]`.

Public names are imported on first use (PEP 562), so that workers of Spark import only what they run.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processing.spark.ml.algorithms import (
        FactorizationMachinesBinaryClassifier as FactorizationMachinesBinaryClassifier,
    )
    from processing.spark.ml.algorithms import FactorizationMachinesRegressor as FactorizationMachinesRegressor
    from processing.spark.ml.algorithms import KMeansSageMakerEstimator as KMeansSageMakerEstimator
    from processing.spark.ml.algorithms import LDASageMakerEstimator as LDASageMakerEstimator
    from processing.spark.ml.algorithms import LinearLearnerBinaryClassifier as LinearLearnerBinaryClassifier
    from processing.spark.ml.algorithms import LinearLearnerMultiClassClassifier as LinearLearnerMultiClassClassifier
    from processing.spark.ml.algorithms import LinearLearnerRegressor as LinearLearnerRegressor
    from processing.spark.ml.algorithms import PCASageMakerEstimator as PCASageMakerEstimator
    from processing.spark.ml.algorithms import XGBoostSageMakerEstimator as XGBoostSageMakerEstimator
    from processing.spark.ml.datasource import register as register
    from processing.spark.ml.datasource import write_records as write_records
    from processing.spark.ml.deserializers import AnswerError as AnswerError
    from processing.spark.ml.deserializers import (
        FactorizationMachinesBinaryClassifierDeserializer as FactorizationMachinesBinaryClassifierDeserializer,
    )
    from processing.spark.ml.deserializers import (
        FactorizationMachinesRegressorDeserializer as FactorizationMachinesRegressorDeserializer,
    )
    from processing.spark.ml.deserializers import (
        KMeansProtobufResponseRowDeserializer as KMeansProtobufResponseRowDeserializer,
    )
    from processing.spark.ml.deserializers import (
        LDAProtobufResponseRowDeserializer as LDAProtobufResponseRowDeserializer,
    )
    from processing.spark.ml.deserializers import LibSVMResponseRowDeserializer as LibSVMResponseRowDeserializer
    from processing.spark.ml.deserializers import (
        LinearLearnerBinaryClassifierProtobufResponseRowDeserializer as LinearLearnerBinaryClassifierProtobufResponseRowDeserializer,  # noqa: E501 - one name, twice
    )
    from processing.spark.ml.deserializers import (
        LinearLearnerMultiClassClassifierProtobufResponseRowDeserializer as LinearLearnerMultiClassClassifierProtobufResponseRowDeserializer,  # noqa: E501 - one name, twice
    )
    from processing.spark.ml.deserializers import (
        LinearLearnerRegressorProtobufResponseRowDeserializer as LinearLearnerRegressorProtobufResponseRowDeserializer,
    )
    from processing.spark.ml.deserializers import (
        PCAProtobufResponseRowDeserializer as PCAProtobufResponseRowDeserializer,
    )
    from processing.spark.ml.deserializers import ProtobufResponseRowDeserializer as ProtobufResponseRowDeserializer
    from processing.spark.ml.deserializers import ResponseRowDeserializer as ResponseRowDeserializer
    from processing.spark.ml.deserializers import XGBoostCSVRowDeserializer as XGBoostCSVRowDeserializer
    from processing.spark.ml.estimator import SageMakerEstimator as SageMakerEstimator
    from processing.spark.ml.estimator import SageMakerEstimatorBase as SageMakerEstimatorBase
    from processing.spark.ml.hosting import EndpointError as EndpointError
    from processing.spark.ml.invoke import PredictionError as PredictionError
    from processing.spark.ml.model import SageMakerModel as SageMakerModel
    from processing.spark.ml.names import CustomNamePolicy as CustomNamePolicy
    from processing.spark.ml.names import CustomNamePolicyFactory as CustomNamePolicyFactory
    from processing.spark.ml.names import CustomNamePolicyWithTimeStampSuffix as CustomNamePolicyWithTimeStampSuffix
    from processing.spark.ml.names import (
        CustomNamePolicyWithTimeStampSuffixFactory as CustomNamePolicyWithTimeStampSuffixFactory,
    )
    from processing.spark.ml.names import NamePolicy as NamePolicy
    from processing.spark.ml.names import NamePolicyFactory as NamePolicyFactory
    from processing.spark.ml.names import RandomNamePolicy as RandomNamePolicy
    from processing.spark.ml.names import RandomNamePolicyFactory as RandomNamePolicyFactory
    from processing.spark.ml.resources import CreatedResources as CreatedResources
    from processing.spark.ml.resources import SageMakerResourceCleanup as SageMakerResourceCleanup
    from processing.spark.ml.resources import SageMakerResourceCleanupException as SageMakerResourceCleanupException
    from processing.spark.ml.roles_and_paths import IAMRole as IAMRole
    from processing.spark.ml.roles_and_paths import IAMRoleFromConfig as IAMRoleFromConfig
    from processing.spark.ml.roles_and_paths import IAMRoleResource as IAMRoleResource
    from processing.spark.ml.roles_and_paths import S3AutoCreatePath as S3AutoCreatePath
    from processing.spark.ml.roles_and_paths import S3DataPath as S3DataPath
    from processing.spark.ml.roles_and_paths import S3PathFromConfig as S3PathFromConfig
    from processing.spark.ml.roles_and_paths import S3Resource as S3Resource
    from processing.spark.ml.serializers import LibSVMRequestRowSerializer as LibSVMRequestRowSerializer
    from processing.spark.ml.serializers import ProtobufRequestRowSerializer as ProtobufRequestRowSerializer
    from processing.spark.ml.serializers import RequestRowSerializer as RequestRowSerializer
    from processing.spark.ml.serializers import UnlabeledCSVRequestRowSerializer as UnlabeledCSVRequestRowSerializer
    from processing.spark.ml.serializers import (
        UnlabeledLibSVMRequestRowSerializer as UnlabeledLibSVMRequestRowSerializer,
    )
    from processing.spark.ml.settings import EndpointCreationPolicy as EndpointCreationPolicy

_NAMES_OF = {
    "processing.spark.ml.algorithms": (
        "FactorizationMachinesBinaryClassifier",
        "FactorizationMachinesRegressor",
        "KMeansSageMakerEstimator",
        "LDASageMakerEstimator",
        "LinearLearnerBinaryClassifier",
        "LinearLearnerMultiClassClassifier",
        "LinearLearnerRegressor",
        "PCASageMakerEstimator",
        "XGBoostSageMakerEstimator",
    ),
    "processing.spark.ml.datasource": (
        "register",
        "write_records",
    ),
    "processing.spark.ml.deserializers": (
        "AnswerError",
        "FactorizationMachinesBinaryClassifierDeserializer",
        "FactorizationMachinesRegressorDeserializer",
        "KMeansProtobufResponseRowDeserializer",
        "LDAProtobufResponseRowDeserializer",
        "LibSVMResponseRowDeserializer",
        "LinearLearnerBinaryClassifierProtobufResponseRowDeserializer",
        "LinearLearnerMultiClassClassifierProtobufResponseRowDeserializer",
        "LinearLearnerRegressorProtobufResponseRowDeserializer",
        "PCAProtobufResponseRowDeserializer",
        "ProtobufResponseRowDeserializer",
        "ResponseRowDeserializer",
        "XGBoostCSVRowDeserializer",
    ),
    "processing.spark.ml.estimator": (
        "SageMakerEstimator",
        "SageMakerEstimatorBase",
    ),
    "processing.spark.ml.hosting": ("EndpointError",),
    "processing.spark.ml.invoke": ("PredictionError",),
    "processing.spark.ml.model": ("SageMakerModel",),
    "processing.spark.ml.names": (
        "CustomNamePolicy",
        "CustomNamePolicyFactory",
        "CustomNamePolicyWithTimeStampSuffix",
        "CustomNamePolicyWithTimeStampSuffixFactory",
        "NamePolicy",
        "NamePolicyFactory",
        "RandomNamePolicy",
        "RandomNamePolicyFactory",
    ),
    "processing.spark.ml.resources": (
        "CreatedResources",
        "SageMakerResourceCleanup",
        "SageMakerResourceCleanupException",
    ),
    "processing.spark.ml.roles_and_paths": (
        "IAMRole",
        "IAMRoleFromConfig",
        "IAMRoleResource",
        "S3AutoCreatePath",
        "S3DataPath",
        "S3PathFromConfig",
        "S3Resource",
    ),
    "processing.spark.ml.serializers": (
        "LibSVMRequestRowSerializer",
        "ProtobufRequestRowSerializer",
        "RequestRowSerializer",
        "UnlabeledCSVRequestRowSerializer",
        "UnlabeledLibSVMRequestRowSerializer",
    ),
    "processing.spark.ml.settings": ("EndpointCreationPolicy",),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 - type checkers read the imports above; a test holds the two lists equal


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import the module of a public name on first use."""
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module 'processing.spark.ml' has no attribute {name!r}")
        _check_requirements()
        value = getattr(importlib.import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _check_requirements() -> None:
    for name in ("pyspark", "pyarrow", "pandas", "numpy"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(
                f"processing.spark.ml needs Spark and Arrow: pip install 'sm-processing[spark]' ({name} is missing)",
                name=name,
            )

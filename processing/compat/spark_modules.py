"""The public names of `sagemaker_pyspark` 1.4.5, each with its module in this package."""

from __future__ import annotations

from typing import Final

ROOT: Final = "sagemaker_pyspark"
"""The package."""

# The text of the name, because an import of the module takes longer than a whole command for a wrong usage.
_STAGES: Final = "processing.spark.ml"
_JVM: Final = ("Option", "SageMakerJavaWrapper", "ScalaList", "ScalaMap")
_OWN: Final = ("Option", "SageMakerClients", "SageMakerJavaWrapper", "classpath_jars")
_SERIALIZERS: Final = (
    "LibSVMRequestRowSerializer",
    "ProtobufRequestRowSerializer",
    "RequestRowSerializer",
    "UnlabeledCSVRequestRowSerializer",
    "UnlabeledLibSVMRequestRowSerializer",
)
_DESERIALIZERS: Final = (
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
)
_ALGORITHMS: Final = (
    "FactorizationMachinesBinaryClassifier",
    "FactorizationMachinesRegressor",
    "KMeansSageMakerEstimator",
    "LDASageMakerEstimator",
    "LinearLearnerBinaryClassifier",
    "LinearLearnerMultiClassClassifier",
    "LinearLearnerRegressor",
    "PCASageMakerEstimator",
    "XGBoostSageMakerEstimator",
)
_NAMES: Final = (
    "CreatedResources",
    "CustomNamePolicy",
    "CustomNamePolicyFactory",
    "CustomNamePolicyWithTimeStampSuffix",
    "CustomNamePolicyWithTimeStampSuffixFactory",
    "EndpointCreationPolicy",
    "IAMRole",
    "IAMRoleFromConfig",
    "RandomNamePolicy",
    "RandomNamePolicyFactory",
    "S3AutoCreatePath",
    "S3DataPath",
    "S3Resource",
    "SageMakerEstimator",
    "SageMakerEstimatorBase",
    "SageMakerModel",
    "SageMakerResourceCleanup",
)


_ALGORITHM_MODULES: Final = {
    "FactorizationMachinesSageMakerEstimator": (
        "FactorizationMachinesBinaryClassifier",
        "FactorizationMachinesRegressor",
    ),
    "KMeansSageMakerEstimator": ("KMeansSageMakerEstimator",),
    "LDASageMakerEstimator": ("LDASageMakerEstimator",),
    "LinearLearnerSageMakerEstimator": (
        "LinearLearnerBinaryClassifier",
        "LinearLearnerMultiClassClassifier",
        "LinearLearnerRegressor",
    ),
    "PCASageMakerEstimator": ("PCASageMakerEstimator",),
    "XGBoostSageMakerEstimator": ("XGBoostSageMakerEstimator",),
}


def _of_stages(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, _STAGES)


SPARK_MODULES: Final = {
    ROOT: {**_of_stages(*_NAMES), **dict.fromkeys(_OWN, "processing.compat.spark_names")},
    f"{ROOT}.algorithms": _of_stages(*_ALGORITHMS),
    f"{ROOT}.transformation": {},
    f"{ROOT}.transformation.serializers": _of_stages(*_SERIALIZERS),
    f"{ROOT}.transformation.serializers.serializers": _of_stages(*_SERIALIZERS),
    f"{ROOT}.transformation.deserializers": _of_stages(*_DESERIALIZERS),
    f"{ROOT}.transformation.deserializers.deserializers": _of_stages(*_DESERIALIZERS),
    f"{ROOT}.IAMRoleResource": _of_stages("IAMRole", "IAMRoleFromConfig", "IAMRoleResource"),
    f"{ROOT}.NamePolicy": _of_stages(
        "NamePolicy", "NamePolicyFactory", *(name for name in _NAMES if "NamePolicy" in name)
    ),
    f"{ROOT}.S3Resources": _of_stages("S3AutoCreatePath", "S3DataPath", "S3Resource"),
    f"{ROOT}.SageMakerClients": {"SageMakerClients": "processing.compat.spark_names"},
    f"{ROOT}.SageMakerEstimator": _of_stages("EndpointCreationPolicy", "SageMakerEstimator", "SageMakerEstimatorBase"),
    f"{ROOT}.SageMakerModel": _of_stages("SageMakerModel"),
    f"{ROOT}.SageMakerResourceCleanup": _of_stages("CreatedResources", "SageMakerResourceCleanup"),
    f"{ROOT}.wrapper": dict.fromkeys(_JVM, "processing.compat.spark_names"),
    **{f"{ROOT}.algorithms.{module}": _of_stages(*names) for module, names in _ALGORITHM_MODULES.items()},
}
"""The modules of `sagemaker_pyspark`. Each maps its names to modules of this package.

Some modules have the name of a class. The package's attribute of that name is the class, as in `sagemaker_pyspark`.
"""

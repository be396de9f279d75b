"""The supported names of `sagemaker` 2.x, each with its module in this package."""

from __future__ import annotations

VERSION = "2.257.7"
"""The version of `sagemaker` that has these names. Programs read it as `sagemaker.__version__`."""

_MODELS = "processing.models"
_SESSION = "processing.compat.session"
_FRAMEWORKS = "processing.processors.frameworks"

_DATASETS = dict.fromkeys(
    ("AthenaDatasetDefinition", "DatasetDefinition", "RedshiftDatasetDefinition", "S3Input"), _MODELS
)
_SESSIONS = {"Session": _SESSION, "get_execution_role": "processing.execution_role"}


def _framework(name: str, estimator: str) -> dict[str, dict[str, str]]:
    processors = {f"{estimator}Processor": _FRAMEWORKS}
    estimators = {estimator: "processing.compat.estimators"}
    return {
        f"sagemaker.{name}": {**processors, **estimators},
        f"sagemaker.{name}.estimator": estimators,
        f"sagemaker.{name}.processing": processors,
    }


MODULES: dict[str, dict[str, str]] = {
    "sagemaker": {
        **_SESSIONS,
        "LocalSession": _SESSION,
        "Processor": "processing.processors",
        "ScriptProcessor": "processing.processors",
    },
    "sagemaker.processing": {
        **dict.fromkeys(("FrameworkProcessor", "Processor", "ScriptProcessor"), "processing.processors"),
        **dict.fromkeys(("FeatureStoreOutput", "ProcessingInput", "ProcessingOutput", "RunArgs"), _MODELS),
        **dict.fromkeys(("DatasetDefinition", "NetworkConfig", "S3Input"), _MODELS),
        **dict.fromkeys(("LocalSession", "Session"), _SESSION),
        "ProcessingJob": "processing.job.job",
        "S3Uploader": "processing.compat.s3",
    },
    "sagemaker.network": {"NetworkConfig": _MODELS},
    "sagemaker.dataset_definition": _DATASETS,
    "sagemaker.dataset_definition.inputs": _DATASETS,
    "sagemaker.session": _SESSIONS,
    "sagemaker.local": {"LocalSession": _SESSION},
    "sagemaker.local.local_session": {"LocalSession": _SESSION},
    "sagemaker.exceptions": dict.fromkeys(("CapacityError", "UnexpectedStatusException"), "processing.exceptions"),
    "sagemaker.image_uris": {"retrieve": "processing.compat.image_uris"},
    "sagemaker.s3": dict.fromkeys(
        ("S3Downloader", "S3Uploader", "parse_s3_url", "s3_path_join"), "processing.compat.s3"
    ),
    "sagemaker.utils": {"name_from_base": "processing.compat.utils"},
    **_framework("huggingface", "HuggingFace"),
    **_framework("mxnet", "MXNet"),
    **_framework("pytorch", "PyTorch"),
    **_framework("sklearn", "SKLearn"),
    **_framework("tensorflow", "TensorFlow"),
    **_framework("xgboost", "XGBoost"),
    "sagemaker.wrangler": {},
    "sagemaker.wrangler.processing": {"DataWranglerProcessor": _FRAMEWORKS},
}
"""The modules of `sagemaker`. Each maps its names to modules of this package."""

_REASONS = (
    ("sagemaker.spark", "the Spark processors are not built yet"),
    ("sagemaker.remote_function", "remote functions are not built yet"),
    ("sagemaker.workflow", "this package runs jobs, it records no pipelines"),
)


def explain_missing(name: str) -> str:
    """Return the error message for the import of an unsupported name."""
    reason = next((reason for prefix, reason in _REASONS if f"{name}.".startswith(f"{prefix}.")), None)
    reason = reason or "this package has the names of sagemaker.processing and its neighbours"
    return f"{name} is not part of sm-processing: {reason}. For it, install sagemaker itself"

"""The supported names of `sagemaker` 2.x, each with its module in this package.

`HOMES` has the names. `OFFERED` has the modules of `sagemaker` that offer each of them; it is generated.
"""

from __future__ import annotations

from processing.compat.offered import ALIASES, OFFERED, VERSION

__all__ = ["ALIASES", "HOMES", "MODULES", "VERSION", "explain_missing"]

_BY_HOME = {
    "processing.compat.config": (
        "PROCESSING_JOB_ENABLE_NETWORK_ISOLATION_PATH",
        "PROCESSING_JOB_ENVIRONMENT_PATH",
        "PROCESSING_JOB_INPUTS_PATH",
        "PROCESSING_JOB_INTER_CONTAINER_ENCRYPTION_PATH",
        "PROCESSING_JOB_KMS_KEY_ID_PATH",
        "PROCESSING_JOB_NETWORK_CONFIG_PATH",
        "PROCESSING_JOB_PROCESSING_RESOURCES_PATH",
        "PROCESSING_JOB_ROLE_ARN_PATH",
        "PROCESSING_JOB_SECURITY_GROUP_IDS_PATH",
        "PROCESSING_JOB_SUBNETS_PATH",
        "PROCESSING_JOB_VOLUME_KMS_KEY_ID_PATH",
        "SESSION_DEFAULT_S3_BUCKET_PATH",
        "SESSION_DEFAULT_S3_OBJECT_KEY_PREFIX_PATH",
        "load_sagemaker_config",
        "validate_sagemaker_config",
    ),
    "processing.compat.estimators": ("HuggingFace", "MXNet", "PyTorch", "SKLearn", "TensorFlow", "XGBoost"),
    "processing.compat.image_uris": ("retrieve",),
    "processing.compat.s3": (
        "S3Downloader",
        "S3Uploader",
        "determine_bucket_and_prefix",
        "is_s3_url",
        "parse_s3_url",
        "s3_path_join",
    ),
    "processing.compat.session": ("LocalSession", "Session", "SessionSettings"),
    "processing.compat.utils": (
        "base_from_name",
        "base_name_from_image",
        "build_dict",
        "format_tags",
        "get_config_value",
        "get_short_version",
        "name_from_base",
        "name_from_image",
        "retries",
        "sagemaker_short_timestamp",
        "sagemaker_timestamp",
        "tag_exists",
        "to_string",
        "unique_name_from_base",
        "unique_name_from_base_uuid4",
    ),
    "processing.compat.workflow": ("PipelineVariable", "is_pipeline_variable", "runnable_by_pipeline"),
    "processing.exceptions": (
        "CapacityError",
        "DeserializationError",
        "RemoteFunctionError",
        "RuntimeEnvironmentError",
        "SerializationError",
        "ServiceError",
        "UnexpectedStatusException",
    ),
    "processing.execution_role": ("get_execution_role",),
    "processing.job.job": ("ProcessingJob",),
    "processing.models": (
        "AthenaDatasetDefinition",
        "DatasetDefinition",
        "FeatureStoreOutput",
        "NetworkConfig",
        "ProcessingInput",
        "ProcessingOutput",
        "RedshiftDatasetDefinition",
        "RunArgs",
        "S3Input",
    ),
    "processing.processors": ("FrameworkProcessor", "Processor", "ScriptProcessor"),
    "processing.processors.frameworks": (
        "DataWranglerProcessor",
        "HuggingFaceProcessor",
        "MXNetProcessor",
        "PyTorchProcessor",
        "SKLearnProcessor",
        "TensorFlowProcessor",
        "XGBoostProcessor",
    ),
    "processing.remote_function": (
        "CheckpointLocation",
        "CustomFileFilter",
        "RemoteExecutor",
        "SparkConfig",
        "get_future",
        "list_futures",
        "remote",
    ),
    "processing.spark": ("PySparkProcessor", "SparkJarProcessor"),
}

HOMES = {name: home for home, names in _BY_HOME.items() for name in names}
"""The module of this package for each name."""

# Names in a module that does not offer them, where programs look for them.
_ADDED = {"sagemaker.s3": ("is_s3_url",)}

# The modules of `sagemaker.core` 3.x for remote functions.
_CORE = "sagemaker.core.remote_function"
_OF_CORE = {
    f"{_CORE}.{inner}" if inner else _CORE: names
    for inner, names in {
        "": ("CheckpointLocation", "CustomFileFilter", "RemoteExecutor", "SparkConfig", "remote"),
        "checkpoint_location": ("CheckpointLocation",),
        "client": ("CustomFileFilter", "RemoteExecutor", "SparkConfig", "get_future", "list_futures", "remote"),
        "core": (),
        "custom_file_filter": ("CustomFileFilter",),
        "errors": ("DeserializationError", "RemoteFunctionError", "SerializationError", "ServiceError"),
        "runtime_environment": (),
        "runtime_environment.runtime_environment_manager": ("RuntimeEnvironmentError",),
        "spark_config": ("SparkConfig",),
    }.items()
}
_SERIALIZATION = (
    "CloudpickleSerializer",
    "deserialize_exception_from_s3",
    "deserialize_func_from_s3",
    "deserialize_obj_from_s3",
    "json_serialize_obj_to_s3",
    "serialize_exception_to_s3",
    "serialize_func_to_s3",
    "serialize_obj_to_s3",
)

PARENTS = frozenset({"sagemaker.core"})
"""The modules that come from an installed `sagemaker`, if there is one: they have much that this package lacks."""

MODULES: dict[str, dict[str, str]] = {
    **{module: {name: HOMES[name] for name in (*names, *_ADDED.get(module, ()))} for module, names in OFFERED.items()},
    **{module: {name: HOMES[name] for name in names} for module, names in _OF_CORE.items()},
    f"{_CORE}.core.serialization": dict.fromkeys(_SERIALIZATION, "processing.remote_function.serialization"),
    "sagemaker.core": {},
}
"""The modules of `sagemaker`. Each maps its names to modules of this package."""

_REASONS = (("sagemaker.workflow", "this package runs jobs, it records no pipelines"),)


def explain_missing(name: str) -> str:
    """Return the error message for the import of an unsupported name."""
    reason = next((reason for prefix, reason in _REASONS if f"{name}.".startswith(f"{prefix}.")), None)
    reason = reason or "this package has the names of sagemaker.processing and its neighbours"
    return f"{name} is not part of sm-processing: {reason}. For it, install sagemaker itself"

"""The module `sagemaker.config`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import processing.config
from processing import default_sessions
from processing.config.files import config_sources
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROCESSING_JOB_ENABLE_NETWORK_ISOLATION_PATH = "SageMaker.ProcessingJob.NetworkConfig.EnableNetworkIsolation"
PROCESSING_JOB_ENVIRONMENT_PATH = "SageMaker.ProcessingJob.Environment"
PROCESSING_JOB_INPUTS_PATH = "SageMaker.ProcessingJob.ProcessingInputs"
PROCESSING_JOB_INTER_CONTAINER_ENCRYPTION_PATH = (
    "SageMaker.ProcessingJob.NetworkConfig.EnableInterContainerTrafficEncryption"
)
PROCESSING_JOB_KMS_KEY_ID_PATH = "SageMaker.ProcessingJob.ProcessingOutputConfig.KmsKeyId"
PROCESSING_JOB_NETWORK_CONFIG_PATH = "SageMaker.ProcessingJob.NetworkConfig"
PROCESSING_JOB_PROCESSING_RESOURCES_PATH = "SageMaker.ProcessingJob.ProcessingResources"
PROCESSING_JOB_ROLE_ARN_PATH = "SageMaker.ProcessingJob.RoleArn"
PROCESSING_JOB_SECURITY_GROUP_IDS_PATH = "SageMaker.ProcessingJob.NetworkConfig.VpcConfig.SecurityGroupIds"
PROCESSING_JOB_SUBNETS_PATH = "SageMaker.ProcessingJob.NetworkConfig.VpcConfig.Subnets"
PROCESSING_JOB_VOLUME_KMS_KEY_ID_PATH = "SageMaker.ProcessingJob.ProcessingResources.ClusterConfig.VolumeKmsKeyId"
SESSION_DEFAULT_S3_BUCKET_PATH = "SageMaker.PythonSDK.Modules.Session.DefaultS3Bucket"
SESSION_DEFAULT_S3_OBJECT_KEY_PREFIX_PATH = "SageMaker.PythonSDK.Modules.Session.DefaultS3ObjectKeyPrefix"

_SECTIONS = ("SchemaVersion", "CustomParameters", "SageMaker")


def load_sagemaker_config(
    additional_config_paths: Sequence[str] | None = None, s3_resource: Any = None, repeat_log: bool = False
) -> dict[str, Any]:
    """Return the values of the config files as one dictionary.

    Args:
        additional_config_paths: not supported; SAGEMAKER_USER_CONFIG_OVERRIDE names another file.
        s3_resource: ignored.
        repeat_log: ignored.

    Raises:
        ConfigurationError: a file is missing, cannot be read or is not valid.
    """
    del s3_resource, repeat_log
    if additional_config_paths:
        raise ConfigurationError(
            "additional_config_paths: is not supported; name the file in SAGEMAKER_USER_CONFIG_OVERRIDE"
        )
    in_s3 = any(source.in_s3 for source in config_sources())
    config = processing.config.load(default_sessions.session_for_attach(None) if in_s3 else None)
    return {name: value for name in _SECTIONS if (value := config.get(name)) is not None}


def validate_sagemaker_config(sagemaker_config: Mapping[str, Any] | None = None) -> None:
    """Check a configuration in the form of the file.

    Raises:
        ConfigurationError: the dictionary is not valid.
    """
    processing.config.Config.of(sagemaker_config or {})

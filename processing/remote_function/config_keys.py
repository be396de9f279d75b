"""The keys of the config file for remote functions, as in `sagemaker` 2.x and 3.x."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from processing.config.values import REMOTE_FUNCTION

if TYPE_CHECKING:
    from processing.config.values import Config

TAGS: Final = "tags"
"""The one parameter whose values in the config file are added to the caller's."""

_KEYS: Final = {
    "dependencies": "Dependencies",
    "encrypt_inter_container_traffic": "EnableInterContainerTrafficEncryption",
    "environment_variables": "EnvironmentVariables",
    "image_uri": "ImageUri",
    "include_local_workdir": "IncludeLocalWorkDir",
    "instance_type": "InstanceType",
    "job_conda_env": "JobCondaEnvironment",
    "pre_execution_commands": "PreExecutionCommands",
    "pre_execution_script": "PreExecutionScript",
    "role": "RoleArn",
    "s3_kms_key": "S3KmsKeyId",
    "s3_root_uri": "S3RootUri",
    TAGS: "Tags",
    "volume_kms_key": "VolumeKmsKeyId",
    "security_group_ids": "VpcConfig.SecurityGroupIds",
    "subnets": "VpcConfig.Subnets",
}
_FILTER: Final = "CustomFileFilter.IgnoreNamePatterns"


def configured_values(config: Config) -> dict[str, Any]:
    """Return the parameters of remote functions that a config file has."""
    found = {name: config.get(f"{REMOTE_FUNCTION}.{key}") for name, key in _KEYS.items()}
    patterns = config.get(f"{REMOTE_FUNCTION}.{_FILTER}")
    if patterns is not None:
        from processing.remote_function.custom_file_filter import CustomFileFilter

        found["custom_file_filter"] = CustomFileFilter(ignore_name_patterns=patterns)
    return {name: value for name, value in found.items() if value is not None}

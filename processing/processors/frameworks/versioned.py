"""Processors for frameworks with one version and one Python: PyTorch, TensorFlow, XGBoost and MXNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from processing import default_sessions
from processing.processors import FrameworkProcessor
from processing.processors.framework_image import find_image_for, image_query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.default_sessions import SessionLike
    from processing.models import NetworkConfig
    from processing.processors.base import Preferences, Tags


class VersionedProcessor(FrameworkProcessor):
    """Runs processing jobs with a script and the files beside it, in AWS's image for a version of a framework.

    If role, keys, env, tags or network are left out, the SageMaker config file supplies them.

    Args:
        framework_version: the version of the framework, such as `2.5.1`.
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        instance_count: the number of instances, 1 to 100.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine.
        py_version: the Python of the image, such as `py311`; `py3` is the Python 3 that the version comes with.
        image_uri: an image to run instead; then the versions are not used.
        command: the program that runs the script, and its options; by default `["python"]`.
        volume_size_in_gb: the storage of each instance, in GB.
        volume_kms_key: the KMS key that encrypts that storage.
        output_kms_key: the KMS key that encrypts the outputs in S3.
        code_location: the S3 prefix for code; by default the session's bucket and prefix.
        max_runtime_in_seconds: the seconds after which AWS stops the job; None for AWS's default, a day.
        base_job_name: the beginning of generated job names; by default the framework's name.
        sagemaker_session: a `processing.Session`, a `processing.LocalSession` or a `sagemaker.Session`; by default a
            session made from the environment.
        env: the environment variables of the container.
        tags: the job's tags: a dictionary, or a list of `{"Key": ..., "Value": ...}`.
        network_config: the network of the containers.
        instance_preferences: instance types in order of priority, 1 to 5, instead of `instance_type`; or
            `{"InstanceType": ..., "InstanceCount": ...}` for each, instead of `instance_count` too.
        extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.

    Attributes:
        jobs: the jobs that this processor has started, the oldest first.
        latest_job: the job that was started last, or None.

    Raises:
        ConfigurationError: AWS has no such image; the message lists the versions, Pythons or regions that exist.
    """

    framework: ClassVar[str]
    """The framework's name in `processing.images`."""

    framework_version: str | None = None
    py_version: str | None = None

    def __init__(
        self,
        framework_version: str,
        role: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        py_version: str = "py3",
        image_uri: str | None = None,
        command: list[str] | None = None,
        volume_size_in_gb: int = 30,
        volume_kms_key: str | None = None,
        output_kms_key: str | None = None,
        code_location: str | None = None,
        max_runtime_in_seconds: int | None = None,
        base_job_name: str | None = None,
        sagemaker_session: SessionLike | None = None,
        env: dict[str, str] | None = None,
        tags: Tags | None = None,
        network_config: NetworkConfig | None = None,
        *,
        instance_preferences: Preferences | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        session = default_sessions.resolve_session(sagemaker_session, instance_type)
        self.framework_version = framework_version
        self.py_version = py_version
        if image_uri is None:
            field_names = {"version": "framework_version"}
            query = image_query(
                session, self.framework, framework_version, py_version=py_version, field_names=field_names
            )
            image_uri = find_image_for(query, instance_type, instance_preferences)
        super().__init__(
            image_uri=image_uri,
            role=role,
            instance_count=instance_count,
            instance_type=instance_type,
            command=command,
            volume_size_in_gb=volume_size_in_gb,
            volume_kms_key=volume_kms_key,
            output_kms_key=output_kms_key,
            code_location=code_location,
            max_runtime_in_seconds=max_runtime_in_seconds,
            base_job_name=base_job_name or self.framework,
            sagemaker_session=session,
            env=env,
            tags=tags,
            network_config=network_config,
            instance_preferences=instance_preferences,
            extra=extra,
        )


class PyTorchProcessor(VersionedProcessor):
    """Runs processing jobs with a script and the files beside it, in AWS's image for PyTorch.

    If role, keys, env, tags or network are left out, the SageMaker config file supplies them.

    Args:
        framework_version: the version of PyTorch, such as `2.5.1`.
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        instance_count: the number of instances, 1 to 100.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine.
        py_version: the Python of the image, such as `py311`; `py3` is the Python 3 that the version comes with.
        image_uri: an image to run instead; then the versions are not used.
        command: the program that runs the script, and its options; by default `["python"]`.
        volume_size_in_gb: the storage of each instance, in GB.
        volume_kms_key: the KMS key that encrypts that storage.
        output_kms_key: the KMS key that encrypts the outputs in S3.
        code_location: the S3 prefix for code; by default the session's bucket and prefix.
        max_runtime_in_seconds: the seconds after which AWS stops the job; None for AWS's default, a day.
        base_job_name: the beginning of generated job names; by default `pytorch`.
        sagemaker_session: a `processing.Session`, a `processing.LocalSession` or a `sagemaker.Session`; by default a
            session made from the environment.
        env: the environment variables of the container.
        tags: the job's tags: a dictionary, or a list of `{"Key": ..., "Value": ...}`.
        network_config: the network of the containers.
        instance_preferences: instance types in order of priority, 1 to 5, instead of `instance_type`; or
            `{"InstanceType": ..., "InstanceCount": ...}` for each, instead of `instance_count` too.
        extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.

    Attributes:
        jobs: the jobs that this processor has started, the oldest first.
        latest_job: the job that was started last, or None.

    Raises:
        ConfigurationError: AWS has no such image; the message lists the versions, Pythons or regions that exist.
    """

    framework = "pytorch"


class TensorFlowProcessor(VersionedProcessor):
    """Runs processing jobs with a script and the files beside it, in AWS's image for TensorFlow.

    If role, keys, env, tags or network are left out, the SageMaker config file supplies them.

    Args:
        framework_version: the version of TensorFlow, such as `2.18.0`.
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        instance_count: the number of instances, 1 to 100.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine.
        py_version: the Python of the image, such as `py310`; `py3` is the Python 3 that the version comes with.
        image_uri: an image to run instead; then the versions are not used.
        command: the program that runs the script, and its options; by default `["python"]`.
        volume_size_in_gb: the storage of each instance, in GB.
        volume_kms_key: the KMS key that encrypts that storage.
        output_kms_key: the KMS key that encrypts the outputs in S3.
        code_location: the S3 prefix for code; by default the session's bucket and prefix.
        max_runtime_in_seconds: the seconds after which AWS stops the job; None for AWS's default, a day.
        base_job_name: the beginning of generated job names; by default `tensorflow`.
        sagemaker_session: a `processing.Session`, a `processing.LocalSession` or a `sagemaker.Session`; by default a
            session made from the environment.
        env: the environment variables of the container.
        tags: the job's tags: a dictionary, or a list of `{"Key": ..., "Value": ...}`.
        network_config: the network of the containers.
        instance_preferences: instance types in order of priority, 1 to 5, instead of `instance_type`; or
            `{"InstanceType": ..., "InstanceCount": ...}` for each, instead of `instance_count` too.
        extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.

    Attributes:
        jobs: the jobs that this processor has started, the oldest first.
        latest_job: the job that was started last, or None.

    Raises:
        ConfigurationError: AWS has no such image; the message lists the versions, Pythons or regions that exist.
    """

    framework = "tensorflow"


class XGBoostProcessor(VersionedProcessor):
    """Runs processing jobs with a script and the files beside it, in AWS's image for XGBoost.

    If role, keys, env, tags or network are left out, the SageMaker config file supplies them.

    Args:
        framework_version: the version of XGBoost, such as `1.7-1`.
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        instance_count: the number of instances, 1 to 100.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine.
        py_version: the Python of the image, by default the Python 3 that the version comes with.
        image_uri: an image to run instead; then the versions are not used.
        command: the program that runs the script, and its options; by default `["python"]`.
        volume_size_in_gb: the storage of each instance, in GB.
        volume_kms_key: the KMS key that encrypts that storage.
        output_kms_key: the KMS key that encrypts the outputs in S3.
        code_location: the S3 prefix for code; by default the session's bucket and prefix.
        max_runtime_in_seconds: the seconds after which AWS stops the job; None for AWS's default, a day.
        base_job_name: the beginning of generated job names; by default `xgboost`.
        sagemaker_session: a `processing.Session`, a `processing.LocalSession` or a `sagemaker.Session`; by default a
            session made from the environment.
        env: the environment variables of the container.
        tags: the job's tags: a dictionary, or a list of `{"Key": ..., "Value": ...}`.
        network_config: the network of the containers.
        instance_preferences: instance types in order of priority, 1 to 5, instead of `instance_type`; or
            `{"InstanceType": ..., "InstanceCount": ...}` for each, instead of `instance_count` too.
        extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.

    Attributes:
        jobs: the jobs that this processor has started, the oldest first.
        latest_job: the job that was started last, or None.

    Raises:
        ConfigurationError: AWS has no such image; the message lists the versions, Pythons or regions that exist.
    """

    framework = "xgboost"


class MXNetProcessor(VersionedProcessor):
    """Runs processing jobs with a script and the files beside it, in AWS's image for MXNet.

    If role, keys, env, tags or network are left out, the SageMaker config file supplies them.

    Args:
        framework_version: the version of MXNet, such as `1.9.0`.
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        instance_count: the number of instances, 1 to 100.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine.
        py_version: the Python of the image, such as `py38`; `py3` is the Python 3 that the version comes with.
        image_uri: an image to run instead; then the versions are not used.
        command: the program that runs the script, and its options; by default `["python"]`.
        volume_size_in_gb: the storage of each instance, in GB.
        volume_kms_key: the KMS key that encrypts that storage.
        output_kms_key: the KMS key that encrypts the outputs in S3.
        code_location: the S3 prefix for code; by default the session's bucket and prefix.
        max_runtime_in_seconds: the seconds after which AWS stops the job; None for AWS's default, a day.
        base_job_name: the beginning of generated job names; by default `mxnet`.
        sagemaker_session: a `processing.Session`, a `processing.LocalSession` or a `sagemaker.Session`; by default a
            session made from the environment.
        env: the environment variables of the container.
        tags: the job's tags: a dictionary, or a list of `{"Key": ..., "Value": ...}`.
        network_config: the network of the containers.
        instance_preferences: instance types in order of priority, 1 to 5, instead of `instance_type`; or
            `{"InstanceType": ..., "InstanceCount": ...}` for each, instead of `instance_count` too.
        extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.

    Attributes:
        jobs: the jobs that this processor has started, the oldest first.
        latest_job: the job that was started last, or None.

    Raises:
        ConfigurationError: AWS has no such image; the message lists the versions, Pythons or regions that exist.
    """

    framework = "mxnet"

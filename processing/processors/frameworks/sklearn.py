"""`SKLearnProcessor`: runs a script with scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing import default_sessions
from processing.processors import ScriptProcessor
from processing.processors.framework_image import find_image_for, image_query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.default_sessions import SessionLike
    from processing.models import NetworkConfig
    from processing.processors.base import Preferences, Tags


class SKLearnProcessor(ScriptProcessor):
    """Runs processing jobs with a script in AWS's image for scikit-learn.

    If role, keys, env, tags or network are left out, the SageMaker config file supplies them.

    Args:
        framework_version: the version of scikit-learn in AWS's numbering of its images, such as `1.2-1`.
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        instance_count: the number of instances, 1 to 100.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine.
        command: the program that runs the script, and its options; by default `["python3"]`.
        volume_size_in_gb: the storage of each instance, in GB.
        volume_kms_key: the KMS key that encrypts that storage.
        output_kms_key: the KMS key that encrypts the outputs in S3.
        max_runtime_in_seconds: the seconds after which AWS stops the job; None for AWS's default, a day.
        base_job_name: the beginning of generated job names; by default the name of the image.
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
        ConfigurationError: AWS has no such image; the message lists the versions or regions that exist.
    """

    def __init__(
        self,
        framework_version: str,
        role: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        command: list[str] | None = None,
        volume_size_in_gb: int = 30,
        volume_kms_key: str | None = None,
        output_kms_key: str | None = None,
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
        query = image_query(session, "sklearn", framework_version, field_names={"version": "framework_version"})
        super().__init__(
            role=role,
            image_uri=find_image_for(query, instance_type, instance_preferences),
            command=command or ["python3"],
            instance_count=instance_count,
            instance_type=instance_type,
            volume_size_in_gb=volume_size_in_gb,
            volume_kms_key=volume_kms_key,
            output_kms_key=output_kms_key,
            max_runtime_in_seconds=max_runtime_in_seconds,
            base_job_name=base_job_name,
            sagemaker_session=session,
            env=env,
            tags=tags,
            network_config=network_config,
            instance_preferences=instance_preferences,
            extra=extra,
        )

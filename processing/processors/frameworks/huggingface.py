"""`HuggingFaceProcessor`: runs a script with Hugging Face's transformers, on PyTorch or on TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from processing import default_sessions
from processing.exceptions import ConfigurationError
from processing.processors import FrameworkProcessor
from processing.processors.framework_image import find_image_for, image_query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.default_sessions import SessionLike
    from processing.models import NetworkConfig
    from processing.processors.base import Preferences, Tags
    from processing.session.session import Session

# The end of the tags of the first releases. AWS's list lacks it, and has the end of later tags.
_FIRST_CONTAINER = "cu110-ubuntu18.04"


class HuggingFaceProcessor(FrameworkProcessor):
    """Runs processing jobs with a script and the files beside it, in AWS's image for Hugging Face.

    Most of these images need an instance with a GPU. If role, keys, env, tags or network are left out, the SageMaker
    config file supplies them.

    Args:
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        instance_count: the number of instances, 1 to 100.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine.
        transformers_version: the version of transformers, such as `4.28.1`; required without an `image_uri`.
        tensorflow_version: the version of TensorFlow that the image builds upon; excludes `pytorch_version`.
        pytorch_version: the version of PyTorch that the image builds upon; excludes `tensorflow_version`.
        py_version: the Python of the image, such as `py310`. The default is that of `sagemaker` 2.x: the Python of the
            first releases.
        image_uri: an image to run instead; then the versions are not used.
        command: the program that runs the script, and its options; by default `["python"]`.
        volume_size_in_gb: the storage of each instance, in GB.
        volume_kms_key: the KMS key that encrypts that storage.
        output_kms_key: the KMS key that encrypts the outputs in S3.
        code_location: the S3 prefix for code; by default the session's bucket and prefix.
        max_runtime_in_seconds: the seconds after which AWS stops the job; None for AWS's default, a day.
        base_job_name: the beginning of generated job names; by default `huggingface`.
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

    transformers_version: str | None = None
    tensorflow_version: str | None = None
    pytorch_version: str | None = None
    py_version: str | None = None

    def __init__(
        self,
        role: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        transformers_version: str | None = None,
        tensorflow_version: str | None = None,
        pytorch_version: str | None = None,
        py_version: str = "py36",
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
        self.transformers_version = transformers_version
        self.tensorflow_version = tensorflow_version
        self.pytorch_version = pytorch_version
        self.py_version = py_version
        super().__init__(
            image_uri=image_uri or self._find_image(session, instance_type, instance_preferences),
            role=role,
            instance_count=instance_count,
            instance_type=instance_type,
            command=command,
            volume_size_in_gb=volume_size_in_gb,
            volume_kms_key=volume_kms_key,
            output_kms_key=output_kms_key,
            code_location=code_location,
            max_runtime_in_seconds=max_runtime_in_seconds,
            base_job_name=base_job_name or "huggingface",
            sagemaker_session=session,
            env=env,
            tags=tags,
            network_config=network_config,
            instance_preferences=instance_preferences,
            extra=extra,
        )

    def _find_image(self, session: Session, instance_type: str | None, preferences: Preferences | None) -> str:
        if self.tensorflow_version is not None and self.pytorch_version is not None:
            raise ConfigurationError(
                "tensorflow_version: the image builds upon one framework; pytorch_version is given too"
            )
        base, field = f"pytorch{self.pytorch_version}", "pytorch_version"
        if self.tensorflow_version is not None:
            base, field = f"tensorflow{self.tensorflow_version}", "tensorflow_version"
        query = image_query(
            session,
            "huggingface",
            self.transformers_version,
            py_version=self.py_version,
            base=base if self.pytorch_version or self.tensorflow_version else None,
            field_names={"version": "transformers_version", "base_framework_version": field},
        )
        return find_image_for(attrs.evolve(query, container_version=_FIRST_CONTAINER), instance_type, preferences)

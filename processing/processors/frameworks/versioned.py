"""The frameworks whose image follows from one version and a Python: PyTorch, TensorFlow, XGBoost and MXNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from processing import default_sessions
from processing.processors import FrameworkProcessor
from processing.processors.frameworks.image import image_for, wanted_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.default_sessions import SessionLike
    from processing.models import NetworkConfig
    from processing.processors.base import Preferences, Tags


class VersionedProcessor(FrameworkProcessor):
    """Runs processing jobs with a script and the files beside it, in AWS's image for a version of a framework.

    Args:
        framework_version: the framework's version, such as `2.5.1`.
        role: see `Processor`, as for all that is not described here.
        py_version: the image's Python, such as `py311`; `py3` is the Python 3 that the version comes with.
        image_uri: an image to run instead; the versions are then not looked at.
        command: the program that runs the script, and its options; `["python"]` where left out.
        base_job_name: the beginning of the job names; the framework's name where none is given.
        code_location: see `FrameworkProcessor`.

    Raises:
        ConfigurationError: AWS has no such image; the text lists the versions, Pythons or regions that there are.
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
            called = {"version": "framework_version"}
            wanted = wanted_image(session, self.framework, framework_version, py_version=py_version, called=called)
            image_uri = image_for(wanted, instance_type, instance_preferences)
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
    """Runs processing jobs in AWS's image for PyTorch; see `VersionedProcessor` for the parameters."""

    framework = "pytorch"


class TensorFlowProcessor(VersionedProcessor):
    """Runs processing jobs in AWS's image for TensorFlow; see `VersionedProcessor` for the parameters."""

    framework = "tensorflow"


class XGBoostProcessor(VersionedProcessor):
    """Runs processing jobs in AWS's image for XGBoost; see `VersionedProcessor` for the parameters."""

    framework = "xgboost"


class MXNetProcessor(VersionedProcessor):
    """Runs processing jobs in AWS's image for MXNet; see `VersionedProcessor` for the parameters."""

    framework = "mxnet"

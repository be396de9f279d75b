"""`HuggingFaceProcessor`: runs a script with Hugging Face's transformers, on PyTorch or on TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from processing import default_sessions
from processing.exceptions import ConfigurationError
from processing.processors import FrameworkProcessor
from processing.processors.frameworks.image import image_for, wanted_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.default_sessions import SessionLike
    from processing.models import NetworkConfig
    from processing.processors.base import Preferences, Tags
    from processing.session.session import Session

# The end of the tags of the first releases, which AWS's list leaves out; later ones have their own there.
_FIRST_CONTAINER = "cu110-ubuntu18.04"


class HuggingFaceProcessor(FrameworkProcessor):
    """Runs processing jobs with a script and the files beside it, in AWS's image for Hugging Face.

    Most of these images need an instance with a GPU.

    Args:
        role: see `Processor`, as for all that is not described here.
        transformers_version: the version of transformers, such as `4.28.1`; needed without an `image_uri`.
        tensorflow_version: the version of TensorFlow that it builds upon; give either this one or `pytorch_version`.
        pytorch_version: the version of PyTorch that it builds upon.
        py_version: the image's Python, such as `py310`. The default is v2's: the Python of the first releases.
        image_uri: an image to run instead; the versions are then not looked at.
        command: the program that runs the script, and its options; `["python"]` where left out.
        base_job_name: the beginning of the job names; `huggingface` where none is given.
        code_location: see `FrameworkProcessor`.

    Raises:
        ConfigurationError: AWS has no such image; the text lists the versions, Pythons or regions that there are.
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
        wanted = wanted_image(
            session,
            "huggingface",
            self.transformers_version,
            py_version=self.py_version,
            base=base if self.pytorch_version or self.tensorflow_version else None,
            called={"version": "transformers_version", "base_framework_version": field},
        )
        return image_for(attrs.evolve(wanted, container_version=_FIRST_CONTAINER), instance_type, preferences)

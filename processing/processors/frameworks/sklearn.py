"""`SKLearnProcessor`: runs a script with scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing import default_sessions
from processing.processors import ScriptProcessor
from processing.processors.frameworks.image import image_for, wanted_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.default_sessions import SessionLike
    from processing.models import NetworkConfig
    from processing.processors.base import Preferences, Tags


class SKLearnProcessor(ScriptProcessor):
    """Runs processing jobs with a script of the user's in AWS's image for scikit-learn.

    Args:
        framework_version: the version of scikit-learn as AWS numbers its images, such as `1.2-1`.
        role: see `Processor`, as for all that is not described here.
        command: the program that runs the script, and its options; `["python3"]` where left out.

    Raises:
        ConfigurationError: AWS has no such image; the text lists the versions or regions that there are.
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
        wanted = wanted_image(session, "sklearn", framework_version, called={"version": "framework_version"})
        super().__init__(
            role=role,
            image_uri=image_for(wanted, instance_type, instance_preferences),
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

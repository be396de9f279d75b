"""`FrameworkProcessor`: runs a script with everything that it needs beside it, in any image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.exceptions import ConfigurationError
from processing.processors.script import ScriptProcessor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.models import NetworkConfig
    from processing.processors.processor import Tags


class FrameworkProcessor(ScriptProcessor):
    """Runs processing jobs with a script and the files beside it, in any image that has a shell.

    The script, its `source_dir`, `dependencies` and `requirements` travel as one bundle. In the container a small shell
    script unpacks it, installs the requirements, and runs the script in the bundle's directory.

    Args:
        image_uri: the container image. May be left out on the embedded engine, which does not run it.
        role: see `Processor`, as for all that is not described here.
        command: the program that runs the script, and its options; `["python"]` where left out.
        code_location: the S3 prefix that code is uploaded to, instead of the default bucket and its prefix.
    """

    framework_entrypoint_command: list[str] = ["/bin/bash"]  # noqa: RUF012 - v2's name and form; subclasses set their own

    code_location: str | None = None

    def __init__(
        self,
        image_uri: str | None = None,
        role: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        command: list[str] | None = None,
        volume_size_in_gb: int = 30,
        volume_kms_key: str | None = None,
        output_kms_key: str | None = None,
        code_location: str | None = None,
        max_runtime_in_seconds: int | None = None,
        base_job_name: str | None = None,
        sagemaker_session: Any = None,
        env: dict[str, str] | None = None,
        tags: Tags | None = None,
        network_config: NetworkConfig | None = None,
        *,
        instance_preferences: Sequence[str] | None = None,
        extra: Mapping[str, Any] | None = None,
        estimator_cls: type[Any] | None = None,
        framework_version: str | None = None,
        py_version: str | None = None,
    ) -> None:
        if isinstance(image_uri, type):  # v2's form, by position
            raise _estimator_form(image_uri, role)
        if estimator_cls is not None or framework_version is not None or py_version is not None:
            raise _estimator_form(estimator_cls, framework_version)
        self.code_location = code_location.rstrip("/") if isinstance(code_location, str) else code_location
        super().__init__(
            role,
            image_uri,
            command or ["python"],
            instance_count,
            instance_type,
            volume_size_in_gb,
            volume_kms_key,
            output_kms_key,
            max_runtime_in_seconds,
            base_job_name,
            sagemaker_session,
            env,
            tags,
            network_config,
            instance_preferences=instance_preferences,
            extra=extra,
        )


_PROCESSORS = ("HuggingFace", "MXNet", "PyTorch", "SKLearn", "TensorFlow", "XGBoost")


def _estimator_form(estimator: type[Any] | None, version: str | None) -> ConfigurationError:
    """Return what to tell somebody who wrote `FrameworkProcessor` as for `sagemaker` 2.x."""
    name = getattr(estimator, "__name__", None)
    if name in _PROCESSORS:
        instead = f"write {name}Processor(framework_version={version!r}, role=..., ...)"
        if name == "HuggingFace":
            instead = "write HuggingFaceProcessor(transformers_version=..., role=..., ...)"
    else:
        instead = (
            "write the processor of that framework, such as PyTorchProcessor(framework_version=..., role=..., ...)"
        )
    return ConfigurationError(
        "estimator_cls: FrameworkProcessor takes an image, not an estimator class and a version; "
        f"{instead}, or FrameworkProcessor(image_uri=..., role=..., ...)"
    )

"""`DataWranglerProcessor`: runs a flow of SageMaker Data Wrangler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing import default_sessions, images
from processing.exceptions import ConfigurationError
from processing.models import ProcessingInput, ProcessingOutput
from processing.processors import Processor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing._utils import StrPath
    from processing.default_sessions import SessionLike
    from processing.models import NetworkConfig
    from processing.processors.base import Preferences, Tags


class DataWranglerProcessor(Processor):
    """Runs processing jobs that apply a Data Wrangler flow, in AWS's newest image for it.

    The flow is an input named `flow` at `/opt/ml/processing/flow`. An input of that name in `run` replaces it. If role,
    keys, env, tags or network are left out, the SageMaker config file supplies them.

    Args:
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        data_wrangler_flow_source: the flow: a local file, which is uploaded, or an S3 URI.
        instance_count: the number of instances, 1 to 100.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine.
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
    """

    data_wrangler_flow_source: StrPath | None = None

    def __init__(
        self,
        role: str | None = None,
        data_wrangler_flow_source: StrPath | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
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
        self.data_wrangler_flow_source = data_wrangler_flow_source
        session = default_sessions.resolve_session(sagemaker_session, instance_type)
        super().__init__(
            role=role,
            image_uri=images.image_uri("data-wrangler", region=session.boto_region_name),
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

    def _extend_processing_args(
        self,
        inputs: list[ProcessingInput] | None,
        outputs: Sequence[ProcessingOutput | str] | None,
        **kwargs: Any,
    ) -> tuple[list[ProcessingInput] | None, Sequence[ProcessingOutput | str] | None]:
        """Return the inputs with the flow as the last one, unless an input is named `flow`."""
        inputs, outputs = super()._extend_processing_args(inputs, outputs, **kwargs)
        if not any(getattr(entry, "input_name", None) == "flow" for entry in inputs or ()):
            inputs = [*(inputs or ()), self._get_recipe_input()]
        return inputs, outputs

    def _get_recipe_input(self) -> ProcessingInput:
        """Return the input for the flow."""
        if not self.data_wrangler_flow_source:
            raise ConfigurationError("data_wrangler_flow_source: missing; give the path or the S3 URI of a flow")
        return ProcessingInput(
            source=self.data_wrangler_flow_source, destination="/opt/ml/processing/flow", input_name="flow"
        )

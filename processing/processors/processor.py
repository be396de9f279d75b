"""`Processor`: runs jobs with a container image. Every other processor extends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing import default_sessions
from processing.exceptions import ConfigurationError
from processing.processors.base import BaseProcessor
from processing.processors.run_arguments import RunArguments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from processing.default_sessions import SessionLike
    from processing.job.job import ProcessingJob
    from processing.job.plan import RunPlan
    from processing.job.start import IfExists
    from processing.models import NetworkConfig, ProcessingInput, ProcessingOutput
    from processing.processors.base import Preferences, Tags
    from processing.request.build import ProcessingRequest
    from processing.staging.progress import Progress


class Processor(BaseProcessor):
    """Runs processing jobs with a container image.

    If role, keys, env, tags or network are left out, the SageMaker config file supplies them.

    Args:
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        image_uri: the container image. Optional on the embedded engine, which does not run it.
        instance_count: the number of instances, 1 to 100.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine.
        entrypoint: the program and its first arguments; None for the entrypoint of the image.
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

    def __init__(
        self,
        role: str | None = None,
        image_uri: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        entrypoint: list[str] | None = None,
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
        self.sagemaker_session = default_sessions.resolve_session(sagemaker_session, instance_type)
        self.role = role
        self.image_uri = image_uri
        self.instance_count = instance_count
        self.instance_type = instance_type
        self.entrypoint = entrypoint
        self.volume_size_in_gb = volume_size_in_gb
        self.volume_kms_key = volume_kms_key
        self.output_kms_key = output_kms_key
        self.max_runtime_in_seconds = max_runtime_in_seconds
        self.base_job_name = base_job_name
        self.env = env
        self.tags = tags
        self.network_config = network_config
        self.instance_preferences = instance_preferences
        self.extra = extra
        self.jobs = []
        # A constructor makes no call to AWS, so a config file in S3 is read when the job is run.
        if self.sagemaker_session.config_at_hand:
            self._apply_config()

    def run(
        self,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        wait: bool = True,
        logs: bool | None = None,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        *,
        if_exists: IfExists = "fail",
        extra: Mapping[str, Any] | None = None,
        progress: Callable[[Progress], object] | None = None,
        quiet: bool = False,
    ) -> ProcessingJob:
        """Start a job and wait for its end.

        Args:
            inputs: the data that the job reads; local sources are uploaded.
            outputs: the data that the job writes; a string is a container path.
            arguments: the program's arguments, strings.
            wait: False to return as soon as the job has been created.
            logs: True to write the job's log lines to standard output; None follows `wait`.
            job_name: the job's name; by default generated from the base name and the time.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
            kms_key: the KMS key that encrypts uploads.
            if_exists: the action if a job named `job_name` exists: `fail`; `attach` to return that job; or `suffix` to
                start one under a name that ends with `-2`, `-3`, ...
            extra: settings of CreateProcessingJob that no parameter has, in the service's spelling; merged over the
                processor's own `extra`.
            progress: a function that is called with a `Progress` after each file, or part of a large file, is uploaded.
            quiet: True to show nothing: neither the job's status on standard error nor its log lines.

        Returns:
            The job.

        Raises:
            ConfigurationError: a value cannot work; nothing was uploaded or started.
            StagingError: an upload failed; nothing was started.
            SubmissionError: AWS refused the request.
            EngineError: the embedded engine cannot run the job here.
            JobFailedError, JobStoppedError: `wait` is True, and the job failed or was stopped.
        """
        if logs and not wait:
            raise ConfigurationError(
                "logs: Logs can only be shown if wait is set to True. "
                "Please either set wait to True or set logs to False."
            )
        call = RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra)
        return self._run(call, wait=wait, logs=logs, if_exists=if_exists, progress=progress, quiet=quiet)

    def request(
        self,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ProcessingRequest:
        """Return the request that `run` would send, checked, without a call to AWS. It uploads nothing: `stage` does.

        Its `to_boto()` returns the dictionary for boto3's `create_processing_job`.

        Args:
            inputs: the data that the job reads; local sources would be uploaded.
            outputs: the data that the job writes; a string is a container path.
            arguments: the program's arguments, strings.
            job_name: the job's name; by default generated from the base name and the time.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
            kms_key: the KMS key that encrypts uploads.
            extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.

        Raises:
            ConfigurationError: a value cannot work, or the role is a name that a call to AWS would have to look up.
        """
        return self._request(RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra))

    def stage(
        self,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
        progress: Callable[[Progress], object] | None = None,
        quiet: bool = False,
    ) -> ProcessingRequest:
        """Upload the local files of a run, and return its request. No job is created.

        boto3's `create_processing_job(**request.to_boto())` then creates the job, in this process or in another one.
        The parameters are those of `run`.

        Raises:
            ConfigurationError: a value cannot work; nothing was uploaded.
            NameTakenError: a job named `job_name` exists; nothing was uploaded.
            StagingError: an upload failed.
            EngineError: the embedded engine cannot run the job here.
        """
        return self._stage(
            RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra),
            progress=progress,
            quiet=quiet,
        )

    def plan(
        self,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> RunPlan:
        """Return the plan of a run: its request, uploads, problems, and the highest price.

        Nothing is uploaded and AWS is not called. Errors are not raised but listed in the plan's `problems`. The
        parameters are those of `request`.
        """
        return self._plan_run(RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra))

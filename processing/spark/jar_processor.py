"""`SparkJarProcessor`: runs Spark applications in Java or Scala."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.processors.run_arguments import CodeOptions, RunArguments
from processing.spark.base import SparkProcessorBase, checked_class
from processing.spark.submit_options import jar_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from processing._utils import StrPath
    from processing.job.job import ProcessingJob
    from processing.job.plan import RunPlan
    from processing.job.start import IfExists
    from processing.models import ProcessingInput, ProcessingOutput, RunArgs
    from processing.request.build import ProcessingRequest
    from processing.spark.configuration import Configuration
    from processing.staging.progress import Progress


class SparkJarProcessor(SparkProcessorBase):
    """Runs Spark applications in Java or Scala as processing jobs, in AWS's image for Spark.

    If role, keys, env, tags or network are left out, the SageMaker config file supplies them.

    Args:
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine with an installed pyspark and Java.
        instance_count: the number of instances, 1 to 100.
        framework_version: the version of Spark, such as `3.5`. Required without `image_uri`.
        py_version: the Python of the image, such as `py39`; together with `container_version`.
        container_version: the version of the image, such as `1.0`; together with `py_version`.
        image_uri: an image to run instead; then the versions are not used.
        volume_size_in_gb: the storage of each instance, in GB.
        volume_kms_key: the KMS key that encrypts that storage.
        output_kms_key: the KMS key that encrypts the outputs in S3.
        configuration_location: the S3 prefix for `configuration`; by default the session's bucket and prefix.
        dependency_location: the S3 prefix for local files of `submit_py_files`, `submit_jars` and `submit_files`; by
            default the session's bucket and prefix.
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
        ConfigurationError: AWS has no such image; the message lists the versions, Pythons or regions that exist.
    """

    _APPLICATIONS = (".jar",)

    def _class_words(self, submit_class: Any) -> list[str]:
        """Return the option of the application's class."""
        return ["--class", checked_class(submit_class)]

    def get_run_args(  # type: ignore[override]  # v2's parameters
        self,
        submit_app: StrPath,
        submit_class: str | None = None,
        submit_jars: Sequence[StrPath] | None = None,
        submit_files: Sequence[StrPath] | None = None,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        job_name: str | None = None,
        configuration: Configuration | None = None,
        spark_event_logs_s3_uri: str | None = None,
        *,
        kms_key: str | None = None,
    ) -> RunArgs:
        """Upload the files of the options, set the command, and return the arguments of `ScriptProcessor.run`.

        The parameters are those of `run`. The files go below the prefix of `job_name`, and stay there.

        Raises:
            ConfigurationError: a value cannot work; nothing was uploaded.
            StagingError: an upload failed.
        """
        further = jar_options(submit_class, submit_jars, submit_files, configuration, spark_event_logs_s3_uri)
        values = RunArguments(inputs, outputs, arguments, kms_key, further=further)
        return self._staged_run_args(submit_app, values, job_name)

    def run(  # type: ignore[override]  # v2's order: the application comes first
        self,
        submit_app: StrPath,
        submit_class: str,
        submit_jars: Sequence[StrPath] | None = None,
        submit_files: Sequence[StrPath] | None = None,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        wait: bool = True,
        logs: bool | None = None,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        configuration: Configuration | None = None,
        spark_event_logs_s3_uri: str | None = None,
        kms_key: str | None = None,
        *,
        if_exists: IfExists = "fail",
        source_dir: StrPath | None = None,
        dependencies: Sequence[StrPath] | None = None,
        requirements: StrPath | None = None,
        entry_point: StrPath | None = None,
        codeartifact_repo_arn: str | None = None,
        extra: Mapping[str, Any] | None = None,
        progress: Callable[[Progress], object] | None = None,
        quiet: bool = False,
    ) -> ProcessingJob:
        """Start a job that runs a Spark application, and wait for its end.

        Args:
            submit_app: the application, a jar: a local file, or an S3 URI.
            submit_class: the application's main class, such as `com.example.Main`.
            submit_jars: jars for the driver and the executors: local files, S3 URIs, and directories, whose files all
                travel.
            submit_files: files for the working directory of each executor: local files, S3 URIs, and directories, whose
                files all travel. Spark has no folders there, so no two may have one name.
            inputs: the data that the job reads; local sources are uploaded.
            outputs: the data that the job writes; a string is a container path.
            arguments: the application's arguments, strings.
            wait: False to return as soon as the job has been created.
            logs: True to write the job's log lines to standard output; None follows `wait`. No effect without `wait`.
            job_name: the job's name; by default generated from the base name and the time.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
            configuration: classifications for Hadoop, Spark and Hive in the form of Amazon EMR: one dictionary with
                `Classification` and `Properties`, or a list of them.
            spark_event_logs_s3_uri: the S3 prefix for Spark's event logs, which are uploaded while the job runs.
            kms_key: the KMS key that encrypts uploads, the files and the configuration of Spark too.
            if_exists: the action if a job named `job_name` exists: `fail`; `attach` to return that job; or `suffix` to
                start one under a name that ends with `-2`, `-3`, ...
            source_dir: a directory whose files travel with the application, as one bundle; then `submit_app` is a file
                in it. Executors do not see them.
            dependencies: further directories and files for the bundle, each at its root under its own name.
            requirements: a requirements file that pip installs from, on each host, before the application starts: its
                name in `source_dir`, or any local path.
            entry_point: the application in `submit_app` if that is a directory; else a shell script that runs first.
            codeartifact_repo_arn: the ARN of the CodeArtifact repository that pip installs from.
            extra: settings of CreateProcessingJob that no parameter has, in the service's spelling; merged over the
                processor's own `extra`.
            progress: a function that is called with a `Progress` after each file, or part of a large file, is uploaded.
            quiet: True to show nothing: neither the job's status on standard error nor its log lines.

        Returns:
            The job.

        Raises:
            CodeNotFoundError: the application is missing or is a directory.
            ConfigurationError: a value cannot work; nothing was uploaded or started.
            StagingError: an upload failed; nothing was started.
            SubmissionError: AWS refused the request.
            EngineError: the embedded engine cannot run Spark here; nothing was uploaded.
            JobFailedError, JobStoppedError: `wait` is True, and the job failed or was stopped.
        """
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn)
        further = jar_options(submit_class, submit_jars, submit_files, configuration, spark_event_logs_s3_uri)
        call = RunArguments(
            inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, submit_app, options, further
        )
        return self._run(call, wait=wait, logs=logs, if_exists=if_exists, progress=progress, quiet=quiet)

    def request(  # type: ignore[override]  # as run
        self,
        submit_app: StrPath,
        submit_class: str,
        submit_jars: Sequence[StrPath] | None = None,
        submit_files: Sequence[StrPath] | None = None,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        configuration: Configuration | None = None,
        spark_event_logs_s3_uri: str | None = None,
        kms_key: str | None = None,
        source_dir: StrPath | None = None,
        dependencies: Sequence[StrPath] | None = None,
        requirements: StrPath | None = None,
        entry_point: StrPath | None = None,
        codeartifact_repo_arn: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ProcessingRequest:
        """Return the request that `run` would send, checked, without a call to AWS. It uploads nothing: `stage` does.

        The parameters are those of `run`.

        Raises:
            CodeNotFoundError: the application is missing or is a directory.
            ConfigurationError: a value cannot work, or the role is a name that a call to AWS would have to look up.
        """
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn)
        further = jar_options(submit_class, submit_jars, submit_files, configuration, spark_event_logs_s3_uri)
        call = RunArguments(
            inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, submit_app, options, further
        )
        return self._request(call)

    def stage(  # type: ignore[override]  # as run
        self,
        submit_app: StrPath,
        submit_class: str,
        submit_jars: Sequence[StrPath] | None = None,
        submit_files: Sequence[StrPath] | None = None,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        configuration: Configuration | None = None,
        spark_event_logs_s3_uri: str | None = None,
        kms_key: str | None = None,
        source_dir: StrPath | None = None,
        dependencies: Sequence[StrPath] | None = None,
        requirements: StrPath | None = None,
        entry_point: StrPath | None = None,
        codeartifact_repo_arn: str | None = None,
        extra: Mapping[str, Any] | None = None,
        progress: Callable[[Progress], object] | None = None,
        quiet: bool = False,
    ) -> ProcessingRequest:
        """Upload the local files of a run, and return its request. No job is created.

        boto3's `create_processing_job(**request.to_boto())` then creates the job, in this process or in another one.
        The parameters are those of `run`.

        Raises:
            CodeNotFoundError: a named file is missing or is a directory.
            ConfigurationError: a value cannot work; nothing was uploaded.
            NameTakenError: a job named `job_name` exists; nothing was uploaded.
            StagingError: an upload failed.
            EngineError: the embedded engine cannot run the job here.
        """
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn)
        further = jar_options(submit_class, submit_jars, submit_files, configuration, spark_event_logs_s3_uri)
        call = RunArguments(
            inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, submit_app, options, further
        )
        return self._stage(call, progress=progress, quiet=quiet)

    def plan(  # type: ignore[override]  # as run
        self,
        submit_app: StrPath,
        submit_class: str,
        submit_jars: Sequence[StrPath] | None = None,
        submit_files: Sequence[StrPath] | None = None,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        configuration: Configuration | None = None,
        spark_event_logs_s3_uri: str | None = None,
        kms_key: str | None = None,
        source_dir: StrPath | None = None,
        dependencies: Sequence[StrPath] | None = None,
        requirements: StrPath | None = None,
        entry_point: StrPath | None = None,
        codeartifact_repo_arn: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> RunPlan:
        """Return the plan of a run: its request, uploads, problems, and the highest price.

        Nothing is uploaded and AWS is not called. Errors are not raised but listed in the plan's `problems`. The
        parameters are those of `run`.
        """
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn)
        further = jar_options(submit_class, submit_jars, submit_files, configuration, spark_event_logs_s3_uri)
        call = RunArguments(
            inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, submit_app, options, further
        )
        return self._plan_run(call)

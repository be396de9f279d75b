"""`FrameworkProcessor`: runs a script with the files beside it, in any image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing import default_sessions
from processing._utils import is_empty
from processing.exceptions import ConfigurationError
from processing.processors.estimator_arguments import EstimatorArguments, accepts_estimator_order
from processing.processors.run_arguments import CodeOptions, RunArguments
from processing.processors.script import ScriptProcessor
from processing.request.bucket_names import is_s3
from processing.request.s3_uri import S3Uri, check_one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from processing._utils import StrPath
    from processing.default_sessions import SessionLike
    from processing.job.job import ProcessingJob
    from processing.job.plan import RunPlan
    from processing.job.start import IfExists
    from processing.models import NetworkConfig, ProcessingInput, ProcessingOutput, RunArgs
    from processing.processors.base import Preferences, Tags
    from processing.request.build import ProcessingRequest
    from processing.session.session import Session
    from processing.staging.progress import Progress


class FrameworkProcessor(ScriptProcessor):
    """Runs processing jobs with a script and the files beside it, in any image that has a shell.

    The script, its `source_dir`, `dependencies` and `requirements` travel as one bundle. In the container a small shell
    script unpacks it, installs the requirements, and runs the script in the bundle's directory. If role, keys, env,
    tags or network are left out, the SageMaker config file supplies them.

    A call in the form of `sagemaker` 2.x works too, by keyword and in its positional order:
    `FrameworkProcessor(PyTorch, "2.5.1", role, 1, "ml.m5.xlarge", "py311")`. A class as first argument selects that
    order, and the framework's version determines the image.

    Args:
        image_uri: the container image. Optional on the embedded engine, which does not run it.
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        instance_count: the number of instances, 1 to 100.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine.
        command: the program that runs the script, and its options; by default `["python"]`.
        volume_size_in_gb: the storage of each instance, in GB.
        volume_kms_key: the KMS key that encrypts that storage.
        output_kms_key: the KMS key that encrypts the outputs in S3.
        code_location: the S3 prefix for code; by default the session's bucket and prefix.
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
        estimator_cls: an estimator class of `sagemaker` 2.x, such as `PyTorch`, that names the framework of the image.
            Without a `base_job_name`, job names begin with the framework's name.
        framework_version: the framework's version, such as `2.5.1`; with `estimator_cls`, instead of `image_uri`.
        py_version: the Python of the image; with `estimator_cls`, and by default the Python 3 of that version.

    Attributes:
        jobs: the jobs that this processor has started, the oldest first.
        latest_job: the job that was started last, or None.
    """

    framework_entrypoint_command: list[str] = ["/bin/bash"]  # noqa: RUF012 - v2's name and form; subclasses set their own

    _CODE_CONTAINER_INPUT_NAME = "entrypoint"

    code_location: str | None = None
    estimator_cls: type[Any] | None = None
    framework_version: str | None = None
    py_version: str | None = None

    @accepts_estimator_order
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
        sagemaker_session: SessionLike | None = None,
        env: dict[str, str] | None = None,
        tags: Tags | None = None,
        network_config: NetworkConfig | None = None,
        *,
        instance_preferences: Preferences | None = None,
        extra: Mapping[str, Any] | None = None,
        estimator_cls: type[Any] | None = None,
        framework_version: str | None = None,
        py_version: str | None = None,
    ) -> None:
        framework = EstimatorArguments(estimator_cls, framework_version, py_version).framework(image_uri)
        if framework is not None:
            self.estimator_cls, self.framework_version = estimator_cls, framework_version
            self.py_version = py_version or "py3"
            base_job_name = framework if base_job_name is None else base_job_name
            sagemaker_session = default_sessions.resolve_session(sagemaker_session, instance_type)
            # A session without a region can be replaced by another one; then `run` finds the image.
            if image_uri is None and _has_region(sagemaker_session):
                image_uri = self._image_of_estimator(sagemaker_session, instance_type, instance_preferences)
        self.code_location = code_location.rstrip("/") if isinstance(code_location, str) else code_location
        super().__init__(
            role,
            image_uri,
            ["python"] if is_empty(command) else command,
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

    def _resolve_session(self, *, offline: bool = False) -> None:
        super()._resolve_session(offline=offline)
        if self.image_uri is None and self.estimator_cls is not None:
            session, preferences = self.sagemaker_session, self.instance_preferences
            self.image_uri = self._image_of_estimator(session, self.instance_type, preferences)

    def _missing_arguments(self) -> list[str]:
        from processing.job.launch import MISSING_IMAGE

        missing = super()._missing_arguments()
        # The image follows from the estimator class and the region.
        return missing if self.estimator_cls is None else [text for text in missing if text != MISSING_IMAGE]

    def _image_of_estimator(self, session: Session, instance_type: str | None, preferences: Preferences | None) -> str:
        """Return the image of the estimator's framework in the session's region."""
        estimator = EstimatorArguments(self.estimator_cls, self.framework_version, self.py_version)
        return estimator.image_uri(session, instance_type, preferences)

    def run(  # type: ignore[override]  # the order of sagemaker 3
        self,
        code: StrPath,
        source_dir: StrPath | None = None,
        dependencies: Sequence[StrPath] | None = None,
        requirements: StrPath | dict[str, str] | None = None,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        wait: bool = True,
        logs: bool | None = None,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        entry_point: StrPath | None = None,
        *,
        codeartifact_repo_arn: str | None = None,
        git_config: dict[str, str] | None = None,
        if_exists: IfExists = "fail",
        extra: Mapping[str, Any] | None = None,
        progress: Callable[[Progress], object] | None = None,
        quiet: bool = False,
    ) -> ProcessingJob:
        """Start a job that runs a script with the files beside it, and wait for its end.

        A positional call in the order of `sagemaker` 2.x works too. It has a `git_config` in the place of
        `requirements`, and the ARN of a CodeArtifact repository in the place of `entry_point`.

        Args:
            code: the script: its path, or its name in `source_dir`; or a directory, with `entry_point`. A script in S3
                is run unchanged with the command, or with the shell if its name ends with `.sh`.
            source_dir: a directory whose files travel with the script; then `code` is a file in it. Or an S3 URI of a
                `.tar.gz`, `.tar`, `.tar.bz2`, `.tar.xz` or `.zip`, or of a prefix with the files; then `code` is a
                name in it.
            dependencies: further directories and files for the bundle, each at its root under its own name.
            requirements: a requirements file that pip installs from before the script starts: its name in
                `source_dir`, or any local path. The default is a `requirements.txt` at the root of `source_dir`.
            inputs: the data that the job reads; local sources are uploaded.
            outputs: the data that the job writes; a string is a container path.
            arguments: the script's arguments, strings.
            wait: False to return as soon as the job has been created.
            logs: True to write the job's log lines to standard output; None follows `wait`. No effect without `wait`.
            job_name: the job's name; by default generated from the base name and the time.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
            kms_key: the KMS key that encrypts uploads; by default `output_kms_key` encrypts the code.
            entry_point: the script in `code` if that is a directory; else a shell script that runs before `code`.
            codeartifact_repo_arn: the ARN of the CodeArtifact repository that pip installs from.
            git_config: the Git repository that the paths are in: `{"repo": ..., "branch": ..., "commit": ...}`.
            if_exists: the action if a job named `job_name` exists: `fail`; `attach` to return that job; or `suffix` to
                start one under a name that ends with `-2`, `-3`, ...
            extra: settings of CreateProcessingJob that no parameter has, in the service's spelling; merged over the
                processor's own `extra`.
            progress: a function that is called with a `Progress` after each file, or part of a large file, is uploaded.
            quiet: True to show nothing: neither the job's status on standard error nor its log lines.

        Returns:
            The job.

        Raises:
            CodeNotFoundError: the script, or another named file, is missing.
            ConfigurationError: a value cannot work; nothing was uploaded or started.
            StagingError: an upload failed; nothing was started.
            SubmissionError: AWS refused the request.
            EngineError: the embedded engine cannot run the job here.
            JobFailedError, JobStoppedError: `wait` is True, and the job failed or was stopped.
        """
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn, git_config)
        options = _with_v2_positions(options)
        call = RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, code, options)
        return self._run(call, wait=wait, logs=logs, if_exists=if_exists, progress=progress, quiet=quiet)

    def request(  # type: ignore[override]  # as run
        self,
        code: StrPath,
        source_dir: StrPath | None = None,
        dependencies: Sequence[StrPath] | None = None,
        requirements: StrPath | dict[str, str] | None = None,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        entry_point: StrPath | None = None,
        codeartifact_repo_arn: str | None = None,
        git_config: dict[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ProcessingRequest:
        """Return the request that `run` would send, checked, without a call to AWS. It uploads nothing: `stage` does.

        The parameters are those of `run`.

        Raises:
            CodeNotFoundError: the script, or another named file, is missing.
            ConfigurationError: a value cannot work, or the role is a name that a call to AWS would have to look up.
            StagingError: a file cannot be read.
        """
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn, git_config)
        options = _with_v2_positions(options)
        call = RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, code, options)
        return self._request(call)

    def stage(  # type: ignore[override]  # as run
        self,
        code: StrPath,
        source_dir: StrPath | None = None,
        dependencies: Sequence[StrPath] | None = None,
        requirements: StrPath | dict[str, str] | None = None,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        entry_point: StrPath | None = None,
        codeartifact_repo_arn: str | None = None,
        git_config: dict[str, str] | None = None,
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
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn, git_config)
        options = _with_v2_positions(options)
        call = RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, code, options)
        return self._stage(call, progress=progress, quiet=quiet)

    def plan(  # type: ignore[override]  # as run
        self,
        code: StrPath,
        source_dir: StrPath | None = None,
        dependencies: Sequence[StrPath] | None = None,
        requirements: StrPath | dict[str, str] | None = None,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        entry_point: StrPath | None = None,
        codeartifact_repo_arn: str | None = None,
        git_config: dict[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> RunPlan:
        """Return the plan of a run: its request, uploads, problems, and the highest price.

        Nothing is uploaded and AWS is not called. Errors are not raised but listed in the plan's `problems`. The
        parameters are those of `run`.
        """
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn, git_config)
        options = _with_v2_positions(options)
        call = RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, code, options)
        return self._plan_run(call)

    def get_run_args(  # type: ignore[override]  # the order of sagemaker 2
        self,
        code: StrPath,
        source_dir: StrPath | None = None,
        dependencies: Sequence[StrPath] | None = None,
        git_config: dict[str, str] | None = None,
        inputs: list[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | None = None,
        job_name: str | None = None,
    ) -> RunArgs:
        """Upload the code now, and return the arguments of a `run` that uses it from S3, as `sagemaker` 2.x does.

        Args:
            code: the script: its path, or its name in `source_dir`; or an S3 URI.
            source_dir: a directory whose files travel with the script.
            dependencies: further directories and files for the bundle.
            git_config: the Git repository that the paths are in.
            inputs: the data that the job reads; the bundle is added to them.
            outputs: the data that the job writes.
            arguments: the script's arguments.
            job_name: the name in the code's S3 key, if the session's `code_layout` is `job`.

        Raises:
            CodeNotFoundError: the script, or another named file, is missing.
            ConfigurationError: a value cannot work; nothing was uploaded.
            StagingError: an upload failed.
        """
        from processing.models import RunArgs
        from processing.staging.transfers import upload_all

        self._resolve_session()
        session = self.sagemaker_session
        with self._run_lock:
            self._pending_uploads = None
            uri, with_code, _ = self._pack_and_upload_code(code, source_dir, dependencies, git_config, job_name, inputs)
            pending = self._detach_uploads()
        try:
            for bucket in sorted(pending.buckets):
                session.ensure_bucket(bucket)
            upload_all(session.api, pending.uploads, expected_owner=session.expected_owner)
        finally:
            pending.close()
        return RunArgs(uri, with_code, outputs, arguments)

    def _needs_bundle(self, code: Any, options: CodeOptions) -> bool:
        """Return True if the code travels as a bundle: always, except for a script in S3 without options."""
        return not is_s3(code) or super()._needs_bundle(code, options)

    def _command_for(self, script: str) -> list[str] | None:
        """Return the command that runs the entrypoint's script; the shell for a shell script in S3, as in 2.x."""
        return self.framework_entrypoint_command if script.endswith(".sh") else super()._command_for(script)

    def _code_prefix(self) -> S3Uri:
        """Return the S3 prefix for code."""
        if self.code_location is None:
            return self._session_prefix()
        check_one_line(self.code_location, "code_location")
        return S3Uri.checked(self.code_location, "code_location")


def _with_v2_positions(options: CodeOptions) -> CodeOptions:
    """Return the options of a call in the positional order of `sagemaker` 2.x under their own names.

    In that order a `git_config` has the place of `requirements`, and the ARN of a CodeArtifact repository the place of
    `entry_point`.
    """
    from processing.processors.git_source import GIT_KEYS

    given: Any = options.requirements
    if isinstance(given, dict) and not GIT_KEYS.isdisjoint(given) and options.git_config is None:
        options = options._replace(git_config=given, requirements=None)
    entry_point = options.entry_point
    if isinstance(entry_point, str) and entry_point.startswith("arn:") and options.codeartifact_repo_arn is None:
        options = options._replace(codeartifact_repo_arn=entry_point, entry_point=None)
    return options


def _has_region(session: Session) -> bool:
    try:
        return bool(session.boto_region_name)
    except ConfigurationError:
        return False

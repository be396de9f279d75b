"""`FrameworkProcessor`: runs a script with everything that it needs beside it, in any image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from processing.exceptions import ConfigurationError
from processing.models import RunArgs
from processing.processors.run_arguments import CodeOptions, RunArguments
from processing.processors.script import ScriptProcessor
from processing.request.s3_uri import S3Uri, is_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from processing._utils import StrPath
    from processing.default_sessions import SessionLike
    from processing.job.job import ProcessingJob
    from processing.job.plan import RunPlan
    from processing.job.start import IfExists
    from processing.models import NetworkConfig, ProcessingInput, ProcessingOutput
    from processing.processors.base import Preferences, Tags
    from processing.request.build import ProcessingRequest
    from processing.staging.progress import Progress


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

    _CODE_CONTAINER_INPUT_NAME = "entrypoint"

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
        if isinstance(image_uri, type):  # v2's form, by position
            raise _estimator_error(image_uri, role)
        if estimator_cls is not None or framework_version is not None or py_version is not None:
            raise _estimator_error(estimator_cls, framework_version)
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
    ) -> ProcessingJob:
        """Start a job that runs a script with the files beside it, and wait for its end.

        By position, a call in the order of `sagemaker` 2.x is understood too: a `git_config` in the place of
        `requirements`, the ARN of a CodeArtifact repository in the place of `entry_point`.

        Args:
            code: the script: its path, or its name in `source_dir`; or a directory, with `entry_point`. A script in S3
                is run as it is, with the command; a shell script (`.sh`) there with the shell.
            source_dir: a directory whose files travel with the script; then `code` is a file in it. Or an S3 URI: of a
                `.tar.gz`, or of a prefix with the files; then `code` is a name in it.
            dependencies: further directories and files for the bundle, each at its root under its own name.
            requirements: a requirements file that pip installs from before the script starts: its name in
                `source_dir`, or any path of this machine. A `requirements.txt` at the root of `source_dir` needs not
                be named.
            inputs: see `Processor.run`.
            outputs: what the job writes; a string is the container path.
            arguments: the script's arguments, strings.
            wait: False to return as soon as the job has been created.
            logs: whether its log lines are written to standard output; None follows `wait`.
            job_name: the job's name; generated where none is given.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
            kms_key: the KMS key that uploads are encrypted with; for code `output_kms_key` where none is given.
            entry_point: where `code` is a directory, the script in it; else a shell script that runs before `code`.
            codeartifact_repo_arn: the CodeArtifact repository that pip installs from.
            git_config: the Git repository that the paths are in: `{"repo": ..., "branch": ..., "commit": ...}`.
            if_exists: `fail`, `attach` or `suffix`, where a job of the given `job_name` exists.
            extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.
            progress: see `Processor.run`.

        Returns:
            The job.

        Raises:
            CodeNotFoundError: the script, or another file that was named, is missing.
            ConfigurationError: what was given cannot work; nothing was uploaded or started.
            StagingError: an upload failed; nothing was started.
            SubmissionError: AWS refused the request.
            EngineError: the embedded engine cannot run it here.
            JobFailedError, JobStoppedError: with `wait`, the job ended so.
        """
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn, git_config)
        options = _with_v2_positions(options)
        call = RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, code, options)
        return self._run(call, wait=wait, logs=logs, if_exists=if_exists, progress=progress)

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
        """Return the request that `run` would send, checked, without a call to AWS and without an upload.

        Raises:
            CodeNotFoundError: the script, or another file that was named, is missing.
            ConfigurationError: what was given cannot work, or a call to AWS would be needed: give the role as an ARN.
            StagingError: a file cannot be read.
        """
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn, git_config)
        options = _with_v2_positions(options)
        call = RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, code, options)
        return self._request(call)

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
        """Return what `run` would do, and what is wrong with it: see `Processor.plan`."""
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
        """Upload the code at once, and return the arguments of a `run` that takes it from S3, as `sagemaker` 2.x does.

        Args:
            code: see `run`, as for all that follow.
            source_dir: a directory whose files travel with the script.
            dependencies: further directories and files for the bundle.
            git_config: the Git repository that the paths are in.
            inputs: what the job reads; the bundle is added to them.
            outputs: what the job writes.
            arguments: the script's arguments.
            job_name: names the code's place in S3, where the session's `code_layout` is `job`.

        Raises:
            ConfigurationError, StagingError: as `run`.
        """
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
        """Return what runs the script that the entrypoint names; a shell script in S3 is one, as in 2.x."""
        return self.framework_entrypoint_command if script.endswith(".sh") else super()._command_for(script)

    def _code_prefix(self) -> S3Uri:
        """The S3 prefix that code goes to."""
        if self.code_location is None:
            return self._session_prefix()
        try:
            return S3Uri.parse(self.code_location)
        except ConfigurationError as error:
            raise ConfigurationError(f"code_location: {error}") from None


def _with_v2_positions(options: CodeOptions) -> CodeOptions:
    """Return the options of a call in the positional order of `sagemaker` 2.x under their own names.

    In that order a `git_config` has the place of `requirements`, and the ARN of a CodeArtifact repository the place of
    `entry_point`.
    """
    if isinstance(options.requirements, dict) and options.git_config is None:
        options = attrs.evolve(options, git_config=options.requirements, requirements=None)
    entry_point = options.entry_point
    if isinstance(entry_point, str) and entry_point.startswith("arn:") and options.codeartifact_repo_arn is None:
        options = attrs.evolve(options, codeartifact_repo_arn=entry_point, entry_point=None)
    return options


_PROCESSORS = ("HuggingFace", "MXNet", "PyTorch", "SKLearn", "TensorFlow", "XGBoost")


def _estimator_error(estimator: type[Any] | None, version: str | None) -> ConfigurationError:
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

"""`ScriptProcessor`: runs a user's script in a container image."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any

from processing._utils import StrPath, is_empty, type_name
from processing.container.bootstrap import ARCHIVE, NAME, Payload, bootstrap
from processing.exceptions import ConfigurationError
from processing.processors.base import INPUT_DIRECTORY, Preferences, Tags
from processing.processors.processor import Processor
from processing.processors.run_arguments import CodeOptions, HookArguments, RunArguments
from processing.request.bucket_names import is_s3
from processing.request.s3_uri import S3Uri, check_one_line
from processing.staging.sources import LocalSource, existing_file_uri_path, file_uri, resolve_code, resolve_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from processing.default_sessions import SessionLike
    from processing.job.job import ProcessingJob
    from processing.job.plan import RunPlan
    from processing.job.start import IfExists
    from processing.models import NetworkConfig, ProcessingInput, ProcessingOutput, RunArgs
    from processing.request.build import ProcessingRequest
    from processing.staging.bundles import Member
    from processing.staging.progress import Progress

# The names of the inputs for code that travels as a bundle, as in sagemaker 2.x.
_BUNDLE_INPUT = "code"
_BOOTSTRAP_INPUT = "entrypoint"


class ScriptProcessor(Processor):
    """Runs processing jobs with a script in a container image.

    If role, keys, env, tags or network are left out, the SageMaker config file supplies them.

    Args:
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        image_uri: the container image that the script runs in. Optional on the embedded engine, which does not run it.
        command: the program that runs the script, and its options, such as `["python3"]`.
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

    _CODE_CONTAINER_BASE_PATH = INPUT_DIRECTORY
    _CODE_CONTAINER_INPUT_NAME = "code"

    framework_entrypoint_command: list[str] = ["/bin/sh"]  # noqa: RUF012 - v2's name and form; subclasses set their own
    """The command that runs the bootstrap, if the code travels as a bundle."""

    command: list[str] | None = None
    # The settings of the current run's bootstrap.
    _payload: Payload | None = None
    # True if the bootstrap starts the current run's code.
    _packed = False

    def __init__(
        self,
        role: str | None = None,
        image_uri: str | None = None,
        command: list[str] | None = None,
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
        self.command = command
        super().__init__(
            role,
            image_uri,
            instance_count,
            instance_type,
            None,
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

    def get_run_args(
        self,
        code: StrPath,
        inputs: list[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | None = None,
    ) -> RunArgs:
        """Return the arguments of `run` as one value."""
        from processing.models import RunArgs

        return RunArgs(code=code, inputs=inputs, outputs=outputs, arguments=arguments)

    def run(  # type: ignore[override]  # v2's order: the script comes first
        self,
        code: StrPath,
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
        source_dir: StrPath | None = None,
        dependencies: Sequence[StrPath] | None = None,
        requirements: StrPath | None = None,
        entry_point: StrPath | None = None,
        codeartifact_repo_arn: str | None = None,
        extra: Mapping[str, Any] | None = None,
        progress: Callable[[Progress], object] | None = None,
        quiet: bool = False,
    ) -> ProcessingJob:
        """Start a job that runs a script, and wait for its end.

        Args:
            code: the script: a local file (a string, a `pathlib.Path` or a `file://` URI), or an `s3://` URI; or a
                directory, with `entry_point`.
            inputs: the data that the job reads; local sources are uploaded.
            outputs: the data that the job writes; a string is a container path.
            arguments: the script's arguments, strings.
            wait: False to return as soon as the job has been created.
            logs: True to write the job's log lines to standard output; None follows `wait`. No effect without `wait`.
            job_name: the job's name; by default generated from the base name and the time.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
            kms_key: the KMS key that encrypts uploads.
            if_exists: the action if a job named `job_name` exists: `fail`; `attach` to return that job; or `suffix` to
                start one under a name that ends with `-2`, `-3`, ...
            source_dir: a directory whose files travel with the script, as one bundle; then `code` is a file in it. Or
                an S3 URI of a `.tar.gz`, `.tar`, `.tar.bz2`, `.tar.xz` or `.zip`, or of a prefix with the files; then
                `code` is a name in it.
            dependencies: further directories and files for the bundle, each at its root under its own name.
            requirements: a requirements file that pip installs from before the script starts: its name in
                `source_dir`, or any local path. The default is a `requirements.txt` at the root of `source_dir`.
            entry_point: the script in `code` if that is a directory; else a shell script that runs before `code`.
            codeartifact_repo_arn: the ARN of the CodeArtifact repository that pip installs from.
            extra: settings of CreateProcessingJob that no parameter has, in the service's spelling; merged over the
                processor's own `extra`.
            progress: a function that is called with a `Progress` after each file, or part of a large file, is uploaded.
            quiet: True to show nothing: neither the job's status on standard error nor its log lines.

        Returns:
            The job.

        Raises:
            CodeNotFoundError: the script is missing or is a directory.
            ConfigurationError: a value cannot work; nothing was uploaded or started.
            StagingError: an upload failed; nothing was started.
            SubmissionError: AWS refused the request.
            EngineError: the embedded engine cannot run the job here.
            JobFailedError, JobStoppedError: `wait` is True, and the job failed or was stopped.
        """
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn)
        call = RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, code, options)
        return self._run(call, wait=wait, logs=logs, if_exists=if_exists, progress=progress, quiet=quiet)

    def request(  # type: ignore[override]  # as run
        self,
        code: StrPath,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
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
            CodeNotFoundError: the script is missing or is a directory.
            ConfigurationError: a value cannot work, or the role is a name that a call to AWS would have to look up.
        """
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn)
        call = RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, code, options)
        return self._request(call)

    def stage(  # type: ignore[override]  # as run
        self,
        code: StrPath,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
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
        call = RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, code, options)
        return self._stage(call, progress=progress, quiet=quiet)

    def plan(  # type: ignore[override]  # as run
        self,
        code: StrPath,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | tuple[str, ...] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
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
        call = RunArguments(inputs, outputs, arguments, kms_key, job_name, experiment_config, extra, code, options)
        return self._plan_run(call)

    # The hooks

    def _include_code_in_inputs(
        self, inputs: list[ProcessingInput] | None, code: StrPath | None, kms_key: str | None = None
    ) -> list[ProcessingInput]:
        """Return the inputs with the script as the last one, and set the entrypoint."""
        if code is None or is_empty(code):
            raise ConfigurationError("code: missing; give the path or the S3 URI of a script")
        uri = self._handle_user_code_url(code, kms_key)
        check_one_line(uri, "code")
        with_code = self._convert_code_and_add_to_inputs(inputs, uri)
        name = self._get_user_code_name(uri)
        self._set_entrypoint(self._command_for(name), name)
        return with_code

    def _command_for(self, _script: str) -> list[str] | None:
        """Return the command that runs the entrypoint's script: the bootstrap or the user's script."""
        return self.framework_entrypoint_command if self._packed else self.command

    def _get_user_code_name(self, code: StrPath) -> str:
        """Return the script's file name."""
        if is_s3(code):
            return str(code).rpartition("/")[2]
        if os.fspath(code).startswith("file://"):
            return existing_file_uri_path(os.fspath(code)).name
        return os.fspath(code).replace("\\", "/").rsplit("/", 1)[-1]

    def _handle_user_code_url(self, code: StrPath, kms_key: str | None = None) -> str:
        """Return the script's URI; check a local script and register it for upload."""
        source = resolve_code(code)
        if not isinstance(source, LocalSource):
            return str(source)
        if self.sagemaker_session.is_local and os.fspath(code).startswith("file://"):
            return file_uri(source.path)
        return self._upload_code(str(source.path), kms_key)

    def _upload_code(self, code: str, kms_key: str | None = None) -> str:
        """Register the script for upload, and return its future URI.

        The key names the content (`code/<sha256>/<name>`), so unchanged code is not uploaded again. If the session's
        `code_layout` is `job`, the key is that of `sagemaker` 2.x (`<job name>/input/code/<name>`).
        """
        if self.sagemaker_session.code_layout == "job":
            source = resolve_source(code, "code")
            assert isinstance(source, LocalSource)
            return self._uploads().add_source(
                source, self._job_prefix() / "input" / self._CODE_CONTAINER_INPUT_NAME, kms_key
            )
        return self._uploads().add_code(pathlib.Path(code), self._session_prefix(), kms_key)

    def _convert_code_and_add_to_inputs(
        self, inputs: list[ProcessingInput] | None, s3_uri: str
    ) -> list[ProcessingInput]:
        """Return a new list of the inputs, with the code as the last one."""
        from processing.models import ProcessingInput

        code = ProcessingInput(source=s3_uri, destination=self._code_directory(), input_name=self._code_input_name())
        return [*(inputs or ()), code]

    def _set_entrypoint(self, command: list[str] | None, user_script_name: str) -> None:
        """Set the entrypoint: the command, then the script's path in the container."""
        self.entrypoint = [*_checked_command(command), f"{self._code_directory()}/{user_script_name}"]

    # The hooks for code that travels as a bundle, with the names and positional parameters of sagemaker 2.x

    def _call_hooks(
        self, hooks: HookArguments, options: CodeOptions
    ) -> tuple[list[ProcessingInput], list[ProcessingOutput]]:
        """Pack the code if it travels as a bundle, then call `_normalize_args` with the code."""
        hooks = self._with_packed_code(hooks, options)
        return self._normalize_args(
            job_name=hooks.job_name,
            arguments=hooks.arguments,
            inputs=hooks.inputs,
            outputs=hooks.outputs,
            code=hooks.code,
            kms_key=hooks.kms_key,
        )

    def _with_packed_code(self, hooks: HookArguments, options: CodeOptions) -> HookArguments:
        """Return the arguments of `_normalize_args`. If the code has to be packed, their `code` is the bootstrap."""
        self._packed, self._payload = False, None
        if not self._needs_bundle(hooks.code, options):
            return hooks
        # Hooks written for older releases of sagemaker 2.x lack these parameters, so they are passed only if set.
        newer: dict[str, Any] = {}
        if options.requirements is not None:
            newer["requirements"] = options.requirements
        if options.entry_point is not None:
            newer["entry_point"] = options.entry_point
        code, inputs, name = self._pack_and_upload_code(
            hooks.code,  # type: ignore[arg-type]  # None is refused there
            options.source_dir,
            options.dependencies,
            options.git_config,
            hooks.job_name,
            hooks.inputs,
            hooks.kms_key,
            *_if_set(options.codeartifact_repo_arn),
            **newer,
        )
        self._packed = code != hooks.code
        return hooks._replace(job_name=name, code=code, inputs=inputs)

    def _needs_bundle(self, code: Any, options: CodeOptions) -> bool:
        """Return True if the code travels as a bundle."""
        from processing.processors.code_bundle import is_directory

        return bool(options.used) or is_directory(code)

    def _pack_and_upload_code(
        self,
        code: StrPath,
        source_dir: StrPath | None,
        dependencies: Sequence[StrPath] | None,
        git_config: dict[str, str] | None,
        job_name: str | None,
        inputs: list[ProcessingInput] | None,
        kms_key: str | None = None,
        codeartifact_repo_arn: str | None = None,
        *,
        requirements: StrPath | None = None,
        entry_point: StrPath | None = None,
    ) -> tuple[StrPath, list[ProcessingInput] | None, str | None]:
        """Register the bundle and the bootstrap for upload.

        Returns:
            The bootstrap's future URI, the inputs with the bundle, and the job's name.
        """
        from processing.processors import code_bundle, git_source

        if is_s3(code) and source_dir is None:
            used = CodeOptions(source_dir, dependencies, requirements, entry_point, codeartifact_repo_arn).used
            if used:
                raise ConfigurationError(f"{used[0]}: goes with a local script, or with source_dir; `code` is in S3")
            return code, inputs, job_name
        self._current_job_name = job_name = self._generate_current_job_name(job_name)
        arn = codeartifact_repo_arn
        if arn is None and isinstance(self.env, dict):
            arn = self.env.get("CA_REPOSITORY_ARN") or None  # sagemaker-core reads this variable
        options = CodeOptions(source_dir, dependencies, requirements, entry_point, arn)
        kms_key = kms_key or self.output_kms_key
        with git_source.clone(git_config) as root:
            packed = code_bundle.pack_code(code, options, root)
            self._payload = packed.payload
            uri = str(packed.uri) if packed.uri is not None else self._add_bundle(packed.members, kms_key)
        v2_uri = str(self._source_prefix() / NAME)
        bootstrap_uri = self._create_and_upload_runproc(
            packed.payload.script, kms_key, v2_uri, *_if_set(codeartifact_repo_arn)
        )
        return bootstrap_uri, self._patch_inputs_with_payload(inputs, uri), job_name

    def _add_bundle(self, members: Sequence[Member], kms_key: str | None) -> str:
        """Register a bundle of the files for upload, and return its future URI."""
        at = self._source_prefix() / ARCHIVE if self.sagemaker_session.code_layout == "job" else None
        limit = self.sagemaker_session.bundle_limit
        named = self._payload and self._payload.script
        script = next((member.path for member in members if member.name == named), None)
        return self._uploads().add_bundle(
            members, self._code_prefix(), kms_key, name=ARCHIVE, limit=limit, at=at, script=script
        )

    def _patch_inputs_with_payload(
        self, inputs: list[ProcessingInput] | None, s3_payload: str
    ) -> list[ProcessingInput]:
        """Return a new list of the inputs, with the bundle as the last one."""
        from processing.models import ProcessingInput

        directory = f"{self._CODE_CONTAINER_BASE_PATH.rstrip('/')}/{_BUNDLE_INPUT}"
        return [*(inputs or ()), ProcessingInput(s3_payload, directory, _BUNDLE_INPUT)]

    def _create_and_upload_runproc(
        self,
        user_script: str,
        kms_key: str | None,
        entrypoint_s3_uri: str,
        codeartifact_repo_arn: str | None = None,
    ) -> str:
        """Register the bootstrap for upload, and return its future URI.

        The URI names the content. If the session's `code_layout` is `job`, it is `entrypoint_s3_uri`.
        """
        script = self._generate_framework_script(user_script, *_if_set(codeartifact_repo_arn))
        at = S3Uri.parse(entrypoint_s3_uri) if self.sagemaker_session.code_layout == "job" else None
        return self._uploads().add_bytes(script.encode(), NAME, self._code_prefix(), kms_key, at=at)

    def _generate_framework_script(self, user_script: str, codeartifact_repo_arn: str | None = None) -> str:
        """Return the text of the bootstrap.

        Args:
            user_script: the script's path in the bundle.
            codeartifact_repo_arn: the CodeArtifact repository that pip installs from.
        """
        from processing.processors.code_bundle import codeartifact

        payload = self._payload or Payload(user_script)
        payload = payload._replace(script=user_script)
        if codeartifact_repo_arn is not None:
            payload = payload._replace(codeartifact=codeartifact(codeartifact_repo_arn))
        return bootstrap(_checked_command(self.command), payload)

    def _get_codeartifact_command(self, codeartifact_repo_arn: str) -> str:
        """Return the command that logs pip in to a repository, for scripts written for `sagemaker` 2.x."""
        from processing.processors.code_bundle import codeartifact

        return codeartifact(codeartifact_repo_arn).login

    def _code_prefix(self) -> S3Uri:
        """Return the S3 prefix for code."""
        return self._session_prefix()

    def _source_prefix(self) -> S3Uri:
        """Return the S3 prefix of the current job's code, used if the session's `code_layout` is `job`."""
        return self._code_prefix() / str(self._current_job_name) / "source"

    def _code_directory(self) -> str:
        return str(pathlib.PurePosixPath(self._CODE_CONTAINER_BASE_PATH, self._code_input_name()))

    def _code_input_name(self) -> str:
        """Return the name of the input that holds the entrypoint's script."""
        return _BOOTSTRAP_INPUT if self._packed else self._CODE_CONTAINER_INPUT_NAME


def _if_set(value: Any) -> tuple[Any, ...]:
    return () if value is None else (value,)


def _checked_command(command: Any) -> list[str]:
    """Return the command as a list of strings, with `pathlib` paths as text."""
    if is_empty(command):
        raise ConfigurationError('command: missing; give the program that runs the script, such as ["python3"]')
    if isinstance(command, str):
        raise ConfigurationError(f"command: must be a list of strings, such as {command.split()!r}, not a string")
    if not isinstance(command, (list, tuple)):
        raise ConfigurationError(f"command: must be a list of strings, not {type_name(command)}")
    words = [os.fspath(word) if isinstance(word, os.PathLike) else word for word in command]
    for index, word in enumerate(words):
        if not isinstance(word, str):
            raise ConfigurationError(f"command[{index}]: must be a string, not {type_name(word)}")
        if not word or "\0" in word:
            problem = "contains a NUL character; remove it" if word else "is an empty string; leave it out"
            raise ConfigurationError(f"command[{index}]: {problem}")
    return words

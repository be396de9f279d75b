"""`ScriptProcessor`: runs a script of the user's in an image."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any

from processing.exceptions import ConfigurationError
from processing.models import Path, ProcessingInput, ProcessingOutput, RunArgs
from processing.processors.processor import Processor, Tags
from processing.request.uris import is_s3
from processing.staging.sources import LocalSource, file_uri_path, resolve_code, resolve_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.job import ProcessingJob
    from processing.launching import IfExists
    from processing.models import NetworkConfig
    from processing.planning import RunPlan
    from processing.request.build import ProcessingRequest


class ScriptProcessor(Processor):
    """Runs processing jobs with a script of the user's.

    Args:
        role: see `Processor`.
        image_uri: the container image that the script runs in.
        command: the program that runs the script, and its options, such as `["python3"]`.
        instance_count: see `Processor`, as for all that follow.
    """

    _CODE_CONTAINER_BASE_PATH = "/opt/ml/processing/input/"
    _CODE_CONTAINER_INPUT_NAME = "code"

    command: list[str] | None = None

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
        sagemaker_session: Any = None,
        env: dict[str, str] | None = None,
        tags: Tags | None = None,
        network_config: NetworkConfig | None = None,
        *,
        instance_preferences: Sequence[str] | None = None,
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
        code: Path,
        inputs: list[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | None = None,
    ) -> RunArgs:
        """Return the arguments of `run` as one value."""
        return RunArgs(code=code, inputs=inputs, outputs=outputs, arguments=arguments)

    def run(  # type: ignore[override]  # v2's order: the script comes first
        self,
        code: Path,
        inputs: list[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | None = None,
        wait: bool = True,
        logs: bool | None = None,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        *,
        if_exists: IfExists = "fail",
        extra: Mapping[str, Any] | None = None,
    ) -> ProcessingJob:
        """Start a job that runs a script, and wait for its end.

        Args:
            code: the script: a local file (a string, a `pathlib.Path` or a `file://` URI), or an `s3://` URI.
            inputs: see `Processor.run`, as for all that follow.
            outputs: what the job writes; a string is the container path.
            arguments: the script's arguments, strings.
            wait: False to return as soon as the job has been created.
            logs: whether its log lines are written to standard output; None follows `wait`. Without `wait` there are
                none.
            job_name: the job's name; generated where none is given.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
            kms_key: the KMS key that uploads are encrypted with.
            if_exists: `fail`, `attach` or `suffix`, where a job of the given `job_name` exists.
            extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.

        Returns:
            The job.

        Raises:
            CodeNotFoundError: the script is missing or is a directory.
            ConfigurationError: what was given cannot work; nothing was uploaded or started.
            StagingError: an upload failed; nothing was started.
            SubmissionError: AWS refused the request.
            EngineError: the embedded engine cannot run it here.
            JobFailedError, JobStoppedError: with `wait`, the job ended so.
        """
        return self._run(
            {"code": code, "inputs": inputs, "outputs": outputs, "arguments": arguments, "kms_key": kms_key},
            wait=wait,
            logs=logs,
            job_name=job_name,
            experiment_config=experiment_config,
            if_exists=if_exists,
            extra=extra,
        )

    def request(  # type: ignore[override]  # as run
        self,
        code: Path,
        inputs: list[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ProcessingRequest:
        """Return the request that `run` would send, checked, without a call to AWS and without an upload.

        Raises:
            CodeNotFoundError: the script is missing or is a directory.
            ConfigurationError: what was given cannot work, or a call to AWS would be needed: give the role as an ARN.
        """
        given = {"code": code, "inputs": inputs, "outputs": outputs, "arguments": arguments, "kms_key": kms_key}
        return self._request(given, job_name, experiment_config, extra)

    def plan(  # type: ignore[override]  # as run
        self,
        code: Path,
        inputs: list[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> RunPlan:
        """Return what `run` would do, and what is wrong with it: see `Processor.plan`."""
        given = {"code": code, "inputs": inputs, "outputs": outputs, "arguments": arguments, "kms_key": kms_key}
        return self._plan_run(given, job_name, experiment_config, extra)

    # The hooks.

    def _include_code_in_inputs(
        self, inputs: list[ProcessingInput] | None, code: Path | None, kms_key: str | None = None
    ) -> list[ProcessingInput]:
        """Return the inputs with the script as the last one, and set the entrypoint."""
        if not code:
            raise ConfigurationError("code: missing; give the path or the S3 URI of a script")
        uri = self._handle_user_code_url(code, kms_key)
        with_code = self._convert_code_and_add_to_inputs(inputs, uri)
        self._set_entrypoint(self.command, self._get_user_code_name(uri))
        return with_code

    def _get_user_code_name(self, code: Path) -> str:
        """Return the script's file name: of a `file://` URI the decoded one, of an S3 key its last part as it is."""
        if is_s3(code):
            return str(code).rpartition("/")[2]
        if os.fspath(code).startswith("file://"):
            return file_uri_path(os.fspath(code)).name
        return os.fspath(code).replace("\\", "/").rsplit("/", 1)[-1]

    def _handle_user_code_url(self, code: Path, kms_key: str | None = None) -> str:
        """Return the script's URI; a local script is checked and noted for upload."""
        source = resolve_code(code)
        if not isinstance(source, LocalSource):
            return str(source)
        if self.sagemaker_session.is_local and os.fspath(code).startswith("file://"):
            return source.path.as_uri()
        return self._upload_code(str(source.path), kms_key)

    def _upload_code(self, code: str, kms_key: str | None = None) -> str:
        """Note the script for upload and return the URI that it will have.

        The key names the content (`code/<sha256>/<name>`), so unchanged code is not uploaded again; unless the
        session's `code_layout` is `job`: then it is v2's (`<job name>/input/code/<name>`).
        """
        if self.sagemaker_session.code_layout == "job":
            source = resolve_source(code, "code")
            assert isinstance(source, LocalSource)
            return self._plan().add_source(
                source, self._job_prefix() / "input" / self._CODE_CONTAINER_INPUT_NAME, kms_key
            )
        return self._plan().add_code(pathlib.Path(code), self._session_prefix(), kms_key)

    def _convert_code_and_add_to_inputs(
        self, inputs: list[ProcessingInput] | None, s3_uri: str
    ) -> list[ProcessingInput]:
        """Return a new list: the inputs, and the code as the last one."""
        code = ProcessingInput(
            source=s3_uri, destination=self._code_directory(), input_name=self._CODE_CONTAINER_INPUT_NAME
        )
        return [*(inputs or ()), code]

    def _set_entrypoint(self, command: list[str] | None, user_script_name: str) -> None:
        """Set the entrypoint: the command, then the script's path in the container."""
        if not command:
            raise ConfigurationError('command: missing; give the program that runs the script, such as ["python3"]')
        if isinstance(command, str):
            raise ConfigurationError(f"command: must be a list of strings, such as {command.split()!r}, not a string")
        self.entrypoint = [*command, f"{self._code_directory()}/{user_script_name}"]

    def _code_directory(self) -> str:
        return str(pathlib.PurePosixPath(self._CODE_CONTAINER_BASE_PATH, self._CODE_CONTAINER_INPUT_NAME))

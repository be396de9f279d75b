"""`Processor`: runs jobs with an image of the user's; what every other processor builds upon.

The way of a call, from `run` to the job:

1. `_run` sees to the session and its config file, and asks `processing.job.start` for a job under a free name.
2. That calls `_prepare` with each name it tries. There, and only there, are the hooks called: `_with_packed_code`
   (a `ScriptProcessor`'s bundle), then `_normalize_args` with those that it calls. They work on copies, set the
   processor's entrypoint and arguments, and note uploads in the staging plan; nothing is sent.
3. `_with_room` moves what a request has no room for into a file.
4. `Launch.from_processor` reads the processor into a frozen request and checks it. Nothing reads the processor later.
5. `Launch.submit` uploads and submits; `ProcessingJob.from_launch` returns the job.

`request` and `plan` end before the last step, and let no hook call AWS.
"""

from __future__ import annotations

import contextlib
import copy
import os
import pathlib
import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from processing import default_sessions as targets
from processing._utils import StrPath, type_name
from processing.exceptions import ConfigurationError
from processing.models import NetworkConfig, ProcessingInput, ProcessingOutput
from processing.request.job_names import base_name_from_image, unique_job_name
from processing.request.s3_uri import S3Uri
from processing.staging.sources import LocalSource, resolve_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processing.job.job import ProcessingJob
    from processing.job.launch import Launch
    from processing.job.plan import RunPlan
    from processing.job.start import IfExists
    from processing.request.build import ProcessingRequest
    from processing.session.session import Session
    from processing.staging.pending_uploads import PendingUploads
    from processing.staging.progress import Progress

INPUTS = "/opt/ml/processing/input/"
"""Where inputs of ours are in the container, as those of `sagemaker` 2.x are."""

Tags = dict[str, str] | list[dict[str, str]]
Preferences = Sequence[str | Mapping[str, Any]]
Entry = TypeVar("Entry", ProcessingInput, ProcessingOutput)


class RunLock:
    """Held by the run that has a processor to itself. A deep copy of it, or a pickled one, is a new one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[RunLock], tuple[()]]:
        return RunLock, ()


class Processor:
    """Runs processing jobs with a container image.

    What is left out of role, keys, env, tags and network comes from the config file, where it says something of them.

    Args:
        role: the ARN of the IAM role that SageMaker assumes, or its name (then looked up with IAM GetRole). May be left
            out on the embedded engine.
        image_uri: the container image. May be left out on the embedded engine, which does not run it.
        instance_count: how many instances, 1 to 100.
        instance_type: such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded engine.
        entrypoint: the program and its first arguments; None leaves it to the image.
        volume_size_in_gb: each instance's storage, in GB (default 30).
        volume_kms_key: the KMS key that encrypts that storage.
        output_kms_key: the KMS key that encrypts the outputs in S3.
        max_runtime_in_seconds: after so many seconds AWS stops the job; None means AWS's default, a day.
        base_job_name: the beginning of the job names; the image's name where none is given.
        sagemaker_session: a `processing.Session`, a `LocalSession`, or a `sagemaker.Session`; made when left out.
        env: environment variables of the container.
        tags: a dictionary, or a list of `{"Key": ..., "Value": ...}`.
        network_config: the network that the containers see.
        instance_preferences: instance types in order of priority, 1 to 5, instead of `instance_type`; or, instead of
            `instance_count` too, each `{"InstanceType": ..., "InstanceCount": ...}`.
        extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.

    Attributes:
        jobs: the jobs that this processor has started, oldest first.
        latest_job: the last of them, or None.
    """

    JOB_CLASS_NAME = "processing-job"

    # Defaults on the class: a subclass that skips an initialiser still works.
    role: str | None = None
    image_uri: str | None = None
    instance_count: int | None = None
    instance_type: str | None = None
    entrypoint: list[str] | None = None
    volume_size_in_gb: int = 30
    volume_kms_key: str | None = None
    output_kms_key: str | None = None
    max_runtime_in_seconds: int | None = None
    base_job_name: str | None = None
    sagemaker_session: Any = None
    env: dict[str, str] | None = None
    tags: Tags | None = None
    network_config: NetworkConfig | None = None
    instance_preferences: Preferences | None = None
    extra: Mapping[str, Any] | None = None
    arguments: list[str] | None = None
    jobs: Sequence[ProcessingJob] = ()
    latest_job: ProcessingJob | None = None
    _current_job_name: str | None = None
    _pending_uploads: PendingUploads | None = None
    _offline = False
    _assumed_role: str | None = None  # stands for the role's ARN where only its name is known and no call may be made

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
        sagemaker_session: Any = None,
        env: dict[str, str] | None = None,
        tags: Tags | None = None,
        network_config: NetworkConfig | None = None,
        *,
        instance_preferences: Preferences | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.sagemaker_session = targets.resolve_session(sagemaker_session, instance_type)
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
        if self.sagemaker_session.config_at_hand:  # else it takes a call, which a constructor does not make
            self._apply_config()

    def run(
        self,
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
        progress: Callable[[Progress], object] | None = None,
    ) -> ProcessingJob:
        """Start a job, and wait for its end.

        Args:
            inputs: what the job reads; local sources are uploaded.
            outputs: what the job writes; a string is the container path.
            arguments: the program's arguments, strings.
            wait: False to return as soon as the job has been created.
            logs: whether its log lines are written to standard output; None follows `wait`.
            job_name: the job's name; generated from the base name and the time where none is given.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
            kms_key: the KMS key that uploads are encrypted with.
            if_exists: where a job of the given `job_name` exists: `fail`; `attach` to it instead of starting one; or
                start one under the name with a `suffix`: `-2`, `-3`, ...
            extra: settings of CreateProcessingJob that no parameter has, in the service's spelling; laid over the
                processor's own `extra`.
            progress: takes a `Progress` whenever a file, or a part of a large one, has been uploaded.

        Returns:
            The job.

        Raises:
            ConfigurationError: what was given cannot work; nothing was uploaded or started.
            StagingError: an upload failed; nothing was started.
            SubmissionError: AWS refused the request.
            EngineError: the embedded engine cannot run it here.
            JobFailedError, JobStoppedError: with `wait`, the job ended so.
        """
        if logs and not wait:
            raise ConfigurationError(
                "logs: Logs can only be shown if wait is set to True. "
                "Please either set wait to True or set logs to False."
            )
        return self._run(
            {"inputs": inputs, "outputs": outputs, "arguments": arguments, "kms_key": kms_key},
            wait=wait,
            logs=logs,
            job_name=job_name,
            experiment_config=experiment_config,
            if_exists=if_exists,
            extra=extra,
            progress=progress,
        )

    def request(
        self,
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

        `.to_boto()` of it is the dictionary for boto3's `create_processing_job`.

        Raises:
            ConfigurationError: what was given cannot work, or a call to AWS would be needed: give the role as an ARN.
        """
        given = {"inputs": inputs, "outputs": outputs, "arguments": arguments, "kms_key": kms_key}
        return self._request(given, job_name, experiment_config, extra)

    def plan(
        self,
        inputs: list[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        arguments: list[str] | None = None,
        *,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> RunPlan:
        """Return what `run` would do: the request, the uploads, what is wrong with it, and what it costs at most.

        Nothing is uploaded, AWS is not called, and what is wrong is not raised but in the plan's `problems`.
        """
        given = {"inputs": inputs, "outputs": outputs, "arguments": arguments, "kms_key": kms_key}
        return self._plan_run(given, job_name, experiment_config, extra)

    def _run(
        self,
        given: dict[str, Any],
        *,
        wait: bool,
        logs: bool | None,
        job_name: str | None,
        experiment_config: dict[str, str] | None,
        if_exists: IfExists,
        extra: Mapping[str, Any] | None,
        progress: Callable[[Progress], object] | None = None,
    ) -> ProcessingJob:
        """Start the job, keep it in `jobs`, and wait for it where asked."""
        from processing.job.start import start_generated, start_named

        if if_exists not in ("fail", "attach", "suffix"):  # a tuple: what was given may have no hash
            raise ConfigurationError(f"if_exists: must be 'fail', 'attach' or 'suffix', not {if_exists!r}")
        _check_text("job_name", job_name)
        if progress is not None and not callable(progress):
            raise ConfigurationError(f"progress: must be a function that takes a Progress, not {type_name(progress)}")
        self._resolve_session()

        def prepare(name: str | None) -> Launch:
            launch = self._prepare(given, name, experiment_config, extra)
            return launch if progress is None else attrs.evolve(launch, progress=progress)

        if job_name is None:
            job = start_generated(prepare)
        else:
            job = start_named(self.sagemaker_session, prepare, job_name, if_exists)
        with self._turn:
            self.latest_job = job
            self.jobs = [*self.jobs, job]
        if wait:
            job.wait(logs=True if logs is None else logs)
        return job

    def _request(
        self,
        given: dict[str, Any],
        job_name: str | None,
        experiment_config: dict[str, str] | None,
        extra: Mapping[str, Any] | None,
    ) -> ProcessingRequest:
        self._resolve_session(offline=True)
        with self._without_calls():
            launch = self._prepare(given, job_name, experiment_config, extra)
        launch.staging.close()
        return launch.request

    def _plan_run(
        self,
        given: dict[str, Any],
        job_name: str | None,
        experiment_config: dict[str, str] | None,
        extra: Mapping[str, Any] | None,
    ) -> RunPlan:
        from processing.job.plan import plan_run

        def target() -> tuple[Session, str | None]:
            self._resolve_session(offline=True)
            return self.sagemaker_session, self.role

        def prepare(assumed_role: str | None) -> Launch:
            with self._without_calls(assumed_role):
                return self._prepare(given, job_name, experiment_config, extra, check=False)

        return plan_run(target, prepare)

    def _prepare(
        self,
        given: dict[str, Any],
        job_name: str | None,
        experiment_config: dict[str, str] | None,
        extra: Mapping[str, Any] | None,
        *,
        check: bool = True,
    ) -> Launch:
        """Call the hooks on copies of what the user gave, and read the processor into a `Launch`."""
        from processing.job.launch import Launch

        given = {**given, **{name: _copies(given[name], name) for name in ("inputs", "outputs")}}
        # What uploads are planned with; the rest is checked when all is there.
        _check_text("role", self.role)
        _check_key("kms_key", given["kms_key"])
        _check_key("output_kms_key", self.output_kms_key)
        with self._turn:
            self._pending_uploads = None
            plan = self._plan()
            try:
                inputs, outputs = self._normalize_args(**self._with_packed_code(job_name, given))
                fitting, inputs = self._with_room(inputs, given["kms_key"])
                return Launch.from_processor(
                    fitting,
                    inputs,
                    outputs,
                    experiment_config,
                    extra=extra,
                    role=self._assumed_role,
                    offline=self._offline,
                    check=check,
                )
            except BaseException:
                plan.close()  # it may have a large bundle
                raise
            finally:
                self._pending_uploads = None

    @contextlib.contextmanager
    def _without_calls(self, assumed_role: str | None = None) -> Iterator[None]:
        """Let no hook call AWS for a name; a role of which only the name is known has the ARN that is given."""
        with self._turn:
            self._offline, self._assumed_role = True, assumed_role
            try:
                yield
            finally:
                del self._offline, self._assumed_role

    # The hooks. A subclass may override any of them.

    def _extend_processing_args(
        self,
        inputs: list[ProcessingInput] | None,
        outputs: Sequence[ProcessingOutput | str] | None,
        **_kwargs: Any,
    ) -> tuple[list[ProcessingInput] | None, Sequence[ProcessingOutput | str] | None]:
        """Return the inputs and outputs, extended by what a subclass adds; called first of all."""
        return inputs, outputs

    def _normalize_args(
        self,
        job_name: str | None = None,
        arguments: list[str] | None = None,
        inputs: list[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput | str] | None = None,
        code: StrPath | None = None,
        kms_key: str | None = None,
    ) -> tuple[list[ProcessingInput], list[ProcessingOutput]]:
        """Return inputs and outputs with names and URIs; set the job's name, arguments and entrypoint."""
        inputs, outputs = self._extend_processing_args(inputs, outputs)
        self._current_job_name = self._generate_current_job_name(job_name=job_name)
        with_code = self._include_code_in_inputs(inputs, code, kms_key)
        normalized_inputs = self._normalize_inputs(with_code, kms_key)
        normalized_outputs = self._normalize_outputs(outputs)
        self.arguments = arguments
        return normalized_inputs, normalized_outputs

    def _include_code_in_inputs(
        self,
        inputs: list[ProcessingInput] | None,
        _code: StrPath | None,
        _kms_key: str | None = None,
    ) -> list[ProcessingInput] | None:
        """Return the inputs with the code among them; an image has its own code."""
        return inputs

    def _generate_current_job_name(self, job_name: str | None = None) -> str:
        """Return the name given, or `<base name>-<UTC to the millisecond>`."""
        if job_name is not None:
            return job_name
        base = self.base_job_name
        if not base:
            image = self.image_uri
            base = base_name_from_image(image) if image and isinstance(image, str) else self.JOB_CLASS_NAME
        _check_text("base_job_name", base)
        return unique_job_name(base, self.sagemaker_session.clock)

    def _normalize_inputs(
        self, inputs: list[ProcessingInput] | None = None, kms_key: str | None = None
    ) -> list[ProcessingInput]:
        """Return copies of the inputs with names and URIs, and note for upload what is local."""
        named = []
        for index, entry in enumerate(inputs or ()):
            if not isinstance(entry, ProcessingInput):
                raise ConfigurationError(
                    f"inputs[{index}]: must be a processing.ProcessingInput, not {type_name(entry)}"
                )
            named.append(_changed(entry, input_name=entry.input_name or f"input-{index + 1}"))
        names = [str(entry.input_name) for entry in named]
        return [self._stage_input(entry, index, names, kms_key) for index, entry in enumerate(named)]

    def _stage_input(
        self, entry: ProcessingInput, index: int, names: list[str], kms_key: str | None
    ) -> ProcessingInput:
        """Return the input with a URI as its source."""
        if entry.source is None:
            if entry.dataset_definition is None and not entry.app_managed:
                raise ConfigurationError(f"inputs[{index}].source: missing; give a path or an S3 URI")
            return entry
        source = resolve_source(entry.source, f"inputs[{index}].source")
        if not isinstance(source, LocalSource):
            return _changed(entry, source=str(source))
        if self.sagemaker_session.is_local and os.fspath(entry.source).startswith("file://"):
            return _changed(entry, source=source.path.as_uri())
        if getattr(entry, "reuse", False):  # a subclass that has an initialiser of its own may lack it
            return _changed(entry, source=self._plan().add_reusable(source, self._session_prefix(), kms_key))
        target = self._job_prefix() / "input" / str(entry.input_name)
        uri = self._plan().add_source(source, target, kms_key)
        # "input-1" is also the beginning of "input-10", and S3Prefix means the beginning of the key.
        if source.is_dir and any(
            other != entry.input_name and other.startswith(str(entry.input_name)) for other in names
        ):
            uri += "/"
        return _changed(entry, source=uri)

    def _normalize_outputs(self, outputs: Sequence[ProcessingOutput | str] | None = None) -> list[ProcessingOutput]:
        """Return copies of the outputs with names and destinations."""
        normalized = []
        for index, given in enumerate(outputs or ()):
            entry = ProcessingOutput(given) if isinstance(given, (str, pathlib.PurePath)) else given
            if not isinstance(entry, ProcessingOutput):
                kind = type_name(entry)
                raise ConfigurationError(
                    f"outputs[{index}]: must be a processing.ProcessingOutput or a container path, not {kind}"
                )
            name = entry.output_name or f"output-{index + 1}"
            destination = entry.destination
            if destination is None and entry.source is not None and entry.feature_store_output is None:
                destination = str(self._job_prefix() / "output" / str(name))
            normalized.append(_changed(entry, output_name=name, destination=destination))
        return normalized

    # What the hooks stand on.

    @property
    def _turn(self) -> RunLock:
        """Lets one run at a time have the processor: hooks write its attributes, and two threads may share it.

        Held from the first hook until the processor has been read; nothing is uploaded meanwhile.
        """
        turn: RunLock = self.__dict__.setdefault("_own_turn", RunLock())  # here: a subclass may skip the initialiser
        return turn

    def _with_packed_code(self, job_name: str | None, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of `_normalize_args`; where code has to be packed first, a subclass does it here."""
        return {"job_name": job_name, **given}

    def _with_room(self, inputs: list[ProcessingInput], kms_key: str | None) -> tuple[Processor, list[ProcessingInput]]:
        """Return the processor to read, and its inputs.

        Where a request has no room for its variables or arguments, they are a copy with those that it has room for,
        and an input with the others.
        """
        from processing.container.command import FILE
        from processing.processors.oversized_command import INPUT_NAME, Command, spill

        self._apply_config()  # again: a hook may have set an attribute to None
        directory = f"{INPUTS}{INPUT_NAME}"
        spilled = spill(Command(self.entrypoint, self.arguments, self.env), f"{directory}/{FILE}")
        if spilled is None:
            return self, inputs
        command, script = spilled
        target = self._job_prefix() / "input" / INPUT_NAME / FILE  # of this job alone: variables may be secrets
        uri = self._plan().add_bytes(script, FILE, target, kms_key or self.output_kms_key, at=target)
        fitting = copy.copy(self)
        fitting.entrypoint, fitting.arguments, fitting.env = command.entrypoint, command.arguments, command.env
        return fitting, [*(inputs or ()), ProcessingInput(uri, directory, INPUT_NAME)]

    def _resolve_session(self, *, offline: bool = False) -> None:
        """Make one of ours of a session that was assigned to the attribute, or of none, and apply its config file.

        That comes before the hooks, and outside their lock: a file in S3 takes a call.
        """
        self.sagemaker_session = targets.resolve_session(self.sagemaker_session, self.instance_type)
        if offline and not self.sagemaker_session.config_at_hand:
            raise ConfigurationError(
                "sagemaker_session: its config file is in S3 and has not been read, and no call to AWS is made here; "
                "read it before, with sagemaker_session.config"
            )
        self._apply_config()

    def _apply_config(self) -> None:
        """Fill in what was not given: from the config file, and on the embedded engine what nobody has to give."""
        from processing.config import defaults

        session = self.sagemaker_session
        for name, path in defaults.PROCESSOR_ATTRIBUTES.items():
            if getattr(self, name) is None and (value := session.config.get(path)) is not None:
                setattr(self, name, value)
        self.network_config = defaults.fill_network(session.config, self.network_config)
        if session.is_local:
            self.role = targets.LOCAL_ROLE if self.role is None else self.role
            self.image_uri = targets.LOCAL_IMAGE if self.image_uri is None else self.image_uri

    def _job_prefix(self) -> S3Uri:
        """The S3 prefix of the current job: `s3://<bucket>/[prefix/]<job name>`."""
        return self._session_prefix() / str(self._current_job_name)

    def _session_prefix(self) -> S3Uri:
        session = self.sagemaker_session
        role = self._assumed_role or self.role
        bucket = session.bucket_without_call(role) if self._offline else session.bucket_for_request(role)
        return S3Uri(bucket, (session.default_bucket_prefix or "").strip("/"))

    def _plan(self) -> PendingUploads:
        """What the current run has to upload."""
        if self._pending_uploads is None:
            from processing.staging.pending_uploads import PendingUploads

            self._pending_uploads = PendingUploads()
        return self._pending_uploads

    def _pop_staging_plan(self) -> PendingUploads:
        """Return the plan and forget it: the next run makes its own."""
        plan, self._pending_uploads = self._plan(), None
        return plan


def _copies(values: Any, field: str) -> list[Any] | None:
    """Return a new list of copies: a hook may append to it and write into its elements, the user's stay as given."""
    if values is None:
        return None
    if not isinstance(values, (list, tuple)):
        raise ConfigurationError(f"{field}: must be a list, not {type(values).__name__}")
    return [copy.copy(value) for value in values]


def _check_text(field: str, value: object) -> None:
    if not isinstance(value, (str, type(None))):
        raise ConfigurationError(f"{field}: must be a string, not {type_name(value)}")


def _check_key(field: str, value: Any) -> None:
    _check_text(field, value)
    if value and not re.fullmatch(r"[a-zA-Z0-9:/_-]+", value):  # as the service model has it for those of a request
        raise ConfigurationError(f"{field}: must be the ARN, ID or alias of a KMS key, not {value!r}")


def _changed(entry: Entry, **changes: Any) -> Entry:
    """Return a copy with other values. Made without the initialiser: a subclass may have one of its own."""
    changed = copy.copy(entry)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed

"""`BaseProcessor`: the hooks of every processor, and the path of a call from `run` to a submitted job.

1. `_run` resolves the session, applies its config file, and asks `processing.job.start` for a job under a free name.
2. `processing.job.start` calls `_prepare` with each name that it tries. Only there are the hooks called. A
   `ScriptProcessor` first packs code that has files beside it. `_normalize_args` then calls all other hooks. Hooks work
   on copies, set the processor's entrypoint and arguments, and register uploads. Nothing is sent yet.
3. `_spill_command` moves variables and arguments that exceed the limits of a request into a file.
4. `Launch.from_processor` reads the processor into a frozen request and checks it. Nothing reads the processor later.
5. `Launch.submit` uploads and submits; `ProcessingJob.from_launch` returns the job.

`request` and `plan` end before the last step. Their hooks run in an offline `PrepareContext`, and call AWS for nothing.
"""

from __future__ import annotations

import contextlib
import copy
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from processing import default_sessions
from processing._utils import StrPath, is_empty, type_name
from processing._utils.forks import ForkSafeLock
from processing.exceptions import ConfigurationError, JobError
from processing.processors.run_arguments import ONLINE, CodeOptions, HookArguments, PrepareContext, RunArguments
from processing.request.job_names import base_name_from_image, unique_job_name
from processing.request.s3_uri import S3Uri
from processing.staging.sources import LocalSource, file_uri, file_uri_path, resolve_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processing.job.job import ProcessingJob
    from processing.job.launch import Launch
    from processing.job.plan import RunPlan
    from processing.job.start import IfExists
    from processing.models import NetworkConfig, ProcessingInput, ProcessingOutput
    from processing.request.build import ProcessingRequest
    from processing.session.session import Session
    from processing.staging.pending_uploads import PendingUploads
    from processing.staging.progress import Progress
    from processing.watching.render.run_display import RunDisplay

INPUT_DIRECTORY = "/opt/ml/processing/input/"
"""The container directory of the inputs that this package adds, as in `sagemaker` 2.x."""

Tags = dict[str, Any] | list[dict[str, Any]]
Preferences = Sequence[str | Mapping[str, Any]]
Entry = TypeVar("Entry", "ProcessingInput", "ProcessingOutput")


class BaseProcessor:
    """The attributes, the hooks and the shared implementation of all processors.

    Every attribute has a default on the class, so a subclass that skips an initialiser still works.
    """

    JOB_CLASS_NAME = "processing-job"

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
    _context: PrepareContext = ONLINE

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        session = state.get("sagemaker_session")
        if session is not None and not hasattr(session, "yields_to_engine"):
            # The session of another library cannot be pickled, and one of this package does its work.
            with contextlib.suppress(ConfigurationError):  # `run` raises it
                state["sagemaker_session"] = default_sessions.resolve_session(session, self.instance_type)
        return state

    # The implementation of `run`, `request` and `plan`

    def _run(
        self,
        arguments: RunArguments,
        *,
        wait: bool,
        logs: bool | None,
        if_exists: IfExists,
        progress: Callable[[Progress], object] | None,
        quiet: bool = False,
    ) -> ProcessingJob:
        """Start the job, append it to `jobs`, and wait for its end if `wait` is True."""
        from processing.job.launch import current_options
        from processing.job.start import start_generated, start_named
        from processing.watching.render.run_display import RunDisplay

        if if_exists not in ("fail", "attach", "suffix"):  # a tuple, as the user's value may not be hashable
            raise ConfigurationError(f"if_exists: must be 'fail', 'attach' or 'suffix', not {if_exists!r}")
        _check_call(arguments, progress, quiet)
        _check_flag("wait", wait)
        _check_flag("logs", logs)
        if self._missing_arguments() and type(self).__module__.startswith("processing."):
            self._request(arguments)  # it raises all findings without a call; a hook of the user's may add arguments
        with self._missing_first():
            self._resolve_session()
        with RunDisplay(self.sagemaker_session.clock, quiet=quiet or current_options().quiet) as display:
            prepare = self._preparation(arguments, progress, display)
            with self._missing_first():
                if arguments.job_name is None:
                    job = start_generated(prepare)
                else:
                    job = start_named(self.sagemaker_session, prepare, arguments.job_name, if_exists)
            with self._run_lock:
                self.latest_job = job
                self.jobs = [*self.jobs, job]
            job.show_in(display)
            if wait:
                job.wait_in(display, logs=not quiet if logs is None else logs and not quiet)
        return job

    def _stage(
        self, arguments: RunArguments, *, progress: Callable[[Progress], object] | None, quiet: bool
    ) -> ProcessingRequest:
        """Upload the files of a run, and return its request."""
        from processing.job.start import stage
        from processing.watching.render.run_display import RunDisplay

        _check_call(arguments, progress, quiet)
        with self._missing_first():
            self._resolve_session()
            with RunDisplay(self.sagemaker_session.clock, quiet=quiet) as display:
                prepare = self._preparation(arguments, progress, display)
                return stage(self.sagemaker_session, prepare, arguments.job_name)

    def _preparation(
        self, arguments: RunArguments, progress: Callable[[Progress], object] | None, display: RunDisplay
    ) -> Callable[[str | None], Launch]:
        """Return a function that prepares the launch under a name."""

        def prepare(name: str | None) -> Launch:
            return self._prepare(arguments._replace(job_name=name)).shown_in(display, progress)

        return prepare

    def _request(self, arguments: RunArguments) -> ProcessingRequest:
        """Return the checked request of a run, without a call to AWS."""
        with self._missing_first():
            self._resolve_session(offline=True)
            launch = self._prepare(arguments, PrepareContext(offline=True))
        launch.staging.close()
        return launch.request

    def _plan_run(self, arguments: RunArguments) -> RunPlan:
        """Return the plan of a run, without a call to AWS. Problems are part of the plan."""
        from processing.job.plan import plan_run

        def target() -> tuple[Session, str | None]:
            with self._missing_first():
                self._resolve_session(offline=True)
                _ = self.sagemaker_session.boto_region_name  # the plan's price needs it
            return self.sagemaker_session, self.role

        def prepare(assumed_role: str | None) -> Launch:
            context = PrepareContext(offline=True, assumed_role=assumed_role)
            with self._missing_first():
                return self._prepare(arguments, context, check=False)

        return plan_run(target, prepare)

    def _prepare(self, arguments: RunArguments, context: PrepareContext = ONLINE, *, check: bool = True) -> Launch:
        """Call the hooks with copies of the user's values, and read the processor into a `Launch`."""
        from processing.job.launch import Launch

        hook_arguments = arguments.hook_arguments()
        # Uploads are registered with these values. All others are checked when the request is complete.
        _check_text("role", self.role)
        _check_key("kms_key", arguments.kms_key)
        _check_key("output_kms_key", self.output_kms_key)
        with self._run_lock:
            outer_context, self._context = self._context, context
            self._pending_uploads = None
            uploads = self._uploads()
            try:
                inputs, outputs = self._call_hooks(hook_arguments, arguments.options)
                fitting, inputs = self._spill_command(inputs, arguments.kms_key)
                return Launch.from_processor(
                    fitting,
                    inputs,
                    outputs,
                    arguments.experiment_config,
                    extra=arguments.extra,
                    role=context.assumed_role,
                    offline=context.offline,
                    check=check,
                )
            except BaseException:
                uploads.close()  # deletes a bundle that may be large
                raise
            finally:
                self._pending_uploads = None
                self._context = outer_context

    def _call_hooks(
        self, hooks: HookArguments, _options: CodeOptions
    ) -> tuple[list[ProcessingInput], list[ProcessingOutput]]:
        """Call `_normalize_args`. A `ScriptProcessor` passes the code too, and packs it first if necessary."""
        return self._normalize_args(
            job_name=hooks.job_name,
            arguments=hooks.arguments,
            inputs=hooks.inputs,
            outputs=hooks.outputs,
            kms_key=hooks.kms_key,
        )

    # The hooks, which a subclass may override

    def _extend_processing_args(
        self,
        inputs: list[ProcessingInput] | None,
        outputs: Sequence[ProcessingOutput | str] | None,
        **_kwargs: Any,
    ) -> tuple[list[ProcessingInput] | None, Sequence[ProcessingOutput | str] | None]:
        """Return the inputs and outputs with those that a subclass adds. `_normalize_args` calls it first."""
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
        inputs, outputs = self._extended(inputs, outputs)
        self._current_job_name = self._generate_current_job_name(job_name=job_name)
        with_code = self._include_code_in_inputs(inputs, code, kms_key)
        normalized_inputs = self._normalize_inputs(with_code, kms_key)
        normalized_outputs = self._normalize_outputs(outputs)
        self.arguments = arguments
        return normalized_inputs, normalized_outputs

    def _extended(
        self, inputs: list[ProcessingInput] | None, outputs: Sequence[ProcessingOutput | str] | None
    ) -> tuple[list[ProcessingInput] | None, Sequence[ProcessingOutput | str] | None]:
        """Return the answer of `_extend_processing_args`; a class that has called it before returns the values."""
        return self._extend_processing_args(inputs, outputs)

    def _include_code_in_inputs(
        self,
        inputs: list[ProcessingInput] | None,
        _code: StrPath | None,
        _kms_key: str | None = None,
    ) -> list[ProcessingInput] | None:
        """Return the inputs, extended by the code. `Processor` adds nothing: its image has its own code."""
        return inputs

    def _generate_current_job_name(self, job_name: str | None = None) -> str:
        """Return `job_name`, or `<base name>-<UTC to the millisecond>` if it is None."""
        if job_name is not None:
            return job_name
        base = self.base_job_name
        if base is None or is_empty(base):
            image = self.image_uri
            base = base_name_from_image(image) if isinstance(image, str) and image else self.JOB_CLASS_NAME
        _check_text("base_job_name", base)
        return unique_job_name(base, self.sagemaker_session.clock)

    def _normalize_inputs(
        self, inputs: list[ProcessingInput] | None = None, kms_key: str | None = None
    ) -> list[ProcessingInput]:
        """Return copies of the inputs with names and URIs, and register local sources for upload."""
        from processing.models import ProcessingInput

        named = []
        for index, entry in enumerate(inputs or ()):
            if not isinstance(entry, ProcessingInput):
                raise ConfigurationError(
                    f"inputs[{index}]: must be a processing.ProcessingInput, not {type_name(entry)}"
                )
            named.append(
                _changed_copy(
                    entry, input_name=f"input-{index + 1}" if is_empty(entry.input_name) else entry.input_name
                )
            )
        names = [str(entry.input_name) for entry in named]
        return [self._stage_input(entry, index, names, kms_key) for index, entry in enumerate(named)]

    def _stage_input(
        self, entry: ProcessingInput, index: int, names: list[str], kms_key: str | None
    ) -> ProcessingInput:
        """Return a copy of the input that has a URI as its source."""
        if entry.source is None:
            if entry.dataset_definition is None and not entry.app_managed:
                raise ConfigurationError(f"inputs[{index}].source: missing; give a path or an S3 URI")
            return entry
        source = resolve_source(entry.source, f"inputs[{index}].source")
        if not isinstance(source, LocalSource):
            return _changed_copy(entry, source=str(source))
        if self.sagemaker_session.is_local and os.fspath(entry.source).startswith("file://"):
            return _changed_copy(entry, source=file_uri(source.path))
        if not is_empty(getattr(entry, "reuse", False)):  # a subclass with its own initialiser may lack the attribute
            return _changed_copy(entry, source=self._uploads().add_reusable(source, self._session_prefix(), kms_key))
        target = self._job_prefix() / "input" / str(entry.input_name)
        uri = self._uploads().add_source(source, target, kms_key)
        # S3Prefix matches the beginning of a key, and "input-1" is also the beginning of "input-10".
        if source.is_dir and any(
            other != entry.input_name and other.startswith(str(entry.input_name)) for other in names
        ):
            uri += "/"
        return _changed_copy(entry, source=uri)

    def _normalize_outputs(self, outputs: Sequence[ProcessingOutput | str] | None = None) -> list[ProcessingOutput]:
        """Return copies of the outputs with names and destinations."""
        from processing.models import ProcessingOutput

        normalized = []
        for index, output in enumerate(outputs or ()):
            entry = ProcessingOutput(output) if isinstance(output, (str, pathlib.PurePath)) else output
            if not isinstance(entry, ProcessingOutput):
                kind = type_name(entry)
                raise ConfigurationError(
                    f"outputs[{index}]: must be a processing.ProcessingOutput or a container path, not {kind}"
                )
            name = f"output-{index + 1}" if is_empty(entry.output_name) else entry.output_name
            destination = entry.destination
            if destination is None and entry.source is not None and entry.feature_store_output is None:
                destination = str(self._job_prefix() / "output" / str(name))
            if self.sagemaker_session.is_local and isinstance(destination, str) and destination.startswith("file://"):
                # The engine has another working directory, so `file://out` becomes absolute here.
                destination = file_uri(file_uri_path(destination))
            normalized.append(_changed_copy(entry, output_name=name, destination=destination))
        return normalized

    # Missing arguments

    def _missing_arguments(self) -> list[str]:
        """Return a finding for each attribute that every job needs and that nothing supplies."""
        from processing.job.launch import MISSING_IMAGE, MISSING_ROLE
        from processing.request.validate import missing_instances

        session = self.sagemaker_session
        missing = []
        if not getattr(session, "is_local", False):  # the engine needs neither of the two
            missing += [MISSING_ROLE] if self.role is None else []
            missing += [MISSING_IMAGE] if self.image_uri is None else []
        return [*missing, *missing_instances(self.instance_type, self.instance_count, self.instance_preferences)]

    @contextlib.contextmanager
    def _missing_first(self) -> Iterator[None]:
        """Report missing arguments before any other error.

        A region or credentials are of no use to a processor without an instance type.
        """
        try:
            yield
        except Exception as error:
            missing = self._missing_arguments()
            if not missing or isinstance(error, JobError):
                raise
            named = {text.partition(":")[0] for text in missing} | {"region_name"}
            problems = error.problems if isinstance(error, ConfigurationError) else ()
            others = [text for text in problems if text.partition(":")[0] not in named]
            raise ConfigurationError(*missing, *others) from error

    # Helpers of the hooks

    @property
    def _run_lock(self) -> ForkSafeLock:
        """The lock of this processor: hooks write its attributes, and two threads may share it.

        A run holds the lock from its first hook until the processor has been read. No upload happens in that time.
        """
        # Created on first use, as a subclass may skip the initialiser.
        lock: ForkSafeLock = self.__dict__.setdefault("_own_run_lock", ForkSafeLock())
        return lock

    def _spill_command(
        self, inputs: list[ProcessingInput], kms_key: str | None
    ) -> tuple[BaseProcessor, list[ProcessingInput]]:
        """Return the processor to read and its inputs, with an oversized command moved into a file.

        If the environment and the arguments fit into a request, these are the processor itself and its inputs.
        Otherwise they are a copy of the processor with the values that fit, and a further input with the rest.
        """
        from processing.container.command import FILE
        from processing.models import ProcessingInput
        from processing.processors.oversized_command import INPUT_NAME, Command, spill

        self._apply_config()  # again, as a hook may have set an attribute to None
        directory = f"{INPUT_DIRECTORY}{INPUT_NAME}"
        spilled = spill(Command(self.entrypoint, self.arguments, self.env), f"{directory}/{FILE}")
        if spilled is None:
            return self, inputs
        command, script = spilled
        # Below the prefix of this job, where no other job reads it: variables may hold secrets.
        target = self._job_prefix() / "input" / INPUT_NAME / FILE
        uri = self._uploads().add_bytes(script, FILE, target, kms_key or self.output_kms_key, at=target)
        fitting = copy.copy(self)
        fitting.entrypoint, fitting.arguments, fitting.env = command.entrypoint, command.arguments, command.env
        return fitting, [*(inputs or ()), ProcessingInput(uri, directory, INPUT_NAME)]

    def _resolve_session(self, *, offline: bool = False) -> None:
        """Replace `sagemaker_session` by a session of this package, and apply its config file.

        The attribute may hold None or another library's session, since users may assign to it. This happens before the
        hooks and outside the run lock, because a config file in S3 takes a call.
        """
        self.sagemaker_session = default_sessions.resolve_session(self.sagemaker_session, self.instance_type)
        if offline and not self.sagemaker_session.config_at_hand:
            raise ConfigurationError(
                "sagemaker_session: its config file is in S3 and has not been read, and no call to AWS is made here; "
                "read it before, with sagemaker_session.config"
            )
        self._apply_config()

    def _apply_config(self) -> None:
        """Set attributes that are None: from the config file, and role and image for the embedded engine."""
        from processing.config import defaults

        session = self.sagemaker_session
        for name, path in defaults.PROCESSOR_ATTRIBUTES.items():
            if getattr(self, name) is None and (value := session.config.get(path)) is not None:
                setattr(self, name, value)
        self.network_config = defaults.fill_network(session.config, self.network_config)
        if session.is_local:
            self.role = default_sessions.LOCAL_ROLE if self.role is None else self.role
            self.image_uri = default_sessions.LOCAL_IMAGE if self.image_uri is None else self.image_uri

    def _job_prefix(self) -> S3Uri:
        """Return the S3 prefix of the current job: `s3://<bucket>/[prefix/]<job name>`."""
        return self._session_prefix() / str(self._current_job_name)

    def _session_prefix(self) -> S3Uri:
        """Return the session's default bucket and prefix."""
        session, context = self.sagemaker_session, self._context
        role = context.assumed_role or self.role
        bucket = session.bucket_without_call(role) if context.offline else session.bucket_for_request(role)
        return S3Uri(bucket, (session.default_bucket_prefix or "").strip("/"))

    def _uploads(self) -> PendingUploads:
        """Return the pending uploads of the current run."""
        if self._pending_uploads is None:
            from processing.staging.pending_uploads import PendingUploads

            self._pending_uploads = PendingUploads()
        return self._pending_uploads

    def _detach_uploads(self) -> PendingUploads:
        """Return the pending uploads and forget them: the next run has its own."""
        uploads, self._pending_uploads = self._uploads(), None
        return uploads


def _check_call(arguments: RunArguments, progress: object, quiet: object) -> None:
    """Check the arguments of a run that are not part of its request."""
    _check_text("job_name", arguments.job_name)
    if progress is not None and not callable(progress):
        raise ConfigurationError(f"progress: must be a function that takes a Progress, not {type_name(progress)}")
    if not isinstance(quiet, bool):
        raise ConfigurationError(f"quiet: must be True or False, not {type_name(quiet)}")


def _check_flag(field: str, value: object) -> None:
    """Refuse a value that is no boolean. Scripts for `sagemaker` 2.x may pass None, 0, 1, or a boolean of numpy."""
    is_number = hasattr(value, "__bool__") and not hasattr(value, "__len__")
    if value is not None and not (is_number and value in (0, 1)):
        raise ConfigurationError(f"{field}: must be True or False, not {type_name(value)}")


def _check_text(field: str, value: object) -> None:
    if not isinstance(value, (str, type(None))):
        raise ConfigurationError(f"{field}: must be a string, not {type_name(value)}")


def _check_key(field: str, value: Any) -> None:
    _check_text(field, value)
    # The service model has this pattern for the keys in a request.
    if value and not re.fullmatch(r"[a-zA-Z0-9:/_-]+", value):
        raise ConfigurationError(f"{field}: must be the ARN, ID or alias of a KMS key, not {value!r}")


def _changed_copy(entry: Entry, **changes: Any) -> Entry:
    """Return a shallow copy with other values.

    `attrs.evolve` would call the initialiser, and a subclass may have one with other parameters.
    """
    changed = copy.copy(entry)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed

"""`SparkProcessorBase`: the image, the command of `smspark-submit`, and the inputs of its options."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

from processing import default_sessions
from processing._utils import is_empty
from processing._utils.validation import TEXT, require, require_all, shown
from processing.exceptions import ConfigurationError, EngineError
from processing.models import ProcessingInput, ProcessingOutput
from processing.processors import ScriptProcessor
from processing.processors.base import INPUT_DIRECTORY
from processing.processors.code_bundle import is_directory, pack_code
from processing.processors.framework_image import find_image_for, image_query
from processing.processors.host_network import isolation_problem
from processing.request.bucket_names import is_s3
from processing.request.job_names import JOB_NAME
from processing.request.s3_uri import S3Uri
from processing.spark.configuration import configuration_body
from processing.spark.submit_files import bundle_modules, check_name, collect_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from processing.default_sessions import SessionLike
    from processing.job.job import ProcessingJob
    from processing.job.plan import RunPlan
    from processing.job.start import IfExists
    from processing.models import NetworkConfig, RunArgs
    from processing.processors.base import Preferences, Tags
    from processing.processors.run_arguments import CodeOptions, HookArguments, RunArguments
    from processing.request.build import ProcessingRequest
    from processing.session.session import Session
    from processing.spark.history import HistoryServer
    from processing.staging.bundles import Member
    from processing.staging.progress import Progress

_COMMAND = "smspark-submit"
EVENTS_DIRECTORY = "/opt/ml/processing/spark-events/"
"""The directory in the container that Spark's event logs leave from."""
_CONFIGURATION = "conf"
_CONFIGURATION_FILE = "configuration.json"
_CLASS = re.compile(r"[^\W\d][\w$]*(\.[^\W\d][\w$]*)*")
# Each parameter with files, and the option of spark-submit that is also the name of its input.
_OPTIONS = {"submit_py_files": "py-files", "submit_jars": "jars", "submit_files": "files"}


class SparkProcessorBase(ScriptProcessor):
    """The implementation of the Spark processors. `run` keeps the hooks of `sagemaker.spark.processing` 2.x."""

    _APPLICATIONS: tuple[str, ...] = (".py", ".jar")

    framework_version: str | None = None
    configuration_location: str | None = None
    dependency_location: str | None = None
    history_server: HistoryServer | None = None
    _spark_event_logs_s3_uri: str | None = None
    # No parameter of the hooks that stage files, since overrides have 2.x's signatures.
    _current_kms_key: str | None = None
    _bundle_modules: Member | None = None

    def __init__(
        self,
        role: str | None = None,
        instance_type: str | None = None,
        instance_count: int | None = None,
        framework_version: str | None = None,
        py_version: str | None = None,
        container_version: str | None = None,
        image_uri: str | None = None,
        volume_size_in_gb: int = 30,
        volume_kms_key: str | None = None,
        output_kms_key: str | None = None,
        configuration_location: str | None = None,
        dependency_location: str | None = None,
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
        versions = {"py_version": py_version, "container_version": container_version}
        require_all(dict.fromkeys(versions, TEXT), versions)
        session = default_sessions.resolve_session(sagemaker_session, instance_type)
        self.framework_version = framework_version
        self.configuration_location = configuration_location
        self.dependency_location = dependency_location
        if image_uri is None:
            image_uri = _image(session, framework_version, versions, instance_type, instance_preferences)
        super().__init__(
            role=role,
            image_uri=image_uri,
            command=[_COMMAND],
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

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "history_server"}

    def start_history_server(self, spark_event_logs_s3_uri: str | None = None) -> str:
        """Start Spark's history server on this machine, and return its address for a browser.

        It is that of an installed pyspark, or of `SPARK_HOME`, with Java. Without these, podman or docker runs this
        processor's image. The server shows the event logs that are in S3 now, listens on 127.0.0.1
        only, and gets no credentials. It stops with `terminate_history_server`, or when this process ends. A server
        that this processor has started before stops.

        Args:
            spark_event_logs_s3_uri: the S3 prefix of the event logs; by default that of the last `run`.

        Raises:
            ConfigurationError: no prefix is known, or it has no event logs.
            EngineError: there is neither a Spark with Java nor a program for containers on this machine, or the server
                does not start.
        """
        from processing.spark.history import HistoryServer

        uri = self._spark_event_logs_s3_uri if spark_event_logs_s3_uri is None else spark_event_logs_s3_uri
        if uri is None:
            raise ConfigurationError("spark_event_logs_s3_uri: missing; give it here, or to run()")
        location = S3Uri.checked(uri, "spark_event_logs_s3_uri")
        self._resolve_session()
        self.terminate_history_server()
        self.history_server = HistoryServer(self.sagemaker_session, location, str(self.image_uri))
        return self.history_server.url

    def terminate_history_server(self) -> None:
        """Stop the history server. If there is none, do nothing."""
        server, self.history_server = self.history_server, None
        if server is not None:
            server.stop()

    # The path from `run` to the hooks

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
        self._check_engine(arguments)
        return super()._run(arguments, wait=wait, logs=logs, if_exists=if_exists, progress=progress, quiet=quiet)

    def _stage(
        self, arguments: RunArguments, *, progress: Callable[[Progress], object] | None, quiet: bool
    ) -> ProcessingRequest:
        self._check_engine(arguments)
        return super()._stage(arguments, progress=progress, quiet=quiet)

    def _check_engine(self, arguments: RunArguments) -> None:
        """Refuse a job that the embedded engine cannot run."""
        with self._missing_first():
            self._resolve_session()
            problem = self._engine_problem()
            if problem is not None:
                self._request(arguments)  # the values' own errors come first
                raise EngineError(problem)

    def _plan_run(self, arguments: RunArguments) -> RunPlan:
        import attrs

        plan = super()._plan_run(arguments)
        problem = None if plan.problems else self._engine_problem()
        return plan if problem is None else attrs.evolve(plan, problems=(problem,))

    def _engine_problem(self) -> str | None:
        """Return why the embedded engine cannot run a Spark application; None if it can, and for AWS."""
        session = self.sagemaker_session
        instances = (self.instance_count, self.instance_preferences)
        problem = isolation_problem(session, "Spark", *instances, self.network_config)
        return problem or engine_problem(session, str(self.image_uri), self.env)

    def _call_hooks(
        self, hooks: HookArguments, options: CodeOptions
    ) -> tuple[list[ProcessingInput], list[ProcessingOutput]]:
        """Call `_extend_processing_args` first, as in 2.x: the bundle's bootstrap contains the command that it sets."""
        self._check_locations()
        if options.used:
            in_folder = options.source_dir is None and is_directory(hooks.code)
            self._check_application_name(options.entry_point if in_folder else hooks.code)
        else:
            self._check_application(hooks.code)
        self._bundle_modules = self._modules_of(hooks, options)
        self._current_job_name = name = self._generate_current_job_name(hooks.job_name)
        inputs, outputs = self._extend_processing_args(
            hooks.inputs, hooks.outputs, **hooks.further, kms_key=hooks.kms_key
        )
        extended = hooks._replace(
            job_name=name,
            inputs=None if inputs is None else list(inputs),
            outputs=None if outputs is None else list(outputs),
        )
        with _named_submit_app():
            return super()._call_hooks(extended, options)

    @staticmethod
    def _modules_of(hooks: HookArguments, options: CodeOptions) -> Member | None:
        """Return an archive of the modules in the bundle of a Python application; None if there are none."""
        if not options.used or "submit_py_files" not in hooks.further or is_s3(options.source_dir):
            return None
        with _named_submit_app():
            packed = pack_code(hooks.code, options)
        return bundle_modules(packed.members, packed.payload.script)

    def _extended(
        self, inputs: list[ProcessingInput] | None, outputs: Sequence[ProcessingOutput | str] | None
    ) -> tuple[list[ProcessingInput] | None, Sequence[ProcessingOutput | str] | None]:
        """Return the values unchanged: `_call_hooks` has extended them."""
        return inputs, outputs

    def _check_application(self, application: Any) -> None:
        """Refuse an application that Spark cannot run, under the name of its parameter."""
        from processing.staging.sources import resolve_code

        if application is None or is_empty(application):
            raise ConfigurationError("submit_app: missing; give the path or the S3 URI of the application")
        if is_directory(application):
            return  # the error for a directory without an entry point names `entry_point`
        resolve_code(application, "submit_app")
        self._check_application_name(application)

    def _check_application_name(self, application: Any) -> None:
        """Refuse an application by its name. A value that is none is refused by the bundle that it belongs to."""
        if not isinstance(application, (str, os.PathLike)) or is_empty(application):
            return
        name = self._get_user_code_name(application)
        check_name(name, "submit_app")
        if not name.lower().endswith(self._APPLICATIONS):
            kinds = " or ".join(self._APPLICATIONS)
            raise ConfigurationError(f"submit_app: must be a {kinds} file, as Spark goes by its name, not {name!r}")

    # The hooks of 2.x

    def _extend_processing_args(
        self,
        inputs: list[ProcessingInput] | None,
        outputs: Sequence[ProcessingOutput | str] | None,
        **kwargs: Any,
    ) -> tuple[list[ProcessingInput] | None, Sequence[ProcessingOutput | str] | None]:
        """Set the command, and return inputs and outputs with those of the options, `configuration` and event logs."""
        self._current_kms_key = kwargs.get("kms_key")
        extended: list[ProcessingInput] = list(inputs or ())
        self.command = [_COMMAND, *self._class_words(kwargs.get("submit_class"))]
        for parameter, option in _OPTIONS.items():
            values = kwargs.get(parameter)
            own = self._bundle_modules if parameter == "submit_py_files" else None
            if own is not None or not is_empty(values):
                values = () if is_empty(values) else values
                added, files = self._stage_submit_deps(values, option)
                extended += [] if added is None else [_kept_apart(added, extended)]
                self.command += [f"--{option}", files]
        extended_outputs = list(outputs or ())
        logs = kwargs.get("spark_event_logs_s3_uri")
        if logs is not None:
            self._spark_event_logs_s3_uri = str(S3Uri.checked(logs, "spark_event_logs_s3_uri"))
            self.command += ["--local-spark-event-logs-dir", EVENTS_DIRECTORY]
            extended_outputs.append(
                ProcessingOutput(EVENTS_DIRECTORY, self._spark_event_logs_s3_uri, s3_upload_mode="Continuous")
            )
        configuration = kwargs.get("configuration")
        if not is_empty(configuration):
            extended.append(self._stage_configuration(configuration))
        return extended or None, extended_outputs or None

    def _class_words(self, _submit_class: Any) -> list[str]:
        """Return the words of the command that name the application's class."""
        return []

    def _stage_configuration(self, configuration: Any) -> ProcessingInput:
        """Register `configuration.json` for upload, and return its input."""
        body = configuration_body(configuration)
        folder = self._location(self.configuration_location, "configuration_location", _CONFIGURATION)
        target = folder / _CONFIGURATION_FILE
        uri = self._uploads().add_bytes(body, _CONFIGURATION_FILE, target, self._current_kms_key, at=target)
        return ProcessingInput(uri, f"{INPUT_DIRECTORY}{_CONFIGURATION}", _CONFIGURATION)

    def _stage_submit_deps(
        self,
        submit_deps: Any,
        input_channel_name: str,
    ) -> tuple[ProcessingInput | None, str]:
        """Register the local files of an option for upload, and return their input and the option's value.

        `smspark-submit` expands a directory only where the value is that directory alone. Beside S3 URIs, which must
        come first, each file is named.

        Args:
            submit_deps: local files and directories, and S3 URIs.
            input_channel_name: the option and the input's name: `py-files`, `jars` or `files`.
        """
        parameter = f"submit_{input_channel_name.replace('-', '_')}"
        uris, members = collect_files(parameter, submit_deps, packages=parameter == "submit_py_files")
        if parameter == "submit_py_files" and self._bundle_modules is not None:
            members = (*members, self._bundle_modules)
        if not members:
            return None, ",".join(uris)
        folder = self._location(self.dependency_location, "dependency_location", input_channel_name)
        for member in members:
            self._add_file(member, folder)
        directory = f"{INPUT_DIRECTORY}{input_channel_name}"
        value = ",".join([*uris, *(f"{directory}/{member.name}" for member in members)]) if uris else directory
        return ProcessingInput(str(folder), directory, input_channel_name), value

    def _add_file(self, member: Member, folder: S3Uri) -> None:
        from processing.staging.sources import LocalSource

        if member.body is None:
            self._uploads().add_source(LocalSource(member.path, is_dir=False), folder, self._current_kms_key)
        else:
            target = folder / member.name
            self._uploads().add_bytes(member.body, member.name, target, self._current_kms_key, at=target)

    def _check_locations(self) -> None:
        """Refuse a prefix that is no S3 URI, also in a run that does not need it."""
        for parameter in ("configuration_location", "dependency_location"):
            location = getattr(self, parameter)
            if not _is_unset(location):
                S3Uri.checked(location, parameter)

    def _location(self, location: Any, parameter: str, name: str) -> S3Uri:
        """Return the prefix for the files of an input: that of 2.x."""
        prefix = self._session_prefix() if _is_unset(location) else S3Uri.checked(location, parameter)
        return S3Uri(prefix.bucket, prefix.key.rstrip("/")) / str(self._current_job_name) / "input" / name

    def _staged_run_args(self, application: Any, values: RunArguments, job_name: str | None) -> RunArgs:
        """Upload the files of the options, set the command, and return the arguments of `ScriptProcessor.run`."""
        from processing.staging.transfers import upload_all

        _check_staged(values, job_name)
        self._resolve_session()
        with self._run_lock, contextlib.ExitStack() as unused:
            self._pending_uploads = None
            hooks = values.hook_arguments()
            self._check_application(application)
            self._check_locations()
            self._current_job_name = self._generate_current_job_name(job_name)
            self._bundle_modules = None
            unused.callback(lambda: self._detach_uploads().close())
            inputs, outputs = self._extend_processing_args(
                hooks.inputs, hooks.outputs, **hooks.further, kms_key=hooks.kms_key
            )
            uploads = unused.enter_context(contextlib.closing(self._detach_uploads()))
            # Their errors come before the uploads. `ScriptProcessor.run` normalizes them again.
            self._normalize_inputs(None if inputs is None else list(inputs), hooks.kms_key)
            self._normalize_outputs(outputs)
            self._detach_uploads().close()
            unused.pop_all()
        session = self.sagemaker_session
        with contextlib.closing(uploads):
            for bucket in sorted(uploads.buckets):
                session.ensure_bucket(bucket)
            upload_all(session.api, uploads.uploads, expected_owner=session.expected_owner)
        return ScriptProcessor.get_run_args(
            self, code=application, inputs=inputs, outputs=outputs, arguments=hooks.arguments
        )


def _check_staged(values: RunArguments, job_name: object) -> None:
    """Refuse values of `get_run_args` before its uploads."""
    require("job_name", job_name, JOB_NAME, optional=True)
    require("kms_key", values.kms_key, TEXT, optional=True)
    if not isinstance(values.arguments, (list, tuple)) and not is_empty(values.arguments):
        raise ConfigurationError(f"arguments: must be a list of strings, not {shown(values.arguments)}")


def _is_unset(location: object) -> bool:
    """Return whether a prefix is None or empty, as 2.x has it."""
    return location is None or (isinstance(location, str) and not location)


@contextlib.contextmanager
def _named_submit_app() -> Iterator[None]:
    """Name `submit_app` in the problems of a script, whose parameter is `code`."""
    try:
        yield
    except ConfigurationError as error:
        problems = [re.sub(r"^code(?=[ :])", "submit_app", problem) for problem in error.problems]
        if problems == list(error.problems):
            raise
        raise type(error)(*problems) from error


def _kept_apart(added: ProcessingInput, others: Iterable[ProcessingInput]) -> ProcessingInput:
    """Return the input of an option with a prefix that matches its own objects alone.

    S3Prefix matches the beginning of a key, and "files" is also the beginning of "files-2".
    """
    import attrs

    names = [str(getattr(entry, "input_name", None)) for entry in others]
    if str(added.source).endswith("/") or not any(name.startswith(str(added.input_name)) for name in names):
        return added
    return attrs.evolve(added, source=f"{added.source}/")


def engine_problem(session: Any, image: str, env: object = None) -> str | None:
    """Return why the embedded engine of a session cannot run Spark; None if it can, and for AWS.

    Args:
        session: the session.
        image: the URI of the job's image, which determines the interpreter in its place.
        env: the environment variables of the job, which may name other homes of Spark and Java.
    """
    if not session.is_local or session.engine.settings.runs_images or shutil.which(_COMMAND) is not None:
        return None
    from processing.local.spark.installation import installation_problem, variables_of

    problem = installation_problem(session.engine.settings.interpreter(image).executable, variables_of(env))
    return None if problem is None else f'{problem}; or let the image itself run: LocalSession(sandbox="container")'


def checked_class(submit_class: Any) -> str:
    """Return the name of a Java class.

    Raises:
        ConfigurationError: it is missing or cannot be one.
    """
    if submit_class is None or is_empty(submit_class):
        raise ConfigurationError("submit_class: missing; give the application's main class, such as 'com.example.Main'")
    require("submit_class", submit_class, TEXT)
    if not _CLASS.fullmatch(submit_class):
        raise ConfigurationError(
            f"submit_class: {submit_class!r} is not the name of a class, such as 'com.example.Main'"
        )
    return str(submit_class)


def _image(
    session: Session,
    framework_version: str | None,
    versions: Mapping[str, str | None],
    instance_type: str | None,
    instance_preferences: Preferences | None,
) -> str:
    """Return the URI of AWS's image for a version of Spark.

    Raises:
        ConfigurationError: AWS has no such image, or only one of `py_version` and `container_version` is given.
    """
    import attrs

    missing = [name for name, value in versions.items() if value is None]
    if len(missing) == 1:
        (given,) = versions.keys() - set(missing)
        raise ConfigurationError(f"{missing[0]}: missing; {given} needs it, as an image's tag has both or neither")
    query = image_query(
        session,
        "spark",
        framework_version,
        py_version=versions["py_version"],
        field_names={"version": "framework_version"},
    )
    container = versions["container_version"]
    if container is not None:
        query = attrs.evolve(query, container_version=f"v{container}")
    return find_image_for(query, instance_type, instance_preferences)

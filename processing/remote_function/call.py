"""One call of a remote function, from function and arguments to a started job."""

from __future__ import annotations

import contextlib
import inspect
import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing import default_sessions
from processing.config.defaults import fill_network
from processing.exceptions import CapacityError, ConfigurationError, EngineError
from processing.processors.host_network import isolation_problem
from processing.remote_function.bundle import CallContent, members_of
from processing.remote_function.call_processor import CallProcessor
from processing.remote_function.checkpoint_location import checkpoints_among
from processing.remote_function.default_image import check_image, default_image
from processing.remote_function.environment_capture import capture_environment
from processing.remote_function.packed_call import check_arguments, function_name, pack, sends_values
from processing.remote_function.workspace import workspace_members
from processing.session.prompt import prompt_session
from processing.staging.bundles import Bundle, keep_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from processing.exceptions import JobError
    from processing.job.job import ProcessingJob
    from processing.job.plan import RunPlan
    from processing.remote_function.settings import RemoteSettings
    from processing.session.session import Session

logger = logging.getLogger(__name__)

CALL_PROGRAM: Final = "call"
"""The module of `_processing_remote` that runs one call."""
LAUNCH_PROGRAM: Final = "launch"
"""The module that runs one call in several processes."""
GENERATOR_PROGRAM: Final = "generator"
"""The module that runs one call of a generator function, and sends each item at once."""


_NAME_OF: Final = {
    "env": "environment_variables",
    "output_kms_key": "s3_kms_key",
    "volume_size_in_gb": "volume_size",
}
"""The parameters of `remote`, by the names that processors have for them."""


def _kept(packed: bytes | Bundle) -> Bundle:
    return keep_chunks([packed], len(packed)) if isinstance(packed, bytes) else packed


@attrs.frozen
class RemoteCall:
    """A call that is packed and can be started, as often as necessary.

    Args:
        name: the function's name.
        settings: the settings of the remote function.
        packed: the packed function and arguments.
        program: the module of `_processing_remote` that runs them in the job.
        manifest: further members of the manifest, for that module.
        checkpoints: the S3 prefix of the function's checkpoints; None if it has none.
        function_digest: the digest of a map's function; None for other calls.
    """

    name: str
    settings: RemoteSettings
    packed: Bundle = attrs.field(repr=False, converter=_kept)
    program: str = CALL_PROGRAM
    manifest: Mapping[str, Any] = attrs.field(factory=dict)
    checkpoints: str | None = None
    function_digest: str | None = None

    @classmethod
    def of(
        cls, function: Callable[..., Any], settings: RemoteSettings, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> RemoteCall:
        """Pack a call.

        Raises:
            ConfigurationError: the arguments do not fit the function's signature.
            SerializationError: the function or an argument cannot be packed.
        """
        check_arguments(function, args, kwargs)
        manifest: dict[str, Any] = {"values": sends_values(settings)}
        checkpoints = checkpoints_among(args, kwargs)
        packed = pack(function, settings, args, kwargs)
        program = CALL_PROGRAM
        if settings.use_torchrun or settings.use_mpirun:
            program, kind = LAUNCH_PROGRAM, "torchrun" if settings.use_torchrun else "mpirun"
            manifest["launcher"] = {"kind": kind, "processes": settings.nproc_per_node}
        elif settings.spark_config is not None:
            from processing.remote_function.spark_call import spark_launcher

            program = LAUNCH_PROGRAM
            manifest["launcher"] = spark_launcher(settings.spark_config)
        elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            program = GENERATOR_PROGRAM
        return cls(function_name(function), settings, packed, program, manifest, checkpoints)

    @property
    def has_items(self) -> bool:
        """True for a generator function, whose items come while the job runs."""
        return self.program == GENERATOR_PROGRAM

    def start(self) -> ProcessingJob:
        """Start the job, and return it at once.

        Raises:
            ConfigurationError: a setting cannot work; nothing was uploaded or started.
            EngineError: the embedded engine cannot run the job here.
            StagingError: an upload failed; nothing was started.
            SubmissionError: AWS refused the request.
        """
        settings, session = self._complete()
        if settings.role is None and not session.is_local:
            from processing.execution_role import get_execution_role

            settings = settings.evolve({"role": session.config.get("SageMaker.ProcessingJob.RoleArn")})
            settings = settings if settings.role else settings.evolve({"role": get_execution_role(session)})
        processor = self._processor(settings, session)
        problem = self._engine_problem(settings, session)
        if problem is not None:
            raise EngineError(problem)
        with _named_as_given(settings):
            job = processor.run(
                outputs=processor.own_outputs(),
                arguments=processor.places,
                wait=False,
                job_name=settings.job_name,
                experiment_config=None if settings.experiment_config is None else dict(settings.experiment_config),
                if_exists=settings.if_exists or "fail",
                quiet=True,  # the one who waits for the call shows it
            )
        job.watch_state = attrs.evolve(job.watch_state, may_be_silent=True)
        return job

    def detached(self, job: ProcessingJob, interrupt: KeyboardInterrupt) -> KeyboardInterrupt:
        """Return the interrupt to raise after a Ctrl-C, with the call that gets the result later.

        Args:
            job: the job, which goes on.
            interrupt: the interrupt with the advice for any job.
        """
        from processing.watching.detach import detached

        root = self.settings.s3_root_uri
        place = "" if root is None else f", s3_root_uri={root!r}"
        future = f"get_future({job.job_name!r}, {job.sagemaker_session.expression()}{place})"
        return detached(f"  result: processing.remote_function.{future}.result()", interrupt)

    def may_retry(self, error: JobError, retries: int) -> bool:
        """Return whether the call may be started again: AWS could not run its job, and there are retries left.

        Args:
            error: the error of its job.
            retries: the number of times that it was started again.
        """
        most = 1 if self.settings.max_retry_attempts is None else self.settings.max_retry_attempts
        lost = isinstance(error, CapacityError) or (error.failure_reason or "").startswith("InternalServerError")
        return lost and retries < most

    def restart(self, error: JobError) -> ProcessingJob:
        """Start another job for the same call, after one that AWS could not run."""
        logger.warning("%s is started again: %s", error.job_name, error.failure_reason)
        again = attrs.evolve(self, settings=self.settings.evolve({"if_exists": "suffix"}))
        return again.start()

    def plan(self) -> RunPlan:
        """Return the plan of the job, without a call to AWS."""
        settings, session = self._complete(offline=True)
        processor = self._processor(settings, session)
        plan = processor.plan(outputs=processor.own_outputs(), arguments=processor.places, job_name=settings.job_name)
        problems = [_as_given(problem, settings) for problem in plan.problems]
        missing = self._engine_problem(settings, session)
        return attrs.evolve(plan, problems=(*problems, *(() if missing is None else (missing,))))

    def _engine_problem(self, settings: RemoteSettings, session: Session) -> str | None:
        """Return why the embedded engine cannot run the call; None if it can, and for AWS."""
        launchers = {"Spark": settings.spark_config, "torchrun": settings.use_torchrun, "mpirun": settings.use_mpirun}
        launcher = next((name for name, given in launchers.items() if given), None)
        if launcher is None:
            return None
        network = fill_network(session.config, settings.network_config)
        instances = (settings.instance_count, settings.instance_preferences)
        problem = isolation_problem(session, launcher, *instances, network)
        if problem is not None or settings.spark_config is None:
            return problem
        from processing.spark.base import engine_problem

        return engine_problem(session, str(settings.image_uri), settings.environment_variables)

    def _complete(self, *, offline: bool = False) -> tuple[RemoteSettings, Session]:
        """Return the complete settings and the session. Refuse several instances for a call that needs one."""
        settings, session = complete_settings(self.settings, offline=offline)
        count = settings.instance_count or 1
        if count > 1 and self.program in {CALL_PROGRAM, GENERATOR_PROGRAM}:
            raise ConfigurationError(
                f"instance_count: a call runs on one instance, not on {count}; use map for many calls, or "
                "use_torchrun or use_mpirun for a distributed program"
            )
        return settings, session

    def _processor(self, settings: RemoteSettings, session: Session) -> CallProcessor:
        environment = capture_environment(
            settings.dependencies,
            pre_execution_commands=settings.pre_execution_commands,
            pre_execution_script=settings.pre_execution_script,
            job_conda_env=settings.job_conda_env,
            network_isolation=is_isolated(settings, session),
        )
        manifest = {
            **self.manifest,
            "program": self.program,
            "python": None if settings.by_reference else list(sys.version_info[:2]),
            "format": settings.result_format,
            "spec": environment.spec,
        }
        members = members_of(environment.files)
        if settings.include_local_workdir:
            members += tuple(workspace_members(settings.custom_file_filter))
        spark_events = None
        if settings.spark_config is not None:
            from processing.remote_function.spark_call import spark_members

            members += spark_members(settings.spark_config)
            spark_events = settings.spark_config.spark_event_logs_uri
        content = CallContent(self.packed, manifest, members, self.checkpoints, spark_events, self.function_digest)
        return CallProcessor(settings, session, settings.job_name_prefix or self.name, content)


@contextlib.contextmanager
def _named_as_given(settings: RemoteSettings) -> Iterator[None]:
    """Name the parameters of `remote` in the problems of a processor, whose parameters have other names."""
    try:
        yield
    except ConfigurationError as error:
        problems = [_as_given(problem, settings) for problem in error.problems]
        if problems == list(error.problems):
            raise
        raise ConfigurationError(*problems) from error


def _as_given(problem: str, settings: RemoteSettings) -> str:
    field, colon, text = problem.partition(":")
    if settings.network_config is None:
        field = field.removeprefix("network_config.")
    name = re.split(r"[.\[]", field)[0]
    return _NAME_OF.get(name, name) + field[len(name) :] + colon + text


def complete_settings(settings: RemoteSettings, *, offline: bool = False) -> tuple[RemoteSettings, Session]:
    """Return settings with the values of the config file, the defaults and an image, and the session of the job.

    Args:
        settings: the settings as the user gave them.
        offline: True to call AWS for nothing.

    Raises:
        ConfigurationError: a setting is missing, or two contradict each other.
    """
    given = settings.sagemaker_session
    session = default_sessions.resolve_session(given, settings.instance_type)
    if offline and not session.config_at_hand:
        raise ConfigurationError(
            "sagemaker_session: its config file is in S3 and has not been read, and no call to AWS is made here; "
            "read it before, with sagemaker_session.config"
        )
    settings = settings.complete(session.config)
    if settings.instance_type is None and settings.instance_preferences is None:
        raise ConfigurationError(
            "instance_type: missing; give an instance type such as 'ml.m5.xlarge', or 'local' for this machine"
        )
    session = prompt_session(default_sessions.resolve_session(given, settings.instance_type))
    if session.is_local:
        return settings, session
    if settings.image_uri is None and settings.spark_config is not None:
        raise ConfigurationError(
            "image_uri: missing; spark_config needs an image with Spark and the Python of the caller. "
            "processing.images.image_uri('spark', ...) returns AWS's"
        )
    if settings.image_uri is None:
        return settings.evolve({"image_uri": default_image(session, settings, sys.version_info[:2])}), session
    check_image(settings.image_uri, None if settings.by_reference else sys.version_info[:2])
    return settings, session


def is_isolated(settings: RemoteSettings, session: Session) -> bool:
    """Return whether the job has no network."""
    network = fill_network(session.config, settings.network_config)
    return network is not None and bool(network.enable_network_isolation)

"""The decision how a job runs on this machine, made when the job is created."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from typing import TYPE_CHECKING

import attrs

from processing.exceptions import ConfigurationError, EngineError
from processing.images.tags import python_of_image
from processing.local import limits, sandboxes
from processing.local.errors import ApiError
from processing.local.import_path import search_path
from processing.local.jobs import events
from processing.local.jobs.execution_plan import ExecutionPlan, RemoteS3Options
from processing.local.jobs.gateway_options import MASKS_VARIABLE, gateway_options
from processing.local.jobs.host_processes import machine_environment
from processing.local.jobs.project_paths import needed_paths
from processing.local.spark.launcher import NAME as SPARK_SUBMIT

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.image_programs import ImageProgram
    from processing.local.interpreter import Interpreter
    from processing.local.jobs.workload import Workload
    from processing.local.settings import EngineSettings

logger = logging.getLogger(__name__)
_announced: set[str] = set()

_CREDENTIAL_FILES = (
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
"""The variables that name files with AWS credentials."""


def make_execution_plan(engine: EngineContext, workload: Workload) -> ExecutionPlan:
    """Return the execution plan of a job or an endpoint.

    Args:
        engine: the engine that runs it.
        workload: the job or the endpoint.

    Raises:
        ApiError: `ValidationException`, a setting names something that does not exist or does not work here.
    """
    try:
        settings = attrs.evolve(engine.settings, s3_endpoint=engine.settings.remote_s3_endpoint)
        sandbox = sandboxes.sandbox_for(settings)
        python = None if sandbox.runs_image else settings.interpreter(workload.image)
        program = None if sandbox.runs_image else _program(settings, workload)
        settings.check_sinks()
    except (ConfigurationError, EngineError) as error:
        raise ApiError("ValidationException", str(error)) from error
    problem = spark_problem(settings, python, workload)
    if problem is not None:
        raise ApiError("ValidationException", problem)
    _check_code(engine, settings, sandbox, workload, program)
    enforced, warnings = _limits(settings, sandbox)
    if workload.isolated and not sandbox.isolates_network:
        warnings.append(f"The {sandbox.name} sandbox cannot keep a job from the network.")
    if python is not None:
        _warn_of_other_python(python, workload.image)
    _announce(python, sandbox, warnings)
    masks = _credential_files()
    return ExecutionPlan(
        tick=settings.tick,
        grace=settings.grace,
        sample=settings.sample,
        sandbox=sandbox.state(),
        python=python,
        gpus=workload.instance_type == "local_gpu",
        limits=enforced,
        memory=None if settings.memory_gb is None else int(settings.memory_gb * limits.GIB),
        gateway=None if workload.isolated else gateway_options(engine.home, engine.region, settings, workload, masks),
        environment=_environment(python, engine.region),
        masks=masks,
        kept=[] if python is None else needed_paths(engine.home, python, workload, program),
        s3=remote_s3_options(settings, engine.region),
        events=events.sinks(settings.events_file, settings.events_queue),
        program=program,
    )


def _program(settings: EngineSettings, workload: Workload) -> ImageProgram | None:
    """Return the program in place of a workload's image, if the workload has no command line of its own.

    Raises:
        ConfigurationError: there is none.
    """
    if workload.words:
        return None
    program = settings.program(workload.image)
    if program is None:
        raise ConfigurationError(
            f"The local engine does not run the image {workload.image}. Name a module with the commands train and "
            'serve that stands in for it, as in LocalSession(programs={"*/name:*": "package.module"}), or let the '
            'image itself run: LocalSession(sandbox="container")'
        )
    return program


def spark_problem(
    settings: EngineSettings,
    python: Interpreter | None,
    workload: Workload,
    isolation: str = "NetworkConfig.EnableNetworkIsolation",
) -> str | None:
    """Return why a job of `smspark-submit` cannot run; None if it can, and for other jobs.

    Args:
        settings: the engine's settings.
        python: the interpreter in place of the image; None for a sandbox that runs the image.
        workload: the job.
        isolation: the name of the setting for network isolation.
    """
    if list(workload.words[:1]) != [SPARK_SUBMIT]:
        return None
    problem = sandboxes.isolation_problem(settings, "Spark", workload.hosts, isolated=workload.isolated)
    if problem is not None:
        return f"{isolation}: {problem}"
    if python is None or shutil.which(SPARK_SUBMIT) is not None:
        return None
    # Few jobs are Spark applications.
    from processing.local.spark.installation import installation_problem, variables_of

    return installation_problem(python.executable, variables_of(workload.variables))


def _check_code(
    engine: EngineContext,
    settings: EngineSettings,
    sandbox: sandboxes.Sandbox,
    workload: Workload,
    program: ImageProgram | None,
) -> None:
    """Refuse code with paths that its sandbox cannot offer. Code in another S3 is searched when the job starts."""
    if sandbox.mounts:
        return
    from processing.local.jobs.fixed_paths import EngineCode, problem_in_file, problem_in_objects

    problem = None if program is None or program.arguments else problem_in_file(program.source)
    if problem is None and settings.remote_s3_endpoint is None:
        problem = problem_in_objects(workload.words, workload.inputs, EngineCode(engine))
    if problem is not None:
        raise ApiError("ValidationException", problem)


def _limits(settings: EngineSettings, sandbox: sandboxes.Sandbox) -> tuple[limits.ResourceLimits, list[str]]:
    if sandbox.runs_image:  # the container program enforces a container's limits
        return limits.ResourceLimits(), []
    return limits.enforceable_limits(settings.cpus, settings.memory_gb)


def _environment(python: Interpreter | None, region: str) -> dict[str, str]:
    """Return the variables of every host's program; an image brings those of the machine itself."""
    return {
        **({} if python is None else {**machine_environment(), "PYTHONUNBUFFERED": "1"}),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
    }


def remote_s3_options(settings: EngineSettings, region: str) -> RemoteS3Options | None:
    """Return the S3 in place of the engine's own; None for the engine's own.

    Args:
        settings: the engine's settings.
        region: the engine's region.
    """
    endpoint = settings.remote_s3_endpoint
    return None if endpoint is None else RemoteS3Options(endpoint, region, search_path())


def _credential_files() -> list[str]:
    """Return the places where this machine may keep AWS credentials: a job sees them empty."""
    files = [os.environ[name] for name in _CREDENTIAL_FILES if os.environ.get(name)]
    homes = {os.path.expanduser("~")}  # noqa: PTH111 - unlike Path.home(), it does not raise without a home
    if os.name == "posix":
        import pwd

        with contextlib.suppress(KeyError):  # a user without an entry, as in containers
            homes.add(pwd.getpwuid(os.getuid()).pw_dir)
    masks = {*files, *(os.path.join(home, ".aws") for home in homes)}  # noqa: PTH118 - a path as text
    # In a gateway's server this process serves a job. The masks of that job hold for the jobs that it creates.
    masks.update(json.loads(os.environ.get(MASKS_VARIABLE, "[]")))
    return sorted(masks - {os.devnull})


def other_python(python: Interpreter, image: str) -> str | None:
    """Return a warning if the image has another version of Python than the interpreter in its place."""
    here, there = python.version(), python_of_image(image)
    if here is None or there is None or here == there:
        return None
    return (
        f"image_uri: {image} has Python {there}, and the local engine runs the job on Python {here} "
        f"({python.executable}). For the same version, give LocalSession(images={{image_uri: path}}) a Python {there}"
    )


def _warn_of_other_python(python: Interpreter, image: str) -> None:
    """Log the warning once per process."""
    warning = other_python(python, image)
    if warning is not None and warning not in _announced:
        _announced.add(warning)
        logger.warning("%s", warning)


def _announce(python: Interpreter | None, sandbox: sandboxes.Sandbox, warnings: list[str]) -> None:
    """Log once per process what replaces images, and log each warning each time."""
    if python is None:
        message = f"Jobs of the local engine run their images, in the {sandbox.name} sandbox."
    else:
        message = (
            f"Jobs of the local engine run on {python.executable} in the {sandbox.name} sandbox; their images are not "
            "used."
        )
    if message not in _announced:
        _announced.add(message)
        logger.info("%s", message)
    for warning in warnings:
        logger.warning("%s", warning)

"""How a job runs on this machine: decided when it is created, and stored with it for its supervisors."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any

from attrs import evolve

from processing.exceptions import ConfigurationError, EngineError
from processing.local import limits, sandboxes
from processing.local import remote_s3 as elsewhere
from processing.local.errors import ApiError
from processing.local.jobs import events, gateway_options
from processing.local.jobs import host_processes as hosts
from processing.local.jobs.description import selected_instances

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.context import EngineContext
    from processing.local.settings import Interpreter

_log = logging.getLogger(__name__)
_announced: set[object] = set()

_CREDENTIAL_FILES = (
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)


def make_execution_plan(engine: EngineContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan of a job.

    Args:
        engine: the engine that runs it.
        request: the job's request, with its defaults.

    Raises:
        ApiError: `ValidationException`, the settings name something that is not there, or does not work here.
    """
    try:
        settings = evolve(engine.settings, s3_endpoint=engine.settings.remote_s3_endpoint)
        sandbox = sandboxes.sandbox_for(settings)
        python = None if sandbox.runs_image else settings.interpreter(request["AppSpecification"]["ImageUri"])
        settings.check_sinks()
    except (ConfigurationError, EngineError) as error:
        raise ApiError("ValidationException", str(error)) from error
    isolated = bool((request.get("NetworkConfig") or {}).get("EnableNetworkIsolation"))
    # A container's limits are kept by the program that runs it.
    kept, warnings = ({}, []) if sandbox.runs_image else limits.plan(settings.cpus, settings.memory_gb)
    if isolated and not sandbox.isolates_network:
        warnings.append(f"The {sandbox.name} sandbox cannot keep a job from the network.")
    _announce(python, sandbox, warnings)
    masks = _credential_files()
    return {
        "tick": settings.tick,
        "grace": settings.grace,
        "sample": settings.sample,
        "sandbox": sandbox.state(),
        "python": None if python is None else {"executable": python.executable, "venv": python.venv},
        "gpus": selected_instances(request)[0] == "local_gpu",
        "limits": kept,
        "memory": None if settings.memory_gb is None else int(settings.memory_gb * limits.GIB),
        "gateway": None if isolated else gateway_options.plan(engine.home, engine.region, settings, request, masks),
        "environment": {
            **({} if python is None else {**hosts.machine_environment(), "PYTHONUNBUFFERED": "1"}),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REGION": engine.region,
            "AWS_DEFAULT_REGION": engine.region,
        },
        "masks": masks,
        "s3": elsewhere.plan(settings, engine.region),
        "events": events.sinks(settings.events_file, settings.events_queue),
    }


def _credential_files() -> list[str]:
    """Return where this machine may keep AWS credentials: a job sees nothing there."""
    files = [os.environ[name] for name in _CREDENTIAL_FILES if os.environ.get(name)]
    homes = {os.path.expanduser("~")}  # noqa: PTH111 -- unlike Path.home(), it does not raise without a home
    if os.name == "posix":
        import pwd

        with contextlib.suppress(KeyError):  # a user without an entry, as containers have
            homes.add(pwd.getpwuid(os.getuid()).pw_dir)
    masks = {*files, *(os.path.join(home, ".aws") for home in homes)}  # noqa: PTH118
    # In a gateway's server: what the creator of the job that now creates another one kept from that.
    masks.update(json.loads(os.environ.get(gateway_options.MASKS_VARIABLE, "[]")))
    return sorted(masks - {os.devnull})


def _announce(python: Interpreter | None, sandbox: sandboxes.Sandbox, warnings: list[str]) -> None:
    """Say once in a process what stands in for images and instances, and each time what is not as it was asked for."""
    if python is None:
        said = f"Jobs of the local engine run their images, in the {sandbox.name} sandbox."
    else:
        said = (
            f"Jobs of the local engine run on {python.executable} in the {sandbox.name} sandbox; their images are not "
            "used."
        )
    if said not in _announced:
        _announced.add(said)
        _log.info("%s", said)
    for warning in warnings:
        _log.warning("%s", warning)

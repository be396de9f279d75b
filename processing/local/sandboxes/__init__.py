"""Sandboxes, which let a job see its own /opt/ml: bubblewrap, a namespace launcher, rewritten paths, or a container.

The first three do not run an image, and they are not security boundaries. They give a program the file tree of the
container contract, and they hide this machine's AWS credential files from it.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

from processing.exceptions import EngineError
from processing.local.sandboxes.base import Bind, HostCommand, HostSpec, Sandbox, SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.settings import EngineSettings

__all__ = [
    "Bind",
    "HostCommand",
    "HostSpec",
    "Sandbox",
    "SandboxError",
    "choose",
    "isolation_problem",
    "restore",
    "sandbox_for",
]

_KINDS = {"bubblewrap": "Bubblewrap", "namespaces": "Namespaces", "rewriting": "Rewriting"}
"""Module and class of each sandbox without an image, the best first. A supervisor imports only the one it needs."""
_CONTAINER = "container"


def sandbox_for(settings: EngineSettings) -> Sandbox:
    """Return the sandbox for an engine's settings.

    Raises:
        EngineError: the sandbox does not work on this machine; the message has the reason.
    """
    if not settings.runs_images:
        return choose(settings.sandbox)
    return _container(
        settings.container_program, settings.resolved_container_options(), settings.cpus, settings.memory_gb
    )


def isolation_problem(settings: EngineSettings, program: str, hosts: int, *, isolated: bool) -> str | None:
    """Return why a program that connects the hosts of its job cannot run; None if it can.

    Args:
        settings: the engine's settings.
        program: the program, for the message.
        hosts: the number of hosts.
        isolated: True for a job with network isolation.
    """
    if not isolated or hosts < 2 or not sandbox_for(settings).isolates_network:
        return None
    return (
        f"{program} connects the {hosts} hosts of a job, and with network isolation they do not reach each other on "
        "the local engine; take one instance, or leave network isolation out"
    )


@functools.cache
def _container(program: str | None, options: tuple[str, ...], cpus: int | None, memory_gb: float | None) -> Sandbox:
    found, reason = _sandbox_class(_CONTAINER).probe(program, options, cpus, memory_gb)
    if found is None:
        raise EngineError(f"the sandbox {_CONTAINER!r} does not work on this machine: {reason}")
    sandbox: Sandbox = found
    return sandbox


@functools.cache
def choose(setting: str = "auto") -> Sandbox:
    """Return the first sandbox that works on this machine. Each is tried once per process.

    Args:
        setting: `auto`, or the name of the sandbox to use.

    Raises:
        EngineError: the sandbox does not work on this machine; the message has the reason.
    """
    import logging

    reasons: list[str] = []
    for name in _KINDS if setting == "auto" else [setting]:
        found, reason = _sandbox_class(name).probe()
        if found is not None:
            sandbox: Sandbox = found
            rejected = f" ({'; '.join(reasons)})" if reasons else ""
            logging.getLogger(__name__).debug("sandbox %s chosen%s", name, rejected)
            return sandbox
        reasons.append(f"{name}: {reason}")
    raise EngineError(f"the sandbox {setting!r} does not work on this machine: {'; '.join(reasons)}")


def restore(state: Mapping[str, Any]) -> Sandbox:
    """Return the sandbox with that `state()`. Supervisors restore a sandbox from their plan, and try none.

    Args:
        state: the sandbox's name and the arguments of its class.
    """
    options = dict(state)
    sandbox: Sandbox = _sandbox_class(options.pop("name"))(**options)
    return sandbox


def _sandbox_class(name: str) -> Any:
    class_name = "Container" if name == _CONTAINER else _KINDS[name]
    return getattr(importlib.import_module(f"{__name__}.{name}"), class_name)

"""How a job gets to see its own /opt/ml: bubblewrap, our namespace launcher, rewritten paths, or a container.

None of the first three runs an image, and none of them is a security boundary: they give a program the file tree of
the container contract and keep the host's AWS credential files out of its sight.
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

__all__ = ["Bind", "HostCommand", "HostSpec", "Sandbox", "SandboxError", "choose", "restore", "sandbox_for"]

_KINDS = {"bubblewrap": "Bubblewrap", "namespaces": "Namespaces", "rewriting": "Rewriting"}
"""Module and class of each, the best first. Imported when used: a supervisor needs one of them."""
_CONTAINER = "container"


def sandbox_for(settings: EngineSettings) -> Sandbox:
    """Return the sandbox of an engine's settings.

    Raises:
        EngineError: what was asked for does not work here; the message says why.
    """
    if not settings.runs_images:
        return choose(settings.sandbox)
    return _container(
        settings.container_program, settings.resolved_container_options(), settings.cpus, settings.memory_gb
    )


@functools.cache
def _container(program: str | None, options: tuple[str, ...], cpus: int | None, memory_gb: float | None) -> Sandbox:
    found, reason = _kind(_CONTAINER).probe(program, options, cpus, memory_gb)
    if found is None:
        raise EngineError(f"the sandbox {_CONTAINER!r} does not work on this machine: {reason}")
    sandbox: Sandbox = found
    return sandbox


@functools.cache
def choose(setting: str = "auto") -> Sandbox:
    """Return the first sandbox that works on this machine; tried out once in a process.

    Args:
        setting: `auto`, or the name of the one sandbox to use.

    Raises:
        EngineError: the sandbox that was asked for does not work here; the message says why.
    """
    import logging

    reasons: list[str] = []
    for name in _KINDS if setting == "auto" else [setting]:
        found, reason = _kind(name).probe()
        if found is not None:
            sandbox: Sandbox = found
            passed_over = f" ({'; '.join(reasons)})" if reasons else ""
            logging.getLogger(__name__).debug("sandbox %s chosen%s", name, passed_over)
            return sandbox
        reasons.append(f"{name}: {reason}")
    raise EngineError(f"the sandbox {setting!r} does not work on this machine: {'; '.join(reasons)}")


def restore(state: Mapping[str, Any]) -> Sandbox:
    """Return the sandbox whose `state()` that is: supervisors are told, and do not try out anything."""
    options = dict(state)
    sandbox: Sandbox = _kind(options.pop("name"))(**options)
    return sandbox


def _kind(name: str) -> Any:
    kind = "Container" if name == _CONTAINER else _KINDS[name]
    return getattr(importlib.import_module(f"{__name__}.{name}"), kind)

"""Tools for tests: a virtual clock, a fault injector, and a simulated AWS. Only tests import this package.

Public names are imported on first use (PEP 562), so that importing the package takes milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processing.local.transports.in_process import Transport as Transport
    from processing.testing.clock import VirtualClock as VirtualClock
    from processing.testing.cloudwatch import ScriptedLine as ScriptedLine
    from processing.testing.cloudwatch import ScriptedLogs as ScriptedLogs
    from processing.testing.endpoints import EndpointMaker as EndpointMaker
    from processing.testing.faults import Fault as Fault
    from processing.testing.faults import FaultInjector as FaultInjector
    from processing.testing.faults import FaultKind as FaultKind
    from processing.testing.jobs import Life as Life
    from processing.testing.jobs import SimulatedJobs as SimulatedJobs
    from processing.testing.jobs import SimulatedLine as SimulatedLine
    from processing.testing.proxy import FaultProxy as FaultProxy
    from processing.testing.proxy import FaultyEndpoint as FaultyEndpoint
    from processing.testing.quotas import PUBLISHED_QUOTAS as PUBLISHED_QUOTAS
    from processing.testing.simulation import SimulatedAws as SimulatedAws
    from processing.testing.training import TrainingJobMaker as TrainingJobMaker
    from processing.testing.wire import JsonService as JsonService
    from processing.testing.wire import ServiceError as ServiceError

_NAMES_OF = {
    "processing.local.transports.in_process": ("Transport",),
    "processing.testing.clock": ("VirtualClock",),
    "processing.testing.cloudwatch": ("ScriptedLine", "ScriptedLogs"),
    "processing.testing.endpoints": ("EndpointMaker",),
    "processing.testing.faults": ("Fault", "FaultInjector", "FaultKind"),
    "processing.testing.jobs": ("Life", "SimulatedJobs", "SimulatedLine"),
    "processing.testing.proxy": ("FaultProxy", "FaultyEndpoint"),
    "processing.testing.quotas": ("PUBLISHED_QUOTAS",),
    "processing.testing.simulation": ("SimulatedAws",),
    "processing.testing.training": ("TrainingJobMaker",),
    "processing.testing.wire": ("JsonService", "ServiceError"),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 - type checkers read the imports above; a test holds the two lists equal


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import the module of a public name on first use."""
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module 'processing.testing' has no attribute {name!r}")
        value = getattr(importlib.import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Remote functions: Python functions that run as processing jobs, with results that can be trusted.

Public names are imported on first use (PEP 562): a module that decorates functions is imported in milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processing.remote_function.checkpoint_location import CheckpointLocation as CheckpointLocation
    from processing.remote_function.custom_file_filter import CustomFileFilter as CustomFileFilter
    from processing.remote_function.decorator import RemoteFunction as RemoteFunction
    from processing.remote_function.decorator import remote as remote
    from processing.remote_function.executor import RemoteExecutor as RemoteExecutor
    from processing.remote_function.futures import RemoteFuture as RemoteFuture
    from processing.remote_function.lookup import get_future as get_future
    from processing.remote_function.lookup import list_futures as list_futures
    from processing.remote_function.mapping.futures import MapFutures as MapFutures
    from processing.remote_function.pool.pool import RemotePool as RemotePool
    from processing.remote_function.spark_config import SparkConfig as SparkConfig

_NAMES_OF = {
    "checkpoint_location": ("CheckpointLocation",),
    "custom_file_filter": ("CustomFileFilter",),
    "decorator": ("RemoteFunction", "remote"),
    "executor": ("RemoteExecutor",),
    "futures": ("RemoteFuture",),
    "lookup": ("get_future", "list_futures"),
    "mapping.futures": ("MapFutures",),
    "pool.pool": ("RemotePool",),
    "spark_config": ("SparkConfig",),
}
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _NAMES_OF.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 - type checkers read the imports above; a test holds the two lists equal


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import the module of a public name on first use."""
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Remote functions: Python functions that run as processing jobs, with results that can be trusted."""

from __future__ import annotations

from processing.remote_function.checkpoint_location import CheckpointLocation as CheckpointLocation
from processing.remote_function.custom_file_filter import CustomFileFilter as CustomFileFilter
from processing.remote_function.decorator import RemoteFunction as RemoteFunction
from processing.remote_function.decorator import remote as remote
from processing.remote_function.executor import RemoteExecutor as RemoteExecutor
from processing.remote_function.futures import RemoteFuture as RemoteFuture
from processing.remote_function.lookup import get_future as get_future
from processing.remote_function.lookup import list_futures as list_futures
from processing.remote_function.mapping import MapFutures as MapFutures
from processing.remote_function.pool import RemotePool as RemotePool
from processing.remote_function.spark_config import SparkConfig as SparkConfig

__all__ = [
    "CheckpointLocation",
    "CustomFileFilter",
    "MapFutures",
    "RemoteExecutor",
    "RemoteFunction",
    "RemoteFuture",
    "RemotePool",
    "SparkConfig",
    "get_future",
    "list_futures",
    "remote",
]

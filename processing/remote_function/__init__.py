"""Remote functions: Python functions that run as processing jobs, with results that can be trusted."""

from __future__ import annotations

from processing.remote_function.decorator import remote as remote

__all__ = ["remote"]

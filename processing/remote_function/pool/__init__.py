"""Pools: jobs that stay warm and take calls through SQS queues."""

from __future__ import annotations

from processing.remote_function.pool.pool import RemotePool as RemotePool

"""The host of a variant of an endpoint: it hands out connections to its program until the endpoint drops it."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from processing.local.hosting.broker import LEASE, ConnectionBroker
from processing.local.hosting.serving_host import ServingHost
from processing.local.stores.endpoints import EndpointStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from processing.local.hosting.asynchronous.worker import AsyncWorker
    from processing.local.hosting.program_process import ProgramProcess
    from processing.local.sandboxes.base import HostSpec
    from processing.local.stores.jobs import HostEnd, JobRecord, JobStore

LOG_GROUPS = "/aws/sagemaker/Endpoints"
DRAIN_SECONDS = 65.0
"""The time that running invocations have after the endpoint dropped the host: a little more than their own limit."""
ASYNC_DRAIN_SECONDS = 3600.0
"""The time that running asynchronous invocations have: the most that one may take on AWS."""


class EndpointHost(ServingHost):
    """The process of a host of an endpoint.

    A program that ends after it was healthy is started again. One that ends before that ends the host.
    """

    log_group = LOG_GROUPS

    def __init__(self, home: Path, jobs: JobStore, record: JobRecord, number: int) -> None:
        super().__init__(home, jobs, record, number)
        self.log_group = f"{LOG_GROUPS}/{self._request['EndpointName']}"
        self._stream = log_stream(self._request["VariantName"], record.folder)
        self._endpoints = EndpointStore(home)
        self._broker: ConnectionBroker | None = None
        self._async: AsyncWorker | None = None
        self._lease = -1
        self._drains_since: float | None = None

    def metric_dimensions(self) -> Mapping[str, str]:
        """Return the endpoint and the variant."""
        return {"EndpointName": self._request["EndpointName"], "VariantName": self._request["VariantName"]}

    def health_seconds(self) -> float:
        """Return the time of the variant, or else AWS's."""
        return float(self._request.get("HealthSeconds") or super().health_seconds())

    def unhealthy_reason(self) -> str:
        """Return AWS's reason."""
        variant = self._request["VariantName"]
        return (
            f"The primary container for production variant {variant} did not pass the ping health check. Please check "
            "CloudWatch logs for this endpoint."
        )

    def may_restart(self) -> bool:
        """Return True: an endpoint serves until it is deleted."""
        return True

    def on_healthy(self, process: ProgramProcess) -> None:
        """Let clients connect, and count as ready."""
        assert self._broker is not None
        self._broker.open(process.connection)
        config = self._request["AsyncInferenceConfig"]
        if config is not None:
            self._async = self._async_worker(process, config)
        self._endpoints.record_ready(self._request["EndpointName"], self._record.id, time.time())

    def on_program_end(self) -> None:
        """Let clients wait for the next program."""
        if self._broker is not None:
            self._broker.hold()
        if self._async is not None:
            self._async.stop()

    def _async_worker(self, process: ProgramProcess, config: Mapping[str, Any]) -> AsyncWorker:
        """Return the threads that process the endpoint's queue. Their modules take long to import."""
        from processing.local.hosting.asynchronous.queue import AsyncQueue
        from processing.local.hosting.asynchronous.worker import DEFAULT_CONCURRENCY, AsyncWorker
        from processing.local.hosting.process_connections import ProcessConnections

        concurrency = (config.get("ClientConfig") or {}).get("MaxConcurrentInvocationsPerInstance")
        queue = AsyncQueue(self._home, self._request["EndpointName"])
        ask = ProcessConnections(process).ask
        return AsyncWorker(queue, self._objects, ask, self.log, concurrency or DEFAULT_CONCURRENCY)

    def _prepare(self) -> HostSpec:
        self._work.mkdir(exist_ok=True)
        self._lease = os.open(self._work / LEASE, os.O_RDWR | os.O_CREAT, 0o600)
        self._broker = ConnectionBroker(str(self._work))
        return super()._prepare()

    def _run(self) -> HostEnd:
        try:
            return super()._run()
        finally:
            if self._broker is not None:
                self._broker.close()

    def _should_stop(self) -> str | None:
        reason = super()._should_stop()
        return None if reason == "stopped" and not self._has_drained() else reason

    def _has_drained(self) -> bool:
        """Return whether no invocation runs any more, so that the program can be stopped.

        The endpoint has dropped the host, so new invocations go elsewhere. Those that still hold the lease are waited
        for. The exclusive lock turns away a client that found this host just before.
        """
        import fcntl  # absent on Windows, where public names import this module all the same

        if self._drains_since is None:
            self._drains_since = time.monotonic()
        if self._async is not None:
            self._async.stop()
            if not self._async.idle and time.monotonic() - self._drains_since < ASYNC_DRAIN_SECONDS:
                return False
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return time.monotonic() - self._drains_since > DRAIN_SECONDS

    def _record_end(self, end: HostEnd) -> bool:
        ended = super()._record_end(end)
        self._endpoints.settle(self._request["EndpointName"], time.time())
        return ended


def log_stream(variant: str, folder: str) -> str:
    """Return the log stream of a host: the variant and a name like that of an instance.

    Args:
        variant: the variant's name.
        folder: the host's folder, which ends in 12 random digits.
    """
    return f"{variant}/i-{folder.rpartition('-')[2]:0>17}"

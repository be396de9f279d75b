"""The host of a transform job: it serves the model to itself, and feeds the objects of the job to it."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from typing import TYPE_CHECKING

from processing.container import contract
from processing.local.hosting.serving_host import ServingHost
from processing.local.stores.job_kinds import TRANSFORM
from processing.local.stores.jobs import HostEnd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from processing.container import runner
    from processing.local.hosting.program_process import ProgramProcess
    from processing.local.sandboxes.base import HostCommand, HostSpec

_DONE = "done"
"""The reason for the stop of the program after the last object."""
_FEED = "processing.local.hosting.transforms.job_feed"
"""The module of the feed, which imports an HTTP client. That takes long, so it is done while the program starts."""


class TransformHost(ServingHost):
    """The process of one host of a transform job."""

    log_group = TRANSFORM.log_group
    longest_grace = 2.0
    """Short, because a program that has answered everything has nothing left to save. A container's process 1 ignores
    SIGTERM unless it handles it."""
    _feed_result: tuple[str | None] | None = None
    """The FailureReason of the feed in a tuple, once it has ended."""
    _program_over = False
    _wake: tuple[int, int] | None = None
    """The two ends of a pipe by which the end of the feed is noticed at once."""

    def container(self) -> Mapping[str, Any]:
        """Return the container definition of the job's model, which the job has a copy of."""
        found: Mapping[str, Any] = self._request["Model"]["Container"]
        return found

    def isolated(self) -> bool:
        """Return whether the model asks for network isolation."""
        return bool(self._request["Model"].get("EnableNetworkIsolation"))

    def unhealthy_reason(self) -> str:
        """Return AWS's reason."""
        return "AlgorithmError: the container did not pass the ping health check. See job logs for more information."

    def variables(self) -> dict[str, str]:
        """Return the variables by which a program learns that it serves a transform job."""
        request = self._request
        values = {
            "SAGEMAKER_BATCH": "true",
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": request.get("MaxPayloadInMB"),
            "SAGEMAKER_BATCH_STRATEGY": request.get("BatchStrategy"),
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": request.get("MaxConcurrentTransforms"),
        }
        return {name: str(value) for name, value in values.items() if value is not None}

    # The feed

    def on_healthy(self, process: ProgramProcess) -> None:
        """Feed the objects to the program. The program is stopped afterwards."""
        from processing.local.hosting.transforms.job_feed import JobEndsError, JobFeed

        source = self._request["TransformInput"]["DataSource"]["S3DataSource"]
        item = {**source, "S3InputMode": "File", "S3DataDistributionType": "ShardedByS3Key", "LocalPath": contract.ML}
        feed = JobFeed(self._request, self._objects, self._work, self.log, self._program_ended)
        with contextlib.suppress(JobEndsError):
            self._feed_result = (feed.run(process, self._data.sources(item)),)
            assert self._wake is not None
            os.write(self._wake[1], b"\0")

    def wake_descriptor(self) -> int:
        """Return the end of the pipe that becomes readable at the end of the feed."""
        self._wake = os.pipe()
        return self._wake[0]

    def on_program_end(self) -> None:
        """Let the feed end, because the program has ended."""
        self._program_over = True

    def _program_ended(self) -> bool:
        return self._program_over

    def _on_start(self, group: int, command: HostCommand) -> None:
        super()._on_start(group, command)
        threading.Thread(target=importlib.import_module, args=(_FEED,), daemon=True).start()

    # The end

    def _should_stop(self) -> str | None:
        return super()._should_stop() or (_DONE if self._feed_result is not None else None)

    def _end_of_host(self, ended: runner.ProgramExit, host: HostSpec) -> HostEnd:
        done = self._feed_result is not None and ended.stop_reason == _DONE
        # A program may also end by itself in the moment after its last answer.
        if self._feed_result is not None and (done or (ended.stop_reason, self._feed_result) == (None, (None,))):
            self._services.program_ended(0)
            return _end_of_feed(self._feed_result[0])
        end = super()._end_of_host(ended, host)
        if end.outcome != "completed":
            return end
        reason = f"AlgorithmError: the program ended before its job did, exit code: {ended.exit_code}"
        return end._replace(outcome="failed", reason=reason)


def _end_of_feed(reason: str | None) -> HostEnd:
    return HostEnd("completed", 0) if reason is None else HostEnd("failed", reason=reason)

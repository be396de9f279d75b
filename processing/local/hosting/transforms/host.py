"""The host of a transform job: it serves the model to itself, and feeds the objects of the job to it."""

from __future__ import annotations

import functools
import gzip
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO

from processing.container import contract
from processing.local.errors import ApiError
from processing.local.hosting.program_client import Call, ProgramError
from processing.local.hosting.run_connections import RunConnections
from processing.local.hosting.serving_host import ServingHost
from processing.local.hosting.transforms.data_processing import DataProcessing
from processing.local.hosting.transforms.feed import Transform, TransformError, TransformObject
from processing.local.hosting.transforms.settings import asks_program, proposed_settings, transform_settings
from processing.local.jobs.data import DataError, InputFile, open_source, split_uri
from processing.local.stores.jobs import HostEnd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.container import runner
    from processing.local.hosting.program_run import ProgramRun
    from processing.local.sandboxes.base import HostSpec

LOG_GROUP = "/aws/sagemaker/TransformJobs"
_DONE = "done"
"""The reason for the stop of the program after the last object."""
_CHUNK = 1 << 20
_PARAMETERS_SECONDS = 10.0
"""The time in which a program has to answer GET /execution-parameters."""


class _JobEndsError(Exception):
    """The end of a feed because the job ends."""


class TransformHost(ServingHost):
    """The process of one host of a transform job."""

    log_group = LOG_GROUP
    _feed_result: tuple[str | None] | None = None
    """The FailureReason of the feed in a tuple, once it has ended."""
    _run_over = False

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

    def on_healthy(self, run: ProgramRun) -> None:
        """Feed the objects to the program. The program is stopped afterwards."""
        connections = RunConnections(run)
        request = self._request
        proposed: dict[str, Any] = {}
        if asks_program(request):
            proposed = self._proposed(connections)
        settings = transform_settings(request, proposed)
        self.log(f"[sagemaker logs]: {settings.describe()}")
        feed = Transform(
            settings,
            DataProcessing(request),
            connections.ask,
            lambda text: self.log(f"[sagemaker logs]: {text}"),
            self._check_feed,
        )
        try:
            self._feed_result = (feed.run(self._objects_of_job()),)
        except _JobEndsError:
            self._feed_result = (None,)

    def on_run_end(self) -> None:
        """Let the feed end, because the program has ended."""
        self._run_over = True

    def _proposed(self, connections: RunConnections) -> dict[str, Any]:
        try:
            answer = connections.ask(Call("GET", "/execution-parameters", seconds=_PARAMETERS_SECONDS))
        except ProgramError:
            return {}
        return proposed_settings(answer.body) if answer.status == 200 else {}

    def _check_feed(self) -> None:
        if self._run_over:
            raise _JobEndsError

    def _objects_of_job(self) -> Iterator[TransformObject]:
        """Yield this host's share of the objects."""
        request = self._request
        source = request["TransformInput"]["DataSource"]["S3DataSource"]
        item = {**source, "S3InputMode": "File", "S3DataDistributionType": "ShardedByS3Key", "LocalPath": contract.ML}
        for file in self._data.sources(item):
            if not file.name.endswith("/"):
                yield self._object(file)

    def _object(self, file: InputFile) -> TransformObject:
        inflate = self._request["TransformInput"].get("CompressionType") == "Gzip"
        bucket, prefix = split_uri(self._request["TransformOutput"]["S3OutputPath"])
        key = f"{prefix.rstrip('/')}/{file.name}.out".lstrip("/")
        return TransformObject(
            f"{file.bucket}/{file.place}",
            functools.partial(self._pieces, file, inflate=inflate),
            self._output_file,
            functools.partial(self._store, bucket, key),
        )

    def _pieces(self, file: InputFile, *, inflate: bool) -> Iterator[bytes]:
        try:
            with open_source(file, self._objects) as body:
                content: Any = gzip.GzipFile(fileobj=body) if inflate else body
                while piece := content.read(_CHUNK):
                    yield piece
        except DataError as error:
            raise TransformError(str(error), str(error)) from None
        except (OSError, EOFError) as error:
            raise TransformError(str(error), f"ClientError: {file.place} cannot be read: {error}") from None

    def _output_file(self) -> BinaryIO:
        return tempfile.TemporaryFile(dir=self._work)

    def _store(self, bucket: str, key: str, file: BinaryIO) -> None:
        try:
            self._objects.put(bucket, key, file)
        except ApiError as error:
            reason = f"ClientError: s3://{bucket}/{key} cannot be stored: {error.message}"
            raise TransformError(reason, reason) from None

    # The end

    def _should_stop(self) -> str | None:
        return super()._should_stop() or (_DONE if self._feed_result is not None else None)

    def _end_of_host(self, ended: runner.ProgramExit, host: HostSpec) -> HostEnd:
        if self._feed_result is not None and ended.stop_reason == _DONE:
            self._services.program_ended(0)
            return _end_of_feed(self._feed_result[0])
        return super()._end_of_host(ended, host)
        end = super()._end_of_host(ended, host)
        if end.outcome != "completed":
            return end
        reason = f"AlgorithmError: the program ended before its job did, exit code: {ended.exit_code}"
        return end._replace(outcome="failed", reason=reason)


def _end_of_feed(reason: str | None) -> HostEnd:
    return HostEnd("completed", 0) if reason is None else HostEnd("failed", reason=reason)

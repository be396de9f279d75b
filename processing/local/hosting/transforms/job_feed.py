"""The feed of a host of a transform job: its share of the objects, from S3 to the program and back."""

from __future__ import annotations

import functools
import gzip
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO

from processing.local.errors import ApiError
from processing.local.hosting.process_connections import ProcessConnections
from processing.local.hosting.program_client import Call, ProgramError
from processing.local.hosting.transforms.data_processing import DataProcessing
from processing.local.hosting.transforms.feed import Transform, TransformError, TransformObject
from processing.local.hosting.transforms.settings import (
    ProposedSettings,
    asks_program,
    proposed_settings,
    transform_settings,
)
from processing.local.jobs.data import DataError, open_source, split_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from processing.local.hosting.program_process import ProgramProcess
    from processing.local.jobs.data import InputFile
    from processing.local.jobs.object_source import ObjectSource

_CHUNK = 1 << 20
_PARAMETERS_SECONDS = 10.0
"""The time in which a program has to answer GET /execution-parameters."""


class JobEndsError(Exception):
    """The end of a feed because the job ends."""


class JobFeed:
    """The feed of one host.

    Args:
        request: the job's request.
        objects: the job's S3.
        folder: a folder for outputs that are being written.
        log: writes a line to the job's log.
        ended: returns whether the program has ended, and so has the feed.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        objects: ObjectSource,
        folder: Path,
        log: Callable[[str], None],
        ended: Callable[[], bool],
    ) -> None:
        self._request = request
        self._objects = objects
        self._folder = folder
        self._log = log
        self._ended = ended

    def run(self, process: ProgramProcess, sources: Sequence[InputFile]) -> str | None:
        """Transform objects, and return the FailureReason of the first that failed; None if none did.

        Args:
            process: the process of the program.
            sources: the host's share of the objects.

        Raises:
            JobEndsError: the program has ended.
        """
        connections = ProcessConnections(process)
        proposed = self._proposed(connections) if asks_program(self._request) else ProposedSettings()
        settings = transform_settings(self._request, proposed)
        self._log(f"[sagemaker logs]: {settings.describe()}")
        feed = Transform(
            settings,
            DataProcessing(self._request),
            connections.ask,
            lambda text: self._log(f"[sagemaker logs]: {text}"),
            self._check,
        )
        return feed.run(self._object(file) for file in sources if not file.name.endswith("/"))

    def _proposed(self, connections: ProcessConnections) -> ProposedSettings:
        try:
            answer = connections.ask(Call("GET", "/execution-parameters", seconds=_PARAMETERS_SECONDS))
        except (ProgramError, OSError):  # the latter such as too many open files
            return ProposedSettings()
        return proposed_settings(answer.body) if answer.status == 200 else ProposedSettings()

    def _check(self) -> None:
        if self._ended():
            raise JobEndsError

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
        return tempfile.TemporaryFile(dir=self._folder)

    def _store(self, bucket: str, key: str, file: BinaryIO) -> None:
        try:
            self._objects.put(bucket, key, file)
        except ApiError as error:
            reason = f"ClientError: s3://{bucket}/{key} cannot be stored: {error.message}"
            raise TransformError(reason, reason) from None

"""Handler that forwards S3's operations to another S3 server, in place of the engine's own S3.

It serves the API: calls of the session and of the clients inside a job. They pass through the engine, which adds the
user's credentials, so that a job never sees them. `processing.local.remote_s3` holds the client, and the access to
objects that supervisors use for the inputs and outputs of jobs.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3.common import copy_source
from processing.local.remote_s3 import explain_client_errors, make_client

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

_IN_MEMORY = 8 << 20
"""Bodies up to this size are buffered in memory, larger ones on the disk."""
_CHUNK = 1 << 20


class RemoteS3Handler:
    """Handler that forwards every operation of S3 to another server.

    Args:
        engine: the engine, whose settings name the server.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._account = engine.account
        self._endpoint = str(engine.settings.remote_s3_endpoint)
        self._client = make_client(self._endpoint, engine.region)
        self.operations: Mapping[str, Operation] = _Operations(self)

    def forward(self, operation: str, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Forward an operation. Params and results are like those of the engine's own handler."""
        with contextlib.ExitStack() as stack:
            arguments = _client_arguments(params, self._account)
            if "Body" in arguments:
                _buffer_body(arguments, stack)
            with explain_client_errors(self._endpoint):
                answer: dict[str, Any] = getattr(self._client, method)(**arguments)
        status = answer.pop("ResponseMetadata")["HTTPStatusCode"]
        if "EncodingType" not in params:  # botocore requests and decodes it by itself
            answer.pop("EncodingType", None)
        return {**answer, "ResponseMetadata": {"HTTPStatusCode": status}} if operation == "GetObject" else answer

    def client_method(self, operation: str) -> str | None:
        """Return the name of the client's method for an operation, or None if there is no such method."""
        methods: Mapping[str, str] = self._client.meta.method_to_api_mapping
        return next((method for method, name in methods.items() if name == operation), None)


class _Operations(Mapping[str, "Operation"]):
    """Mapping of all operations of the client, resolved on access."""

    def __init__(self, handler: RemoteS3Handler) -> None:
        self._handler = handler

    def __getitem__(self, operation: str) -> Operation:
        method = self._handler.client_method(operation)
        if method is None:
            raise KeyError(operation)
        return lambda params: self._handler.forward(operation, method, params)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _client_arguments(params: Mapping[str, Any], account: str) -> dict[str, Any]:
    """Convert the parameters of a request to arguments of the client."""
    arguments = dict(params)
    for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
        if arguments.get(name) == account:  # the other server does not have the engine's account
            del arguments[name]
    if "CopySource" in arguments:
        bucket, key = copy_source(params)
        arguments["CopySource"] = {"Bucket": bucket, "Key": key}
    return arguments


def _buffer_body(arguments: dict[str, Any], stack: contextlib.ExitStack) -> None:
    """Replace a stream by a buffer, on the disk if it is large, because the client reads a body again to retry."""
    body, length = arguments["Body"], arguments.pop("ContentLength", None)
    if not isinstance(body, bytes):
        spooled = stack.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115 - the stack closes it
        while piece := body.read(_CHUNK):
            spooled.write(piece)
        size = spooled.tell()
        spooled.seek(0)
        arguments["Body"] = spooled
    else:
        size = len(body)
    if length is not None and size != length:
        raise ApiError(
            "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header"
        )
    trailing = getattr(body, "checksums", {})
    arguments.update({f"Checksum{name.upper()}": value for name, value in trailing.items() if value})

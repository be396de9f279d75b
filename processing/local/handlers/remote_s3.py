"""S3's operations, carried out by another S3 in place of the engine's own, with the user's credentials.

The session's calls and those of a job's own clients come through the engine, so a job never sees the credentials.
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
_CHUNK = 1 << 20


class RemoteS3Handler:
    """S3's operations, each given on to the other S3.

    Args:
        engine: the engine whose settings name it.

    Attributes:
        operations: the function for each operation.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._account = engine.account
        self._endpoint = str(engine.settings.remote_s3_endpoint)
        self._client = make_client(self._endpoint, engine.region)
        self.operations: Mapping[str, Operation] = _Operations(self)

    def carry_out(self, operation: str, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Carry an operation out there; params and results as for the engine's own handler."""
        with contextlib.ExitStack() as stack:
            given = _translated(params, self._account)
            if "Body" in given:
                _spool(given, stack)
            with explain_client_errors(self._endpoint):
                answer: dict[str, Any] = getattr(self._client, method)(**given)
        status = answer.pop("ResponseMetadata")["HTTPStatusCode"]
        if "EncodingType" not in params:  # botocore asks for it by itself, and undoes it
            answer.pop("EncodingType", None)
        return {**answer, "ResponseMetadata": {"HTTPStatusCode": status}} if operation == "GetObject" else answer

    def method_of(self, operation: str) -> str | None:
        """Return the client's method for an operation; None if there is none."""
        methods: Mapping[str, str] = self._client.meta.method_to_api_mapping
        return next((method for method, name in methods.items() if name == operation), None)


class _Operations(Mapping[str, "Operation"]):
    """Every operation that the client knows."""

    def __init__(self, handler: RemoteS3Handler) -> None:
        self._handler = handler

    def __getitem__(self, operation: str) -> Operation:
        method = self._handler.method_of(operation)
        if method is None:
            raise KeyError(operation)
        return lambda params: self._handler.carry_out(operation, method, params)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _translated(params: Mapping[str, Any], account: str) -> dict[str, Any]:
    """Return parameters as a client takes them."""
    given = dict(params)
    for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
        if given.get(name) == account:  # the engine's account does not exist there
            del given[name]
    if "CopySource" in given:
        bucket, key = copy_source(params)
        given["CopySource"] = {"Bucket": bucket, "Key": key}
    return given


def _spool(given: dict[str, Any], stack: contextlib.ExitStack) -> None:
    """Take a body in, on the disk if it is large: a client has to be able to read it twice."""
    body, length = given["Body"], given.pop("ContentLength", None)
    if not isinstance(body, bytes):
        spooled = stack.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115 — the stack is one
        while piece := body.read(_CHUNK):
            spooled.write(piece)
        size = spooled.tell()
        spooled.seek(0)
        given["Body"] = spooled
    else:
        size = len(body)
    if length is not None and size != length:
        raise ApiError(
            "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header"
        )
    trailing = getattr(body, "checksums", {})
    given.update({f"Checksum{name.upper()}": value for name, value in trailing.items() if value})

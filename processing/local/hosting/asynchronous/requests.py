"""The request of an asynchronous invocation, from the parameters of InvokeEndpointAsync."""

from __future__ import annotations

import base64
import time
import uuid
from typing import TYPE_CHECKING, Any

from processing.local.hosting.asynchronous.queue import AsyncRequest
from processing.local.hosting.program_client import invocation_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ASYNC_BODY = 128_000
"""The most bytes of a payload in the request itself."""
_TTL, _SECONDS = 21_600, 900
"""AWS's defaults for the time in the queue and for the time of the processing, in seconds."""


def async_request(params: Mapping[str, Any], body: bytes, output: Mapping[str, Any]) -> AsyncRequest:
    """Return the request to put into the queue.

    Args:
        params: the parameters of InvokeEndpointAsync.
        body: the payload in the parameters; empty if it is in S3.
        output: the OutputConfig of the endpoint.
    """
    number = str(uuid.uuid4())
    folder = _joined(output["S3OutputPath"], params.get("S3OutputPathExtension", ""))
    failure = output.get("S3FailurePath")
    return AsyncRequest(
        id=params.get("InferenceId") or number,
        source=params.get("InputLocation"),
        body=base64.b64encode(body).decode(),
        headers=invocation_headers(params),
        output=_joined(folder, params.get("Filename") or f"{number}.out"),
        failure=None if failure is None else _joined(failure, f"{number}-error.out"),
        expires=time.time() + params.get("RequestTTLSeconds", _TTL),
        seconds=params.get("InvocationTimeoutSeconds", _SECONDS),
    )


def _joined(uri: str, name: str) -> str:
    return f"{uri.rstrip('/')}/{name}".rstrip("/")

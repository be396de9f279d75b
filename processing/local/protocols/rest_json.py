"""REST-JSON, the protocol of SageMaker Runtime: the path names the operation, and the body is the program's own.

Such a request signs for `sagemaker`, like SageMaker's other operations, and has no X-Amz-Target.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from processing.local.protocols.event_stream import CONTENT_TYPE as EVENT_STREAM
from processing.local.protocols.event_stream import Events, EventStreamBody
from processing.local.protocols.message import Request, Response
from processing.local.protocols.values import HEADER_TIME, from_text, to_text
from processing.request.service_model import service_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.errors import ApiError

SERVICE = "sagemaker-runtime"
SIGNING_NAME = "sagemaker"
_CONTENT_TYPE = "application/json"
_PART_TYPE = "application/octet-stream"
"""The content type of an event whose payload is bytes."""
_NUMBERS = frozenset({"OriginalStatusCode"})
"""The members of errors that are numbers."""
_LABEL = re.compile(r"\{(\w+)\}")


def is_request(request: Request, service: str | None) -> bool:
    """Return whether a request for a service, by boto3's or by its signing name, is in this protocol."""
    if service not in {SERVICE, SIGNING_NAME} or "x-amz-target" in request.headers:
        return False
    return service == SERVICE or bool(operation_of(request))


def operation_of(request: Request) -> str:
    """Return the operation that the method and the path of a request name, or ""."""
    found = _find(request)
    return "" if found is None else found[0]


def decode(request: Request) -> dict[str, Any]:
    """Return the parameters of a request.

    Raises:
        ApiError: the request is malformed, or the body is too large.
    """
    found = _find(request)
    if found is None:
        return {}
    operation, labels = found
    shape: Any = service_model(SERVICE).operation_model(operation).input_shape
    payload = shape.serialization.get("payload")
    params: dict[str, Any] = {}
    for name, member in shape.members.items():
        place, key = member.serialization.get("location"), member.serialization.get("name", name)
        if place == "uri":
            params[name] = labels[key]
        elif place == "header" and (value := request.headers.get(key.lower())) is not None:
            params[name] = from_text(member, value)
        elif name == payload:
            params[name] = request.raw_content()
    return params


def encode(operation: str, result: Mapping[str, Any]) -> Response:
    """Return the answer. A payload of bytes is the body, and one that is an `Events` becomes an endless body."""
    model = service_model(SERVICE).operation_model(operation)
    shape: Any = model.output_shape
    headers: dict[str, str] = {}
    rest: dict[str, Any] = {}
    for name, value in result.items():
        member = shape.members[name]
        if member.serialization.get("location") == "header":
            headers[member.serialization["name"]] = to_text(member, value, HEADER_TIME)
        else:
            rest[name] = value
    status = int(model.http.get("responseCode", 200))
    payload = rest.get(shape.serialization.get("payload"))
    if isinstance(payload, Events):
        body = EventStreamBody(payload, None, _encode_event, _PART_TYPE, "Message")
        return Response(status, {**headers, "Content-Type": EVENT_STREAM}, body)
    if payload is not None:
        return Response(status, {"Content-Type": _PART_TYPE, **headers}, payload)
    return Response(status, {"Content-Type": _CONTENT_TYPE, **headers}, json.dumps(rest).encode())


def encode_error(error: ApiError) -> Response:
    """Return the error answer."""
    body = {"Message": error.message, **{name: _detail(name, value) for name, value in error.details.items()}}
    headers = {"Content-Type": _CONTENT_TYPE, "x-amzn-ErrorType": error.code}
    return Response(error.status, headers, json.dumps(body).encode())


def _detail(name: str, value: str) -> str | int:
    return int(value) if name in _NUMBERS else value


def _encode_event(members: Mapping[str, Any]) -> bytes:
    """Return the payload of an event: its only member if that is bytes, else JSON."""
    values = list(members.values())
    return values[0] if len(values) == 1 and isinstance(values[0], bytes) else json.dumps(members).encode()


def _find(request: Request) -> tuple[str, dict[str, str]] | None:
    for operation, method, path in _paths():
        match = path.fullmatch(request.path)
        if match is not None and request.method == method:
            return operation, {name: unquote(value) for name, value in match.groupdict().items()}
    return None


@functools.cache
def _paths() -> list[tuple[str, str, re.Pattern[str]]]:
    """Return the operations of the service with their methods and the patterns of their paths."""
    model = service_model(SERVICE)
    found = []
    for operation in model.operation_names:
        http = model.operation_model(operation).http
        pattern = _LABEL.sub(r"(?P<\1>[^/]+)", http["requestUri"])
        found.append((operation, http["method"], re.compile(pattern)))
    return found

"""JSON 1.0 and 1.1: the operation is in the header X-Amz-Target, parameters and result are JSON objects."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import json
from typing import TYPE_CHECKING, Any

from processing.local import strict_json
from processing.local.errors import ApiError
from processing.local.protocols.event_stream import CONTENT_TYPE as EVENT_STREAM
from processing.local.protocols.event_stream import Events, EventStreamBody
from processing.local.protocols.message import Request, Response
from processing.local.protocols.query_names import error_names
from processing.local.protocols.values import to_time
from processing.request.service_model import service_model

if TYPE_CHECKING:
    from collections.abc import Mapping

TARGETS = {
    "SageMaker": "sagemaker",
    "Logs_20140328": "logs",
    "AmazonSQS": "sqs",
    "GraniteServiceVersion20100801": "cloudwatch",
    "ResourceGroupsTaggingAPI_20170126": "resourcegroupstaggingapi",
}
"""The services of the engine by the first half of X-Amz-Target."""

_CONTENT_TYPES = ("application/x-amz-json-1.1", "application/x-amz-json-1.0")


def target_of(request: Request) -> tuple[str, str] | None:
    """Return the two halves of X-Amz-Target: the service's prefix and the operation."""
    prefix, dot, operation = request.headers.get("x-amz-target", "").rpartition(".")
    return (prefix, operation) if dot else None


def decode(service: str, operation: str, request: Request) -> dict[str, Any]:
    """Return the parameters of a request. A member of a structure that is null is absent, as on AWS."""
    content = request.content() or b"{}"
    try:
        params = strict_json.loads(content)
    except ValueError:
        raise ApiError("SerializationException", "The request body is not valid JSON.") from None
    if not isinstance(params, dict):
        raise ApiError("SerializationException", "The request body is not a JSON object.")
    if b"null" in content:  # few clients send any, and a search costs less than a visit of all values
        params = _without_nulls(_input_shape(service, operation), params)
    shape = _convertible_shape(service, operation)
    found: dict[str, Any] = params if shape is None else _from_json(shape, params)
    return found


def encode(result: Mapping[str, Any], request: Request) -> Response:
    """Return the answer.

    Times become seconds since the epoch. A member that is an `Events` becomes an endless body.
    """
    content_type = _content_type(request)
    for name, member in result.items():
        if isinstance(member, Events):
            initial = {other: value for other, value in result.items() if other != name}
            body = EventStreamBody(member, initial, _dumps, content_type)
            return Response(200, {"Content-Type": EVENT_STREAM}, body)
    return Response(200, {"Content-Type": content_type}, _dumps(result))


def _dumps(value: Any) -> bytes:
    return json.dumps(value, default=_to_json, separators=(",", ":")).encode()


def encode_error(service: str | None, error: ApiError, request: Request) -> Response:
    """Return the error answer."""
    names = error_names(service, error)
    body = json.dumps({"__type": names.qualified, "message": error.message, **error.details}).encode()
    headers = {"Content-Type": _content_type(request), "x-amzn-ErrorType": names.shape, **names.headers}
    return Response(error.status, headers, body)


def _content_type(request: Request) -> str:
    """Return the content type of an answer, which has the JSON version of the request."""
    return _CONTENT_TYPES[request.headers.get("content-type", "").startswith(_CONTENT_TYPES[1])]


def _to_json(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        moment = value.replace(tzinfo=dt.timezone.utc) if value.tzinfo is None else value
        return round(moment.timestamp(), 3)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is not a type of a service's answer")


_NON_FINITE = {"NaN", "Infinity", "-Infinity"}


@functools.cache
def _convertible_shape(service: str, operation: str) -> Any:
    """Return the shape of the parameters if some need conversion from JSON: times, bytes, and numbers such as NaN.

    Most operations have no such parameter. Their shape is None, and no value is visited.
    """
    shape = _input_shape(service, operation)
    return shape if shape is not None and _needs_conversion(shape, frozenset()) else None


def _input_shape(service: str, operation: str) -> Any:
    """Return the shape of an operation's parameters; None for an unknown operation, or one without parameters."""
    model = service_model(service)
    return model.operation_model(operation).input_shape if operation in model.operation_names else None


def _without_nulls(shape: Any, value: Any) -> Any:
    """Return a value whose structures have no members that are null.

    A null in a list or a map stays: AWS refuses it, and so does the schema check.
    """
    kind = getattr(shape, "type_name", "")
    if kind == "structure" and isinstance(value, dict):
        known = shape.members
        return {key: _without_nulls(known.get(key), each) for key, each in value.items() if each is not None}
    if kind == "list" and isinstance(value, list):
        return [_without_nulls(shape.member, each) for each in value]
    if kind == "map" and isinstance(value, dict):
        return {key: _without_nulls(shape.value, each) for key, each in value.items()}
    return value


def _needs_conversion(shape: Any, above: frozenset[str]) -> bool:
    if shape.type_name in {"timestamp", "blob", "float", "double"}:
        return True
    if shape.name in above:  # a recursive shape
        return False
    members: dict[str, Any] = {"structure": "members", "list": "member", "map": "value"}
    inside = getattr(shape, members.get(shape.type_name, ""), {})
    shapes = inside.values() if shape.type_name == "structure" else [inside] if inside else []
    return any(_needs_conversion(each, above | {shape.name}) for each in shapes)


def _from_json(shape: Any, value: Any) -> Any:
    """Return the value with its times and bytes converted from JSON.

    A value of the wrong type is returned unchanged. The schema check reports it.
    """
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict):
        return {
            key: _from_json(shape.members[key], each) if key in shape.members else each for key, each in value.items()
        }
    if kind == "list" and isinstance(value, list):
        return [_from_json(shape.member, each) for each in value]
    if kind == "map" and isinstance(value, dict):
        return {key: _from_json(shape.value, each) for key, each in value.items()}
    return _scalar_from_json(kind, value)


def _scalar_from_json(kind: str, value: Any) -> Any:
    try:
        if kind == "timestamp" and value is not None:
            return to_time(value)
        if kind == "blob" and isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (ValueError, OverflowError):
        raise ApiError("SerializationException", f"{value!r} is not a valid {kind}.") from None
    if kind in {"float", "double"} and isinstance(value, str) and value in _NON_FINITE:
        return float(value)
    return value

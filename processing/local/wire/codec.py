"""From a request to the answer: which service and operation it is, its parameters, and the result or error as bytes."""

from __future__ import annotations

import os
import re
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol

from attrs import evolve

from processing.local.errors import ApiError
from processing.local.wire import jsonrpc, query, rest
from processing.local.wire.message import ENGINE_DOMAIN, Call, Request, Response
from processing.request.schema import service_model

if TYPE_CHECKING:
    from collections.abc import Mapping

_JSON_SERVICES = frozenset(jsonrpc.TARGETS.values())
_QUERY_SERVICES = frozenset(query.VERSIONS.values())
_SCOPE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")


class Handle(Protocol):
    """What answers: the engine."""

    def __call__(self, service: str, operation: str, params: dict[str, Any], /) -> Mapping[str, Any]:
        """Carry the operation out, or raise `ApiError`."""


def identify(request: Request) -> tuple[str, str]:
    """Return the service, by boto3's name, and the operation; "" for an operation that cannot be told.

    The body is not read, unless it is a form.
    """
    service, operation = _named(request)
    return service, rest.identify(request) if service == rest.SERVICE else operation


def _named(request: Request) -> tuple[str, str]:
    """Return the service, and the operation if the request names it; S3's follows from all of the request."""
    target = jsonrpc.target_of(request)
    if target is not None:
        return jsonrpc.TARGETS.get(target[0], _service_of_host(request) or target[0]), target[1]
    service = _service_of_host(request) or _service_of_signature(request)
    if service is None or service in _QUERY_SERVICES:
        form = query.form_of(request)
        if "Action" in form:
            return service or query.VERSIONS.get(form.get("Version", ""), "unknown"), form["Action"]
    return service or rest.SERVICE, ""


def decode(request: Request) -> Call:
    """Return the operation with its parameters.

    Raises:
        ApiError: the request is malformed.
    """
    service, operation = _named(request)
    if service == rest.SERVICE:
        return Call(service, *rest.decode(request))
    if service in _JSON_SERVICES:
        return Call(service, operation, jsonrpc.decode(service, operation, request))
    if service in _QUERY_SERVICES:
        return Call(service, operation, query.decode(service, operation, query.form_of(request)))
    return Call(service, operation, {})


def answer(handle: Handle, request: Request) -> Response:
    """Carry a request out. Whatever it raises but `ApiError` is a fault of the engine, and goes up to the caller."""
    request_id = os.urandom(8).hex().upper()
    try:
        call = decode(request)
        result = handle(call.service, call.operation, call.params)
        response = _encode(call, result, request, request_id)
    except ApiError as error:
        response = _encode_error(error, request, request_id)
    headers = {
        "Date": formatdate(usegmt=True),
        "Server": "sm-processing",
        "x-amzn-RequestId": request_id,
        "x-amz-request-id": request_id,
        **response.headers,
    }
    if isinstance(response.body, bytes) and request.method != "HEAD":
        headers["Content-Length"] = str(len(response.body))
    return evolve(response, headers=headers)


def _encode(call: Call, result: Mapping[str, Any], request: Request, request_id: str) -> Response:
    if call.service in _JSON_SERVICES:
        return jsonrpc.encode(result)
    if call.service in _QUERY_SERVICES:
        return query.encode(call.service, call.operation, result, request_id)
    return rest.encode(call.operation, result, request.method)


def _encode_error(error: ApiError, request: Request, request_id: str) -> Response:
    content_type = request.headers.get("content-type", "")
    service = _service_of_host(request) or _service_of_signature(request)
    if "x-amz-target" in request.headers or "json" in content_type or _speaks_json(service):
        return jsonrpc.encode_error(error)
    if service in _QUERY_SERVICES or content_type.startswith("application/x-www-form-urlencoded"):
        return query.encode_error(error, request_id)
    return rest.encode_error(error, request, request_id)


def _service_of_host(request: Request) -> str | None:
    host = request.hostname
    if not host.endswith(f".{ENGINE_DOMAIN}"):
        return None
    # The label before the domain: what stands before it is a bucket, or a prefix of the service's own.
    return host.removesuffix(f".{ENGINE_DOMAIN}").rpartition(".")[2]


def _service_of_signature(request: Request) -> str | None:
    match = _SCOPE.search(request.headers.get("authorization", ""))
    return match[1] if match else None


def _speaks_json(service: str | None) -> bool:
    """Whether clients of a service that the engine does not have read errors as JSON."""
    if service is None or service == rest.SERVICE or service in _QUERY_SERVICES:
        return False
    from botocore.exceptions import UnknownServiceError

    try:
        return "json" in service_model(service).metadata.get("protocol", "")
    except UnknownServiceError:
        return False

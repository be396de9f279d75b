"""From a request to the answer: which service and operation it is, its parameters, and the result or error as bytes."""

from __future__ import annotations

import functools
import os
import re
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from urllib.parse import unquote

from attrs import evolve

from processing.local.errors import ApiError
from processing.local.protocols import aws_json, query, rest_xml
from processing.local.protocols.message import CLIENT_HOST, ENGINE_DOMAIN, OperationCall, Request, Response
from processing.request.service_model import service_model

if TYPE_CHECKING:
    from collections.abc import Mapping

_JSON_SERVICES = frozenset(aws_json.TARGETS.values())
_QUERY_SERVICES = frozenset(query.VERSIONS.values())
_SCOPE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")
_SIGNING_NAMES = {"monitoring": "cloudwatch", "tagging": "resourcegroupstaggingapi"}
"""boto3's names of the services that sign with another one."""

_SERVICES = _JSON_SERVICES | _QUERY_SERVICES | {rest_xml.SERVICE}


class _Identification(NamedTuple):
    """What a request itself says of the operation; "" for an operation that it does not name. S3's follows from all."""

    protocol: Literal["json", "query", "rest", "unknown"]
    service: str
    operation: str = ""


class Handle(Protocol):
    """What answers: the engine."""

    def __call__(self, service: str, operation: str, params: dict[str, Any], /) -> Mapping[str, Any]:
        """Carry the operation out, or raise `ApiError`."""


def identify(request: Request) -> tuple[str, str]:
    """Return the service, by boto3's name, and the operation; "" for an operation that cannot be told.

    The body is not read, unless it is a form.
    """
    named = _identify(request)
    return named.service, rest_xml.identify(request) if named.service == rest_xml.SERVICE else named.operation


def _identify(request: Request) -> _Identification:
    """Return the protocol, whatever the service's model prefers, the service and the operation."""
    target = aws_json.target_of(request)
    if target is not None:
        return _Identification("json", aws_json.TARGETS.get(target[0], _service_of(request) or target[0]), target[1])
    service = _service_of(request)
    if service is None or service in _QUERY_SERVICES:
        form = query.form_of(request)
        if "Action" in form:
            return _Identification(
                "query", service or query.VERSIONS.get(form.get("Version", ""), "unknown"), form["Action"]
            )
    if service is None or service == rest_xml.SERVICE:
        return _Identification("rest", rest_xml.SERVICE)
    return _Identification("query" if service in _QUERY_SERVICES else "unknown", service)


def decode(request: Request) -> OperationCall:
    """Return the operation with its parameters.

    Raises:
        ApiError: the request is malformed.
    """
    return _decode_call(_identify(request), request)


def _decode_call(named: _Identification, request: Request) -> OperationCall:
    protocol, service, operation = named
    if _is_cbor(request):
        raise ApiError("NotImplemented", "The local engine does not speak CBOR: use the protocol json or query.", 501)
    if protocol == "rest":
        return OperationCall(service, *rest_xml.decode(request))
    params: dict[str, Any] = {}
    if protocol == "json" and service in _JSON_SERVICES:
        params = aws_json.decode(service, operation, request)
    elif protocol == "query" and service in _QUERY_SERVICES:
        params = query.decode(service, operation, query.form_of(request))
    return OperationCall(service, operation, params)


def protocol_of(request: Request) -> Literal["rest", "json", "query"]:
    """Return how the client of a request expects to be told that it may not make it."""
    if _is_cbor(request) or aws_json.target_of(request) is not None:
        return "json"
    service = _service_of(request)
    if service == rest_xml.SERVICE:
        return "rest"
    return "query" if service in _QUERY_SERVICES or query.form_of(request) else "json" if service else "rest"


def signing_name_of(request: Request) -> str | None:
    """Return the name of the service that a request has to be signed for; None for one that the engine lacks."""
    service = _identify(request).service
    if service not in _SERVICES:
        return None
    return next((signing for signing, name in _SIGNING_NAMES.items() if name == service), service)


def is_of_object_service(request: Request) -> bool:
    """Return whether a request is signed for S3, whose bodies may have any size."""
    return _service_of(request) == rest_xml.SERVICE


def new_request_id() -> str:
    """Return what names a request in its answer and in the log."""
    return os.urandom(8).hex().upper()


def handle_request(handle: Handle, request: Request, request_id: str | None = None) -> Response:
    """Carry a request out. Whatever it raises but `ApiError` is a fault of the engine, and goes up to the caller."""
    request_id = request_id or new_request_id()
    CLIENT_HOST.set(request.host)
    try:
        named = _identify(request)
        call = _decode_call(named, request)
        result = handle(call.service, call.operation, call.params)
        response = _encode(named.protocol, call, result, request, request_id)
    except ApiError as error:
        return error_response(error, request, request_id)
    return _finished(response, request, request_id)


def error_response(error: ApiError, request: Request, request_id: str) -> Response:
    """Return the answer that tells of an error."""
    return _finished(_encode_error(error, request, request_id), request, request_id)


def _finished(response: Response, request: Request, request_id: str) -> Response:
    headers = {
        "Date": _date(int(time.time())),
        "Server": "sm-processing",
        "x-amzn-RequestId": request_id,
        "x-amz-request-id": request_id,
        **response.headers,
    }
    if isinstance(response.body, bytes) and request.method != "HEAD":
        headers["Content-Length"] = str(len(response.body))
    return evolve(response, headers=headers)


@functools.lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _encode(
    protocol: str, call: OperationCall, result: Mapping[str, Any], request: Request, request_id: str
) -> Response:
    if protocol == "json":
        return aws_json.encode(result, request)
    if protocol == "query":
        return query.encode(call.service, call.operation, result, request_id)
    return rest_xml.encode(call.operation, result, request.method)


def _encode_error(error: ApiError, request: Request, request_id: str) -> Response:
    target = aws_json.target_of(request)
    service = _service_of(request) if target is None else aws_json.TARGETS.get(target[0])
    content_type = request.headers.get("content-type", "")
    if _is_cbor(request) or "x-amz-target" in request.headers or "json" in content_type or _speaks_json(service):
        return aws_json.encode_error(service, error, request)
    if service in _QUERY_SERVICES or content_type.startswith("application/x-www-form-urlencoded"):
        return query.encode_error(service, error, request_id)
    return rest_xml.encode_error(error, request, request_id)


def _is_cbor(request: Request) -> bool:
    """Return whether a request is in Smithy's RPC protocol, whose bodies are CBOR.

    The models of CloudWatch and Resource Groups Tagging have it beside JSON; botocore prefers JSON.
    """
    return request.headers.get("smithy-protocol") == "rpc-v2-cbor"


def _service_of(request: Request) -> str | None:
    """Return the service that the host or the signature names, by boto3's name."""
    name = _service_of_host(request) or _service_of_signature(request)
    return None if name is None else _SIGNING_NAMES.get(name, name)


def _service_of_host(request: Request) -> str | None:
    host = request.hostname
    if not host.endswith(f".{ENGINE_DOMAIN}"):
        return None
    # The label before the domain: what stands before it is a bucket, or a prefix of the service's own.
    return host.removesuffix(f".{ENGINE_DOMAIN}").rpartition(".")[2]


def _service_of_signature(request: Request) -> str | None:
    match = _SCOPE.search(request.headers.get("authorization", ""))
    if match is None and "X-Amz-Credential=" in request.query:  # a presigned URL
        match = _SCOPE.search(unquote(request.query).replace("X-Amz-Credential", "Credential"))
    return match[1] if match else None


def _speaks_json(service: str | None) -> bool:
    """Whether clients of a service that the engine does not have read errors as JSON."""
    if service is None or service == rest_xml.SERVICE or service in _QUERY_SERVICES:
        return False
    from botocore.exceptions import UnknownServiceError

    try:
        return "json" in service_model(service).metadata.get("protocol", "")
    except UnknownServiceError:
        return False

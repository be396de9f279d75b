"""The codec: it identifies a request's operation, decodes the parameters, and encodes the result or the error.

Requests do not name their protocol, so the codec derives it, in this order:

1. The host, or else the signature, names the service. S3 is always REST-XML, since its bodies have any content type.
2. The header X-Amz-Target means JSON, and names the service and the operation.
3. A path of SageMaker Runtime, in a request that is signed for SageMaker, means REST-JSON.
4. A form with the field Action means the query protocol.
5. Everything else, if it is for no known service, is REST-XML.
"""

from __future__ import annotations

import functools
import os
import re
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from urllib.parse import unquote

import attrs

from processing.local.errors import ApiError
from processing.local.protocols import aws_json, query, rest_json, rest_xml, sigv2
from processing.local.protocols.message import CLIENT_HOST, ENGINE_DOMAIN, OperationCall, Request, Response
from processing.request.service_model import service_model

if TYPE_CHECKING:
    from collections.abc import Mapping

_JSON_SERVICES = frozenset(aws_json.TARGETS.values())
_QUERY_SERVICES = frozenset(query.VERSIONS.values())
_SCOPE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")
_PATH_OF_OTHERS = re.compile(r"/?|/\d{12}/[\w.-]+")
"""The paths of all services but S3: the root, and the URLs of queues."""

_SIGNING_NAMES = {"monitoring": "cloudwatch", "tagging": "resourcegroupstaggingapi"}
"""boto3's names of the services whose signing name differs."""

_SERVICES = _JSON_SERVICES | _QUERY_SERVICES | {rest_xml.SERVICE, rest_json.SERVICE}


class _Identification(NamedTuple):
    """The protocol, the service and the operation of a request.

    The operation is "" if the request does not name it. An operation of S3 follows from the whole request.
    """

    protocol: Literal["json", "query", "rest", "rest-json", "unknown"]
    service: str
    operation: str = ""


class Handle(Protocol):
    """The engine's entry point for all operations."""

    def __call__(self, service: str, operation: str, params: dict[str, Any], /) -> Mapping[str, Any]:
        """Carry the operation out and return its result.

        Raises:
            ApiError: the service refuses or fails.
        """


def identify(request: Request) -> tuple[str, str]:
    """Return the service, by boto3's name, and the operation, or "" if the request does not name one.

    Only the body of a form is read.

    Raises:
        ApiError: no operation of S3 has such a request.
    """
    named = _identify(request)
    return named.service, rest_xml.identify(request) if named.service == rest_xml.SERVICE else named.operation


def _identify(request: Request) -> _Identification:
    """Identify a request. Its protocol counts, not the one that the service's model prefers."""
    service = _service_of(request)
    target = aws_json.target_of(request)
    if target is not None and service != rest_xml.SERVICE:
        return _Identification("json", aws_json.TARGETS.get(target[0], service or target[0]), target[1])
    if rest_json.is_request(request, service):
        return _Identification("rest-json", rest_json.SERVICE, rest_json.operation_of(request))
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
    if protocol == "rest-json":
        params = rest_json.decode(request)
    elif protocol == "json" and service in _JSON_SERVICES:
        params = aws_json.decode(service, operation, request)
    elif protocol == "query" and service in _QUERY_SERVICES:
        params = query.decode(service, operation, query.form_of(request))
    return OperationCall(service, operation, params)


def protocol_of(request: Request) -> Literal["rest", "json", "query"]:
    """Return the protocol in which the client of a request expects authentication errors. The body is not read."""
    service = _service_of(request)
    if service == rest_xml.SERVICE:
        return "rest"
    if _is_cbor(request) or aws_json.target_of(request) is not None:
        return "json"
    is_form = query.has_form(request) or "Action=" in request.query
    return "query" if service in _QUERY_SERVICES or is_form else "json" if service else "rest"


def signing_name_of(request: Request) -> str | None:
    """Return the signing name of a request's service, or None if it is unknown. The body is not read."""
    service, target = _service_of(request), aws_json.target_of(request)
    if target is not None and service != rest_xml.SERVICE:
        service = aws_json.TARGETS.get(target[0], service)
    if service not in _SERVICES:
        return None
    if service == rest_json.SERVICE:
        return rest_json.SIGNING_NAME
    return next((signing for signing, name in _SIGNING_NAMES.items() if name == service), service)


def is_of_object_service(request: Request) -> bool:
    """Return whether a request is for S3, whose bodies may have any size."""
    return _service_of(request) == rest_xml.SERVICE


def new_request_id() -> str:
    """Return a new request id, for the answer and for the log."""
    return os.urandom(8).hex().upper()


def handle_request(handle: Handle, request: Request, request_id: str | None = None) -> Response:
    """Carry a request out and return the answer, which may be an error.

    Exceptions other than `ApiError` are faults of the engine. The caller handles them.
    """
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
    """Return the answer for an error."""
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
    return attrs.evolve(response, headers=headers)


@functools.lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _encode(
    protocol: str, call: OperationCall, result: Mapping[str, Any], request: Request, request_id: str
) -> Response:
    if protocol == "json":
        return aws_json.encode(result, request)
    if protocol == "rest-json":
        return rest_json.encode(call.operation, result)
    if protocol == "query":
        return query.encode(call.service, call.operation, result, request_id)
    return rest_xml.encode(call.operation, result, request.method)


def _encode_error(error: ApiError, request: Request, request_id: str) -> Response:
    target, service = aws_json.target_of(request), _service_of(request)
    if service == rest_xml.SERVICE:
        return rest_xml.encode_error(error, request, request_id)
    if rest_json.is_request(request, service):
        return rest_json.encode_error(error)
    service = service if target is None else aws_json.TARGETS.get(target[0])
    content_type = request.headers.get("content-type", "")
    if _is_cbor(request) or "x-amz-target" in request.headers or "json" in content_type or _speaks_json(service):
        return aws_json.encode_error(service, error, request)
    if service in _QUERY_SERVICES or query.has_form(request):
        return query.encode_error(service, error, request_id)
    return rest_xml.encode_error(error, request, request_id)


def _is_cbor(request: Request) -> bool:
    """Return whether a request is in Smithy's RPC protocol, whose bodies are CBOR.

    The models of CloudWatch and Resource Groups Tagging have it beside JSON. botocore prefers JSON.
    """
    return request.headers.get("smithy-protocol") == "rpc-v2-cbor"


def _service_of(request: Request) -> str | None:
    """Return the service that the host, the signature or the path names, by boto3's name."""
    name = _service_of_host(request) or _service_of_signature(request)
    if name is None and (_names_bucket(request) or _is_presigned_for_s3(request)):
        return rest_xml.SERVICE
    return None if name is None else _SIGNING_NAMES.get(name, name)


def _names_bucket(request: Request) -> bool:
    """Return whether the path of a request is a bucket's. `curl -d` sends a form there, without a signature."""
    has_protocol = _is_cbor(request) or "x-amz-target" in request.headers
    return not has_protocol and _PATH_OF_OTHERS.fullmatch(request.path) is None


def _is_presigned_for_s3(request: Request) -> bool:
    """Return whether a request has the parameters of a presigned URL of version 2 that names no action."""
    return sigv2.is_presigned(request) and "Action=" not in request.query


def _service_of_host(request: Request) -> str | None:
    host = request.hostname
    if not host.endswith(f".{ENGINE_DOMAIN}"):
        return None
    # The service is the last label before the domain. A bucket or a host prefix may precede it.
    return host.removesuffix(f".{ENGINE_DOMAIN}").rpartition(".")[2]


def _service_of_signature(request: Request) -> str | None:
    match = _SCOPE.search(request.headers.get("authorization", ""))
    if match is None and "X-Amz-Credential=" in request.query:  # a presigned URL
        match = _SCOPE.search(unquote(request.query).replace("X-Amz-Credential", "Credential"))
    return match[1] if match else None


def _speaks_json(service: str | None) -> bool:
    """Return whether clients read the errors of a service as JSON, also of one that the engine does not have."""
    if service is None or service == rest_xml.SERVICE or service in _QUERY_SERVICES:
        return False
    from botocore.exceptions import UnknownServiceError

    try:
        return "json" in service_model(service).metadata.get("protocol", "")
    except UnknownServiceError:
        return False

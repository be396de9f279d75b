"""Smithy RPC v2 with CBOR: service and operation in the path, parameters and result as CBOR maps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.protocols import cbor
from processing.local.protocols.message import Request, Response
from processing.local.protocols.query_names import error_names

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICES = {
    "GraniteServiceVersion20100801": "cloudwatch",
    "ResourceGroupsTaggingAPI_20170126": "resourcegroupstaggingapi",
}
"""The service's name in the path, for the services that the engine has."""

_PATH = re.compile(r"/service/([^/]+)/operation/([^/]+)$")
_HEADERS = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}


def operation_of(request: Request) -> tuple[str, str] | None:
    """Return the service's name and the operation in the path of a request in this protocol."""
    if request.headers.get("smithy-protocol") != "rpc-v2-cbor":
        return None
    match = _PATH.search(request.path)
    return (match[1], match[2]) if match else ("", "")


def decode(request: Request) -> dict[str, Any]:
    """Return the parameters of a request."""
    content = request.content()
    params = cbor.loads(content) if content else {}
    if not isinstance(params, dict):
        raise ApiError("SerializationException", "The request body is not a CBOR map.")
    return {str(name): value for name, value in params.items() if value is not None}


def encode(result: Mapping[str, Any]) -> Response:
    """Return the answer."""
    return Response(200, dict(_HEADERS), cbor.dumps(result))


def encode_error(service: str | None, error: ApiError) -> Response:
    """Return the error answer."""
    names = error_names(service, error)
    body = cbor.dumps({"__type": names.qualified, "message": error.message, **error.details})
    return Response(error.status, {**_HEADERS, **names.headers}, body)

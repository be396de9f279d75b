"""Refusals of services: status, headers and body in the protocol of the request."""

from __future__ import annotations

import email.utils
from typing import TYPE_CHECKING, Final, NamedTuple

from processing.testing.wire import protocol_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.testing.wire import RequestLike


class HttpResponse(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _ErrorSpec(NamedTuple):
    code: str
    message: str
    status: int


_500 = _ErrorSpec("InternalFailure", "The request processing has failed.", 500)
_503 = _ErrorSpec("ServiceUnavailable", "The service is unavailable.", 503)
_THROTTLED = _ErrorSpec("ThrottlingException", "Rate exceeded", 400)
_SKEW = "Signature expired: the time of the request differs too much from the current time."
_EXPIRED = "The security token included in the request is expired"

# The refusals by kind of fault: in JSON and REST-JSON (SageMaker Runtime), in the query protocol (STS and IAM), and in
# REST-XML (S3).
_REFUSALS: Final[Mapping[str, tuple[_ErrorSpec, _ErrorSpec, _ErrorSpec]]] = {
    "throttle": (_THROTTLED, _THROTTLED, _ErrorSpec("SlowDown", "Please reduce your request rate.", 503)),
    "error500": (_500, _500, _500),
    "error503": (_503, _503, _503),
    "denied": (
        _ErrorSpec("AccessDeniedException", "Not authorized.", 400),
        _ErrorSpec("AccessDenied", "Access Denied", 403),
        _ErrorSpec("AccessDenied", "Access Denied", 403),
    ),
    "expired": (
        _ErrorSpec("ExpiredTokenException", _EXPIRED, 400),
        _ErrorSpec("ExpiredToken", _EXPIRED, 403),
        _ErrorSpec("ExpiredToken", "The provided token has expired.", 400),
    ),
    "skew": (
        _ErrorSpec("InvalidSignatureException", _SKEW, 400),
        _ErrorSpec("SignatureDoesNotMatch", _SKEW, 403),
        _ErrorSpec("RequestTimeTooSkewed", _SKEW, 403),
    ),
}
_COLUMNS: Final = {"json": 0, "rest-json": 0, "query": 1, "rest-xml": 2}


def is_refusal(kind: str) -> bool:
    """Return whether a kind of fault is an error answer of the service."""
    return kind in _REFUSALS


def refusal(kind: str, request: RequestLike, now: float | None) -> HttpResponse:
    """Return a service's refusal of a request.

    Args:
        kind: the kind of fault.
        request: the request.
        now: the server's time for the Date header, in seconds since the epoch. None leaves the header out.
    """
    protocol = protocol_of(request)
    code, message, status = _REFUSALS[kind][_COLUMNS[protocol]]
    date = {} if now is None else {"Date": email.utils.formatdate(now, usegmt=True)}
    if request.method == "HEAD":
        return HttpResponse(status, date, b"")
    if protocol == "json":
        body = f'{{"__type":"{code}","message":"{message}"}}'
        return HttpResponse(status, {"Content-Type": "application/x-amz-json-1.1", **date}, body.encode())
    if protocol == "rest-json":
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": code, **date}
        return HttpResponse(status, headers, f'{{"Message":"{message}"}}'.encode())
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    whole = f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>" if protocol == "query" else error
    xml = f'<?xml version="1.0" encoding="UTF-8"?>{whole}'
    return HttpResponse(status, {"Content-Type": "text/xml", **date}, xml.encode())

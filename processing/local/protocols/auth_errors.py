"""Authentication errors of AWS: the code, the message and the HTTP status in each protocol."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Literal

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Protocol = Literal["rest", "json", "query"]

ALLOWED_SKEW = 900
"""The largest difference between a client's clock and the engine's, in seconds. S3 allows 15 minutes, too."""

_INVALID_TOKEN = "The security token included in the request is invalid."  # noqa: S105 - an error message
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your {key} and signing method."
)
_QUERY_MISMATCH = _MISMATCH.format(key="AWS Secret Access Key") + " Consult the service documentation for details."


def iso_time(moment: float) -> str:
    """Format a time as S3's errors do: `2013-05-24T00:00:00Z`."""
    return dt.datetime.fromtimestamp(moment, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def amz_date(moment: float) -> str:
    """Format a time as signatures do: `20130524T000000Z`."""
    return dt.datetime.fromtimestamp(moment, dt.timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def missing(protocol: Protocol) -> ApiError:
    """Return the error for an unsigned request."""
    if protocol == "rest":
        return ApiError("AccessDenied", "Access Denied", 403)
    if protocol == "json":
        return ApiError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
    return ApiError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)


def malformed(protocol: Protocol, why: str, *, presigned: bool = False) -> ApiError:
    """Return the error for a signature that cannot be parsed; `why` is a sentence."""
    if protocol == "rest" and presigned:
        return ApiError("AuthorizationQueryParametersError", why)
    if protocol == "rest":
        return ApiError("AuthorizationHeaderMalformed", f"The authorization header is malformed; {why}")
    return ApiError("IncompleteSignatureException" if protocol == "json" else "IncompleteSignature", why)


def unsupported_mechanism(protocol: Protocol) -> ApiError:
    """Return the error for Signature Version 2, for the asymmetric version 4A, and for other schemes."""
    message = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
    return ApiError("InvalidRequest", message) if protocol == "rest" else malformed(protocol, message)


def unknown_key(protocol: Protocol, access_key: str) -> ApiError:
    """Return the error for an unknown access key."""
    if protocol == "rest":
        message = "The AWS Access Key Id you provided does not exist in our records."
        return ApiError("InvalidAccessKeyId", message, 403, AWSAccessKeyId=access_key)
    return invalid_token(protocol)


def invalid_token(protocol: Protocol) -> ApiError:
    """Return the error for a session token that is invalid or belongs to another key."""
    if protocol == "rest":
        return ApiError("InvalidToken", "The provided token is malformed or otherwise invalid.")
    return ApiError(
        "UnrecognizedClientException" if protocol == "json" else "InvalidClientTokenId", _INVALID_TOKEN, 403
    )


def expired_token(protocol: Protocol) -> ApiError:
    """Return the error for a temporary key that has expired."""
    if protocol == "rest":
        return ApiError("ExpiredToken", "The provided token has expired.")
    message = "The security token included in the request is expired"
    if protocol == "json":
        return ApiError("ExpiredTokenException", message)
    return ApiError("ExpiredToken", message, 403)


def mismatch(protocol: Protocol, details: Callable[[], Mapping[str, str]]) -> ApiError:
    """Return the error for a wrong signature, such as one by a wrong secret.

    S3's error has details of the calculation; they are computed on demand.
    """
    if protocol == "rest":
        message = _MISMATCH.format(key="key")
        return ApiError("SignatureDoesNotMatch", message, 403, **details())
    return ApiError(_signature_code(protocol), _QUERY_MISMATCH, 403)


def wrong_service(protocol: Protocol, signed: str, meant: str) -> ApiError:
    """Return the error for a request to one service that is signed for another."""
    if protocol == "rest":
        return malformed(protocol, f'incorrect service "{signed}". This endpoint belongs to "{meant}".')
    return ApiError(_signature_code(protocol), f"Credential should be scoped to correct service: '{meant}'.", 403)


def clock_skew(protocol: Protocol, signed: float, now: float) -> ApiError:
    """Return the error for a signature whose time differs too much from the engine's."""
    if protocol == "rest":
        return ApiError(
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
            403,
            RequestTime=amz_date(signed),
            ServerTime=iso_time(now),
            MaxAllowedSkewMilliseconds=str(ALLOWED_SKEW * 1000),
        )
    signed_at, clock, minutes = amz_date(signed), amz_date(now), ALLOWED_SKEW // 60
    if signed < now:
        bound = amz_date(now - ALLOWED_SKEW)
        text = f"Signature expired: {signed_at} is now earlier than {bound} ({clock} - {minutes} min.)"
    else:
        bound = amz_date(now + ALLOWED_SKEW)
        text = f"Signature not yet current: {signed_at} is still later than {bound} ({clock} + {minutes} min.)"
    return ApiError(_signature_code(protocol), text, 403)


def expired_url(protocol: Protocol, signed: float, lifetime: int, now: float) -> ApiError:
    """Return the error for a presigned URL that has expired."""
    if protocol != "rest":
        return clock_skew(protocol, signed, now)
    details = {"X-Amz-Expires": str(lifetime), "Expires": iso_time(signed + lifetime), "ServerTime": iso_time(now)}
    return ApiError("AccessDenied", "Request has expired", 403, **details)


def url_not_yet_valid(protocol: Protocol, signed: float, lifetime: int, now: float) -> ApiError:
    """Return the error for a presigned URL whose time lies in the future."""
    if protocol != "rest":
        return clock_skew(protocol, signed, now)
    details = {"X-Amz-Expires": str(lifetime), "Expires": iso_time(signed + lifetime), "ServerTime": iso_time(now)}
    return ApiError("AccessDenied", "Request is not valid yet", 403, **details)


def unsigned_headers(names: str) -> ApiError:
    """Return S3's error for `x-amz-` headers that the signature does not cover."""
    message = "There were headers present in the request which were not signed"
    return ApiError("AccessDenied", message, 403, HeadersNotSigned=names)


def content_mismatch(claimed: str, computed: str) -> ApiError:
    """Return S3's error for a body whose hash differs from the signed one."""
    message = "The provided 'x-amz-content-sha256' header does not match what was computed."
    details = {"ClientComputedContentSHA256": claimed, "S3ComputedContentSHA256": computed}
    return ApiError("XAmzContentSHA256Mismatch", message, 400, **details)


def _signature_code(protocol: Protocol) -> str:
    return "InvalidSignatureException" if protocol == "json" else "SignatureDoesNotMatch"

"""Signature Version 2 in the URL: what boto3 and the AWS CLI presign for S3 in us-east-1, unless told to use version 4.

Only that: requests signed by version 2 in a header, which no client has made for years, are refused.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html describes both.
"""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_plus

from attrs import evolve, frozen

from processing.local.errors import ApiError
from processing.local.protocols import auth_errors
from processing.local.protocols.message import bucket_of_host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.protocols.message import Request

_NOT_SIGNED = frozenset({"AWSAccessKeyId", "Signature", "Expires"})


@frozen
class SignedUrl:
    """A presigned URL of version 2.

    Attributes:
        access_key: whose signature it is.
        token: the session token, of a temporary key.
        expires: the end, in seconds since the epoch.
        signature: as given.
        text: what was signed.
        request: the request, with the headers that stand in the URL among its headers.
    """

    access_key: str
    token: str | None
    expires: int
    signature: str
    text: str
    request: Request

    def check(self, secret: str, now: float) -> None:
        """Hold the signature against the secret, and its end against the time.

        Raises:
            ApiError: `AccessDenied` (it has ended), `SignatureDoesNotMatch`.
        """
        if self.expires < now:
            details = {"Expires": auth_errors.iso_time(self.expires), "ServerTime": auth_errors.iso_time(now)}
            raise ApiError("AccessDenied", "Request has expired", 403, **details)
        expected = base64.b64encode(hmac.digest(secret.encode(), self.text.encode(), "sha1")).decode()
        if not hmac.compare_digest(expected.encode(), self.signature.encode()):
            details = {
                "AWSAccessKeyId": self.access_key,
                "StringToSign": self.text,
                "SignatureProvided": self.signature,
            }
            raise auth_errors.mismatch("rest", lambda: details)


def parse(request: Request) -> SignedUrl | None:
    """Return the signature in a request's URL; None if there is none of version 2.

    Raises:
        ApiError: it cannot be parse.
    """
    if "Signature=" not in request.query or "AWSAccessKeyId=" not in request.query:
        return None
    fields = dict(parse_qsl(request.query, keep_blank_values=True))
    if not fields.keys() >= _NOT_SIGNED:
        message = "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters"
        raise ApiError("AccessDenied", message, 403)
    text, latest = fields["Expires"], 1 << 40
    if not text.isdecimal() or not text.isascii() or len(text) > 12 or int(text) > latest:
        raise ApiError("AccessDenied", f"Invalid date (should be seconds since epoch): {text}", 403)
    in_url = {name.lower(): value for name, value in fields.items() if name.lower().startswith("x-amz-")}
    request = evolve(request, headers={**request.headers, **in_url})
    return SignedUrl(
        fields["AWSAccessKeyId"],
        request.headers.get("x-amz-security-token"),
        int(text),
        fields["Signature"],
        _string_to_sign(request, text),
        request,
    )


def _string_to_sign(request: Request, expires: str) -> str:
    plain = [request.headers.get(name, "").strip() for name in ("content-md5", "content-type")]
    amazon = [f"{name}:{value.strip()}" for name, value in sorted(_amazon_headers(request.headers).items())]
    return "\n".join([request.method, *plain, expires, *amazon, _canonicalized_resource(request)])


def _amazon_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("x-amz-")}


def _canonicalized_resource(request: Request) -> str:
    """Return the path as it came, with the bucket although the host may name it, and the parameters that are signed."""
    from botocore.auth import HmacV1Auth

    bucket = bucket_of_host(request)
    path = request.path if bucket is None else f"/{bucket}{request.path}"
    # As they are understood, not as they are written: `%61cl` is `acl`.
    pairs = ([unquote_plus(text) for text in part.partition("=")] for part in request.query.split("&"))
    signed = sorted(
        (name, f"{name}{equals}{value}") for name, equals, value in pairs if name in HmacV1Auth.QSAOfInterest
    )
    return path + ("?" + "&".join(text for _, text in signed) if signed else "")

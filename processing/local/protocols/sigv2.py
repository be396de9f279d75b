"""Signature Version 2 in presigned URLs: boto3 and the AWS CLI use it for S3 in us-east-1 by default.

Version 2 in a header is refused, since no current client sends it.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html
"""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_plus

import attrs

from processing.local.errors import ApiError
from processing.local.protocols import auth_errors
from processing.local.protocols.message import bucket_of_host, headers_of_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.protocols.message import Request

_NOT_SIGNED = frozenset({"AWSAccessKeyId", "Signature", "Expires"})


@attrs.frozen
class SignedUrl:
    """A presigned URL of version 2.

    Attributes:
        access_key: the access key that signed it.
        token: the session token of a temporary key, or None.
        expires: the end of its validity, in seconds since the epoch.
        signature: the signature in the URL.
        text: the string to sign.
        request: the request. Its headers include those in the URL.
    """

    access_key: str
    token: str | None
    expires: int
    signature: str
    text: str
    request: Request

    def check(self, secret: str, now: float) -> None:
        """Check the signature with the secret, and the end of its validity.

        Raises:
            ApiError: the URL has expired (`AccessDenied`), or the signature is wrong (`SignatureDoesNotMatch`).
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


def is_presigned(request: Request) -> bool:
    """Return whether the URL of a request has a signature of version 2."""
    return "Signature=" in request.query and "AWSAccessKeyId=" in request.query


def parse(request: Request) -> SignedUrl | None:
    """Return the presigned URL of a request, or None if the URL has no signature of version 2.

    Raises:
        ApiError: the signature cannot be parsed.
    """
    if not is_presigned(request):
        return None
    fields = dict(parse_qsl(request.query, keep_blank_values=True))
    if not fields.keys() >= _NOT_SIGNED:
        raise ApiError(
            "AccessDenied",
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
            403,
        )
    if "Action" in fields:  # not signed in version 2, so it could have been added by anyone
        raise ApiError("InvalidRequest", "A presigned URL of S3 has no Action parameter.")
    text, latest = fields["Expires"], 1 << 40
    if not text.isdecimal() or not text.isascii() or len(text) > 12 or int(text) > latest:
        raise ApiError("AccessDenied", f"Invalid date (should be seconds since epoch): {text}", 403)
    in_url = {name.lower(): value for name, value in fields.items() if name.lower().startswith("x-amz-")}
    signed = attrs.evolve(request, headers={**request.headers, **in_url})
    return SignedUrl(
        fields["AWSAccessKeyId"],
        signed.headers.get("x-amz-security-token"),
        int(text),
        fields["Signature"],
        _string_to_sign(signed, text),
        attrs.evolve(request, headers={**request.headers, **headers_of_url(fields)}),
    )


def _string_to_sign(request: Request, expires: str) -> str:
    plain = [request.headers.get(name, "").strip() for name in ("content-md5", "content-type")]
    amazon = [f"{name}:{value.strip()}" for name, value in sorted(_amazon_headers(request.headers).items())]
    return "\n".join([request.method, *plain, expires, *amazon, _canonicalized_resource(request)])


def _amazon_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("x-amz-")}


def _canonicalized_resource(request: Request) -> str:
    """Return the path with the bucket, which the host may name, and the signed query parameters."""
    from botocore.auth import HmacV1Auth

    bucket = bucket_of_host(request)
    path = request.path if bucket is None else f"/{bucket}{request.path}"
    # Names are compared decoded, as the codec reads them: `%61cl` is `acl`.
    pairs = ([unquote_plus(text) for text in part.partition("=")] for part in request.query.split("&"))
    signed = sorted(
        (name, f"{name}{equals}{value}") for name, equals, value in pairs if name in HmacV1Auth.QSAOfInterest
    )
    return path + ("?" + "&".join(text for _, text in signed) if signed else "")

"""AWS Signature Version 4: verification that a request is unchanged and comes from an owner of the secret.

The signature is in the Authorization header or in a presigned URL. The body is checked while it streams: as a whole
against its signed hash, or chunk by chunk (aws-chunked). Every region is accepted, since the engine stands for all.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import hmac
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

import attrs

from processing.clock import SYSTEM_CLOCK, Clock
from processing.container.contract import DAY
from processing.local.credentials import InvalidTokenError
from processing.local.errors import ApiError
from processing.local.protocols import auth_errors, sigv2
from processing.local.protocols.chunk_signatures import ALGORITHM, EMPTY_HASH, ChunkSignatures, sign
from processing.local.protocols.message import headers_of_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.credentials import Credentials, Identity, Keys
    from processing.local.protocols.auth_errors import Protocol
    from processing.local.protocols.message import Request
    from processing.local.stores.bodies import Readable

MAX_LIFETIME = 7 * DAY
"""The longest validity of a presigned URL, in seconds. AWS allows seven days."""

_UNSIGNED = frozenset({"UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"})
_CHUNKED = frozenset({"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"})
_HASH = re.compile(r"[0-9a-f]{64}")
_AMZ_DATE = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_PLAIN_PATH = re.compile(r"[\w/.~-]*", re.ASCII)  # the same encoded and decoded
_PLAIN_QUERY = re.compile(r"[\w.~=&-]*", re.ASCII)
_QUERY_FIELDS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)


@attrs.frozen
class _ClaimedSignature:
    """The signature that a request claims to have, before it is verified."""

    access_key: str
    scope: str  # date/region/service/aws4_request
    signed_headers: tuple[str, ...]
    signature: str
    stamp: str
    moment: float
    token: str | None
    lifetime: int | None = None  # seconds, of a presigned URL only

    @property
    def service(self) -> str:
        return self.scope.split("/")[2]


class SignatureVerifier:
    """Checks the signatures of requests to one engine.

    Args:
        credentials: the keys of the engine's folder.
        clock: the clock for the age of signatures.
    """

    def __init__(self, credentials: Credentials, clock: Clock = SYSTEM_CLOCK) -> None:
        self._credentials = credentials
        self._clock = clock

    def verify(self, request: Request, protocol: Protocol, service: str | None = None) -> tuple[Identity, Request]:
        """Return the identity that signed a request, and the request with a body that is checked while it is read.

        See `check_claim` for the parameters.

        Raises:
            ApiError: the request is unsigned, or the signature is invalid.
        """
        return self.check_claim(request, protocol, service).verify(request)

    def check_claim(self, request: Request, protocol: Protocol, service: str | None = None) -> CheckedClaim:
        """Check everything about a signature that does not need the body: the key, the scope and the time.

        A server calls this before it reads the body, so that a client without a key cannot fill its memory.

        Args:
            request: the request. Its body is not read.
            protocol: the protocol for errors.
            service: the signing name that the signature has to be for, or None for any. So a presigned URL of an object
                cannot call another service, with any headers.

        Raises:
            ApiError: the request is unsigned, or the signature cannot be valid.
        """
        if protocol == "rest" and (url := sigv2.parse(request)) is not None:
            keys = self._find_keys(url.access_key, url.token, protocol)
            url.check(keys.secret_key, self._clock.time())
            return CheckedClaim(protocol, keys, url.request.headers)
        claim = _claimed_signature(request, protocol)
        if service not in {None, claim.service}:
            raise auth_errors.wrong_service(protocol, claim.service, str(service))
        keys = self._find_keys(claim.access_key, claim.token, protocol)
        self._check_time(claim, protocol)
        return CheckedClaim(protocol, keys, request.headers, claim)

    def _find_keys(self, access_key: str, token: str | None, protocol: Protocol) -> Keys:
        try:
            keys = self._credentials.find(access_key, token)
        except InvalidTokenError:
            raise auth_errors.invalid_token(protocol) from None
        if keys is None:
            raise auth_errors.unknown_key(protocol, access_key)
        if keys.expires is not None and keys.expires <= self._clock.time():
            raise auth_errors.expired_token(protocol)
        return keys

    def _check_time(self, claim: _ClaimedSignature, protocol: Protocol) -> None:
        now, lifetime = self._clock.time(), claim.lifetime
        if lifetime is None:
            if abs(now - claim.moment) > auth_errors.ALLOWED_SKEW:
                raise auth_errors.clock_skew(protocol, claim.moment, now)
        elif claim.moment > now + auth_errors.ALLOWED_SKEW:
            raise auth_errors.url_not_yet_valid(protocol, claim.moment, lifetime, now)
        elif claim.moment + lifetime < now:
            raise auth_errors.expired_url(protocol, claim.moment, lifetime, now)


class CheckedClaim:
    """The signature of a request whose key, scope and time are valid. The rest is verified with the body.

    Args:
        protocol: the protocol for errors.
        keys: the key that signed the request.
        headers: the headers of the request, with those in a presigned URL of version 2.
        claim: the claim of version 4. None for version 2, whose signature is already verified and covers no body.
    """

    def __init__(
        self, protocol: Protocol, keys: Keys, headers: Mapping[str, str], claim: _ClaimedSignature | None = None
    ) -> None:
        self._protocol = protocol
        self._keys = keys
        self._headers = headers
        self._claim = claim

    def verify(self, request: Request) -> tuple[Identity, Request]:
        """Return the identity that signed the request, and the request with a body that is checked while it is read.

        Raises:
            ApiError: the signature is invalid.
        """
        claim = self._claim
        if claim is None:
            return self._keys.identity, attrs.evolve(request, headers=self._headers)
        payload = _payload_hash(request, claim)
        if payload is None:  # clients of this service sign the body's hash but do not send it, and bodies are small
            content = request.raw_content()
            request = attrs.evolve(request, body=content)
            payload = hashlib.sha256(content).hexdigest()
        key = signing_key(self._keys.secret_key, claim.scope)
        _check_signature(request, claim, key, payload, self._protocol)
        if self._protocol == "rest" and claim.lifetime is not None:
            request = _with_headers_of_url(request)
        if payload in _CHUNKED:
            return self._keys.identity, attrs.evolve(
                request, chunks=ChunkSignatures(key, claim.stamp, claim.scope, claim.signature)
            )
        return self._keys.identity, _with_checked_body(request, payload)


def _check_signature(request: Request, claim: _ClaimedSignature, key: bytes, payload: str, protocol: Protocol) -> None:
    canonical = _canonical_request(request, claim, payload)
    text = f"{ALGORITHM}\n{claim.stamp}\n{claim.scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    # Compared as bytes, since the claim may have other characters than ASCII.
    if not hmac.compare_digest(sign(key, text).encode(), claim.signature.encode()):
        details = {
            "AWSAccessKeyId": claim.access_key,
            "StringToSign": text,
            "SignatureProvided": claim.signature,
            "CanonicalRequest": canonical,
        }
        raise auth_errors.mismatch(protocol, lambda: details)


# The claimed signature


def _claimed_signature(request: Request, protocol: Protocol) -> _ClaimedSignature:
    authorization = request.headers.get("authorization")
    # Another parameter whose name contains one of these is harmless, since the fields are read by their whole names.
    presigned = "X-Amz-Algorithm=" in request.query or "X-Amz-Signature=" in request.query
    if authorization is None:
        if presigned:
            return _presigned_claim(request, protocol)
        raise auth_errors.missing(protocol)
    if presigned:
        raise ApiError(
            "InvalidArgument",
            "Only one auth mechanism allowed: the X-Amz-Algorithm query parameter or the Authorization header",
        )
    return _header_claim(request, authorization, protocol)


def _header_claim(request: Request, authorization: str, protocol: Protocol) -> _ClaimedSignature:
    algorithm, _, rest = authorization.strip().partition(" ")
    if algorithm != ALGORITHM:
        raise auth_errors.unsupported_mechanism(protocol)
    fields = dict(_pair(part, protocol) for part in rest.split(",") if part.strip())
    for name in ("Credential", "SignedHeaders", "Signature"):
        if name not in fields:
            raise auth_errors.malformed(protocol, f"Authorization header requires '{name}' parameter.")
    stamp, moment = _header_time(request, protocol)
    access_key, scope = _credential(fields["Credential"], stamp, protocol, presigned=False)
    names = _signed_names(request, fields["SignedHeaders"], protocol, presigned=False)
    token = request.headers.get("x-amz-security-token")
    return _ClaimedSignature(access_key, scope, names, fields["Signature"], stamp, moment, token)


def _pair(part: str, protocol: Protocol) -> tuple[str, str]:
    name, equals, value = part.strip().partition("=")
    if not equals:
        raise auth_errors.malformed(protocol, f"'{part}' not a valid key=value pair (missing equal-sign).")
    return name, value


def _presigned_claim(request: Request, protocol: Protocol) -> _ClaimedSignature:
    fields: dict[str, str] = {}
    for name, value in _decoded_query(request.query):
        if name in fields and name.startswith("X-Amz-"):
            raise auth_errors.malformed(protocol, f"The parameter {name} is repeated.", presigned=True)
        fields[name] = value
    if any(name not in fields for name in _QUERY_FIELDS):
        raise auth_errors.malformed(
            protocol,
            f"Query-string authentication version 4 requires the {', '.join(_QUERY_FIELDS)} parameters.",
            presigned=True,
        )
    if fields["X-Amz-Algorithm"] != ALGORITHM:
        raise auth_errors.unsupported_mechanism(protocol)
    stamp, lifetime = fields["X-Amz-Date"], _lifetime(fields["X-Amz-Expires"], protocol)
    moment = _parse_timestamp(stamp)
    if moment is None:
        raise auth_errors.malformed(
            protocol, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"", presigned=True
        )
    access_key, scope = _credential(fields["X-Amz-Credential"], stamp, protocol, presigned=True)
    names = _signed_names(request, fields["X-Amz-SignedHeaders"], protocol, presigned=True)
    token = fields.get("X-Amz-Security-Token", request.headers.get("x-amz-security-token"))
    return _ClaimedSignature(access_key, scope, names, fields["X-Amz-Signature"], stamp, moment, token, lifetime)


def _lifetime(text: str, protocol: Protocol) -> int:
    if not text.lstrip("-").isdecimal():
        raise auth_errors.malformed(protocol, "X-Amz-Expires should be a number", presigned=True)
    if text.startswith("-"):
        raise auth_errors.malformed(protocol, "X-Amz-Expires must be non-negative", presigned=True)
    if len(text) > 9 or int(text) > MAX_LIFETIME:
        limit = f"the given X-Amz-Expires must be less than {MAX_LIFETIME} seconds"
        raise auth_errors.malformed(
            protocol, f"X-Amz-Expires must be less than a week (in seconds); that is, {limit}", presigned=True
        )
    return int(text)


def _credential(text: str, stamp: str, protocol: Protocol, *, presigned: bool) -> tuple[str, str]:
    access_key, _, scope = text.partition("/")
    parts = scope.split("/")
    if len(parts) != 4 or not all(parts) or parts[3] != "aws4_request":
        raise auth_errors.malformed(
            protocol,
            'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
            presigned=presigned,
        )
    if parts[0] != stamp[:8]:
        raise auth_errors.malformed(
            protocol,
            f'Invalid credential date "{parts[0]}". This date is not the same as X-Amz-Date: "{stamp[:8]}".',
            presigned=presigned,
        )
    return access_key, scope


def _signed_names(request: Request, text: str, protocol: Protocol, *, presigned: bool) -> tuple[str, ...]:
    names = tuple(text.split(";"))
    if "host" not in names:
        raise auth_errors.malformed(
            protocol, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.", presigned=presigned
        )
    if protocol == "rest":
        unsigned = [name for name in request.headers if name.startswith("x-amz-") and name not in names]
        if unsigned:
            raise auth_errors.unsigned_headers(", ".join(sorted(unsigned)))
    elif "x-amz-target" in request.headers and "x-amz-target" not in names:
        raise auth_errors.malformed(
            protocol, "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization.", presigned=presigned
        )
    return names


def _header_time(request: Request, protocol: Protocol) -> tuple[str, float]:
    text = request.headers.get("x-amz-date")
    if text is None:
        text = request.headers.get("date", "")
        try:
            moment = parsedate_to_datetime(text).timestamp()
            return auth_errors.amz_date(moment), moment
        except (TypeError, ValueError, OverflowError):
            if protocol == "rest":
                raise ApiError(
                    "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header", 403
                ) from None
            raise auth_errors.malformed(
                protocol, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
            ) from None
    moment_of_stamp = _parse_timestamp(text)
    if moment_of_stamp is None:
        raise auth_errors.malformed(
            protocol,
            f"Date must be in ISO-8601 'basic format'. Got '{text}'. See http://en.wikipedia.org/wiki/ISO_8601",
        )
    return text, moment_of_stamp


@functools.lru_cache(maxsize=64)
def _parse_timestamp(stamp: str) -> float | None:
    if not _AMZ_DATE.fullmatch(stamp):
        return None
    try:
        return dt.datetime.strptime(stamp, "%Y%m%dT%H%M%S%z").timestamp()
    except (ValueError, OverflowError):
        return None


# The canonical request


def _canonical_request(request: Request, claim: _ClaimedSignature, payload: str) -> str:
    lines = [f"{name}:{_collapse_spaces(_header(request, name))}" for name in claim.signed_headers]
    path = _canonical_path(request.path, claim.service)
    query = _canonical_query(request.query, presigned=claim.lifetime is not None)
    headers, names = "\n".join(lines), ";".join(claim.signed_headers)
    return f"{request.method}\n{path}\n{query}\n{headers}\n\n{names}\n{payload}"


def _header(request: Request, name: str) -> str:
    return request.host if name == "host" else request.headers.get(name, "")


def _collapse_spaces(value: str) -> str:
    return " ".join(value.split()) if "  " in value or "\t" in value else value.strip()


def _canonical_path(path: str, service: str) -> str:
    if _PLAIN_PATH.fullmatch(path) and (service == "s3" or ("/." not in path and "//" not in path)):
        return path
    if service == "s3":  # its keys may have dots and slashes anywhere, so the path is not normalised
        return quote(unquote_to_bytes(path), safe="/~")
    from botocore.utils import normalize_url_path

    return quote(normalize_url_path(path), safe="/~")


def _canonical_query(query: str, *, presigned: bool) -> str:
    if not query:
        return ""
    if not presigned and _PLAIN_QUERY.fullmatch(query):
        plain = sorted(part.partition("=")[::2] for part in query.split("&") if part)  # `a` comes before `a-b`
        return "&".join(f"{name}={value}" for name, value in plain)
    pairs = [
        (quote(name, safe="~"), quote(value, safe="~"))
        for name, value in _decoded_bytes(query)
        if not (presigned and name == b"X-Amz-Signature")
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _decoded_bytes(query: str) -> list[tuple[bytes, bytes]]:
    parts = (part.replace("+", " ").partition("=") for part in query.split("&") if part)
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in parts]


def _decoded_query(query: str) -> list[tuple[str, str]]:
    return [
        (name.decode("utf-8", "replace"), value.decode("utf-8", "replace")) for name, value in _decoded_bytes(query)
    ]


def _with_headers_of_url(request: Request) -> Request:
    """Return a presigned request with the headers in its URL. Some SDKs put `x-amz-` headers there."""
    fields = {name: value for name, value in _decoded_query(request.query) if name not in _QUERY_FIELDS}
    found = headers_of_url(fields)
    return attrs.evolve(request, headers={**request.headers, **found}) if found else request


def _payload_hash(request: Request, claim: _ClaimedSignature) -> str | None:
    """Return the payload hash of the canonical request, or None if the body has to be hashed first."""
    claimed = request.headers.get("x-amz-content-sha256")
    if claim.service != "s3":
        return claimed if claimed is not None and _HASH.fullmatch(claimed) else None
    if claimed is None:
        if claim.lifetime is None:
            raise ApiError("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        fields = dict(_decoded_query(request.query))
        claimed = fields.get("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
    if claimed in _UNSIGNED or claimed in _CHUNKED or _HASH.fullmatch(claimed):
        return claimed
    message = "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- value or a valid sha256 value."
    details = {"ArgumentName": "x-amz-content-sha256", "ArgumentValue": claimed}
    raise ApiError("InvalidArgument", message, 400, **details)


# Keys and signatures


@functools.lru_cache(maxsize=256)
def signing_key(secret: str, scope: str) -> bytes:
    """Return the signing key for all requests of a scope: one day, one region, one service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


# Bodies


def _with_checked_body(request: Request, payload: str) -> Request:
    if payload in _UNSIGNED:
        return request
    if isinstance(request.body, bytes):
        computed = hashlib.sha256(request.body).hexdigest() if request.body else EMPTY_HASH
        if computed != payload:
            raise auth_errors.content_mismatch(payload, computed)
        return request
    return attrs.evolve(request, body=_HashedBody(request.body, payload))


class _HashedBody:
    """A body that raises an error at its end if its hash is not the signed one."""

    def __init__(self, raw: Readable, expected: str) -> None:
        self._raw = raw
        self._expected = expected
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes (all for -1), or b"" at the end.

        Raises:
            ApiError: the body ends, and its hash is not the signed one.
        """
        data = self._raw.read(size)
        self._hash.update(data)
        if size and (size < 0 or not data):
            computed = self._hash.hexdigest()
            if computed != self._expected:
                raise auth_errors.content_mismatch(self._expected, computed)
        return data

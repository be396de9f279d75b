"""Signatures of version 4: botocore's are accepted, and any changed request is refused."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import hmac
import io
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
from attrs import evolve
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.local.credentials import Credentials, Identity, Keys
from processing.local.errors import ApiError
from processing.local.protocols.aws_chunked import ChunkedBody
from processing.local.protocols.message import Request
from processing.local.protocols.sigv4 import MAX_LIFETIME, SignatureVerifier, signing_key
from processing.local.transports.server import Server
from processing.testing.clock import VirtualClock
from raw_http import RawConnection

if TYPE_CHECKING:
    from processing import LocalSession
    from processing.local.protocols.auth_errors import Protocol

NOW = dt.datetime(2026, 11, 21, 7, 0, 0, tzinfo=dt.timezone.utc)
KEYS = Keys("AKIAFOLDER", "the+secret/of=it")
CREDENTIALS = Credentials(KEYS)
URL = "http://127.0.0.1:8000"
EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture(autouse=True)
def _botocore_signs_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freeze the function from which botocore's signers get the time."""
    stop_the_clock(monkeypatch)


def stop_the_clock(patch: pytest.MonkeyPatch, moment: dt.datetime = NOW) -> None:
    """Make botocore sign at a time."""
    patch.setattr(auth, "get_current_datetime", lambda **_: moment.replace(tzinfo=None))


def verifier(moment: dt.datetime = NOW) -> SignatureVerifier:
    """Return a verifier with a fixed clock."""
    return SignatureVerifier(CREDENTIALS, VirtualClock(moment.timestamp()))


def boto(keys: Keys = KEYS) -> BotoCredentials:
    """Return the keys as botocore's credentials."""
    return BotoCredentials(keys.access_key, keys.secret_key, keys.token)


def header_signed(
    method: str = "GET",
    url: str = f"{URL}/bucket/key",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    service: str = "s3",
    keys: Keys = KEYS,
) -> Request:
    """Return a request with botocore's signature in its header."""
    request = AWSRequest(method, url, data=body, headers=dict(headers or {}))
    request.headers["Host"] = urlsplit(url).netloc
    request.context["payload_signing_enabled"] = True
    signer: Any = auth.S3SigV4Auth if service == "s3" else auth.SigV4Auth
    signer(boto(keys), service, "eu-west-1").add_auth(request)
    return plain(request, body)


def presigned(
    method: str = "GET",
    url: str = f"{URL}/bucket/key",
    expires: int = 60,
    service: str = "s3",
    keys: Keys = KEYS,
    headers: dict[str, str] | None = None,
) -> Request:
    """Return a request with botocore's signature in its URL."""
    request = AWSRequest(method, url, headers=dict(headers or {}))
    request.headers["Host"] = urlsplit(url).netloc
    signer: Any = auth.S3SigV4QueryAuth if service == "s3" else auth.SigV4QueryAuth
    signer(boto(keys), service, "us-east-1", expires=expires).add_auth(request)
    return plain(request, b"")


def plain(request: AWSRequest, body: bytes) -> Request:
    """Return the request as the server receives it."""
    prepared = request.prepare()
    return Request.from_url(prepared.method, prepared.url, dict(prepared.headers.items()), body)


def refused(request: Request, protocol: Protocol = "rest", moment: dt.datetime = NOW) -> tuple[str, int]:
    """Return the code and the status of a refusal."""
    with pytest.raises(ApiError) as caught:
        verifier(moment).verify(request, protocol)[1].content()
    return caught.value.code, caught.value.status


# What is taken


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/", b""),
        ("GET", "/bucket/a%20b/%C3%BC%2B~%21/../x", b""),
        ("GET", "/bucket//a/./../b", b""),
        ("PUT", "/bucket/key", b"some bytes"),
        ("GET", "/bucket?list-type=2&prefix=a%2Fb%20c&delimiter=%2F&continuation-token=", b""),
        ("POST", "/bucket?delete", b"<Delete/>"),
        ("GET", "/bucket?prefix=%2B&prefix=%20&a", b""),
    ],
)
def test_botocores_signatures_for_s3_are_accepted(method: str, path: str, body: bytes) -> None:
    """Paths are encoded once, query parameters are sorted, and the body is unchanged."""
    signed = header_signed(method, URL + path, body, {"x-amz-meta-a": "  two   blanks ", "Content-Type": "a/b"})
    identity, request = verifier().verify(signed, "rest")
    assert identity == Identity()
    assert request.content() == body


@pytest.mark.parametrize("path", ["/", "/a%20b/", "/x/../y", "/service/Granite/operation/ListMetrics"])
@pytest.mark.parametrize("service", ["sagemaker", "logs", "sts", "monitoring"])
def test_botocores_signatures_for_other_services_are_accepted(service: str, path: str) -> None:
    """Paths are encoded twice, and the body is hashed by the verifier."""
    signed = header_signed("POST", URL + path, b'{"a": 1}', {"X-Amz-Target": "SageMaker.X"}, service)
    assert verifier().verify(signed, "json")[1].content() == b'{"a": 1}'
    assert refused(evolve(signed, body=b'{"a": 2}'), "json") == ("InvalidSignatureException", 403)


def test_presigned_urls_are_valid_until_their_end() -> None:
    """The end is exact to the second. A URL from the future is valid within the allowed skew only."""
    signed = presigned(expires=60)
    assert verifier(NOW + dt.timedelta(seconds=60)).verify(signed, "rest")[0] == Identity()
    assert refused(signed, moment=NOW + dt.timedelta(seconds=61)) == ("AccessDenied", 403)
    assert verifier(NOW - dt.timedelta(minutes=15)).verify(signed, "rest")[0] == Identity()
    assert refused(signed, moment=NOW - dt.timedelta(minutes=16)) == ("AccessDenied", 403)


def test_the_end_of_a_presigned_url_is_reported() -> None:
    """The error has S3's elements."""
    with pytest.raises(ApiError) as caught:
        verifier(NOW + dt.timedelta(hours=1)).verify(presigned(expires=60), "rest")
    assert caught.value.message == "Request has expired"
    assert caught.value.details == {
        "X-Amz-Expires": "60",
        "Expires": "2026-11-21T07:01:00Z",
        "ServerTime": "2026-11-21T08:00:00Z",
    }


def test_other_services_have_presigned_urls_too() -> None:
    """Presigned GetCallerIdentity of STS proves an identity to third parties."""
    signed = presigned(url=f"{URL}/?Action=GetCallerIdentity&Version=2011-06-15", service="sts")
    assert verifier().verify(signed, "query")[0] == Identity()
    assert refused(signed, "query", NOW + dt.timedelta(hours=1)) == ("SignatureDoesNotMatch", 403)


def test_parameters_are_sorted_by_name() -> None:
    """`a.1` comes before `a.10`, although a digit comes before the equal sign."""
    signed = header_signed(url=f"{URL}/?Action=x&AttributeName.10=b&AttributeName.1=a", service="sqs")
    assert verifier().verify(signed, "query")[0] == Identity()


def test_headers_in_a_url_are_headers_of_the_request() -> None:
    """The SDKs for Go and JavaScript put `x-amz-` headers in the URL."""
    signed = presigned("PUT", f"{URL}/bucket/key?x-amz-meta-a=b%20c&x-amz-storage-class=STANDARD_IA&x-id=PutObject")
    headers = verifier().verify(signed, "rest")[1].headers
    assert (headers["x-amz-meta-a"], headers["x-amz-storage-class"]) == ("b c", "STANDARD_IA")
    assert not {"x-id", "x-amz-signature"} & headers.keys()


def test_a_signature_may_go_by_the_date_header() -> None:
    """A client without X-Amz-Date signs with Date."""
    signed = header_signed(headers={"Date": "Sat, 21 Nov 2026 07:00:00 GMT"})
    assert "x-amz-date" not in signed.headers
    assert verifier().verify(signed, "rest")[0] == Identity()


# What is refused


def test_a_date_beyond_all_calendars_is_none() -> None:
    """A date outside the range of datetime is malformed."""
    signed = header_signed(headers={"Date": "Sat, 21 Nov 2026 07:00:00 GMT"})
    never = {**signed.headers, "date": "Fri, 31 Dec 9999 23:59:59 -0100"}
    assert refused(evolve(signed, headers=never)) == ("AccessDenied", 403)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("rest", ("AuthorizationHeaderMalformed", 400)),
        ("json", ("InvalidSignatureException", 403)),
        ("query", ("SignatureDoesNotMatch", 403)),
    ],
)
def test_a_signature_is_for_one_service(protocol: Protocol, expected: tuple[str, int]) -> None:
    """A valid signature for another service is refused."""
    for signed in (header_signed(), presigned()):
        with pytest.raises(ApiError) as caught:
            verifier().verify(signed, protocol, "sqs")
        assert (caught.value.code, caught.value.status) == expected
        assert verifier().verify(signed, protocol, "s3")[0] == Identity()


def test_the_operation_has_to_be_signed() -> None:
    """X-Amz-Target has to be signed. Otherwise a URL would be valid for all operations of its service."""
    signed = presigned(service="sqs")
    added = {**signed.headers, "x-amz-target": "AmazonSQS.PurgeQueue"}
    assert refused(evolve(signed, headers=added), "json") == ("IncompleteSignatureException", 400)
    asked = presigned(service="sqs", headers={"X-Amz-Target": "AmazonSQS.ListQueues"})
    assert verifier().verify(asked, "json")[0] == Identity()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    query=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3),
    body=st.binary(max_size=50),
    meta=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    in_url=st.booleans(),
)
def test_any_change_of_what_was_signed_is_refused(
    method: str, key: str, query: list[tuple[str, str]], body: bytes, meta: str, in_url: bool
) -> None:
    """A changed method, path, query, header or body is refused."""
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    url = f"{URL}/bucket/{quote(key, safe='/~')}" + (f"?{text}" if text else "")
    with pytest.MonkeyPatch.context() as patch:
        stop_the_clock(patch)
        headers = {"x-amz-meta-a": meta}
        signed = presigned(method, url, headers=headers) if in_url else header_signed(method, url, body, headers)
    assert verifier().verify(signed, "rest")[0] == Identity()
    mismatch = ("SignatureDoesNotMatch", 403)
    assert refused(evolve(signed, method="PATCH")) == mismatch
    assert refused(evolve(signed, path=signed.path + "x")) == mismatch
    assert refused(evolve(signed, query=f"{signed.query}&extra=1".removeprefix("&"))) == mismatch
    assert refused(evolve(signed, host="127.0.0.1:8001")) == mismatch
    assert refused(evolve(signed, headers={**signed.headers, "x-amz-meta-a": f"{meta}x"})) == mismatch
    assert refused(evolve(signed, headers={**signed.headers, "x-amz-acl": "public"})) == ("AccessDenied", 403)
    if not in_url:
        assert refused(evolve(signed, body=body + b"x")) == ("XAmzContentSHA256Mismatch", 400)


@pytest.mark.parametrize(
    ("protocol", "service", "expected"),
    [
        ("rest", "s3", ("SignatureDoesNotMatch", 403)),
        ("query", "sts", ("SignatureDoesNotMatch", 403)),
        ("json", "sagemaker", ("InvalidSignatureException", 403)),
    ],
)
def test_a_wrong_secret_is_refused(protocol: Protocol, service: str, expected: tuple[str, int]) -> None:
    """The error code is the one of the service's protocol."""
    keys = KEYS._replace(secret_key="another")
    assert refused(header_signed(service=service, keys=keys), protocol) == expected


def test_s3_reports_its_computation() -> None:
    """Authors of signers can compare the details."""
    with pytest.raises(ApiError) as caught:
        verifier().verify(evolve(header_signed(), method="PUT"), "rest")
    details = caught.value.details
    assert details["AWSAccessKeyId"] == KEYS.access_key
    assert details["CanonicalRequest"].startswith("PUT\n/bucket/key\n\nhost:127.0.0.1:8000\n")
    assert details["StringToSign"].startswith(
        "AWS4-HMAC-SHA256\n20261121T070000Z\n20261121/eu-west-1/s3/aws4_request\n"
    )


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("rest", ("InvalidAccessKeyId", 403)),
        ("query", ("InvalidClientTokenId", 403)),
        ("json", ("UnrecognizedClientException", 403)),
    ],
)
def test_an_unknown_key_is_refused(protocol: Protocol, expected: tuple[str, int]) -> None:
    """The error code is the one of the service's protocol."""
    assert refused(header_signed(keys=Keys("AKIAOTHER", "x")), protocol) == expected


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("rest", ("AccessDenied", 403)),
        ("query", ("MissingAuthenticationToken", 403)),
        ("json", ("MissingAuthenticationTokenException", 403)),
    ],
)
def test_no_signature_is_refused(protocol: Protocol, expected: tuple[str, int]) -> None:
    """The engine has no public resources."""
    assert refused(Request("GET", "127.0.0.1:8000", "/bucket/key", "", {}), protocol) == expected


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_wrong_clock_is_reported(minutes: int) -> None:
    """S3's error has both times as elements, other services' errors have them in the message."""
    moment = NOW + dt.timedelta(minutes=minutes)
    with pytest.raises(ApiError) as caught:
        verifier(moment).verify(header_signed(), "rest")
    assert (caught.value.code, caught.value.status) == ("RequestTimeTooSkewed", 403)
    assert caught.value.details == {
        "RequestTime": "20261121T070000Z",
        "ServerTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "MaxAllowedSkewMilliseconds": "900000",
    }
    with pytest.raises(ApiError) as caught:
        verifier(moment).verify(header_signed(service="logs"), "json")
    assert (caught.value.code, caught.value.status) == ("InvalidSignatureException", 403)
    assert caught.value.message == (
        "Signature expired: 20261121T070000Z is now earlier than 20261121T070100Z (20261121T071600Z - 15 min.)"
        if minutes > 0
        else "Signature not yet current: 20261121T070000Z is still later than 20261121T065900Z "
        "(20261121T064400Z + 15 min.)"
    )


def test_temporary_keys_work_until_their_end() -> None:
    """The token is in a header or in the URL."""
    who = Identity("arn:aws:sts::000000000000:assumed-role/role/me", "AROA:me")
    keys = CREDENTIALS.temporary(who, NOW.timestamp() + 100)
    for signed in (header_signed(keys=keys), presigned(keys=keys)):
        assert verifier().verify(signed, "rest")[0] == who
        late = NOW + dt.timedelta(seconds=100)
        assert refused(signed, moment=late)[0] in {"ExpiredToken", "AccessDenied"}
    late = NOW + dt.timedelta(seconds=100)
    assert refused(header_signed(keys=keys), "rest", late) == ("ExpiredToken", 400)
    assert refused(header_signed(keys=keys, service="sts"), "query", late) == ("ExpiredToken", 403)
    assert refused(header_signed(keys=keys, service="logs"), "json", late) == ("ExpiredTokenException", 400)
    other = header_signed(keys=keys._replace(token="bm9uZQ=="))
    assert refused(other) == ("InvalidToken", 400)
    assert refused(other, "query") == ("InvalidClientTokenId", 403)
    assert refused(header_signed(keys=keys._replace(token=None))) == ("InvalidAccessKeyId", 403)


@pytest.mark.parametrize(
    "authorization",
    [
        "AWS AKIAFOLDER:c2lnbmF0dXJl",
        "AWS4-ECDSA-P256-SHA256 Credential=AKIAFOLDER/20261121/s3/aws4_request, SignedHeaders=host, Signature=00",
        "Basic dXNlcjpwYXNz",
        "",
    ],
)
def test_other_kinds_of_signatures_are_named_as_such(authorization: str) -> None:
    """They are version 2, the asymmetric version, and unknown schemes."""
    request = Request("GET", "127.0.0.1", "/", "", {"authorization": authorization})
    assert refused(request) == ("InvalidRequest", 400)
    assert refused(request, "json") == ("IncompleteSignatureException", 400)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Credential=", "Nothing="),
        ("Signature=", "Other="),
        ("SignedHeaders=", "Names="),
        ("SignedHeaders=host;", "SignedHeaders="),
        ("aws4_request", "aws3_request"),
        ("20261121/", "20261120/"),
        ("/s3/", "/"),
        ("Credential=", "no pair, Credential="),
    ],
)
def test_a_malformed_header_is_refused(old: str, new: str) -> None:
    """The error says that it is malformed, not that the signature is wrong."""
    signed = header_signed()
    headers = {**signed.headers, "authorization": signed.headers["authorization"].replace(old, new, 1)}
    assert refused(evolve(signed, headers=headers)) == ("AuthorizationHeaderMalformed", 400)
    assert refused(evolve(signed, headers=headers), "query") == ("IncompleteSignature", 400)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("X-Amz-Expires=60", "X-Amz-Expires=x"),
        ("X-Amz-Expires=60", "X-Amz-Expires=-1"),
        ("X-Amz-Expires=60", f"X-Amz-Expires={MAX_LIFETIME + 1}"),
        ("X-Amz-Expires=60", "X-Amz-Expires=" + "9" * 5000),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=61"),
        ("X-Amz-Date=2026", "X-Amz-Date=20"),
        ("X-Amz-Date=20261121", "X-Amz-Date=20269999"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=date"),
        ("X-Amz-Signature", "X-Amz-Other"),
    ],
)
def test_a_malformed_url_is_refused(old: str, new: str) -> None:
    """The error says that the URL is malformed."""
    signed = presigned()
    assert old in signed.query
    changed = evolve(signed, query=signed.query.replace(old, new))
    assert refused(changed) == ("AuthorizationQueryParametersError", 400)


def test_a_url_and_a_header_at_once_are_refused() -> None:
    """It would be ambiguous which one counts."""
    signed = header_signed(url=f"{URL}/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256")
    assert refused(signed) == ("InvalidArgument", 400)


@pytest.mark.parametrize("signature", ["", "é", "0" * 63, "0" * 64])
def test_any_text_in_the_signatures_place_is_refused(signature: str) -> None:
    """The text may have other characters than ASCII."""
    signed = header_signed()
    head = signed.headers["authorization"].rpartition("=")[0]
    headers = {**signed.headers, "authorization": f"{head}={signature}"}
    assert refused(evolve(signed, headers=headers)) == ("SignatureDoesNotMatch", 403)


# Bodies


class Trickle:
    """A stream that returns a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        """Return at most seven bytes."""
        return self._file.read(7 if size < 0 or size > 7 else size)


def test_a_stream_is_held_against_its_hash() -> None:
    """The hash is checked while the body streams. A wrong one raises an error at the end."""
    signed = header_signed("PUT", body=b"some more bytes")
    taken = verifier().verify(evolve(signed, body=Trickle(b"some more bytes")), "rest")[1]
    assert taken.content() == b"some more bytes"
    broken = verifier().verify(evolve(signed, body=Trickle(b"some less bytes")), "rest")[1]
    with pytest.raises(ApiError) as caught:
        broken.content()
    assert (caught.value.code, caught.value.status) == ("XAmzContentSHA256Mismatch", 400)


def test_the_hash_of_a_chunked_body_is_checked() -> None:
    """An unsigned header may call the body chunked. It is still read to its end, where its hash is checked."""
    chunks = b"3\r\nabc\r\n0\r\n\r\n"
    signed = header_signed("PUT", body=chunks)
    for body, more in ((chunks, b""), (chunks.replace(b"b", b"x"), b""), (chunks, b"more")):
        taken = verifier().verify(evolve(signed, body=Trickle(body + more)), "rest")[1].body
        assert not isinstance(taken, bytes)
        if body + more == chunks:
            assert ChunkedBody(taken).read() == b"abc"
        else:
            with pytest.raises(ApiError, match=r"XAmzContentSHA256Mismatch|IncompleteBody"):
                ChunkedBody(taken).read()


def test_an_unsigned_body_may_be_anything() -> None:
    """A signed header may exclude the body, as botocore's does over TLS."""
    request = AWSRequest("PUT", "https://127.0.0.1:8000/b/k", data=b"x", headers={"Content-MD5": "md5"})
    request.headers["Host"] = "127.0.0.1:8000"
    request.context["payload_signing_enabled"] = False
    signer: Any = auth.S3SigV4Auth
    signer(boto(), "s3", "us-east-1").add_auth(request)
    signed = plain(request, b"another")
    assert signed.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert verifier().verify(signed, "rest")[1].content() == b"another"


@pytest.mark.parametrize("claimed", ["", "x", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", EMPTY.upper()])
def test_what_stands_for_a_body_is_known(claimed: str) -> None:
    """The payload hash is a SHA-256 or one of S3's constants."""
    signed = header_signed("PUT", body=b"x")
    assert refused(evolve(signed, headers={**signed.headers, "x-amz-content-sha256": claimed})) == (
        "InvalidArgument",
        400,
    )
    without = {name: value for name, value in signed.headers.items() if name != "x-amz-content-sha256"}
    authorization = signed.headers["authorization"].replace(";x-amz-content-sha256", "")
    assert refused(evolve(signed, headers={**without, "authorization": authorization})) == ("InvalidRequest", 400)


def chunk_signed(
    pieces: list[bytes], trailer: str | None = None, encoding: str = "aws-chunked"
) -> tuple[Request, bytes]:
    """Return a request with signed chunks, after the documentation of S3, and its body."""
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
    headers = {"X-Amz-Content-SHA256": kind, "Content-Encoding": encoding}
    headers["x-amz-decoded-content-length"] = str(sum(map(len, pieces)))
    if trailer:
        headers["x-amz-trailer"] = trailer.partition(":")[0]
    request = AWSRequest("PUT", f"{URL}/bucket/key", headers=headers)
    request.headers["Host"] = "127.0.0.1:8000"
    signer: Any = type(
        "Chunked", (auth.SigV4Auth,), {"payload": lambda *_: kind, "_normalize_url_path": lambda _, p: p}
    )
    signer(boto(), "s3", "us-east-1").add_auth(request)
    signed = plain(request, b"")
    previous = signed.headers["authorization"].rpartition("=")[2]
    scope = "20261121/us-east-1/s3/aws4_request"

    def sign(algorithm: str, digest: str) -> str:
        text = f"{algorithm}\n20261121T070000Z\n{scope}\n{previous}\n{digest}"
        return hmac.new(signing_key(KEYS.secret_key, scope), text.encode(), hashlib.sha256).hexdigest()

    body = b""
    for piece in [*pieces, b""]:
        previous = sign("AWS4-HMAC-SHA256-PAYLOAD", f"{EMPTY}\n{hashlib.sha256(piece).hexdigest()}")
        body += b"%x;chunk-signature=%s\r\n" % (len(piece), previous.encode()) + piece + (b"\r\n" if piece else b"")
    if trailer:
        previous = sign("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(f"{trailer}\n".encode()).hexdigest())
        body += f"{trailer}\r\nx-amz-trailer-signature:{previous}\r\n".encode()
    return signed, body + b"\r\n"


def read_chunks(signed: Request, body: bytes) -> bytes:
    """Return the decoded body after its signatures are checked."""
    taken = verifier().verify(evolve(signed, body=Trickle(body)), "rest")[1]
    assert not isinstance(taken.body, bytes)
    return ChunkedBody(taken.body, signed.headers.get("x-amz-trailer", ""), taken.chunks).read()


@pytest.mark.parametrize("trailer", [None, "x-amz-checksum-crc32:AAAAAA=="])
def test_signed_chunks_are_checked(trailer: str | None) -> None:
    """Each chunk and the trailing headers have signatures of their own."""
    signed, body = chunk_signed([b"first chunk", b"second"], trailer)
    assert read_chunks(signed, body) == b"first chunksecond"
    changes = [(b"first", b"frost"), (b"second", b"sekond"), (b"chunk-signature=", b"chunk-signature=0")]
    if trailer:
        changes += [(b"AAAAAA==", b"AAAAAQ=="), (b"x-amz-trailer-signature", b"x-amz-other")]
    for old, new in changes:
        with pytest.raises(ApiError, match=r"SignatureDoesNotMatch|IncompleteBody"):
            read_chunks(signed, body.replace(old, new, 1))


@pytest.mark.parametrize("trailer", [None, "x-amz-checksum-crc32:WZOK0A=="])
def test_the_server_checks_signed_chunks(trailer: str | None, local_session: LocalSession) -> None:
    """The check does not depend on Content-Encoding. An object with a wrong chunk is not stored."""
    local_session.engine.objects.create_bucket("bucket")
    clock = VirtualClock(NOW.timestamp())
    with (
        Server(local_session.engine, credentials=CREDENTIALS, clock=clock) as server,
        contextlib.closing(RawConnection(server)) as wire,
    ):
        for encoding in ("aws-chunked", "identity"):
            signed, body = chunk_signed([b"first chunk", b"second"], trailer, encoding)
            lines = "".join(
                f"{name}: {value}\r\n" for name, value in signed.headers.items() if name != "content-length"
            )
            for sent, status in ((body.replace(b"first", b"frost"), 403), (body, 200)):
                head = f"PUT /bucket/key HTTP/1.1\r\n{lines}Content-Length: {len(sent)}\r\n\r\n"
                wire.send(head.encode() + sent)
                answered, _, said = wire.answer("PUT")
                assert answered == status, said
                kept = [record.size for record in local_session.engine.objects.list("bucket").objects]
                assert kept == ([17] if status == 200 else [])
            local_session.engine.objects.delete("bucket", "key")


def test_chunks_cannot_be_left_out_or_swapped() -> None:
    """Each signature covers the one before."""
    signed, body = chunk_signed([b"aa", b"bb"])
    first, second, end = (body[start : start + 2 + 17 + 64 + 2 + 4 - 1] for start in (0, 87, 174))
    for changed in (second + first + end, first + end, second + end):
        with pytest.raises(ApiError):
            read_chunks(signed, changed)
    assert read_chunks(signed, body) == b"aabb"

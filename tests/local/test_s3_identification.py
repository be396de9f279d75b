"""Requests that are S3's, whatever their content type, headers and query say."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
from botocore.auth import HmacV1QueryAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from raw_http import RawConnection, signed

if TYPE_CHECKING:
    from processing import LocalSession
    from processing.local.transports.server import Server

TYPES = [
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=utf-8",
    "application/json",
    "application/x-amz-json-1.1",
    "application/cbor",
    "multipart/form-data; boundary=x",
    "text/xml",
]
FORM = b"Action=GetCallerIdentity&Version=2011-06-15"


def presign(server: Server, method: str, path: str, *, version: int = 4, **headers: str) -> str:
    """Return a presigned URL of a path with a query. Version 2 moves the headers into the URL."""
    keys = server.environment()
    credentials = Credentials(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    request = AWSRequest(method, server.endpoint + path, headers=headers if version == 2 else {})
    signer: Any = HmacV1QueryAuth(credentials, expires=60)
    if version == 4:
        signer = S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=60)
    signer.add_auth(request)
    return str(request.url)


def send(url: str, method: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Send a request with urllib and return the status and the body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, named, method=method), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("version", [2, 4])
def test_a_presigned_error_is_in_the_form_of_s3(server: Server, version: int, kind: str) -> None:
    """A URL of either version, with a body that another protocol could read."""
    url = presign(server, "PUT", "/missing/k", version=version, **{"content-type": kind})
    status, body = send(url, "PUT", FORM, Content_Type=kind)
    assert (status, b"<Error><Code>NoSuchBucket</Code>" in body) == (404, True)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("PUT", "/missing/k", b"NoSuchBucket"),
        ("GET", "/missing/k", b"NoSuchBucket"),
        ("POST", "/missing?delete", b"InvalidRequest"),
        ("POST", "/missing/k?uploads", b"NoSuchBucket"),
        ("POST", "/missing", b"MethodNotAllowed"),
        ("GET", "/missing/k?Action=ListUsers&Version=2010-05-08", b"NoSuchBucket"),
    ],
)
def test_a_signed_error_is_in_the_form_of_s3(server: Server, method: str, path: str, code: bytes, kind: str) -> None:
    """Every method, also one that other protocols use."""
    with contextlib.closing(RawConnection(server)) as wire:
        wire.send(signed(server, method, path, FORM, headers={"Content-Type": kind}))
        body = wire.answer(method)[2]
    assert b"<Error><Code>" + code + b"</Code>" in body


@pytest.mark.parametrize("kind", TYPES)
def test_an_error_to_a_head_has_no_body(server: Server, kind: str) -> None:
    """Clients only see the status."""
    with contextlib.closing(RawConnection(server)) as wire:
        wire.send(signed(server, "HEAD", "/missing/k", headers={"Content-Type": kind}))
        status, headers, _ = wire.answer("HEAD")
        assert (status, headers.get("content-length")) == (404, None)
        wire.send(signed(server, "GET", "/"))
        assert wire.answer()[0] == 200


def test_an_upload_of_a_browser_is_refused_in_the_form_of_s3(server: Server) -> None:
    """Such a form is signed inside its body."""
    body = b"--x\r\nContent-Disposition: form-data; name=key\r\n\r\nk\r\n--x--\r\n"
    status, answer = send(f"{server.endpoint}/bucket", "POST", body, Content_Type="multipart/form-data; boundary=x")
    assert (status, b"<Error><Code>AccessDenied</Code>" in answer) == (403, True)


@pytest.mark.parametrize("kind", TYPES)
def test_a_body_of_any_type_is_an_object(server: Server, local_session: LocalSession, kind: str) -> None:
    """It is stored as it is, and so is its type."""
    local_session.engine.objects.create_bucket("bucket")
    assert send(presign(server, "PUT", "/bucket/k"), "PUT", FORM, Content_Type=kind)[0] == 200
    record = local_session.engine.objects.get("bucket", "k")
    assert (record.path.read_bytes(), record.headers["ContentType"]) == (FORM, kind)


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize(
    "query",
    [
        "x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&x-id=PutObject",
        "x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-checksum-sha256=AAAA",
        "x-amz-checksum-crc64nvme=AAAAAAAAAAA%3D&x-amz-checksum-algorithm=CRC64NVME&x-amz-checksum-type=FULL_OBJECT",
        "x-amz-sdk-checksum-algorithm=NONE",
        "x-amz-trailer=x-amz-checksum-crc32",
        "x-amz-decoded-content-length=3",
        "X-Amz-Checksum-Crc32=AAAAAA%3D%3D",
    ],
)
def test_a_url_describes_no_body(server: Server, local_session: LocalSession, query: str, version: int) -> None:
    """aws-sdk-js signs the checksum of no bytes in the URL of a PUT. S3 ignores it, and keeps no such checksum."""
    local_session.engine.objects.create_bucket("bucket")
    query += "&x-amz-meta-a=b"
    path = f"/bucket/k?{query}" if version == 4 else "/bucket/k"
    url = presign(server, "PUT", path, version=version, **dict(parse_qsl(query)))
    assert send(url, "PUT", b"hello", Content_Type="")[0] == 200
    record = local_session.engine.objects.get("bucket", "k")
    assert record.path.read_bytes() == b"hello"
    assert not [name for name in record.headers if name.startswith("Checksum")]
    assert record.metadata == {"a": "b"}


def test_a_header_about_the_body_counts(server: Server, local_session: LocalSession) -> None:
    """A checksum that the client sends as a header is checked."""
    local_session.engine.objects.create_bucket("bucket")
    body = b"hello"
    for value, status in (("NhCmhg==", 200), ("AAAAAA==", 400)):
        headers = {"x-amz-checksum-crc32": value}
        with contextlib.closing(RawConnection(server)) as wire:
            wire.send(signed(server, "PUT", "/bucket/k?x-amz-checksum-crc32=AAAAAA%3D%3D", body, headers=headers))
            assert wire.answer("PUT")[0] == status


def test_parts_are_uploaded_by_urls_of_javascript(server: Server, local_session: LocalSession) -> None:
    """A multipart upload whose requests all carry checksums of no bytes in their URLs."""
    local_session.engine.objects.create_bucket("bucket")
    started = send(presign(server, "POST", "/bucket/k?uploads&x-amz-checksum-algorithm=CRC32"), "POST", b"")[1].decode()
    upload = started.partition("<UploadId>")[2].partition("<")[0]
    part = presign(server, "PUT", f"/bucket/k?partNumber=1&uploadId={upload}&x-amz-checksum-crc32=AAAAAA%3D%3D")
    assert send(part, "PUT", b"hello")[0] == 200
    done = presign(server, "POST", f"/bucket/k?uploadId={upload}")
    etag = "5d41402abc4b2a76b9719d911017c592"
    parts = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    assert send(done, "POST", f"{parts}</CompleteMultipartUpload>".encode())[0] == 200
    assert local_session.engine.objects.get("bucket", "k").size == 5


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("path", ["/form", "/form/key", "/form/a/b?uploads", "/form/key?Action=x"])
def test_an_unsigned_form_for_a_bucket_is_refused_in_the_form_of_s3(server: Server, path: str, kind: str) -> None:
    """The method is POST, as that of `curl -d`, so only the path tells a bucket from the query protocol."""
    status, body = send(server.endpoint + path, "POST", FORM, content_type=kind)
    assert status == 403
    assert b"<Error><Code>AccessDenied</Code>" in body


@pytest.mark.parametrize("path", ["/", "/?Action=GetCallerIdentity", "/000000000000/queue"])
def test_an_unsigned_form_for_the_query_protocol_is_refused_in_its_form(server: Server, path: str) -> None:
    """A client of STS or SQS reads `<ErrorResponse>`."""
    status, body = send(server.endpoint + path, "POST", FORM, content_type=TYPES[0])
    assert status == 403
    assert b"<ErrorResponse>" in body

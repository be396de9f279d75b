"""Plain requests to S3: the same requests as botocore's, and everything unusual left to it."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import ssl
import subprocess
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import botocore.session
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from processing.container.shim import access_keys, plain_s3
from processing.container.shim.access_keys import AccessKey, AccessKeys
from processing.container.shim.errors import StoreError
from processing.container.shim.plain_s3 import find_plain_s3, sign
from processing.container.shim.storage import S3Store
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processing import LocalSession

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
BASE = {
    **KEYS,
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_CONFIG_FILE": "/absent/config",
    "AWS_SHARED_CREDENTIALS_FILE": "/absent/credentials",
}
NOW = 1_700_000_000.0


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40),
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), st.from_regex(r"[!-~]{1,20}", fullmatch=True)
    ),
    st.sampled_from(["", "session/token+="]),
    st.binary(max_size=20),
)
def test_the_signature_is_that_of_botocore(key: str, metadata: dict[str, str], token: str, body: bytes) -> None:
    """Any key, metadata and session token are signed as botocore does."""
    headers = {
        "host": "bucket.s3.eu-west-1.amazonaws.com",
        **{f"x-amz-meta-{name}": each for name, each in metadata.items()},
    }
    address = plain_s3.S3Address("https", "s3.eu-west-1.amazonaws.com", "eu-west-1", in_host=True)
    place = address.locate("bucket", key)
    assert place is not None
    host, path = place
    digest = hashlib.sha256(body).hexdigest()
    ours = sign("PUT", path, headers, digest, AccessKey("id", "secret", token), "eu-west-1", NOW)
    request = AWSRequest("PUT", f"https://{host}{path}", {**headers, "X-Amz-Content-SHA256": digest}, body)
    request.context["timestamp"] = request.headers["X-Amz-Date"] = ours["x-amz-date"]
    auth = S3SigV4Auth(Credentials("id", "secret", token or None), "s3", "eu-west-1")
    if token:
        request.headers["X-Amz-Security-Token"] = token
    text = auth.string_to_sign(request, auth.canonical_request(request))
    assert ours["authorization"].rpartition("=")[2] == auth.signature(text, request)
    assert auth.signed_headers(auth.headers_to_sign(request)) in ours["authorization"]


@pytest.mark.parametrize("region", ["us-east-1", "us-west-2", "eu-central-1", "ap-southeast-9", "il-central-1"])
@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9000", "https://minio.example.com", "http://minio:8080/"])
@pytest.mark.parametrize("bucket", ["bucket", "my-bucket-1", "my.bucket", "Under_score", "0abc", "a--b"])
def test_the_address_is_that_of_botocore(region: str, url: str | None, bucket: str) -> None:
    """A request goes to the host and the path that botocore chooses, or is left to it."""
    environment = {**BASE, "AWS_DEFAULT_REGION": region}
    client: Any = botocore.session.Session().create_client(
        "s3", region, endpoint_url=url, aws_access_key_id="id", aws_secret_access_key="secret"
    )
    seen: list[str] = []

    class SentError(Exception):
        """The end of a request that is not sent."""

    def stop(request: Any, **_others: Any) -> None:
        seen.append(request.url)
        raise SentError

    client.meta.events.register("before-send.s3.GetObject", stop)
    key = "a b/ü~%/../x"
    with pytest.raises(SentError):
        client.get_object(Bucket=bucket, Key=key)
    plain = find_plain_s3(environment, url)
    assert plain is not None
    place = plain._address.locate(bucket, key)
    if place is not None:
        assert seen == [f"{plain._address.scheme}://{place[0]}{place[1]}"]
    else:
        assert bucket not in {"bucket", "my-bucket-1", "0abc"}


@pytest.mark.parametrize(
    "change",
    [
        {"AWS_PROFILE": "other"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"https_proxy": "http://proxy:3128"},
        {"HTTP_PROXY": "http://proxy:3128"},
        {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"},
        {"AWS_CREDENTIAL_EXPIRATION": "2030-01-01T00:00:00Z"},
        {"AWS_DEFAULT_REGION": ""},
        {"AWS_DEFAULT_REGION": "cn-north-1"},
        {"AWS_DEFAULT_REGION": "us-gov-west-1"},
        {"AWS_DEFAULT_REGION": "aws-global"},
        {"AWS_ACCESS_KEY_ID": ""},
        {"AWS_SECRET_ACCESS_KEY": ""},
        {"AWS_SECRET_ACCESS_KEY": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/role"},
        {"AWS_SESSION_TOKEN": "two\nlines"},
        {"AWS_ENDPOINT_URL": "https://host/path"},
        {"AWS_ENDPOINT_URL_S3": "https://s3.eu-west-1.amazonaws.com"},
        {"AWS_ENDPOINT_URL": "ftp://host"},
        {"AWS_ENDPOINT_URL": "http://host:port"},
        {"AWS_CONFIG_FILE": __file__},
        {"AWS_SHARED_CREDENTIALS_FILE": __file__},
    ],
    ids=str,
)
def test_anything_unusual_is_left_to_botocore(change: dict[str, str]) -> None:
    """A setting whose meaning botocore alone knows makes no plain request."""
    assert find_plain_s3(BASE, None) is not None
    assert find_plain_s3({**BASE, **change}, None) is None


def test_the_region_of_a_container_is_enough() -> None:
    """Containers of SageMaker may have AWS_REGION alone; the other variable counts first."""
    for default, host in (("", "s3.eu-central-1.amazonaws.com"), ("eu-west-1", "s3.eu-west-1.amazonaws.com")):
        plain = find_plain_s3({**BASE, "AWS_DEFAULT_REGION": default, "AWS_REGION": "eu-central-1"}, None)
        assert plain is not None
        assert plain._address.locate("bucket", "a") == (f"bucket.{host}", "/a")


@pytest.mark.parametrize(
    "bucket",
    [
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/point",
        "bucket--euw1-az1--x-s3",
        "point-hash--op-s3",
        "with.dots",
        "Upper",
    ],
)
def test_a_bucket_with_rules_of_its_own_is_left_to_botocore(bucket: str) -> None:
    """Access points, directory buckets and names that are no part of a host's name make no plain request."""
    plain = find_plain_s3(BASE, None)
    assert plain is not None
    assert plain._address.locate(bucket, "key") is None


@pytest.fixture
def s3(local_session: LocalSession) -> Iterator[dict[str, str]]:
    """The engine's S3, which verifies signatures: the environment of its clients."""
    local_session.boto_session.client("s3").create_bucket(Bucket="data")
    with Server(local_session.engine) as server:
        yield {**BASE, **server.environment()}


@pytest.mark.parametrize("size", [0, 1, 300_000, 3 << 20])
def test_objects_arrive_without_botocore(size: int, s3: dict[str, str], local_session: LocalSession) -> None:
    """Objects of any size, key and metadata arrive whole both ways; botocore has no part in it."""
    store = S3Store(plain=s3)
    data = bytes(range(251)) * (size // 251) + bytes(size % 251)
    key = "a b/ü+%/c~"
    for _ in range(2):
        stored = store.put("data", key, io.BytesIO(data), {"Name": "value"})
    assert stored == (size, hashlib.sha256(data).hexdigest())
    client = local_session.boto_session.client("s3")
    answer = client.get_object(Bucket="data", Key=key)
    assert (answer["Body"].read(), answer["Metadata"]) == (data, {"name": "value"})
    client.put_object(Bucket="data", Key="theirs", Body=data)
    target = io.BytesIO()
    store.fetch("data", "theirs", target)
    assert target.getvalue() == data
    assert store._client is None
    store.close()


def test_errors_are_those_of_botocore(s3: dict[str, str]) -> None:
    """A missing object, a missing bucket and a wrong key have botocore's errors; later requests still work."""
    store = S3Store(None, s3["AWS_ENDPOINT_URL"], plain=s3)
    store._client = _client(s3)
    with pytest.raises(StoreError, match="NoSuchKey"):
        store.fetch("data", "absent", io.BytesIO())
    with pytest.raises(StoreError, match="NoSuchBucket"):
        store.put("absent", "key", io.BytesIO(b"x"), {})
    store.put("data", "key", io.BytesIO(b"x"), {})
    wrong = {**s3, "AWS_SECRET_ACCESS_KEY": "wrong"}
    refused = S3Store(None, s3["AWS_ENDPOINT_URL"], plain=wrong)
    refused._client = _client(wrong)
    with pytest.raises(StoreError, match="SignatureDoesNotMatch"):
        refused.fetch("data", "key", io.BytesIO())
    store.close()


class Scripted(NamedTuple):
    """A stand-in for S3 that spoils its first answers.

    Attributes:
        url: its address.
        requests: the methods that it has received.
        spoiled: the ways of the answers to come: "cut", "checksum", "slow down", "close".
    """

    url: str
    requests: list[str]
    spoiled: list[str]


CONTENT = b"content" * 1000


@pytest.fixture
def scripted(request: pytest.FixtureRequest) -> Iterator[Scripted]:
    """The stand-in; with a certificate's file as the parameter of the test it speaks TLS."""
    requests: list[str] = []
    spoiled: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            requests.append(self.command)
            kind = spoiled.pop(0) if spoiled else ""
            if kind == "no answer":
                self.close_connection = True
                return
            body = CONTENT if self.command == "GET" else b""
            checksum = zlib.crc32(body + (b"x" if kind == "checksum" else b""))
            self.send_response(503 if kind == "slow down" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"0"')
            if self.command == "GET" and kind != "cut":
                self.send_header("x-amz-checksum-crc32", base64.b64encode(checksum.to_bytes(4, "big")).decode())
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if kind == "cut" else body)
            # "close" ends an idle connection without a word.
            self.close_connection = kind in {"cut", "close"}

        do_GET = do_PUT = _serve  # noqa: N815 - the standard library names them

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library names it
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore a client that refuses the certificate."""

    server = Quiet(("127.0.0.1", 0), Handler)
    scheme = "http"
    if "certificate" in request.fixturenames:
        file = request.getfixturevalue("certificate")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file, file.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Scripted(f"{scheme}://127.0.0.1:{server.server_port}", requests, spoiled)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("kind", ["cut", "checksum", "slow down", "no answer"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_spoiled_answer_is_repeated(kind: str, method: str, scripted: Scripted) -> None:
    """After an answer that is cut, damaged or refused, or none, the object is whole."""
    store = S3Store(None, scripted.url, plain=BASE)
    store._client = _client({**BASE, "AWS_ENDPOINT_URL": scripted.url})
    scripted.spoiled.append(kind)
    if method == "GET":
        target = io.BytesIO()
        store.fetch("data", "key", target)
        assert target.getvalue() == CONTENT
    else:
        assert store.put("data", "key", io.BytesIO(CONTENT), {}).size == len(CONTENT)
    repeated = method == "GET" or kind in {"slow down", "no answer"}
    assert scripted.requests == [method] * (1 + repeated)
    store.close()


def test_a_connection_that_the_server_ended_is_replaced(scripted: Scripted) -> None:
    """A connection serves many requests. Its end is no failure."""
    plain = find_plain_s3(BASE, scripted.url)
    assert plain is not None
    scripted.spoiled.extend(["", "close", "", "", "no answer"])
    for _ in range(5):
        plain.fetch("data", "key", io.BytesIO())
    assert len(scripted.requests) == 6
    plain.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a certificate for 127.0.0.1, and its key beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    file = tmp_path / "certificate.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(file.with_suffix(".key")), "-out", str(file)]
    subprocess.run([openssl, *words], check=True, capture_output=True)
    return file


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_certificates_are_checked(name: str, certificate: Path, scripted: Scripted) -> None:
    """A server needs a certificate of the authorities of the system, or of the file that a variable names."""
    plain = find_plain_s3({**BASE, name: str(certificate)}, scripted.url)
    assert plain is not None
    for _ in range(2):
        target = io.BytesIO()
        plain.fetch("data", "key", target)
        assert target.getvalue() == CONTENT
    plain.close()
    assert scripted.requests == ["GET"] * 2
    for variables in ({}, {name: "/absent.pem"}, {name: "/dev/null"}):
        unknown = find_plain_s3({**BASE, **variables}, scripted.url)
        assert unknown is not None
        with pytest.raises(plain_s3.PlainError, match="certificate"):
            unknown.fetch("data", "key", io.BytesIO())
    assert scripted.requests == ["GET"] * 2


def test_a_file_that_cannot_be_written_is_the_error(scripted: Scripted) -> None:
    """A full disk is not taken for a failure of S3."""

    class Full(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        S3Store(None, scripted.url, plain=BASE).fetch("data", "key", Full())
    assert scripted.requests == ["GET"]


def test_a_key_of_a_container_is_replaced_before_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The metadata server is asked once, and again before the key ends; its token may be in a file."""
    asked: list[Any] = []
    seconds = [3_600.0, 600.0, 7_200.0]

    def answer(address: Any, headers: Any) -> dict[str, Any]:
        asked.append((address, headers))
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW + seconds[len(asked) - 1]))
        number = str(len(asked))
        return {"AccessKeyId": number, "SecretAccessKey": "s", "Token": "t", "Expiration": end}

    monkeypatch.setattr(access_keys, "_ask", answer)
    monkeypatch.setattr(time, "time", lambda: NOW)
    (tmp_path / "token").write_text("proof")
    keys = AccessKeys(
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost:1234/role?a=b",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
        }
    )
    assert [keys.get(), keys.get()] == [AccessKey("1", "s", "t", NOW + 3_600)] * 2
    assert asked == [(("localhost", 1234, "/role?a=b"), {"Authorization": "proof"})]
    monkeypatch.setattr(time, "time", lambda: NOW + 2_800)
    assert keys.get() is None
    third = keys.get()
    assert third is not None
    assert third.identity == "3"


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/role"},
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost:port/role"},
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost@example.com/role"},
        {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "@example.com/role"},
        {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": ".example.com/role"},
        {},
    ],
    ids=str,
)
def test_another_host_gets_no_token(variables: dict[str, str]) -> None:
    """A token goes to this machine and to the metadata servers alone."""
    assert not access_keys.has_access_key(variables)
    assert AccessKeys(variables).get() is None


def _client(environment: dict[str, str]) -> Any:
    """Return botocore's client for an environment."""
    return botocore.session.Session().create_client(
        "s3",
        environment["AWS_DEFAULT_REGION"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )

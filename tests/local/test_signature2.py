"""Presigned URLs of version 2: boto3's default in us-east-1 is accepted, and any changed URL is refused."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from processing.local.credentials import Credentials, Identity, Keys
from processing.local.errors import ApiError
from processing.local.protocols.message import Request
from processing.local.protocols.sigv4 import SignatureVerifier
from processing.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_795_000_000
LIFETIME = 60
KEYS = Keys("AKIAFOLDER", "the+secret/of=it")
URL = "http://127.0.0.1:8000/bucket/key"


class Signer(auth.HmacV1QueryAuth):
    """Botocore's signer with a fixed time."""

    def _get_date(self) -> str:
        return str(NOW + LIFETIME)


def presigned(method: str = "GET", url: str = URL, headers: dict[str, str] | None = None, keys: Keys = KEYS) -> Request:
    """Return a request for a URL that botocore presigned for a minute, with the signed headers."""
    request = AWSRequest(method, url, headers=dict(headers or {}))
    signer: Any = Signer(BotoCredentials(keys.access_key, keys.secret_key, keys.token), expires=LIFETIME)
    signer.add_auth(request)
    plain = {name: value for name, value in (headers or {}).items() if not name.startswith("x-amz-")}
    return Request.from_url(method, str(request.url), plain, b"")


def verify(request: Request, moment: float = NOW) -> tuple[Identity, Request]:
    """Verify a request at a time."""
    return SignatureVerifier(Credentials(KEYS), VirtualClock(moment)).verify(request, "rest")


def refused(request: Request, moment: float = NOW) -> tuple[str, int]:
    """Return the code and the status of a refusal."""
    with pytest.raises(ApiError) as caught:
        verify(request, moment)
    return caught.value.code, caught.value.status


@pytest.mark.parametrize(
    "url",
    [
        URL,
        f"{URL}/%C3%BC%20%2B//../x",
        f"{URL}?response-content-type=text%2Fplain%3B%20a&partNumber=2&x=y",
        f"{URL}?uploadId=abc%2B&partNumber=1",
        "http://127.0.0.1:8000/bucket?tagging",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
def test_botocores_presigned_urls_are_accepted(method: str, url: str) -> None:
    """Paths and parameters may have any characters."""
    signed = presigned(method, url)
    assert verify(signed)[0] == Identity()
    assert refused(Request.from_url("POST", f"http://{signed.host}{signed.path}?{signed.query}", {}, b"")) == (
        "SignatureDoesNotMatch",
        403,
    )


def test_headers_in_the_url_are_headers_of_the_request() -> None:
    """Metadata that was signed is stored; a type that was signed must be sent."""
    signed = presigned("PUT", headers={"content-type": "text/plain", "x-amz-meta-a": "b"})
    assert verify(signed)[1].headers["x-amz-meta-a"] == "b"
    other = Request.from_url("PUT", f"http://{signed.host}{signed.path}?{signed.query}", {"content-type": "a/b"}, b"")
    assert refused(other) == ("SignatureDoesNotMatch", 403)
    changed = signed.query.replace("x-amz-meta-a=b", "x-amz-meta-a=c")
    assert changed != signed.query
    again = Request("PUT", signed.host, signed.path, changed, signed.headers)
    assert refused(again) == ("SignatureDoesNotMatch", 403)


def test_a_url_is_good_until_its_end() -> None:
    """To the second."""
    assert verify(presigned(), NOW + 60)[0] == Identity()
    assert refused(presigned(), NOW + 61) == ("AccessDenied", 403)


def test_a_wrong_secret_and_an_unknown_key_are_refused() -> None:
    """As for version 4."""
    assert refused(presigned(keys=KEYS._replace(secret_key="other"))) == ("SignatureDoesNotMatch", 403)
    assert refused(presigned(keys=KEYS._replace(access_key="AKIAOTHER"))) == ("InvalidAccessKeyId", 403)


@pytest.mark.parametrize("extra", ["acl", "%61cl", "t%61gging=", "respons%65-content-type=text%2Fhtml"])
def test_no_encoding_of_a_parameter_evades_the_signature(extra: str) -> None:
    """A signed parameter is covered in every encoding."""
    signed = presigned()
    assert refused(evolve(signed, query=f"{signed.query}&{extra}")) == ("SignatureDoesNotMatch", 403)


@pytest.mark.parametrize("expires", ["", "x", "-1", "1" * 13, "\u0661"])
def test_an_invalid_end_is_refused(expires: str) -> None:
    """The refusal precedes the computation of a signature."""
    old = Request("GET", "127.0.0.1", "/b/k", f"AWSAccessKeyId=a&Expires={expires}&Signature=c", {})
    assert refused(old) == ("AccessDenied", 403)


def test_parameters_that_are_missing_are_named() -> None:
    """Expires is required."""
    assert refused(Request("GET", "127.0.0.1", "/b/k", "AWSAccessKeyId=a&Signature=c", {})) == ("AccessDenied", 403)


def test_urls_of_boto3_move_objects(http_client: Callable[..., Any]) -> None:
    """They work over HTTP without a key."""
    s3 = http_client("s3")
    s3.create_bucket(Bucket="a-bucket")
    where = {"Bucket": "a-bucket", "Key": "ä/b c"}
    put = s3.generate_presigned_url("put_object", Params={**where, "ContentType": "text/plain"})
    assert "AWSAccessKeyId=" in put  # else this test is about version 4
    upload = urllib.request.Request(put, b"data", {"Content-Type": "text/plain"}, method="PUT")
    with urllib.request.urlopen(upload, timeout=30) as answer:
        assert answer.status == 200
    get = s3.generate_presigned_url("get_object", Params={**where, "ResponseContentType": "a/b"})
    with urllib.request.urlopen(get, timeout=30) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (b"data", "a/b")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(get.replace("/b%20c", "/other"), timeout=30)

"""Requests for small objects that repeat one of botocore's: the fast request path.

For each request botocore validates and serializes parameters, resolves the endpoint, calls event handlers, and parses
the answer by the service model. In a transfer, all of that has the same result for every file. So botocore sends the
first request of a kind. Once S3 has accepted it, it is a template: its URL up to the key, and its headers. An object's
key, length and checksum complete it. botocore's own signer signs it, with the credentials of that moment, and
botocore's own HTTP session sends it, with its connections, certificates, proxies and timeouts. An upload carries the
checksum that botocore would send. The bytes of a download are compared with the same values as botocore's. Only a
success counts. After anything else, botocore sends the request from the beginning, with all its tries. Thus redirects,
renewed credentials, a wrong clock, retries and errors are handled in one place.

There is no template if it could differ from botocore's own request: the client has event handlers of others, a header
is unknown, or the signature has another version.

The effect for 2,000 files of 8 KB (`benchmarks/uploads.py`, `downloads.py`): half of botocore's processor time. The
environment variable `PROCESSING_TRANSFERS=botocore` switches templates and obstore off.
"""

from __future__ import annotations

import base64
import logging
import re
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import attrs

from processing.aws.checksums import digest_factory
from processing.staging.checksums import new_verifier

if TYPE_CHECKING:
    from collections.abc import Mapping


logger = logging.getLogger(__name__)

# Headers whose values depend on parameters alone, which all objects of a template share.
_CONSTANT = re.compile(
    r"accept-encoding|amz-sdk-request|cache-control|content-(disposition|encoding|language|type)|expires|if-none-match|"
    r"user-agent|x-amz-(acl|checksum-mode|expected-bucket-owner|grant-.*|meta-.*|request-payer|sdk-checksum-algorithm|"
    r"server-side-encryption.*|storage-class|tagging|website-redirect-location)|x-amzn-trace-id"
)
# Headers that are made anew for each object.
_MADE = re.compile(
    r"amz-sdk-invocation-id|authorization|content-length|host|transfer-encoding|"
    r"x-amz-(checksum-(crc|sha).*|content-sha256|date|decoded-content-length|security-token|trailer)"
)
_CHECKSUM = "x-amz-checksum-"
_SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d+/([a-z0-9-]+)/s3/aws4_request,")

# Parameters that belong to one content.
_OF_ONE_CONTENT = re.compile(
    r"Checksum(?!Algorithm|Mode).*|ContentMD5|ContentLength|IfMatch|Range|PartNumber|VersionId"
)

# The headers that a verifier of an answer's bytes needs, by botocore's names.
_VERIFIED = {
    "ETag": "etag",
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    **{f"Checksum{name}": f"{_CHECKSUM}{name.lower()}" for name in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")},
}


class UnusableResponseError(Exception):
    """An answer that botocore has to ask for again. It never leaves this package.

    Args:
        status: the HTTP status.
        reason: the fault of the answer.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(f"HTTP {status}: {reason}")


def has_hooks(client: Any, operation: str, own: str) -> bool:
    """Return whether others than botocore have registered event handlers for an operation.

    Such a handler may change a request, answer it (moto, the embedded engine), or count it.

    Args:
        client: the client of S3.
        operation: the operation as AWS spells it.
        own: the module whose handlers only observe.
    """
    emitter = client.meta.events
    try:
        search = getattr(emitter, "_emitter", emitter)._handlers.prefix_search  # noqa: SLF001 - it has no public name
    except AttributeError:
        return True
    modules = (
        getattr(handler, "__module__", None) or "" for event in _EVENTS for handler in search(f"{event}.s3.{operation}")
    )
    return not all(module.startswith("botocore.") or module == own for module in modules)


_EVENTS = (
    "provide-client-params",
    "before-parameter-build",
    "before-endpoint-resolution",
    "before-call",
    "request-created",
    "choose-signer",
    "before-sign",
    "before-send",
    "response-received",
    "before-parse",
    "needs-retry",
    "after-call",
    "after-call-error",
)


def template_key(operation: str, params: Mapping[str, Any]) -> str | None:
    """Return the identity of the template for an operation; None if each object needs its own request.

    Args:
        operation: the operation as AWS spells it.
        params: its parameters.
    """
    if any(_OF_ONE_CONTENT.fullmatch(name) for name in params):
        return None
    return f"{operation} {sorted((name, repr(value)) for name, value in params.items() if name != 'Key')}"


@attrs.frozen
class RequestTemplate:
    """A request of botocore's to be repeated for other keys.

    Args:
        client: the client that sent it.
        method: the HTTP method.
        prefix: its URL up to the key.
        headers: the headers that stay the same.
        region: the region that it is signed for.
        checksum: S3's name of the checksum in uploads, in lower case; None for no checksum.
    """

    client: Any
    method: str
    prefix: str
    headers: Mapping[str, str]
    region: str
    checksum: str | None

    @classmethod
    def learn(cls, client: Any, request: Any, key: str) -> RequestTemplate | None:
        """Return the template of a signed request; None if it cannot be repeated.

        Args:
            client: the client that has sent it.
            request: botocore's prepared request.
            key: the object of the request.
        """
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        path = quote(key, safe="/~")
        signature = _SIGNATURE.match(headers.get("authorization", ""))
        keys = _credentials(client)
        if request.method not in {"GET", "PUT"} or signature is None or keys is None or signature[1] != keys.access_key:
            return None
        if not request.url.endswith(f"/{path}") or "?" in request.url:
            return None
        constant = {name: value for name, value in headers.items() if not _MADE.fullmatch(name)}
        _remove_chunked_encoding(constant)
        if not all(_CONSTANT.fullmatch(name) for name in constant):
            return None
        named = [name for name in headers if name.startswith(_CHECKSUM) and name not in constant]
        named += [headers["x-amz-trailer"]] if "x-amz-trailer" in headers else []
        algorithms = {name.removeprefix(_CHECKSUM) for name in named}
        if len(algorithms) > 1 or any(digest_factory(name) is None for name in algorithms):
            return None
        prefix = request.url[: -len(path)]
        return cls(client, request.method, prefix, constant, signature[2], next(iter(algorithms), None))

    def put(self, key: str, content: bytes) -> str:
        """Put an object, and return its ETag.

        Raises:
            UnusableResponseError: the answer is not that of a success.
            Exception: botocore's errors of a connection, and those of the credentials.
        """
        answer = self._send(key, content, stream=False)
        if answer.status_code != 200 or "etag" not in answer.headers or answer.content:
            raise UnusableResponseError(answer.status_code, "no success")
        return str(answer.headers["etag"])

    def get(self, key: str, max_size: int) -> bytes:
        """Return an object's content, compared with the checksum or ETag that S3 keeps.

        Args:
            key: the object.
            max_size: the most bytes that it may have.

        Raises:
            UnusableResponseError: the answer is no success, or its content is too large, incomplete or damaged.
            Exception: as for `put`.
        """
        answer = self._send(key, b"", stream=True)
        try:
            content = _read(answer, max_size)
        except BaseException:
            answer.raw.close()  # the rest of the body would precede the next answer
            raise
        finally:
            answer.raw.release_conn()
        found = {name: answer.headers[header] for name, header in _VERIFIED.items() if header in answer.headers}
        verifier = new_verifier(found, lambda: None)
        if verifier is not None:
            verifier.update(content)
            if not verifier.matches():
                raise UnusableResponseError(answer.status_code, "damaged bytes")
        return content

    def _send(self, key: str, content: bytes, *, stream: bool) -> Any:
        from botocore.awsrequest import AWSRequest

        headers = {**self.headers, "amz-sdk-invocation-id": str(uuid.uuid4())}
        url = self.prefix + quote(key, safe="/~")
        context: dict[str, Any] = {"client_config": self.client.meta.config}
        if self.method == "PUT":
            headers["Content-Length"] = str(len(content))
            context["has_streaming_input"] = True
        if self.checksum is not None:
            headers[_CHECKSUM + self.checksum] = self._digest(content)
            # With it botocore does not sign the bytes of a body if the connection is encrypted.
            context["checksum"] = {"request_algorithm": {"in": "header", "name": _CHECKSUM + self.checksum}}
        request = AWSRequest(self.method, url, headers, content, stream_output=stream)
        request.context = context
        signer = self.client._request_signer  # noqa: SLF001 - botocore has no public access to it
        signer.get_auth_instance("s3", self.region, "s3v4").add_auth(request)
        return self.client._endpoint.http_session.send(request.prepare())  # noqa: SLF001 - as above

    def _digest(self, content: bytes) -> str:
        factory = digest_factory(self.checksum or "")
        assert factory is not None
        digest = factory()
        digest.update(content)
        return base64.b64encode(digest.digest()).decode()


def _credentials(client: Any) -> Any:
    """Return the keys with which a client signs; None if it has none."""
    found = client._request_signer._credentials  # noqa: SLF001 - as in `RequestTemplate`
    return None if found is None else found.get_frozen_credentials()


def _read(answer: Any, max_size: int) -> bytes:
    """Return the whole content of a successful answer to GetObject."""
    length = answer.headers.get("content-length", "")
    if answer.status_code != 200 or "etag" not in answer.headers:
        raise UnusableResponseError(answer.status_code, "no success")
    if not length.isdecimal() or int(length) > max_size:
        raise UnusableResponseError(answer.status_code, f"{length or 'an unknown number of'} bytes")
    content: bytes = answer.raw.read(int(length)) if int(length) else b""
    if len(content) != int(length):
        raise UnusableResponseError(answer.status_code, f"{len(content)} of {length} bytes")
    return content


def _remove_chunked_encoding(headers: dict[str, str]) -> None:
    """Remove the encoding with a checksum after the content: a template sends the checksum before it."""
    encodings = [name.strip() for name in headers.pop("content-encoding", "").split(",")]
    if kept := [name for name in encodings if name not in {"", "aws-chunked"}]:
        headers["content-encoding"] = ",".join(kept)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

"""Requests for small objects that repeat one of botocore's: the fast request path.

For each request botocore validates and serializes parameters, resolves the endpoint, calls event handlers, and parses
the answer by the service model. In a transfer, all of that has the same result for every file. So botocore sends the
first request of a kind. Once S3 has accepted it, it is a template: its URL up to the key, and its headers. An object's
key, length and checksum complete it. botocore's own signer signs it, with the credentials of that moment. It is sent
over the connections of botocore's HTTP session, with their certificates, tunnels and timeouts. An upload carries the
checksum that botocore would send. The bytes of a download are compared with the same values as botocore's. Only a
success counts. After anything else, botocore sends the request from the beginning, with all its tries. Thus redirects,
renewed credentials, a wrong clock, retries and errors are handled in one place.

There is no template if it could differ from botocore's own request: the client has event handlers of others, a header
is unknown, the signature has another version, or a proxy forwards requests instead of tunnelling them.

Threads that contend for Python's interpreter lock spend processor time on switching. Two steps save that. A request is
written to its connection without the layers of `URLLib3Session.send`, and a small one in one piece: a quarter of the
upload's processor time. One thread at a time signs: a further tenth.

The effect for 2,000 files of 8 KB (`benchmarks/uploads.py`, `downloads.py`): less than half of botocore's processor
time. The environment variable `PROCESSING_TRANSFERS=botocore` switches templates and obstore off.
"""

# botocore's signer and the connections of urllib3's pools have no public names.
# ruff: noqa: SLF001

from __future__ import annotations

import base64
import contextlib
import logging
import re
import threading
import uuid
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlsplit

import attrs

from processing.aws.checksums import digest_factory
from processing.staging.checksums import new_verifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from http.client import HTTPResponse


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


# A body of up to this many bytes is written together with the headers, which copies it. To hash it takes microseconds.
_SMALL_BODY: Final = 64 * 1024


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
        search = getattr(emitter, "_emitter", emitter)._handlers.prefix_search
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
        connections: the client's pool of connections to the address.
    """

    client: Any
    method: str
    prefix: str
    headers: Mapping[str, str]
    region: str
    checksum: str | None
    connections: Any
    _signing: threading.Lock = attrs.field(factory=threading.Lock, init=False, eq=False)

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
        prefix, connections = request.url[: -len(path)], _connections(client, request.url)
        if connections is None:
            return None
        return cls(client, request.method, prefix, constant, signature[2], next(iter(algorithms), None), connections)

    def put(self, key: str, content: bytes) -> str:
        """Put an object, and return its ETag.

        Raises:
            UnusableResponseError: the answer is not that of a success.
            Exception: botocore's errors of a connection, and those of the credentials.
        """
        with self._answer(key, content) as answer:
            if answer.read() or answer.status != 200 or "etag" not in answer.headers:
                raise UnusableResponseError(answer.status, "no success")
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
        with self._answer(key, b"") as answer:
            content = _read(answer, max_size)
        found = {name: answer.headers[header] for name, header in _VERIFIED.items() if header in answer.headers}
        verifier = new_verifier(found, lambda: None)
        if verifier is not None:
            verifier.update(content)
            if not verifier.matches():
                raise UnusableResponseError(answer.status, "damaged bytes")
        return content

    @contextlib.contextmanager
    def _answer(self, key: str, content: bytes) -> Iterator[HTTPResponse]:
        """Send the request for an object, and yield the answer, whose body has to be read within the block."""
        path = quote(key, safe="/~")
        is_small = len(content) <= _SMALL_BODY
        with self._signing if is_small else contextlib.nullcontext():
            headers = self._signed_headers(path, content)
        connection = self.connections._get_conn()
        try:
            if connection.sock is None:
                self._connect(connection)
            connection.putrequest(
                self.method, urlsplit(self.prefix).path + path, skip_accept_encoding="accept-encoding" in self.headers
            )
            for name, value in headers.items():
                connection.putheader(name, value.encode())  # as it was signed
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # perhaps there is an answer already
                connection.endheaders(content if is_small and content else None)
                if not is_small:
                    connection.send(content)
            # urllib3's own method works only after its own `request`.
            yield HTTPConnection.getresponse(connection)
        except BaseException:
            connection.close()
            connection = None  # it may hold lines of this request, which would precede the next one
            raise
        finally:
            self.connections._put_conn(connection)

    def _connect(self, connection: Any) -> None:
        """Connect to the server as urllib3 does. A body may take the read timeout: many share a slow line."""
        timeout = self.connections.timeout
        connection.timeout = timeout.connect_timeout
        if self.connections.proxy is None:
            connection.connect()
        else:
            self.connections._prepare_proxy(connection)
        connection.sock.settimeout(timeout.read_timeout)

    def _signed_headers(self, path: str, content: bytes) -> Mapping[str, str]:
        """Return the headers of a request for the object with a quoted key."""
        from botocore.awsrequest import AWSRequest

        headers = {**self.headers, "amz-sdk-invocation-id": str(uuid.uuid4())}
        context: dict[str, Any] = {"client_config": self.client.meta.config}
        if self.method == "PUT":
            headers["Content-Length"] = str(len(content))
            context["has_streaming_input"] = True
        if self.checksum is not None:
            headers[_CHECKSUM + self.checksum] = self._digest(content)
            # With it botocore does not sign the bytes of a body if the connection is encrypted.
            context["checksum"] = {"request_algorithm": {"in": "header", "name": _CHECKSUM + self.checksum}}
        request = AWSRequest(self.method, self.prefix + path, headers, content)
        request.context = context
        signer = self.client._request_signer
        signer.get_auth_instance("s3", self.region, "s3v4").add_auth(request)
        return cast("Mapping[str, str]", request.headers)

    def _digest(self, content: bytes) -> str:
        factory = digest_factory(self.checksum or "")
        assert factory is not None
        digest = factory()
        digest.update(content)
        return base64.b64encode(digest.digest()).decode()


def _connections(client: Any, url: str) -> Any:
    """Return the pool of a client's connections to an address; None if its requests cannot be written to them."""
    try:
        session = client._endpoint.http_session
        manager = session._get_connection_manager(url, session._proxy_config.proxy_url_for(url))
        pool = manager.connection_from_url(url)
        is_usable = pool.proxy is None or (pool.scheme == "https" and not pool.proxy_config.use_forwarding_for_https)
    except AttributeError:  # another version of botocore, or a client that imitates botocore's
        return None
    return pool if is_usable else None


def _credentials(client: Any) -> Any:
    """Return the keys with which a client signs; None if it has none."""
    found = client._request_signer._credentials
    return None if found is None else found.get_frozen_credentials()


def _read(answer: HTTPResponse, max_size: int) -> bytes:
    """Return the whole content of a successful answer to GetObject."""
    length = answer.headers.get("content-length", "")
    if answer.status != 200 or "etag" not in answer.headers:
        raise UnusableResponseError(answer.status, "no success")
    if not length.isdecimal() or int(length) > max_size:
        raise UnusableResponseError(answer.status, f"{length or 'an unknown number of'} bytes")
    content = answer.read(int(length))
    if len(content) != int(length):
        raise UnusableResponseError(answer.status, f"{len(content)} of {length} bytes")
    if not answer.isclosed():  # its chunks go on, and the next answer would follow them
        raise UnusableResponseError(answer.status, f"more than {length} bytes")
    return content


def _remove_chunked_encoding(headers: dict[str, str]) -> None:
    """Remove the encoding with a checksum after the content: a template sends the checksum before it."""
    encodings = [name.strip() for name in headers.pop("content-encoding", "").split(",")]
    if kept := [name for name in encodings if name not in {"", "aws-chunked"}]:
        headers["content-encoding"] = ",".join(kept)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

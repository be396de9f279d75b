"""Raw HTTP for tests of the server: a connection that sends any bytes, and signed requests as bytes."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.transports.server import Server


class RawConnection:
    """A connection to a server that sends and receives raw bytes.

    Args:
        server: the server.
        timeout: the seconds after which a read without data is an error.
    """

    def __init__(self, server: Server, *, timeout: float = 30.0) -> None:
        split = urlsplit(server.endpoint)
        self.sock = socket.create_connection((split.hostname, split.port or 80), timeout=timeout)
        self._file = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send all bytes."""
        self.sock.sendall(data)

    def answer(self, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Read the next answer: status, headers by name in lower case, body."""
        status = int(self._file.readline().split()[1])
        lines = iter(lambda: self._file.readline().decode().strip(), "")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if method == "HEAD" or status in {204, 304}:
            return status, headers, b""
        if "content-length" in headers:
            return status, headers, self._file.read(int(headers["content-length"]))
        body = b""
        while size := int(self._file.readline() or b"0", 16):
            body += self._file.read(size)
            self._file.readline()
        return status, headers, body

    def rest(self) -> bytes:
        """End the sending side, and read until the server ends the connection."""
        with contextlib.suppress(OSError):  # the server was faster
            self.sock.shutdown(socket.SHUT_WR)
        return self._file.read()

    def is_closed(self) -> bool:
        """Return whether the server has ended the connection without sending more."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:  # it ended before it had read, or even accepted, everything
            return True

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self.sock.close()


def signed(
    server: Server,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    headers: Mapping[str, str] | None = None,
    service: str = "s3",
    host: str | None = None,
    framed: bool = True,
) -> bytes:
    """Return a request with botocore's signature.

    Args:
        server: the server, whose keys sign the request.
        method: the method, such as `GET`.
        path: the percent-encoded path with the query.
        body: the body that is signed.
        headers: further headers.
        service: the signing name of the service.
        host: the Host header, by default the server's.
        framed: whether the result includes the body and its Content-Length.
    """
    from botocore.auth import S3SigV4Auth, SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    keys = server.environment()
    request = AWSRequest(method, server.endpoint + path, data=body, headers=dict(headers or {}))
    request.headers["Host"] = host or urlsplit(server.endpoint).netloc
    if framed:
        request.headers["Content-Length"] = str(len(body))
    signer: Any = S3SigV4Auth if service == "s3" else SigV4Auth
    credentials = Credentials(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    signer(credentials, service, "us-east-1").add_auth(request)
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + (body if framed else b"")


def signed_call(server: Server, target: str, body: bytes, *, service: str = "sagemaker", **options: Any) -> bytes:
    """Return a signed call of a JSON service.

    Args:
        server: the server, whose keys sign the request.
        target: the service and the operation, as in `SageMaker.ListProcessingJobs`.
        body: the body, which should be JSON.
        service: the signing name of the service.
        options: further arguments of `signed`.
    """
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1", **options.pop("headers", {})}
    return signed(server, "POST", "/", body, headers=headers, service=service, **options)

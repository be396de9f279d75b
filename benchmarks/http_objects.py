"""Speed of the engine over HTTP, beside moto's server (small objects) and seaweedfs (a large one).

The peers are used if they are installed (`moto_server` and `weed`, on the PATH or beside this Python). They alternate
with the engine. A separate process signs the small requests before the clock starts, and sends them over 16
connections. These stay open if the server allows it. The large object goes through boto3 in parts, as in programs of
users.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from figures import Figure, finish, scaled
from load import CONNECTIONS, SMALL

BUCKET = "bench"
REQUESTS = scaled(4000, 200)
ROUNDS = scaled(3, 1)
LARGE = scaled(1 << 30, 1 << 26)
DESCRIBES = scaled(300, 30)
MAX_MEMORY_MB = 200


@attrs.frozen
class Peer:
    """A server under test."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    pid: int
    requests: int = REQUESTS

    def client(self, service: str) -> Any:
        make: Any = boto3.client  # the type of its result depends on the literal name
        return make(
            service,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def peak_memory_mb(self) -> float:
        """Return the largest memory of the server so far, if the system reports it."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return float("nan")


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}{os.pathsep}{Path(sys.executable).parent}")


def free_ports(number: int) -> list[int]:
    """Return free ports that are also free 10,000 above, where seaweedfs has its second ports."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:  # all are held until the last one is found, so that they differ
        while len(ports) < number:
            first, second = (stack.enter_context(socket.socket()) for _ in range(2))
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 10_000))
                ports.append(port)
    return ports


@contextlib.contextmanager
def running(command: list[str], folder: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir()
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env={**os.environ, **variables})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[Peer]:
    (port,) = free_ports(1)
    lines = folder / "environment"
    command = [sys.executable, "-m", "processing.local", "serve", "--home", str(folder / "home")]
    with running([*command, "--port", str(port), "--env-file", str(lines)], folder) as process:
        wait_for(lines.exists, process, folder)
        exported = [line for line in lines.read_text().splitlines() if line.startswith("export ")]
        values = dict(line.removeprefix("export ").split("=", 1) for line in exported)
        yield Peer(
            "engine",
            values["AWS_ENDPOINT_URL"],
            values["AWS_ACCESS_KEY_ID"],
            values["AWS_SECRET_ACCESS_KEY"],
            process.pid,
        )


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[Peer | None]:
    found = program("moto_server")
    if found is None:
        yield None
        return
    (port,) = free_ports(1)
    with running([found, "-H", "127.0.0.1", "-p", str(port)], folder) as process:
        peer = Peer("moto", f"http://127.0.0.1:{port}", "testing", "testing", process.pid, REQUESTS // 4)
        wait_for(lambda: listens(peer) or process.poll() is not None, process, folder)
        yield peer if process.poll() is None else None  # moto may be installed without the packages of its server


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[Peer | None]:
    found = program("weed")
    if found is None:
        yield None
        return
    parts = ("s3", "master", "volume", "filer", "webdav", "admin")
    port, *others = free_ports(len(parts) + 1)
    ports = [f"-{part}.port={each}" for part, each in zip(parts, (port, *others), strict=False)]
    places = ["-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port.iceberg={others[-1]}"]
    keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    with running([found, "mini", *places, *ports], folder, **keys) as process:
        peer = Peer("seaweedfs", f"http://127.0.0.1:{port}", "bench", "bench", process.pid)
        wait_for(lambda: listens(peer), process, folder)
        yield peer


def listens(peer: Peer) -> bool:
    try:
        peer.client("s3").list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until a server answers; if it does not, exit with its output."""
    deadline = time.monotonic() + 60
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            output = (folder / "output").read_text(errors="replace")
            sys.exit(f"{folder.name}: the server ended, or did not answer within a minute. It said:\n{output}")
        time.sleep(0.05)


def rate(peer: Peer, method: str) -> float:
    """Return the number of requests that the server answers in a second."""
    load = Path(__file__).parent / "load.py"
    words = [peer.endpoint, peer.access_key, peer.secret_key, BUCKET, method, str(peer.requests)]
    done = subprocess.run([sys.executable, load, *words], check=True, capture_output=True, text=True)
    return float(done.stdout)


def rates(peers: list[Peer]) -> dict[tuple[str, str], float]:
    """Return the best rate of each server for PUT and GET. The servers alternate."""
    found: dict[tuple[str, str], float] = {}
    for _ in range(ROUNDS):
        for peer in peers:
            for method in ("PUT", "GET"):
                found[peer.name, method] = max(found.get((peer.name, method), 0.0), rate(peer, method))
    return found


def transfer_seconds(peer: Peer, source: Path, target: Path) -> tuple[float, float]:
    """Return the seconds for the upload and the download of the large file."""
    s3 = peer.client("s3")
    start = time.perf_counter()
    s3.upload_file(str(source), BUCKET, "large")
    middle = time.perf_counter()
    s3.download_file(BUCKET, "large", str(target))
    end = time.perf_counter()
    if target.stat().st_size != LARGE:
        sys.exit(f"{peer.name} did not give back what it was given")
    target.unlink()
    s3.delete_object(Bucket=BUCKET, Key="large")
    return middle - start, end - middle


def describe_ms(peer: Peer) -> float:
    sagemaker = peer.client("sagemaker")
    sagemaker.create_processing_job(
        ProcessingJobName="bench",
        RoleArn="arn:aws:iam::000000000000:role/bench",
        AppSpecification={"ImageUri": "image", "ContainerEntrypoint": ["true"]},
        ProcessingResources={"ClusterConfig": {"InstanceCount": 1, "InstanceType": "local", "VolumeSizeInGB": 1}},
    )
    while sagemaker.describe_processing_job(ProcessingJobName="bench")["ProcessingJobStatus"] == "InProgress":
        time.sleep(0.05)
    times = []
    for _ in range(DESCRIBES):
        start = time.perf_counter()
        sagemaker.describe_processing_job(ProcessingJobName="bench")
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def small_objects(ours: Peer, folder: Path) -> list[Figure]:
    with moto(folder / "moto") as theirs:
        peers = [ours] if theirs is None else [ours, theirs]
        for peer in peers:
            peer.client("s3").create_bucket(Bucket=BUCKET)
        found = rates(peers)
    if theirs is None:
        print("moto_server is not installed, or cannot run: nothing to compare the small objects with")
        for method in ("PUT", "GET"):
            print(f"      {method} of {SMALL} bytes: {found[ours.name, method]:.0f}/s")
        return []
    return [
        Figure(
            f"{method} of 4 KB, {CONNECTIONS} connections: moto's rate to ours",
            found["moto", method] / found[ours.name, method],
            0.5,
            "",
            f"{found[ours.name, method]:.0f}/s, moto {found['moto', method]:.0f}/s, best of {ROUNDS}",
        )
        for method in ("PUT", "GET")
    ]


def large_object(ours: Peer, folder: Path) -> list[Figure]:
    source, target = folder / "large", folder / "copy"
    with source.open("wb") as file:
        for _ in range(LARGE >> 20):
            file.write(os.urandom(1 << 20))
    with seaweedfs(folder / "weed") as theirs:
        peers = [ours] if theirs is None else [ours, theirs]
        if theirs is not None:
            theirs.client("s3").create_bucket(Bucket=BUCKET)
        times = {peer.name: [transfer_seconds(peer, source, target) for _ in range(ROUNDS)] for peer in peers}
    best = {name: (min(up for up, _ in pairs), min(down for _, down in pairs)) for name, pairs in times.items()}
    memory = Figure("memory of the server after 1 GB up and down", ours.peak_memory_mb(), MAX_MEMORY_MB, "MB")
    if theirs is None:
        print("weed is not installed: nothing to compare the large object with")
        print(f"      1 GB up {best[ours.name][0]:.2f} s, down {best[ours.name][1]:.2f} s")
        return [memory]
    words = ("upload", "download")
    return [
        memory,
        *(
            Figure(
                f"{word} of 1 GB: our time to seaweedfs's",
                best[ours.name][number] / best["seaweedfs"][number],
                2,
                "",
                f"{best[ours.name][number]:.2f} s, seaweedfs {best['seaweedfs'][number]:.2f} s, best of {ROUNDS}",
            )
            for number, word in enumerate(words)
        ),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with engine(folder / "engine") as ours:
            figures = small_objects(ours, folder)
            figures += large_object(ours, folder)
            note = f"median of {DESCRIBES}"
            figures.append(Figure("DescribeProcessingJob over HTTP", describe_ms(ours), 3.0, "ms", note))
    finish(figures)


if __name__ == "__main__":
    main()

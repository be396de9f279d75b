"""One file of 512 MB: `Session.upload_data` and `download_data` beside boto3's `upload_file` and `download_file`.

The clients take turns, each in a fresh process. Warm means after a small upload that makes the client and loads the
modules, cold without one: the time is that of the whole process. The memory is the increase of the process's peak
during the transfer. S3 keeps a CRC32 of the object that is downloaded, which this package compares.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import clients
import standin
from figures import Figure, finish, scaled

MB = 1 << 20
SIZE = scaled(512, 64) * MB
PART = 8 * MB
ROUNDS = scaled(9, 1)
CLIENTS = {"boto3": ("boto3", ""), "core": ("processing", "core"), "fast": ("processing", "fast")}
"""By name: the client and its transport."""

WORK = ("upload, warm", "upload, cold", "download, warm")
PUT = """
import sys, boto3

boto3.client("s3").put_object(Bucket=sys.argv[1], Key="data/large.bin", Body=open(sys.argv[2], "rb"))
"""

Measured = Mapping[str, float]


def make_file(path: Path) -> None:
    block = bytes(range(256)) * (MB // 256)
    with path.open("wb") as file:
        for _ in range(SIZE // MB):
            file.write(block)


def measure(server: standin.StandIn, name: str, work: str, path: Path) -> Measured:
    """Let a client do some work, and check that all bytes have arrived."""
    client, transport = CLIENTS[name]
    environment = {**server.environment, "PROCESSING_TRANSFERS": transport}
    action, start = work.split(", ")
    with tempfile.TemporaryDirectory(dir=path.parent) as target:
        words = (path, start) if action == "upload" else (target,)
        began = time.perf_counter()
        found = clients.measure(sys.executable, client, action, *words, environment=environment)
        if start == "cold":
            found["seconds"] = time.perf_counter() - began
        if action == "download" and (Path(target) / path.name).stat().st_size != SIZE:
            sys.exit(f"{name} did not fetch the whole file")
    print(f"{name}, {work}: {found['seconds']:.2f} s, {found['memory_mb']:.0f} MB; {server.count_anew()}", flush=True)
    return found


def compare(work: str, rounds: list[dict[str, Measured]]) -> list[Figure]:
    """Compare each transport with boto3: the time, and without the client's own the memory."""
    medians = {
        name: {what: statistics.median(each[name][what] for each in rounds) for what in ("seconds", "memory_mb")}
        for name in CLIENTS
    }
    them = medians["boto3"]
    figures = []
    for name in ("core", "fast"):
        us = medians[name]
        note = f"{us['seconds']:.2f} s and {them['seconds']:.2f} s, medians of {ROUNDS}"
        figures.append(
            Figure(f"512 MB, {work}, {name}: time against boto3", us["seconds"] / them["seconds"], 1.0, note=note)
        )
        if work.endswith("warm"):
            note = f"boto3 takes {them['memory_mb']:.0f} MB more"
            figures.append(Figure(f"512 MB, {work}, {name}: more memory", us["memory_mb"], 150, "MB", note))
    return figures


def main() -> None:
    figures = []
    with tempfile.TemporaryDirectory() as name, standin.running() as server:
        path = Path(name, "large.bin")
        make_file(path)
        for _ in range(2):  # the first allocates memory that the server did not have before
            seconds, counted = standin.capacity(server, SIZE // PART, PART, connections=8)
        figures.append(Figure("the stand-in's own time for 512 MB", seconds, 0.5, "s", note=str(counted)))
        for work in WORK:
            if work.startswith("download"):
                command = [sys.executable, "-c", PUT, clients.BUCKET, str(path)]
                subprocess.run(command, env=server.environment, check=True)
            figures += compare(
                work, [{each: measure(server, each, work, path) for each in CLIENTS} for _ in range(ROUNDS)]
            )
    finish(figures)


if __name__ == "__main__":
    main()

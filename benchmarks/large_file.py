"""Upload of one file of 512 MB: `Session.upload_data` beside boto3's `upload_file`, alternating in the same run.

Each runs in a fresh process, after a small upload that makes the client and loads the modules. The memory is the
increase of the process's peak during the upload.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import clients
import standin
from figures import Figure, finish, scaled

MB = 1 << 20
SIZE = scaled(512, 64) * MB
PART = 8 * MB
ROUNDS = scaled(9, 1)
TRANSPORTS = ("core", "fast")


def make_file(path: Path) -> None:
    block = bytes(range(256)) * (MB // 256)
    with path.open("wb") as file:
        for _ in range(SIZE // MB):
            file.write(block)


def measure(server: standin.StandIn, client: str, transport: str, path: Path) -> dict[str, Any]:
    environment = {**server.environment, "PROCESSING_TRANSFERS": transport}
    found = clients.measure(sys.executable, client, "upload", path, environment=environment)
    counted = server.reset()
    print(f"{client} {transport}: {found['seconds']:.2f} s, {found['memory_mb']:.0f} MB; {counted}")
    return found


def main() -> None:
    figures = []
    measured: dict[str, list[dict[str, Any]]] = {each: [] for each in ("boto3", *TRANSPORTS)}
    with tempfile.TemporaryDirectory() as name, standin.running() as server:
        path = Path(name, "large.bin")
        make_file(path)
        for _ in range(2):  # the first allocates memory that the server did not have before
            seconds, counted = standin.capacity(server, SIZE // PART, PART, connections=8)
        figures.append(Figure("the stand-in's own time for 512 MB", seconds, 0.5, "s", note=str(counted)))
        for _ in range(ROUNDS):
            measured["boto3"].append(measure(server, "boto3", "", path))
            for transport in TRANSPORTS:
                measured[transport].append(measure(server, "processing", transport, path))

    def median(client: str, what: str) -> float:
        return float(statistics.median(one[what] for one in measured[client]))

    for transport in TRANSPORTS:
        us, them = median(transport, "seconds"), median("boto3", "seconds")
        note = f"{us:.2f} s and {them:.2f} s, medians of {ROUNDS}"
        figures.append(Figure(f"512 MB, {transport}: time against boto3's upload_file", us / them, 1.0, note=note))
        note = f"boto3's upload_file takes {median('boto3', 'memory_mb'):.0f} MB more"
        figures.append(Figure(f"512 MB, {transport}: more memory", median(transport, "memory_mb"), 150, "MB", note))
    finish(figures)


if __name__ == "__main__":
    main()

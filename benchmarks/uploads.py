"""Uploads of two thousand files of 8 KB: `Session.upload_data`, beside that of `sagemaker` 2.x in the same run.

The stand-in server adds 30 ms to every answer. Each client runs in a fresh process, after a small upload. `sagemaker`
runs once, because it takes minutes. Our runs are repeated, and the median counts. First the capacity of the server is
measured, with requests that were signed before the clock starts.
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

FILES, SIZE = scaled(2_000, 200), 8_192
FOLDERS = 20
ROUNDS = scaled(3, 1)
LIMITS = {"core": (25, 0.4), "fast": (100, 0.1)}
"""By transport: the least speed against `sagemaker`, and the largest share of its processor time."""


def make_files(folder: Path) -> None:
    for number in range(FILES):
        path = folder / f"part-{number % FOLDERS:02}" / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{number:08}".encode() * (SIZE // 8))


def capacity(server: standin.StandIn) -> Figure:
    """Check that the server answers this number of parallel requests faster than any client sends them."""
    seconds, counted = standin.capacity(server, FILES, SIZE, connections=scaled(250, 25))
    return Figure(f"the stand-in's own time for {FILES:,} PUTs", seconds, 0.9, "s", note=str(counted))


def upload(server: standin.StandIn, folder: Path, transport: str) -> dict[str, float]:
    """Upload the files repeatedly, and return the medians."""
    found: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        environment = {**server.environment, "PROCESSING_TRANSFERS": transport}
        found.append(clients.measure(sys.executable, "processing", "upload", folder, environment=environment))
        check(server, "processing")
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def check(server: standin.StandIn, client: str) -> standin.Statistics:
    counted = server.reset()
    if counted.calls["PutObject"] != FILES + 1:
        sys.exit(f"{client} has put {counted.calls['PutObject']} objects instead of {FILES} and the one before them")
    print(f"{client}: {counted}")
    return counted


def compare(what: str, us: dict[str, float], them: dict[str, float], limits: tuple[float, float]) -> list[Figure]:
    """Compare a transport with `sagemaker`, in time and in processor time."""
    times, share = limits
    name = f"{FILES:,} files of {SIZE // 1024} KB, {what}"
    seconds = (
        f"{us['seconds']:.2f} s, sagemaker 2.x {them['seconds']:.1f} s: {them['seconds'] / us['seconds']:.0f} times"
    )
    cpu = f"{us['cpu_seconds']:.2f} s, sagemaker 2.x {them['cpu_seconds']:.1f} s; {us['memory_mb']:.0f} MB more memory"
    return [
        Figure(f"{name}: time against sagemaker 2.x", us["seconds"] / them["seconds"], 1 / times, note=seconds),
        Figure(f"{name}: CPU against it", us["cpu_seconds"] / them["cpu_seconds"], share, note=cpu),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as name, standin.running() as server:
        folder = Path(name)
        make_files(folder)
        figures = [capacity(server)]
        measured = {transport: upload(server, folder, transport) for transport in LIMITS}
        them = clients.measure(clients.SAGEMAKER_2, "sagemaker", "upload", folder, environment=server.environment)
        check(server, "sagemaker")
        for transport, us in measured.items():
            figures += compare(transport, us, them, LIMITS[transport])
    finish(figures)


if __name__ == "__main__":
    main()

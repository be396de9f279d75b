"""Uploads of two thousand files of 8 KB: `Session.upload_data`, beside s3transfer, obstore and `sagemaker` 2.x.

The stand-in server adds 30 ms to every answer. Each client runs in a fresh process, after a small upload. The clients
take turns, and the median of each counts. `sagemaker` uploads a tenth of the files once, and its time counts ten times:
it sends one file after another. First the capacity of the server is measured, with requests that were signed before the
clock starts.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clients
import standin
from figures import Figure, finish, scaled

FILES, SIZE = scaled(2_000, 200), 8_192
FOLDERS = 20
TENTH = ("part-00", "part-01")
"""Two of the folders: the files that `sagemaker` transfers."""

ROUNDS = scaled(3, 1)
CLIENTS = ("core", "s3transfer", "fast", "obstore")
"""The compared clients: this package with botocore alone and with obstore, each before its peer."""

Measured = dict[str, float]


def make_files(folder: Path) -> None:
    for number in range(FILES):
        path = folder / f"part-{number % FOLDERS:02}" / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{number:08}".encode() * (SIZE // 8))


def capacity(server: standin.StandIn) -> Figure:
    """Check that the server answers this number of parallel requests faster than any client sends them."""
    seconds, counted = standin.capacity(server, FILES, SIZE, connections=scaled(250, 25))
    return Figure(f"the stand-in's own time for {FILES:,} PUTs", seconds, 0.9, "s", note=str(counted))


def transfer(server: standin.StandIn, client: str, action: str, *words: object) -> Measured:
    """Let a client of `CLIENTS` transfer files."""
    ours = client in {"core", "fast"}
    environment = {**server.environment, "PROCESSING_TRANSFERS": client if ours else ""}
    return clients.measure(sys.executable, "processing" if ours else client, action, *words, environment=environment)


def in_turns(measure: Callable[[str], Measured]) -> dict[str, Measured]:
    """Measure the clients in turns, and return the medians of each."""
    rounds = [{client: measure(client) for client in CLIENTS} for _ in range(ROUNDS)]
    return {
        client: {what: statistics.median(each[client][what] for each in rounds) for what in rounds[0][client]}
        for client in CLIENTS
    }


def upload(server: standin.StandIn, folder: Path, client: str) -> Measured:
    """Upload the files, and check their number."""
    found = transfer(server, client, "upload", folder)
    counted = server.reset()
    if counted.calls["PutObject"] != FILES + 1:
        sys.exit(f"{client} has put {counted.calls['PutObject']} objects instead of {FILES} and the one before them")
    print(f"{client}: {found['seconds']:.2f} s; {counted}")
    return found


def sagemaker(measure: Callable[[str], Any]) -> Measured:
    """Return ten times the measurement of a tenth."""
    measured: Measured = {}
    for part in TENTH:
        found = measure(part)
        measured = {what: measured.get(what, 0.0) + 10 * value for what, value in found.items()}
    return measured


def compare(what: str, measured: dict[str, Measured], limits: dict[str, tuple[float, float]]) -> list[Figure]:
    """Compare `core` with s3transfer and `fast` with obstore in time, and both with `sagemaker` in time and CPU.

    Args:
        what: the work.
        measured: the medians of the clients.
        limits: by transport, the least speed against `sagemaker`, and the largest share of its processor time.
    """
    core, fast, peer, alone = (measured[client] for client in ("core", "fast", "s3transfer", "obstore"))
    figures = [
        Figure(
            f"{what}, core: time against s3transfer",
            core["seconds"] / peer["seconds"],
            0.3,
            note=f"{core['seconds']:.2f} s and {peer['seconds']:.2f} s",
        ),
        Figure(
            f"{what}, core: CPU against it",
            core["cpu_seconds"] / peer["cpu_seconds"],
            0.5,
            note=f"{core['cpu_seconds']:.2f} s and {peer['cpu_seconds']:.2f} s",
        ),
        Figure(
            f"{what}, core: memory",
            core["peak_mb"],
            80,
            "MB",
            note=f"all of the process; s3transfer {peer['peak_mb']:.0f}",
        ),
        Figure(
            f"{what}, fast: time against obstore alone",
            fast["seconds"] / alone["seconds"],
            1.5,
            note=f"{fast['seconds']:.2f} s and {alone['seconds']:.2f} s",
        ),
    ]
    them = measured["sagemaker"]
    for transport, (times, share) in limits.items():
        us = measured[transport]
        figures += [
            Figure(
                f"{what}, {transport}: time against sagemaker 2.x",
                us["seconds"] / them["seconds"],
                1 / times,
                note=f"{them['seconds']:.0f} s: {them['seconds'] / us['seconds']:.0f} times",
            ),
            Figure(
                f"{what}, {transport}: CPU against it",
                us["cpu_seconds"] / them["cpu_seconds"],
                share,
                note=f"{us['cpu_seconds']:.2f} s and {them['cpu_seconds']:.1f} s",
            ),
        ]
    return figures


def main() -> None:
    with tempfile.TemporaryDirectory() as name, standin.running() as server:
        folder = Path(name)
        make_files(folder)
        figures = [capacity(server)]
        measured = in_turns(lambda client: upload(server, folder, client))
        measured["sagemaker"] = sagemaker(
            lambda part: clients.measure(
                clients.SAGEMAKER_2, "sagemaker", "upload", folder / part, environment=server.environment
            )
        )
        figures += compare(f"{FILES:,} files of {SIZE // 1024} KB", measured, {"core": (40, 0.25), "fast": (100, 0.1)})
    finish(figures)


if __name__ == "__main__":
    main()

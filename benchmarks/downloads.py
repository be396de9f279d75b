"""Downloads of two thousand files of 8 KB: `Session.download_data`, beside that of `sagemaker` 2.x in the same run.

The setup is that of `uploads.py`, but `sagemaker` fetches a tenth of the files, and its time counts ten times. It
fetches one file after another, so this only saves minutes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import clients
import standin
from figures import Figure, finish
from uploads import FILES, ROUNDS, SIZE, compare, make_files

LIMITS = {"core": (15, 0.6), "fast": (40, 0.25)}
"""As in `uploads.py`: limits of our own. An answer with an object costs botocore more than that of a PUT."""
TENTH = ("part-00", "part-01")


def download(server: standin.StandIn, client: str, folder: Path, transport: str, *parts: str) -> dict[str, Any]:
    """Download all files, or those of some folders, and check that they exist."""
    python = clients.SAGEMAKER_2 if client == "sagemaker" else sys.executable
    environment = {**server.environment, "PROCESSING_TRANSFERS": transport}
    found = clients.measure(python, client, "download", folder, *parts, environment=environment)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    if sizes != [SIZE] * (FILES * len(parts) // 20 or FILES):
        sys.exit(f"{client} did not fetch every file whole")
    print(f"{client} {transport}: {server.count_anew()}")
    return found


def main() -> None:
    measured: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, standin.running() as server:
        folder = Path(name)
        make_files(folder / "files")
        environment = server.environment
        clients.measure(sys.executable, "processing", "upload", folder / "files", environment=environment)
        server.count_anew()
        for transport in LIMITS:
            rounds = [download(server, "processing", folder / f"{transport}-{n}", transport) for n in range(ROUNDS)]
            measured[transport] = {what: statistics.median(one[what] for one in rounds) for what in rounds[0]}
        them = download(server, "sagemaker", folder / "sagemaker", "", *TENTH)
    them = {what: value * 10 for what, value in them.items()}
    figures: list[Figure] = []
    for transport, us in measured.items():
        figures += compare(f"{transport}, down", us, them, LIMITS[transport])
    finish(figures)


if __name__ == "__main__":
    main()

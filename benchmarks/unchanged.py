"""Calls of a second run without changes: the files of the code, and data with `reuse=True`.

The stand-in counts. Each run is made by a process of its own, like a script that is started again. The runs share a
cache folder on this machine.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import clients
import standin
from figures import Figure, finish
from uploads import FILES, make_files

PAGES = -(-FILES // 1000)
"""Calls to list the files: S3 lists a thousand at a time."""


def run(server: standin.StandIn, folder: Path, data: str) -> tuple[dict[str, Any], Counter[str]]:
    """Make one run, and return its measurements and its calls."""
    environment = {**server.environment, "PROCESSING_CACHE_HOME": str(folder / "cache")}
    words = ("run_with_code", folder / "code", data)
    found = clients.measure(sys.executable, "processing", *words, environment=environment)
    return found, server.count_anew().calls


def figures_of(server: standin.StandIn, folder: Path, data: str, most: int) -> list[Figure]:
    """Run twice, and compare the calls of the second run with the limit before CreateProcessingJob."""
    server.reset()
    first, _ = run(server, folder, data)
    second, calls = run(server, folder, data)
    what = f"second run, {f'{FILES:,} files with reuse=True' if data else 'source_dir alone'}"
    note = ", ".join(f"{number} {operation}" for operation, number in sorted(calls.items()))
    took = f"{second['seconds']:.2f} s, the first {first['seconds']:.2f} s"
    puts = calls["PutObject"] + calls["CopyObject"] + calls["UploadPart"]
    return [
        Figure(f"{what}: objects put", puts, 0, note=took),
        Figure(
            f"{what}: calls before CreateProcessingJob", calls.total() - calls["CreateProcessingJob"], most, note=note
        ),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as name, standin.running() as server:
        folder = Path(name)
        make_files(folder / "data")
        (folder / "code" / "package").mkdir(parents=True)
        (folder / "code" / "main.py").write_text("import package\n")
        (folder / "code" / "package" / "__init__.py").write_text("print('hello')\n")
        finish(
            [
                *figures_of(server, folder, "", 2),
                *figures_of(server, folder, str(folder / "data"), 2 + PAGES),
            ]
        )


if __name__ == "__main__":
    main()

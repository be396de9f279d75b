"""Downloads of two thousand files of 8 KB: `Session.download_data`, beside s3transfer, obstore and `sagemaker` 2.x.

The setup is that of `uploads.py`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import clients
import standin
from figures import finish
from uploads import FILES, FOLDERS, SIZE, Measured, compare, in_turns, make_files, sagemaker, transfer


def check(client: str, folder: Path, files: int) -> None:
    """Check that a number of files have arrived."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    if sizes != [SIZE] * files:
        sys.exit(f"{client} did not fetch every file whole")


def main() -> None:
    with tempfile.TemporaryDirectory() as name, standin.running() as server:
        folder = Path(name)
        make_files(folder / "files")
        transfer(server, "core", "upload", folder / "files")
        server.count_anew()

        def download(client: str) -> Measured:
            with tempfile.TemporaryDirectory(dir=folder) as target:
                found = transfer(server, client, "download", target)
                check(client, Path(target), FILES)
            print(f"{client}: {found['seconds']:.2f} s; {server.count_anew()}")
            return found

        def download_part(part: str) -> Measured:
            target = folder / "sagemaker"
            found: Measured = clients.measure(
                clients.SAGEMAKER_2, "sagemaker", "download", target, part, environment=server.environment
            )
            check("sagemaker", target / part, FILES // FOLDERS)
            return found

        measured = in_turns(download)
        measured["sagemaker"] = sagemaker(download_part)
    # Limits of our own against `sagemaker`: an answer with an object costs botocore more than that of a PUT.
    finish(compare(f"{FILES:,} files of {SIZE // 1024} KB, down", measured, {"core": (30, 0.3), "fast": (40, 0.25)}))


if __name__ == "__main__":
    main()

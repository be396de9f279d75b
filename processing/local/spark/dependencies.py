"""The values of `--py-files`, `--jars` and `--files` as `spark-submit` gets them.

The rules are those of AWS's images. A directory stands for its files if it is the whole value. A list is one of URIs or
one of local files, by its first entry. pip's Spark has no file system for S3, so objects are downloaded first.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_S3 = re.compile(r"s3[an]?://([^/]+)/(.+)")


class DependencyError(Exception):
    """A file that an option names and that cannot be used."""


class Dependencies:
    """The files of one application.

    Args:
        folder: a folder for downloads, which need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._client: Any = None

    def resolve(self, option: str, value: str) -> str:
        """Return the value for `spark-submit`: local files, separated by commas.

        Args:
            option: the option's name, such as `jars`.
            value: its value.

        Raises:
            DependencyError: a file does not exist or cannot be downloaded, or the list mixes both kinds the wrong way.
        """
        entries = value.split(",")
        if _S3.match(entries[0]) is None:
            return ",".join(_local(option, entries))
        # Objects of one name differ by their folders.
        return ",".join(self._download(option, entry, str(index)) for index, entry in enumerate(entries))

    def _download(self, option: str, entry: str, folder: str) -> str:
        found = _S3.fullmatch(entry)
        if found is None:
            return entry
        bucket, key = found.groups()
        target = self._folder / option / folder / key.rpartition("/")[2]
        target.parent.mkdir(parents=True)
        try:
            self._s3().download_file(bucket, key, str(target))
        except Exception as error:
            raise DependencyError(f"--{option}: {entry} cannot be downloaded: {error}") from error
        return str(target)

    def _s3(self) -> Any:
        if self._client is None:
            import boto3  # few applications name objects in S3

            self._client = boto3.client("s3")
        return self._client


def _local(option: str, entries: list[str]) -> Iterator[str]:
    if len(entries) == 1 and Path(entries[0]).is_dir():
        files = sorted(entry.path for entry in os.scandir(entries[0]) if entry.is_file())
        if not files:
            raise DependencyError(f"--{option}: the folder {entries[0]} has no files")
        yield from files
        return
    for entry in entries:
        if _S3.match(entry) is not None:
            raise DependencyError(f"--{option}: {entry} comes after a local file; objects in S3 come first")
        if not Path(entry).exists():
            raise DependencyError(f"--{option}: {entry} does not exist")
        yield entry

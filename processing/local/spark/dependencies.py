"""The values of `--py-files`, `--jars` and `--files` as `spark-submit` gets them.

The rules are those of AWS's images. A directory stands for its files if it is the whole value. A list is one of URIs or
one of local files, by its first entry. pip's Spark has no file system for S3, so objects are downloaded first, those
that a pattern such as `s3://bucket/jars/*.jar` matches too.
"""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_S3 = re.compile(r"s3[an]?://([^/]+)/(.+)")
_WILDCARD = re.compile(r"[*?\[]")


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
        paths = [self._downloads(option, entry, str(index)) for index, entry in enumerate(entries)]
        return ",".join(path for several in paths for path in several)

    def _downloads(self, option: str, entry: str, folder: str) -> list[str]:
        """Download the objects of an entry, and return their paths; an entry that is no URI stays."""
        found = _S3.fullmatch(entry)
        if found is None:
            return [entry]
        bucket, key = found.groups()
        place = self._folder / option / folder
        place.mkdir(parents=True)
        try:
            keys = [key] if _WILDCARD.search(key) is None else self._matches(bucket, key)
            for each in keys:
                self._s3().download_file(bucket, each, str(place / each.rpartition("/")[2]))
        except Exception as error:
            raise DependencyError(f"--{option}: {entry} cannot be downloaded: {error}") from error
        if not keys:
            raise DependencyError(f"--{option}: {entry} matches no object")
        return [str(place / each.rpartition("/")[2]) for each in keys]

    def _matches(self, bucket: str, pattern: str) -> list[str]:
        """Return the keys that a pattern matches. As in Hadoop, a wildcard does not match a slash."""
        prefix, words = _WILDCARD.split(pattern)[0], pattern.split("/")
        pages = self._s3().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return [
            key
            for key in keys
            if key.count("/") == len(words) - 1
            and all(map(fnmatch.fnmatchcase, key.split("/"), words))
            and not key.endswith("/")
        ]

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

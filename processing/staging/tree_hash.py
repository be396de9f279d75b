"""Hashes of a directory: one per file, and one of all names and contents that names the whole tree.

Hashing reads every file. So the cache keeps each file's hash together with its size, times, inode and device. A file
with the same values is not read again. The second run with an unchanged directory reads no file at all. To switch this
off, set the environment variable PROCESSING_CACHE_HOME to a new, empty folder.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from processing.exceptions import StagingError
from processing.staging import cache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from processing.request.s3_uri import S3Uri
    from processing.staging.sources import LocalSource

_TIMESTAMP_RESOLUTION = 2.0  # seconds: the coarsest modification times are those of FAT
_BLOCK = 1024 * 1024  # bytes that are read and hashed at a time


@attrs.frozen
class HashedFile:
    """A file and the hash of its content.

    Args:
        path: the file.
        name: its name relative to the source, with forward slashes.
        size: its size in bytes.
        sha256: the SHA-256 of its content (hexadecimal).
    """

    path: Path
    name: str
    size: int
    sha256: str


@attrs.frozen
class Tree:
    """A directory that is uploaded once, for all runs that find it unchanged.

    Args:
        directory: the directory.
        folder: the prefix that contains such trees.
        kms_key: the KMS key of its objects; None if the bucket decides.
        files: the hash of each file by its name relative to the directory, in the order of the names.
    """

    directory: Path
    folder: S3Uri
    kms_key: str | None
    files: Mapping[str, str] = attrs.field(repr=False)
    target: S3Uri = attrs.field(init=False)
    """The tree's own prefix. It depends on the KMS key, too: another key leads to other objects."""

    @target.default
    def _named_by_content(self) -> S3Uri:
        import hashlib  # loads OpenSSL

        digest = hashlib.sha256(f"{self.kms_key or ''}\0".encode())
        for name in sorted(self.files):
            digest.update(f"{name}\0{self.files[name]}\n".encode("utf-8", "surrogateescape"))
        return self.folder / digest.hexdigest()


def hash_files(source: LocalSource, now: Callable[[], float] = time.time) -> list[HashedFile]:
    """Return a source's files with their hashes. Files that have not changed since the last run are not read again.

    A file counts as unchanged if its size, times, inode and device are the same. A file that changed in the two seconds
    before it was hashed could change again without another modification time. Its hash is not stored.

    Args:
        source: a file or a directory.
        now: returns the current time on the scale of modification times.

    Raises:
        StagingError: files cannot be read or change meanwhile, each named.
    """
    directory = str(source.path)
    known = cache.load("hashes", directory)
    files, settled, failures = [], {}, []
    for path, name in source.files():
        try:
            began, stamp = now(), _file_stat(path)
            entry = known.get(name)
            sha256 = entry[-1] if entry and entry[:-1] == stamp else _hash(path)
            if _file_stat(path) != stamp:
                failures.append((str(path), "it changed while it was read"))
        except OSError as error:
            failures.append((str(path), error.strerror or str(error)))
            continue
        size, modified = stamp[:2]
        files.append(HashedFile(path, name, size, sha256))
        if modified < (began - _TIMESTAMP_RESOLUTION) * 1e9:
            settled[name] = [*stamp, sha256]
    if failures:
        raise StagingError("files could not be staged", failures)
    cache.store("hashes", directory, settled)
    return files


def _file_stat(path: Path) -> list[int]:
    """Return the values that identify a file's state: size, times (nanoseconds), inode, device."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _hash(path: Path) -> str:
    import hashlib  # loads OpenSSL

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()

"""A directory's files and their hashes, and the one hash of names and contents that names the whole tree."""

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

_TIMESTAMP_RESOLUTION = 2.0  # seconds after which a file's next change shows in its time for sure, on FAT too
_BLOCK = 1024 * 1024


@attrs.frozen
class HashedFile:
    """A file and its content's hash.

    Args:
        path: the file.
        name: its name relative to the source, with forward slashes.
        size: its size in bytes.
        sha256: its content's SHA-256 (hexadecimal).
    """

    path: Path
    name: str
    size: int
    sha256: str


@attrs.frozen
class Tree:
    """A directory as it is uploaded once, for every run that finds it unchanged.

    Args:
        directory: the directory.
        folder: the prefix that such trees are kept below.
        kms_key: the KMS key that its objects are encrypted with; None leaves it to the bucket.
        files: the hash of each file by its name relative to the directory, in the order of the names.
    """

    directory: Path
    folder: S3Uri
    kms_key: str | None
    files: Mapping[str, str] = attrs.field(repr=False)
    target: S3Uri = attrs.field(init=False)
    """The tree's own prefix. It names the key too: under another one, other objects are made."""

    @target.default
    def _named_by_content(self) -> S3Uri:
        import hashlib  # loads OpenSSL

        digest = hashlib.sha256(f"{self.kms_key or ''}\0".encode())
        for name in sorted(self.files):
            digest.update(f"{name}\0{self.files[name]}\n".encode("utf-8", "surrogateescape"))
        return self.folder / digest.hexdigest()


def hash_files(source: LocalSource, now: Callable[[], float] = time.time) -> list[HashedFile]:
    """Return a source's files with their hashes; those of files that look the same as last time are settled.

    A file looks the same where its size, times, inode and device are. One that was changed in the two seconds before
    it was hashed may be changed again and look the same: it is not settled.

    Args:
        source: a file or a directory.
        now: what tells the time that files are marked with.

    Raises:
        StagingError: files that cannot be read, or that change meanwhile, each named.
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
    """Return what a file looks like: size, times (nanoseconds), inode, device."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _hash(path: Path) -> str:
    import hashlib  # loads OpenSSL

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()

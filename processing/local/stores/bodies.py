"""Object bodies as files: written under a name of their own, then handed over by a rename."""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import hashlib
import importlib
import logging
import os
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

from processing.local.errors import ApiError, disk_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CHUNK = 1 << 20
"""Bytes held in memory while a body moves."""

ABANDONED_AFTER = 24 * 3600.0
"""Seconds without a write after which an unfinished body belongs to nobody."""


class Readable(Protocol):
    """A binary stream, as far as it is needed: a file, or anything that is read like one."""

    def read(self, size: int = ..., /) -> bytes:
        """Return up to `size` bytes, all of them for -1; empty at the end."""


Source = bytes | bytearray | memoryview | os.PathLike[str] | Readable


class Digest(Protocol):
    """A running checksum."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""

    def digest(self) -> bytes:
        """Return the checksum of the bytes so far, big-endian."""


class _Crc:
    def __init__(self, function: Callable[[bytes, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def new_digest(algorithm: str) -> Digest | None:
    """Return a running checksum for S3's name of an algorithm in lower case; None for one that cannot be checked here.

    `crc32c` and `crc64nvme` need awscrt: in pure Python they would make 7 MB/s.
    """
    if algorithm in {"md5", "sha1", "sha256", "sha512"}:
        digest: Digest = hashlib.new(algorithm, usedforsecurity=False)
        return digest
    if algorithm == "crc32":
        return _Crc(zlib.crc32, 4)
    if algorithm in {"crc32c", "crc64nvme"}:
        try:
            checksums = importlib.import_module("awscrt.checksums")
        except ImportError:
            _say_unchecked(algorithm)
            return None
        return _Crc(getattr(checksums, algorithm), 4 if algorithm == "crc32c" else 8)
    return None


@functools.cache
def _say_unchecked(algorithm: str) -> None:
    """Tell once in a process."""
    logger = logging.getLogger(__name__)
    logger.info("%s checksums are taken without a check: awscrt is not installed", algorithm.upper())


class Body(NamedTuple):
    """A finished file that no object owns yet."""

    path: Path
    size: int
    md5: str


class BodyFolder:
    """The files of all objects.

    `incoming/` holds what is being written, `objects/<xx>/<name>` what the index points to. A file never changes once
    it has been handed over, so a reader needs no lock.
    """

    def __init__(self, root: Path) -> None:
        self._incoming = root / "incoming"
        self._kept = root / "objects"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._kept.mkdir(exist_ok=True)
        self._sweep()

    def receive(self, source: Source, *, length: int | None, expected: Mapping[str, str]) -> Body:
        """Write a body, in constant memory, and check it.

        Args:
            source: bytes, a path, or a binary stream, which is read to its end.
            length: the number of bytes that were announced, if any.
            expected: checksums by algorithm in lower case (`md5`, `crc32`, ...), in base64 as in S3's headers.

        Raises:
            ApiError: `IncompleteBody`, `BadDigest`, `InvalidDigest`, or the disk is full.
        """
        digests = {name: digest for name in {"md5", *expected} if (digest := new_digest(name)) is not None}
        with self.new_file() as (path, file):
            size = 0
            for chunk in _chunks(source):
                size += len(chunk)
                for digest in digests.values():
                    digest.update(chunk)
                file.write(chunk)
            if length is not None and size != length:
                message = "You did not provide the number of bytes specified by the Content-Length HTTP header"
                raise ApiError("IncompleteBody", message)
            for name, value in expected.items():
                if name in digests and digests[name].digest() != _decoded(value):
                    raise _bad_digest(name)
        return Body(path, size, digests["md5"].digest().hex())

    def join(self, parts: Sequence[Path]) -> tuple[Path, int]:
        """Write one body out of several; the kernel copies, where it can."""
        with self.new_file() as (path, file):
            for part in parts:
                with part.open("rb") as piece:
                    _copy(piece, file)
            size = file.tell()
        return path, size

    @contextlib.contextmanager
    def new_file(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Lend a new file to write to; it is removed when the block raises."""
        path = self._incoming / os.urandom(16).hex()
        try:
            with path.open("xb", buffering=0) as file:
                yield path, file
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise disk_full(self._kept.parent) from error
            raise

    def keep(self, path: Path) -> str:
        """Move a finished file to its lasting place and return its name there, which is what the index stores.

        Called inside the transaction that stores the name: until that is committed, nobody looks for the file.
        """
        target = self.path(path.name)
        try:
            path.rename(target)
        except FileNotFoundError:
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        return path.name

    def path(self, name: str) -> Path:
        """Return where the file of that name is kept."""
        return self._kept / name[:2] / name

    def discard(self, names: Sequence[str]) -> None:
        """Remove files that no object owns any more; one that is gone already is no error."""
        for name in names:
            # On Windows a file that is being read cannot be removed: it is tried again with a later write.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                self.path(name).unlink()

    def _sweep(self) -> None:
        """Remove what killed processes left in `incoming/`, which is empty most of the time."""
        oldest = time.time() - ABANDONED_AFTER
        with os.scandir(self._incoming) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.stat().st_mtime < oldest:
                        Path(entry.path).unlink()


def _chunks(source: Source) -> Iterator[bytes]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        if source:
            yield bytes(source)
    elif isinstance(source, os.PathLike):
        with Path(source).open("rb", buffering=0) as file:
            yield from iter(lambda: file.read(CHUNK), b"")
    else:
        stream: Any = source
        while chunk := stream.read(CHUNK):
            yield chunk


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    if hasattr(os, "copy_file_range"):
        with contextlib.suppress(OSError):  # not on this file system: the loop below does the rest
            while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
                pass
    source.seek(os.lseek(source.fileno(), 0, os.SEEK_CUR))
    while chunk := source.read(CHUNK):
        target.write(chunk)


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise ApiError("InvalidDigest", "The Content-MD5 or checksum value that you specified was invalid.") from None


def _bad_digest(algorithm: str) -> ApiError:
    if algorithm == "md5":
        return ApiError("BadDigest", "The Content-MD5 you specified did not match what we received.")
    message = f"The {algorithm.upper()} you specified did not match the calculated checksum."
    return ApiError("BadDigest", message)

"""Object bodies as files. A body is complete, under a name of its own, before the index names it.

A body is written to `incoming/`. It belongs to an object as soon as the index's transaction is committed, and only then
moves to `objects/`. So a process that is killed at any moment leaves its files in `incoming/`, where
`ObjectStore.remove_orphans` finds them cheaply. It moves those that the index names, and removes the others.

Nothing is forced to the disk (no fsync). Stored bodies survive the death of any process, but a failure of the machine
may lose the last seconds. `ObjectStore.open` detects a body that such a failure has truncated.
"""

# Jobs store thousands of small files, and functions of `os` cost a third of their pathlib equivalents.
# ruff: noqa: PTH102, PTH103, PTH104, PTH108, PTH110, PTH116, PTH123

from __future__ import annotations

import base64
import contextlib
import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

from processing.container.contract import DAY
from processing.local.errors import ApiError, disk_full
from processing.local.stores.checksums import bad_digest, decode_checksum, new_digest, new_slow_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

CHUNK = 1 << 20
"""Bytes held in memory while a body moves."""

ABANDONED_AFTER = float(DAY)
"""Seconds without a write after which an unfinished body is abandoned: no upload pauses for a day."""

_NAME = re.compile(r"[0-9a-f]{32}")
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class Readable(Protocol):
    """A binary stream: a file, or an object with the same `read`."""

    def read(self, size: int = ..., /) -> bytes:
        """Return up to `size` bytes, or all bytes for -1. Return b"" at the end."""


BodySource = bytes | bytearray | memoryview | os.PathLike[str] | Readable


class Body(NamedTuple):
    """A complete file that does not belong to an object yet.

    Attributes:
        name: the name in the index.
        size: the size in bytes.
        md5: the MD5 digest in hexadecimal digits.
        checksums: the expected and requested checksums in base64, by algorithm.
    """

    name: str
    size: int
    md5: str
    checksums: Mapping[str, str]


class BodyFolder:
    """The files of all objects.

    `incoming/` holds bodies that are being written, `objects/<xx>/<name>` bodies that the index points to. A complete
    file never changes, so readers need no lock.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = str(root / "incoming")
        self._kept = str(root / "objects")

    def write(
        self, source: BodySource, *, length: int | None, expected: Mapping[str, str], algorithms: Collection[str] = ()
    ) -> Body:
        """Write a body in constant memory and verify it.

        Args:
            source: bytes, a path, or a binary stream (which is read to its end).
            length: the announced number of bytes, if it is known.
            expected: the expected checksums in base64, by algorithm in lower case (`crc32`, `sha256`, ...).
                `content-md5` stands for the header of that name.
            algorithms: further algorithms whose checksums are computed, however long it takes.

        Raises:
            ApiError: the length differs (`IncompleteBody`), a checksum differs (`BadDigest`) or is malformed
                (`InvalidDigest`), or the disk is full.
        """
        made = {each: new_digest(each) for each in ("content-md5", *expected)}
        made |= {each: new_slow_digest(each) for each in algorithms if each not in made}
        digests = {each: digest for each, digest in made.items() if digest is not None}
        with self.new_file() as (name, descriptor):
            size = 0
            for chunk in _chunks(source):
                size += len(chunk)
                for digest in digests.values():
                    digest.update(chunk)
                _write(descriptor, chunk)
            if length is not None and size != length:
                raise ApiError(
                    "IncompleteBody",
                    "You did not provide the number of bytes specified by the Content-Length HTTP header",
                )
            values = {algorithm: digest.digest() for algorithm, digest in digests.items()}
            for algorithm, value in expected.items():
                if values.setdefault(algorithm, decode_checksum(value)) != decode_checksum(value):
                    raise bad_digest(algorithm)
        md5 = values.pop("content-md5").hex()
        return Body(name, size, md5, {each: base64.b64encode(value).decode() for each, value in values.items()})

    def join(self, parts: Sequence[str]) -> tuple[str, int]:
        """Concatenate stored bodies into a new one and return its name and size. The kernel copies, if it can."""
        with self.new_file() as (name, descriptor), open(descriptor, "wb", buffering=0, closefd=False) as file:
            for part in parts:
                with open(self.open(part), "rb", buffering=0) as piece:
                    _copy(piece, file)
            return name, os.fstat(descriptor).st_size

    @contextlib.contextmanager
    def new_file(self) -> Iterator[tuple[str, int]]:
        """Create a file and yield its name and a descriptor for writing. Remove the file if the block raises."""
        name = os.urandom(16).hex()
        path = f"{self._incoming}/{name}"
        try:
            descriptor = self._create(path)
            try:
                yield name, descriptor
            finally:
                os.close(descriptor)
        except BaseException as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise disk_full(self._root) from error
            raise

    def _create(self, path: str) -> int:
        try:
            return os.open(path, _CREATE, 0o600)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                # Only this folder is created: an engine's folder that was removed must not reappear.
                os.mkdir(self._incoming)
            return os.open(path, _CREATE, 0o600)

    def require_incoming(self, name: str) -> None:
        """Raise `RequestTimeout` if a body was removed as abandoned. Call this in the transaction that indexes it."""
        try:
            os.stat(f"{self._incoming}/{name}")
        except FileNotFoundError:
            raise ApiError(
                "RequestTimeout",
                "Your socket connection to the server was not read from or written to within the timeout period.",
            ) from None

    def finalize(self, name: str) -> None:
        """Move a body to its final place, after the commit. A body that is already gone is ignored."""
        source, target = f"{self._incoming}/{name}", self._final_path(name)
        try:
            os.rename(source, target)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH120 - cost, as at the top
            # Another process may have replaced the object and removed this body in the meantime.
            with contextlib.suppress(FileNotFoundError):
                os.rename(source, target)

    def path(self, name: str) -> Path:
        """Return the final path of a body."""
        return Path(self._final_path(name))

    def _final_path(self, name: str) -> str:
        return f"{self._kept}/{name[:2]}/{name}"

    def open(self, name: str) -> int:
        """Return a descriptor for reading a body, or raise FileNotFoundError."""
        final = self._final_path(name)
        # A body moves once, from `incoming/` to its final place. The last attempt finds a body that moved after the
        # first one.
        for path in (final, f"{self._incoming}/{name}"):
            with contextlib.suppress(FileNotFoundError):
                return os.open(path, _READ)
        return os.open(final, _READ)

    def exists(self, name: str) -> bool:
        """Return whether a body of that name exists."""
        return os.path.exists(f"{self._incoming}/{name}") or os.path.exists(self._final_path(name))

    def discard(self, names: Sequence[str]) -> None:
        """Remove bodies that belong to no object any more. Missing files are ignored."""
        for name in names:
            for path in (f"{self._incoming}/{name}", self._final_path(name)):
                # Windows cannot remove a file that is being read. A later write tries again.
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    os.unlink(path)

    def stale_names(self, before: float) -> list[str]:
        """Return the names in `incoming/` without a write since `before` (seconds since the epoch)."""
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._incoming) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    # Files with other names are not the engine's.
                    if _NAME.fullmatch(entry.name) and entry.stat().st_mtime <= before:
                        found.append(entry.name)
        return found


def _chunks(source: BodySource) -> Iterator[bytes]:
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


def _write(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        data = data[written:]
        written = os.write(descriptor, data)


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    if hasattr(os, "copy_file_range"):
        # Some file systems do not support this. The loop below copies the rest.
        with contextlib.suppress(OSError):
            while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
                pass
    source.seek(os.lseek(source.fileno(), 0, os.SEEK_CUR))
    while chunk := source.read(CHUNK):
        target.write(chunk)

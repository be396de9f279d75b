"""Object bodies as files: each is written in full under a name of its own before the index names it.

A body is born in `incoming/`, and belongs to an object from the moment the index's transaction is committed; only then
it moves to `objects/`. So a process that is killed at any moment leaves its files in `incoming/`, where
`ObjectStore.remove_orphans` finds them cheaply: it moves those that the index names, and removes the others.

Nothing is forced to the disk (no fsync): what was stored survives every death of a process, but a failure of the
machine itself may lose the last seconds. A body that such a failure cut short is found out when it is opened.
"""

# Small files by the thousand: functions of `os` cost a third of what pathlib does.
# ruff: noqa: PTH102, PTH103, PTH104, PTH108, PTH110, PTH116, PTH123

from __future__ import annotations

import base64
import contextlib
import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

from processing.local.errors import ApiError, disk_full
from processing.local.stores.checksums import bad_digest, decode_checksum, new_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

CHUNK = 1 << 20
"""Bytes held in memory while a body moves."""

ABANDONED_AFTER = 24 * 3600.0
"""Seconds without a write after which an unfinished body belongs to nobody."""

_NAME = re.compile(r"[0-9a-f]{32}")
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class Readable(Protocol):
    """A binary stream, as far as it is needed: a file, or anything that is read like one."""

    def read(self, size: int = ..., /) -> bytes:
        """Return up to `size` bytes, all of them for -1; empty at the end."""


BodySource = bytes | bytearray | memoryview | os.PathLike[str] | Readable


class Body(NamedTuple):
    """A finished file that no object owns yet.

    Attributes:
        name: what the index calls it.
        size: in bytes.
        md5: in hex.
        checksums: in base64 by algorithm, those that were expected or asked for.
    """

    name: str
    size: int
    md5: str
    checksums: Mapping[str, str]


class BodyFolder:
    """The files of all objects.

    `incoming/` holds what is being written, `objects/<xx>/<name>` what the index points to. A file never changes once
    it is finished, so a reader needs no lock.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = str(root / "incoming")
        self._kept = str(root / "objects")

    def write(
        self, source: BodySource, *, length: int | None, expected: Mapping[str, str], algorithms: Collection[str] = ()
    ) -> Body:
        """Write a body, in constant memory, and check it.

        Args:
            source: bytes, a path, or a binary stream, which is read to its end.
            length: the number of bytes that were announced, if any.
            expected: checksums by algorithm in lower case (`crc32`, `sha256`, ...; `content-md5` for the header of
                that name), in base64 as in S3's headers.
            algorithms: algorithms whose checksums are to be found besides, where that is possible here.

        Raises:
            ApiError: `IncompleteBody`, `BadDigest`, `InvalidDigest`, or the disk is full.
        """
        names = {"content-md5", *expected, *algorithms}
        digests = {each: digest for each in names if (digest := new_digest(each)) is not None}
        with self.new_file() as (name, descriptor):
            size = 0
            for chunk in _chunks(source):
                size += len(chunk)
                for digest in digests.values():
                    digest.update(chunk)
                _write(descriptor, chunk)
            if length is not None and size != length:
                message = "You did not provide the number of bytes specified by the Content-Length HTTP header"
                raise ApiError("IncompleteBody", message)
            values = {algorithm: digest.digest() for algorithm, digest in digests.items()}
            for algorithm, value in expected.items():
                if values.setdefault(algorithm, decode_checksum(value)) != decode_checksum(value):
                    raise bad_digest(algorithm)
        md5 = values.pop("content-md5").hex()
        return Body(name, size, md5, {each: base64.b64encode(value).decode() for each, value in values.items()})

    def join(self, parts: Sequence[str]) -> tuple[str, int]:
        """Write one body out of several that are kept and return its name and size; the kernel copies, if it can."""
        with self.new_file() as (name, descriptor), open(descriptor, "wb", buffering=0, closefd=False) as file:
            for part in parts:
                with open(self.open(part), "rb", buffering=0) as piece:
                    _copy(piece, file)
            return name, os.fstat(descriptor).st_size

    @contextlib.contextmanager
    def new_file(self) -> Iterator[tuple[str, int]]:
        """Lend a new file's name and its descriptor, to write to; it is removed when the block raises."""
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
                os.mkdir(self._incoming)  # not what is above it: a folder that was removed does not come back
            return os.open(path, _CREATE, 0o600)

    def require_incoming(self, name: str) -> None:
        """Make sure that a body was not swept away, in the very transaction that gives it to an object."""
        try:
            os.stat(f"{self._incoming}/{name}")
        except FileNotFoundError:
            message = "Your socket connection to the server was not read from or written to within the timeout period."
            raise ApiError("RequestTimeout", message) from None

    def finalize(self, name: str) -> None:
        """Move a body to its lasting place, once its transaction is committed; not an error if it is gone already."""
        source, target = f"{self._incoming}/{name}", self._place(name)
        try:
            os.rename(source, target)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH120 — see above
            with contextlib.suppress(FileNotFoundError):  # replaced and removed by somebody else in the meantime
                os.rename(source, target)

    def path(self, name: str) -> Path:
        """Return where the file of that name is kept."""
        return Path(self._place(name))

    def _place(self, name: str) -> str:
        return f"{self._kept}/{name[:2]}/{name}"

    def open(self, name: str) -> int:
        """Return a descriptor to read a body from, or raise FileNotFoundError."""
        place = self._place(name)
        # It moves once, from `incoming` to its place: looked for in this order, it cannot be missed.
        for path in (place, f"{self._incoming}/{name}"):
            with contextlib.suppress(FileNotFoundError):
                return os.open(path, _READ)
        return os.open(place, _READ)

    def exists(self, name: str) -> bool:
        """Return whether there is a body of that name."""
        return os.path.exists(f"{self._incoming}/{name}") or os.path.exists(self._place(name))

    def discard(self, names: Sequence[str]) -> None:
        """Remove files that no object owns any more; one that is gone already is no error."""
        for name in names:
            for path in (f"{self._incoming}/{name}", self._place(name)):
                # On Windows a file that is being read cannot be removed: it is tried again with a later write.
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    os.unlink(path)

    def stale_names(self, before: float) -> list[str]:
        """Return the bodies in `incoming/` that nobody has written to since `before` (seconds since the epoch)."""
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._incoming) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    # What somebody else put there is not the engine's.
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
        with contextlib.suppress(OSError):  # not on this file system: the loop below does the rest
            while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
                pass
    source.seek(os.lseek(source.fileno(), 0, os.SEEK_CUR))
    while chunk := source.read(CHUNK):
        target.write(chunk)

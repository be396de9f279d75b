"""Reproducible bundles of code: a `tar.gz` that depends only on the files' names, contents and executable bits.

The same files produce the same bytes on any machine, at any time. A key that contains the bundle's hash therefore shows
whether the bundle is in S3 already. Names are sorted; times, owners and the other permissions are not stored. The gzip
file consists of *stored* blocks, which copy their content. The form of compressed blocks depends on the library (zlib,
zlib-ng, the one of macOS) and its version. Code is small, so S3 receives it in the same one or two requests.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import weakref
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from processing.exceptions import ConfigurationError, StagingError
from processing.request.warnings import warn_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

MEMORY_LIMIT = 8 * 1024 * 1024
"""Content of up to this many bytes stays in memory between hashing and upload."""

WARNING_SIZE = 100 * 1000 * 1000
"""A bundle of more than this many bytes causes a warning."""

_LARGEST_SHOWN = 5  # entries in a message: enough to find the data folder, and still one sentence
_READ_SIZE = 1024 * 1024
_STORED_BLOCK = 0xFFFF  # the longest content of a stored block, RFC 1951, 3.2.4
_GZIP_HEAD = b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\xff"  # without name, time and system; RFC 1952, 2.3
_TAR_BLOCK = 512  # a tar file is made of blocks of this size


@attrs.frozen
class Member:
    """A file of a bundle.

    Args:
        path: the file. If there is a body, only a name for messages.
        name: its path in the bundle, with forward slashes.
        body: generated content, in place of a file's.
    """

    path: Path
    name: str
    body: bytes | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Bundle:
    """A finished bundle, or other generated content, in memory or in a temporary file.

    Args:
        path: the temporary file; None if the bundle is in memory. `close`, the end of the value, or the interpreter's
            end removes it, whichever comes first.
        body: the content, if it is in memory.
        sha256: the content's SHA-256 (hexadecimal).
        size: its size in bytes.
        entries: the name and size (bytes) of each file in it, sorted by name.
    """

    path: Path | None
    body: bytes | None = attrs.field(repr=False)
    sha256: str
    size: int
    entries: tuple[tuple[str, int], ...] = attrs.field(default=(), repr=False)

    @contextlib.contextmanager
    def view(self) -> Iterator[memoryview]:
        """Give access to the content inside the block, without reading a file into memory."""
        if self.path is None:
            yield memoryview(self.body or b"")
            return
        import mmap

        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            view = memoryview(content)
            try:
                yield view
            finally:
                view.release()

    def close(self) -> None:
        """Remove the temporary file, if there is one."""
        if self.path is not None:
            _remove(self.path)


def make_bundle(members: Iterable[Member], *, limit: int | None = None, field: str = "source_dir") -> Bundle:
    """Make a bundle.

    Two cases cause a warning that points at the user's line: a bundle of more than 100 MB, and one that would hide this
    package from scripts in the job.

    Args:
        members: the files. If two have the same name, the later one replaces the earlier, as in an archive that has
            both.
        limit: the most bytes that the bundle may have; None for any number.
        field: the parameter that names the files, for warnings.

    Raises:
        ConfigurationError: the bundle would exceed the limit or be empty, or a name is that of a file and of a folder.
        StagingError: files cannot be read or change meanwhile, each named; or the disk is full.
    """
    chosen = sorted({member.name: member for member in members}.values(), key=lambda member: member.name)
    if not chosen:
        raise ConfigurationError("source_dir: there is no file to bundle")
    _check_clashes(chosen)
    sizes = _sizes(chosen)
    entries = tuple((member.name, size) for member, size in zip(chosen, sizes, strict=True))
    total = _check_size(entries, limit, field)
    _warn_if_shadowing(chosen)
    with contextlib.ExitStack() as cleanup:
        sink = _Sink(_temporary_file() if total > MEMORY_LIMIT else None)
        cleanup.callback(sink.discard)
        _write(chosen, sizes, _Gzip(sink.write))
        path, body, sha256, size = sink.close()
        bundle = Bundle(path, body, sha256, size, entries)
        _own_file(bundle)
        cleanup.pop_all()
    return bundle


def keep_chunks(chunks: Iterable[bytes | memoryview], size: int) -> Bundle:
    """Return a copy of generated content: in memory, or in a temporary file if it is large.

    Args:
        chunks: the content, in order.
        size: the number of all bytes.

    Raises:
        StagingError: the disk is full.
    """
    with contextlib.ExitStack() as cleanup:
        sink = _Sink(_temporary_file() if size > MEMORY_LIMIT else None)
        cleanup.callback(sink.discard)
        for chunk in chunks:
            sink.write(chunk)
        bundle = Bundle(*sink.close())
        _own_file(bundle)
        cleanup.pop_all()
    return bundle


def _own_file(bundle: Bundle) -> None:
    """Remove the temporary file with the end of the value."""
    if bundle.path is not None:
        weakref.finalize(bundle, _remove_own, bundle.path, os.getpid())


def _check_clashes(members: Sequence[Member]) -> None:
    """Refuse a bundle that could not be unpacked: a file and a folder have the same name."""
    folders = {member.name[:at] for member in members for at, letter in enumerate(member.name) if letter == "/"}
    for member in members:
        if member.name in folders:
            raise ConfigurationError(
                f"dependencies: {member.path} would be {member.name} in the job, which is the folder of other files; "
                "give one of them another name"
            )


def _sizes(members: Sequence[Member]) -> list[int]:
    """Return the files' sizes in bytes. One error lists all files that cannot be bundled."""
    sizes, failures = [], []
    for member in members:
        try:
            status = None if member.body is not None else member.path.stat()
            member.name.encode()
        except OSError as error:  # noqa: PERF203 - each is named
            failures.append((str(member.path), error.strerror or str(error)))
        except UnicodeEncodeError:
            failures.append((repr(str(member.path)), "its name is not UTF-8"))
        else:
            sizes.append(len(member.body or b"") if status is None else status.st_size)
            if status is not None and not os.access(member.path, os.R_OK):
                failures.append((str(member.path), "no permission to read it"))
    if failures:
        raise StagingError("the code could not be bundled", failures)
    return sizes


def _check_size(entries: Sequence[tuple[str, int]], limit: int | None, field: str) -> int:
    """Return the future size of the bundle in bytes. Refuse one above the limit, and warn of a large one."""
    total = sum(_TAR_BLOCK + size + -size % _TAR_BLOCK for _, size in entries)
    if limit is not None and total > limit:
        raise ConfigurationError(
            f"bundle_limit: the code has {size_text(total)}, at most {size_text(limit)} are allowed. "
            f"{describe_largest(entries)}"
        )
    if total > WARNING_SIZE:
        warn_user(
            f"{field}: the code has {size_text(total)}, which are uploaded with every change. "
            f"{describe_largest(entries)}"
        )
    return total


def describe_largest(entries: Sequence[tuple[str, int]]) -> str:
    """Return a sentence with the largest files and folders, and the way to leave them out."""
    sizes: dict[str, int] = {}
    # Group by top-level entry: a data folder matters, not each of its files.
    for name, size in entries:
        top, slash, _ = name.partition("/")
        sizes[top + slash] = sizes.get(top + slash, 0) + size
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_LARGEST_SHOWN]
    named = ", ".join(f"{name} ({size_text(size)})" for name, size in largest)
    return f"The largest: {named}. Name files that the job does not need in a .processingignore"


def size_text(size: int) -> str:
    """Return a size in bytes for a message."""
    return f"{size / 1_000_000:.1f} MB" if size >= 100_000 else f"{size} bytes"


def _warn_if_shadowing(members: Iterable[Member]) -> None:
    """Warn of a file or folder with this package's name: a script imports from its own directory first."""
    for member in members:
        if member.name == "processing.py" or member.name.startswith("processing/"):
            name = member.name[: len("processing.py")] if "/" not in member.name else "processing/"
            warn_user(
                f"source_dir: holds {name}, which hides the package `processing` (sm-processing) from scripts that "
                "import it in the job; give it another name"
            )
            return


def _write(members: Sequence[Member], sizes: Sequence[int], gzip: _Gzip) -> None:
    for member, size in zip(members, sizes, strict=True):
        try:
            _add(gzip.write, member, size)
        except _ChangedError:
            reason = "it changed while it was bundled"
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            continue
        raise StagingError("the code could not be bundled", [(str(member.path), reason)])
    gzip.write(bytes(2 * _TAR_BLOCK))  # the end of a tar file
    gzip.close()


class _ChangedError(Exception):
    """A file differs from the state in which its size was determined."""


def _add(write: Callable[[bytes], None], member: Member, size: int) -> None:
    """Add one file: a header, the content, and zeros up to a whole number of blocks."""
    if member.body is not None:
        write(_header(member.name, size, executable=False))
        write(member.body)
        write(bytes(-size % _TAR_BLOCK))
        return
    descriptor = os.open(member.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        before = os.fstat(descriptor)
        if before.st_size != size or not stat.S_ISREG(before.st_mode):
            raise _ChangedError
        write(_header(member.name, size, executable=bool(before.st_mode & stat.S_IXUSR)))
        left = size
        while block := os.read(descriptor, min(left, _READ_SIZE) or 1):
            left -= len(block)
            if left < 0:
                raise _ChangedError
            write(block)
        after = os.fstat(descriptor)
        if left or (after.st_size, after.st_mtime_ns) != (size, before.st_mtime_ns):
            raise _ChangedError
    finally:
        os.close(descriptor)
    write(bytes(-size % _TAR_BLOCK))


def _header(name: str, size: int, *, executable: bool) -> bytes:
    """Return a file's header: one of ustar, after one of pax if the name or the size does not fit."""
    import tarfile  # only bundles need it

    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o755 if executable else 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


class _Gzip:
    """Writer of a gzip file that consists of stored blocks."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._pending = bytearray()
        self._crc = 0
        self._size = 0
        sink(_GZIP_HEAD)

    def write(self, data: bytes) -> None:
        """Add to the content."""
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._pending += data
        if len(self._pending) > _STORED_BLOCK:
            self._write_blocks()

    def _write_blocks(self) -> None:
        """Write the complete blocks. At least one block stays, because the last one has a mark."""
        whole = (len(self._pending) - 1) // _STORED_BLOCK * _STORED_BLOCK
        with memoryview(self._pending) as content:
            self._sink(
                b"".join(
                    part
                    for at in range(0, whole, _STORED_BLOCK)
                    for part in (_block_head(_STORED_BLOCK), content[at : at + _STORED_BLOCK])
                )
            )
        del self._pending[:whole]

    def close(self) -> None:
        """Write the last block, and the checksum and size for verification."""
        last = bytes(self._pending)
        self._sink(_block_head(len(last), last=True) + last)
        self._sink(self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little"))


def _block_head(size: int, *, last: bool = False) -> bytes:
    return bytes([last]) + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little")


class _Sink:
    """Target of a bundle's bytes, in memory or in a temporary file. It hashes them."""

    def __init__(self, path: Path | None) -> None:
        import hashlib  # loads OpenSSL

        self._path = path
        self._file = None if path is None else path.open("wb")
        self._blocks: list[bytes] = []
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes. Those of a view are copied."""
        self._digest.update(data)
        self._size += len(data)
        if self._file is None:
            self._blocks.append(bytes(data))
        else:
            with _disk_errors():
                self._file.write(data)

    def close(self) -> tuple[Path | None, bytes | None, str, int]:
        """Return the temporary file or the content, the SHA-256 and the size."""
        if self._file is not None:
            with _disk_errors():
                self._file.close()
        body = b"".join(self._blocks) if self._file is None else None
        return self._path, body, self._digest.hexdigest(), self._size

    def discard(self) -> None:
        """Remove the temporary file."""
        if self._path is not None and self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            _remove(self._path)


def _temporary_file() -> Path:
    with _disk_errors():
        descriptor, name = tempfile.mkstemp(".tar.gz", "processing-")
    os.close(descriptor)
    return Path(name)


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn an error of the temporary file into one that names it: most likely the disk is full."""
    try:
        yield
    except OSError as error:
        place = tempfile.gettempdir()
        raise StagingError(
            f"the code could not be bundled: nothing can be written to {place} ({error.strerror or error}); "
            "TMPDIR in the environment names another folder"
        ) from error


def _remove_own(path: Path, pid: int) -> None:
    if pid == os.getpid():  # a forked child ends while its parent may be uploading the bundle
        _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()

"""A file during its upload: it is opened once, and a change of it is an error."""

from __future__ import annotations

import errno
import functools
import os
import stat
import sys
import threading
from typing import TYPE_CHECKING

from processing.exceptions import StagingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)


class SourceFile:
    """A file to be uploaded. A change of it while it is open is an error. A context manager.

    It calls the operating system itself. A Python file object makes more calls, and at each call the threads of a
    transfer wait for each other. With file objects, obstore takes a fifth longer for 2,000 small files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seek_lock = threading.Lock()

    def __enter__(self) -> SourceFile:
        self._descriptor = os.open(self._path, _OPEN_FLAGS)
        try:
            self._status = os.fstat(self._descriptor)
            self._check_kind()
        except BaseException:
            self._close()
            raise
        self.size = self._status.st_size
        return self

    def __exit__(self, *_exception: object) -> None:
        self._close()

    def _check_kind(self) -> None:
        if stat.S_ISDIR(self._status.st_mode):  # which the system opens for reading, too
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self._path))

    def _close(self) -> None:
        # The number may belong to another file from now on, and a late read must not get that one's bytes.
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def content(self) -> bytes:
        """Return the whole file."""
        wanted = self.size + 1  # one more: the system may report too small a size, as for files in /proc
        content = os.read(self._descriptor, wanted)
        while len(content) < self.size and (rest := os.read(self._descriptor, wanted - len(content))):
            content += rest
        self.check_unchanged()
        if len(content) != self.size:
            raise StagingError("the file changed while it was read")
        return content

    def stream(self, offset: int = 0, size: int | None = None) -> FileChunk:
        """Return a file-like object over the file or a range of it, for one attempt."""
        self.check_unchanged()
        return FileChunk(self, offset, self.size if size is None else size)

    def stream_part(self, offset: int, size: int) -> Callable[[], FileChunk]:
        """Return a function that returns a file-like object over a range, for each attempt."""
        return functools.partial(self.stream, offset, size)

    def block(self, offset: int, size: int) -> bytes:
        """Return a range of the file. All threads may call this."""
        block = self._read(offset, size)
        if len(block) != size:
            raise StagingError("the file changed while it was read")
        return block

    def _read(self, offset: int, size: int) -> bytes:
        if sys.platform != "win32":
            # `pread` needs no lock, which saves 8 % of the time of a large upload.
            return os.pread(self._descriptor, size, offset)
        with self._seek_lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, size)

    def check_unchanged(self) -> None:
        """Raise a StagingError if the file's size or modification time has changed since it was opened."""
        now = os.fstat(self._descriptor)
        if (now.st_size, now.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise StagingError("the file changed while it was uploaded")


class RangeFile:
    """A range of bytes as a file for botocore. Subclasses read the bytes.

    Args:
        offset: the position of the first byte in the whole.
        size: the number of bytes.
    """

    def __init__(self, offset: int, size: int) -> None:
        self._offset = offset
        self._size = size
        self._position = 0

    def __len__(self) -> int:
        return self._size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position, as in a file of that length."""
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def _advance(self, size: int | None) -> tuple[int, int]:
        """Return the place in the whole and the number of the bytes to read, and move the position behind them."""
        left = max(0, self._size - self._position)
        count = left if size is None or size < 0 else min(size, left)
        self._position += count
        return self._offset + self._position - count, count


class FileChunk(RangeFile):
    """A range of a file for botocore. It is read while it is sent, so it takes no memory."""

    def __init__(self, source: SourceFile, offset: int, size: int) -> None:
        super().__init__(offset, size)
        self._source = source

    def read(self, size: int | None = -1) -> bytes:
        """Read at most to the end of the range: bytes that are appended to the file meanwhile are not included."""
        return self._source.block(*self._advance(size))

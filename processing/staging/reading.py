"""A file while it is uploaded: opened once, and held against what it was at the beginning."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, BinaryIO

from processing.exceptions import StagingError

if TYPE_CHECKING:
    from pathlib import Path


class Source:
    """A file to be uploaded; a change of it while it is open is an error. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.Lock()

    def __enter__(self) -> Source:
        self._file: BinaryIO = self._path.open("rb")
        self._status = os.fstat(self._file.fileno())
        self.size = self._status.st_size
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def content(self) -> bytes:
        """Return the whole file."""
        content = self._file.read()
        self.check_unchanged()
        if len(content) != self.size:
            raise StagingError("the file changed while it was read")
        return content

    def stream(self) -> Stream:
        """Return the file from its beginning, as it was: for one attempt."""
        self.check_unchanged()
        self._file.seek(0)
        return Stream(self._file, self.size)

    def block(self, offset: int, size: int) -> bytes:
        """Return a part of the file; any thread may ask for any part."""
        with self._turn:  # the system call alone: what is done with the block goes on side by side
            self._file.seek(offset)
            block = self._file.read(size)
        if len(block) != size:
            raise StagingError("the file changed while it was read")
        return block

    def check_unchanged(self) -> None:
        """Raise a StagingError if the file has another size or time than at the beginning."""
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise StagingError("the file changed while it was uploaded")


class Stream:
    """A file of a fixed length, for botocore: what is appended meanwhile does not get into the body."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def __len__(self) -> int:
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        """Read on, at most to the length at the beginning."""
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, as in a file of that length."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._size}[whence]
        return self._file.seek(base + offset)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

"""Inputs in Pipe mode: a named pipe for each pass through the data, fed from the engine's S3 while the job reads.

AWS documents Pipe mode for training only, so the names are an assumption. The pipe of the first pass is
`<LocalPath>_0`, that of the second `<LocalPath>_1`, and so on. When a pipe is read to its end or closed by its reader,
it is removed and the next pipe appears.
"""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH103, PTH108, PTH120

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, BinaryIO

from processing.local.jobs.data import DataError, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from processing.local.jobs.data import InputFile, PipeInput
    from processing.local.jobs.object_source import ObjectSource

_CHUNK = 1 << 20
_PIPE_BYTES = 1 << 20
"""The size of a pipe: the largest that Linux gives an ordinary user."""
_RELEASE_TRIES, _RELEASE_SECONDS = 200, 0.01
"""A thread that waits for a reader is woken up to 200 times, 10 ms apart: it may just be opening the next pipe."""


class Pipes:
    """The pipes of one host and the threads that feed them; each thread holds one chunk of data at a time.

    Attributes:
        problem: the FailureReason if an input cannot be read any more; None otherwise.
    """

    def __init__(self) -> None:
        self._feeders: list[_Feeder] = []
        self.problem: str | None = None

    def open(self, streams: Sequence[PipeInput], objects: ObjectSource) -> None:
        """Make the pipes of the first pass, and start the threads that wait for readers.

        Raises:
            DataError: the path of a pipe already exists or cannot be made.
        """
        for stream in streams:
            feeder = _Feeder(stream, objects, self)
            try:
                feeder.make_pipe()
            except OSError as error:
                raise DataError(f"ClientError: the pipe {error.filename} cannot be made: {error.strerror}") from None
            feeder.start()
            self._feeders.append(feeder)

    def close(self) -> None:
        """Close the pipes, with or without a reader, and end the threads."""
        for feeder in self._feeders:
            feeder.close()


class _Feeder(threading.Thread):
    """A thread that feeds the pipes of one input, one after another."""

    def __init__(self, stream: PipeInput, objects: ObjectSource, pipes: Pipes) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._objects = objects
        self._pipes = pipes
        self._epoch = 0
        self._fifo: int | None = None
        self._closing = threading.Event()

    @property
    def _path(self) -> str:
        return f"{self._stream.path}_{self._epoch}"

    def make_pipe(self) -> None:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        os.mkfifo(self._path)
        os.chmod(self._path, 0o666)  # noqa: PTH101, S103 - in a container the reader may be another user

    def run(self) -> None:
        try:
            while not self._closing.is_set():
                self._feed_one()
        except DataError as error:
            # The pipe stays open, since an end of file would look like the end of the data.
            self._pipes.problem = str(error)
        except OSError:
            pass  # the job made the pipe's directory unusable, so the next pipe cannot be read either

    def _feed_one(self) -> None:
        path = self._path
        self._fifo = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)  # waits for a reader
        if self._closing.is_set():
            return
        _widen(self._fifo)
        with contextlib.suppress(BrokenPipeError):  # the reader closed the pipe before its end
            for source in self._stream.sources:
                self._feed_source(source, self._fifo)
        self._epoch += 1
        try:
            self.make_pipe()  # before the reader sees the end of the pipe, so that the next pipe exists by then
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os.close(self._fifo)
            self._fifo = None

    def _feed_source(self, source: InputFile, fifo: int) -> None:
        with open_source(source, self._objects) as body:
            for chunk in _inflated(body, source) if self._stream.inflate else _chunks(body, source):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(fifo, rest) :]

    def close(self) -> None:
        """Wake the thread if it waits for a reader, and wait for its end."""
        self._closing.set()
        for _ in range(_RELEASE_TRIES):
            if not self.is_alive():
                break
            with contextlib.suppress(OSError):
                os.close(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
            self.join(_RELEASE_SECONDS)
        if not self.is_alive() and self._fifo is not None:
            os.close(self._fifo)


def _widen(fifo: int) -> None:
    """Let the pipe hold more than the usual 64 KiB, so that the two ends wait for each other less often."""
    import fcntl

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # the machine limits the size of pipes
            fcntl.fcntl(fifo, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _chunks(body: BinaryIO, source: InputFile) -> Iterator[bytes]:
    while True:
        try:
            chunk = body.read(_CHUNK)
        except OSError as error:
            raise DataError(f"ClientError: {source.place} cannot be read: {error.strerror}") from None
        if not chunk:
            return
        yield chunk


def _inflated(body: BinaryIO, source: InputFile) -> Iterator[bytes]:
    import gzip
    import zlib

    with gzip.GzipFile(fileobj=body) as file:
        while True:
            try:
                chunk = file.read(_CHUNK)
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"ClientError: {source.place} cannot be inflated as gzip: {error}") from None
            if not chunk:
                return
            yield chunk

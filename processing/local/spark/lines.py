"""The output of Spark's processes: passed on to the job's log, and its last part kept."""

from __future__ import annotations

import os
import threading
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KEPT = 1 << 16
"""The bytes of an output that are kept: a traceback of Python is in the last few thousand."""
_BLOCK = 1 << 16
_INTERVAL = 0.2
"""Seconds between two looks at the files of executors."""


class Tee:
    """A pipe that is passed on, while its last part is kept.

    Args:
        source: the pipe.
        target: the descriptor that it is passed on to.
    """

    def __init__(self, source: IO[bytes], target: int) -> None:
        self._source = source
        self._target = target
        self._tail = b""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def tail(self) -> str:
        """Wait for the end of the pipe, and return the last part."""
        self._thread.join()
        return self._tail.decode("utf-8", "replace")

    def _run(self) -> None:
        with self._source:
            while block := os.read(self._source.fileno(), _BLOCK):
                self._tail = (self._tail + block)[-_KEPT:]
                write_all(self._target, block)


class ExecutorLogs:
    """The logs of the executors of one worker, line by line on the standard output.

    Args:
        folder: the worker's folder, in which each executor has one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Pass on the last lines."""
        self._ended.set()
        self._thread.join()
        self._pass_on(last=True)

    def _run(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self._pass_on()

    def _pass_on(self, *, last: bool = False) -> None:
        for path in self._files():
            offset = self._offsets.get(path, 0)
            with path.open("rb") as file:
                file.seek(offset)
                new = file.read()
            whole = new if last else new[: new.rfind(b"\n") + 1]
            self._offsets[path] = offset + len(whole)
            begin = f"[executor {path.parent.name}] ".encode()
            write_all(1, b"".join(begin + line.rstrip(b"\r") + b"\n" for line in whole.splitlines()))

    def _files(self) -> Iterator[Path]:
        # The layout of a standalone cluster: <application>/<executor>/stdout.
        for name in ("stdout", "stderr"):
            yield from sorted(self._folder.glob(f"app-*/*/{name}"))


def write_all(target: int, body: bytes) -> None:
    """Write everything to a descriptor."""
    while body:
        body = body[os.write(target, body) :]

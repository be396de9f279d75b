"""The queue of an asynchronous endpoint: a file for each invocation, in a folder of the endpoint.

A host claims a request by a lock on its file, which the kernel releases if the host is killed. Then another host, or
the next one, processes the request again. The file is removed after the result is in S3.
"""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH103, PTH104, PTH108, PTH118, PTH123, PTH208

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local.file_trees import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIX = ".json"


class AsyncRequest(NamedTuple):
    """An asynchronous invocation.

    Attributes:
        id: its identifier for the client.
        source: the S3 URI of the payload; None if the body is here.
        body: the payload in base64; empty if it is in S3.
        headers: the headers for the program.
        output: the S3 URI of the result.
        failure: the S3 URI of the description of a failure; None for none.
        expires: the time at which the request expires, in seconds since the epoch.
        seconds: the time for its processing.
    """

    id: str
    source: str | None
    body: str
    headers: dict[str, str]
    output: str
    failure: str | None
    expires: float
    seconds: float


class AsyncQueue:
    """The waiting requests of one endpoint.

    Args:
        home: the engine's folder.
        endpoint: the endpoint's name.
    """

    def __init__(self, home: Path, endpoint: str) -> None:
        self._folder = os.path.join(home, "async", endpoint)

    def put(self, request: AsyncRequest) -> None:
        """Add a request at the end."""
        os.makedirs(self._folder, exist_ok=True)
        name = f"{time.time_ns():020d}-{os.urandom(6).hex()}"
        part = os.path.join(self._folder, f".{name}")
        with open(part, "w", encoding="utf-8") as file:
            json.dump(request._asdict(), file)
        os.rename(part, os.path.join(self._folder, name + _SUFFIX))

    def clear(self) -> None:
        """Remove all requests."""
        remove_tree(Path(self._folder))

    @contextlib.contextmanager
    def claim(self) -> Iterator[AsyncRequest | None]:
        """Yield the oldest request that no other process or thread has claimed, or None. It is removed afterwards.

        After an exception the request stays.
        """
        with contextlib.ExitStack() as stack:
            for name in self._names():
                path = os.path.join(self._folder, name)
                data = stack.enter_context(_locked(path))
                if data is not None:
                    yield AsyncRequest(**data)
                    os.unlink(path)
                    return
            yield None

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._folder) if name.endswith(_SUFFIX))
        except FileNotFoundError:
            return []


@contextlib.contextmanager
def _locked(path: str) -> Iterator[dict[str, Any] | None]:
    """Yield the content of a file under an exclusive lock; None if another one has it, or if the file is gone."""
    import fcntl  # absent on Windows, where public names import this module all the same

    try:
        file = open(path, encoding="utf-8")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        # The process that removed the file held the lock until then.
        yield json.load(file) if os.fstat(file.fileno()).st_nlink else None

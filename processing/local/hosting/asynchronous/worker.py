"""The threads of a host that process the queue of an asynchronous endpoint."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from typing import TYPE_CHECKING

from processing.local.errors import ApiError
from processing.local.hosting.program_client import Call, ProgramError
from processing.local.jobs.data import split_uri

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.local.hosting.asynchronous.queue import AsyncQueue, AsyncRequest
    from processing.local.hosting.program_client import Answer
    from processing.local.jobs.object_source import ObjectSource

DEFAULT_CONCURRENCY = 4
"""The number of invocations at a time of an endpoint that sets none."""
_POLL_SECONDS = 0.05
"""The pause between two looks at an empty queue."""
_PROBLEM_SECONDS = 1.0
"""The pause after a result could not be stored, for example on a full disk."""


class AsyncWorker:
    """The processing of a queue by one run of a program.

    Args:
        queue: the queue.
        objects: the S3 of the payloads and the results.
        ask: sends a request to the program. Called in several threads.
        log: writes a line to the host's log.
        concurrency: the number of invocations at a time.
    """

    def __init__(
        self,
        queue: AsyncQueue,
        objects: ObjectSource,
        ask: Callable[[Call], Answer],
        log: Callable[[str], None],
        concurrency: int,
    ) -> None:
        self._queue = queue
        self._objects = objects
        self._ask = ask
        self._log = log
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(concurrency)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Claim no further request."""
        self._stopped.set()

    @property
    def idle(self) -> bool:
        """True if the worker is stopped and processes nothing any more."""
        return self._stopped.is_set() and not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                pause = 0.0 if self._process_one() else _POLL_SECONDS
            except Exception as error:  # noqa: BLE001 - without this thread the queue stands, and nobody notices
                with contextlib.suppress(Exception):  # the log may have the same problem
                    self._log(f"An asynchronous invocation is tried again: {type(error).__name__}: {error}")
                pause = _PROBLEM_SECONDS
            self._stopped.wait(pause)

    def _process_one(self) -> bool:
        """Process the oldest request, and return whether there was one."""
        with self._queue.claim() as request:
            if request is None:
                return False
            try:
                result = self._answer(request)
            except _FailedError as error:
                self._log(f"The asynchronous invocation {request.id} failed: {error}")
                if request.failure is not None:
                    self._store(request.failure, str(error).encode())
            else:
                self._store(request.output, result)
            return True

    def _answer(self, request: AsyncRequest) -> bytes:
        if time.time() > request.expires:
            raise _FailedError("The request expired in the queue.")
        body = base64.b64decode(request.body) if request.source is None else self._payload(request.source)
        try:
            answer = self._ask(Call("POST", "/invocations", request.headers, body, request.seconds, None))
        except ProgramError as error:
            raise _FailedError(f'Received server error (500) from primary with message "{error}".') from None
        if not 200 <= answer.status < 300:
            side = "client" if answer.status < 500 else "server"
            text = answer.body[:1024].decode(errors="replace")
            raise _FailedError(f'Received {side} error ({answer.status}) from primary with message "{text}".')
        return answer.body

    def _payload(self, uri: str) -> bytes:
        try:
            with open(self._objects.open(*split_uri(uri))[1], "rb") as file:  # noqa: PTH123 - a descriptor
                return file.read()
        except ApiError as error:
            raise _FailedError(f"The payload {uri} cannot be read: {error.message}") from None

    def _store(self, uri: str, content: bytes) -> None:
        self._objects.put(*split_uri(uri), content)


class _FailedError(Exception):
    """An invocation without a result. The message is its failure."""

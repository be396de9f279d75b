"""The feed of a transform job: objects go to the program in payloads, and its answers become one object for each.

Several requests are in flight at a time. Their answers are written in the order of the payloads. An object whose
records cannot all be transformed gets no output and fails the job, and the other objects go on.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from processing.local.hosting.program_client import Answer, Call, ProgramError
from processing.local.hosting.transforms.data_processing import DataProcessing, FilterError
from processing.local.hosting.transforms.splitting import SplitError, assembled, payloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from processing.local.hosting.transforms.settings import TransformSettings

CLIENT_ERROR = "ClientError: See job logs for more information"
PROGRAM_ERROR = "AlgorithmError: See job logs for more information"
_BACKOFF = 0.05
"""The seconds before the first retry; each further retry waits twice as long."""


class TransformError(Exception):
    """An object that could not be transformed.

    Args:
        message: the line for the job's log.
        reason: the FailureReason of the job.
    """

    def __init__(self, message: str, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class TransformObject(NamedTuple):
    """An object to transform.

    Attributes:
        name: its bucket and key, for the log.
        pieces: opens it and returns its content in pieces.
        output: opens the file for its answers.
        store: stores that file's content as the output object.
    """

    name: str
    pieces: Callable[[], Iterable[bytes]]
    output: Callable[[], BinaryIO]
    store: Callable[[BinaryIO], None]


class _Request(NamedTuple):
    """A request in flight."""

    payload: bytes
    answer: Future[Answer]


class Transform:
    """The feed of one host.

    Args:
        settings: the job's settings.
        processing: the job's filters.
        ask: sends a request to the program. Called in several threads.
        emit: writes a line to the job's log.
        check: called between two payloads; raises if the host has to end.
    """

    def __init__(
        self,
        settings: TransformSettings,
        processing: DataProcessing,
        ask: Callable[[Call], Answer],
        emit: Callable[[str], None],
        check: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._processing = processing
        self._ask = ask
        self._emit = emit
        self._check = check
        self._pool = ThreadPoolExecutor(settings.concurrency, "transform")

    def run(self, objects: Iterable[TransformObject]) -> str | None:
        """Transform objects, and return the FailureReason of the first that failed; None if none did."""
        reason = None
        with self._pool:
            for each in objects:
                try:
                    self._transform(each)
                except TransformError as error:  # noqa: PERF203 - one failing object must not stop the others
                    self._emit(f"{each.name}: {error}")
                    reason = reason or error.reason
        return reason

    def _transform(self, each: TransformObject) -> None:
        with each.output() as file:
            for part in self._parts(each):
                file.write(part)
            file.seek(0)
            each.store(file)

    def _parts(self, each: TransformObject) -> Iterator[bytes]:
        """Yield the parts of an object's output, in order."""
        waiting: deque[_Request] = deque()
        settings = self._settings
        try:
            for payload in payloads(each.pieces(), settings.split_type, settings.payload, several=settings.several):
                self._check()
                content = self._processing.to_program(payload)
                waiting.append(_Request(payload, self._pool.submit(self._answer, content)))
                # As many requests wait as are in flight, so that no thread is idle while an answer is written.
                if len(waiting) >= 2 * settings.concurrency:
                    yield self._part(waiting.popleft())
            while waiting:
                self._check()
                yield self._part(waiting.popleft())
        except (SplitError, FilterError) as error:
            raise TransformError(str(error), f"ClientError: {each.name}: {error}") from None
        finally:
            for request in waiting:
                request.answer.cancel()

    def _part(self, request: _Request) -> bytes:
        answer = request.answer.result().body
        return assembled(self._processing.to_output(request.payload, answer), lines=self._settings.lines)

    def _answer(self, content: bytes) -> Answer:
        """Return the program's answer of status 200 to a request.

        Raises:
            TransformError: there is none after all attempts.
        """
        settings = self._settings
        call = Call("POST", "/invocations", settings.headers, content, settings.seconds, None)
        for attempt in range(settings.retries + 1):
            if attempt:
                time.sleep(_BACKOFF * 2 ** (attempt - 1))
            try:
                answer = self._ask(call)
            except (ProgramError, OSError) as error:  # the latter such as too many open files
                message = str(error)
                continue
            if answer.status == 200:
                return answer
            message = _status_line(answer)
            if answer.status < 500:
                raise TransformError(message, CLIENT_ERROR)
        raise TransformError(message, PROGRAM_ERROR)


def _status_line(answer: Answer) -> str:
    text = " ".join(answer.body[:1024].decode(errors="replace").split())
    return f"Bad HTTP status received from algorithm: {answer.status}{f' {text}' if text else ''}"

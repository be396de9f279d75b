"""Predictions on Spark's workers: batches of rows below the limit of a request, several of them in flight.

A batch that is too large for the model, or takes it too long, is halved. The answers keep the order of the rows.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.aws.retry import error_code, http_status, response_of
from processing.exceptions import ProcessingError
from processing.spark.ml.deserializers import AnswerError, arrow_type
from processing.spark.ml.vectors import VectorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from processing.session.session import Session
    from processing.spark.ml.deserializers import ResponseRowDeserializer
    from processing.spark.ml.serializers import RequestRowSerializer

logger = logging.getLogger(__name__)

PAYLOAD_LIMIT: Final = 5 << 20
"""The largest body in bytes. InvokeEndpoint takes 6 MiB, and serverless endpoints 4 MB."""

IN_FLIGHT: Final = 4
"""Requests that a task has in flight."""


class PredictionError(ProcessingError):
    """Rows could not be predicted. The message names the endpoint and the reason."""


class _TooLargeError(Exception):
    """The model refuses a batch because of its size, or does not answer in time."""


@attrs.frozen
class PredictionSettings:
    """The settings of a transformation.

    Args:
        endpoint: the endpoint's name.
        serializer: makes the bodies.
        deserializer: reads the answers.
        prepended: True if the input rows come before the columns of the answer.
        limit: the largest body, in bytes.
        in_flight: the most requests in flight.
        parameters: further parameters of InvokeEndpoint.
    """

    endpoint: str
    serializer: RequestRowSerializer
    deserializer: ResponseRowDeserializer
    prepended: bool = True
    limit: int = PAYLOAD_LIMIT
    in_flight: int = IN_FLIGHT
    parameters: dict[str, Any] = attrs.field(factory=dict)

    @property
    def target(self) -> str:
        """The endpoint, or the transform job, in messages."""
        return f"endpoint {self.endpoint}" if self.endpoint else "transform job"


def invoke_batches(batches: Iterable[Any], *, session: Session, settings: PredictionSettings) -> Iterator[Any]:
    """Yield the rows of a task with their predictions, in order."""
    caller = _Caller(session, settings)
    waiting: deque[Any] = deque()
    pool = ThreadPoolExecutor(settings.in_flight)
    try:
        for batch in batches:
            for body, part in split(batch, settings):
                waiting.append(pool.submit(caller.predict, body, part))
                if len(waiting) >= settings.in_flight:
                    yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Caller:
    """Calls of one endpoint."""

    def __init__(self, session: Session, settings: PredictionSettings) -> None:
        self._session = session
        self._settings = settings

    def predict(self, body: bytes, batch: Any) -> list[Any]:
        """Return a batch with its predictions, in one or several parts."""
        try:
            answer = self._call(body, halving=len(batch) > 1)
        except _TooLargeError as error:
            logger.info("endpoint %s: a batch of %d rows is halved: %s", self._settings.endpoint, len(batch), error)
            middle = len(batch) // 2
            halves = (batch.slice(0, middle), batch.slice(middle))
            return [part for half in halves for part in self.predict(self._settings.serializer.encode(half), half)]
        return [answered(answer, batch, self._settings)]

    def _call(self, body: bytes, *, halving: bool) -> bytes:
        settings = self._settings
        request = {
            "EndpointName": settings.endpoint,
            "ContentType": settings.serializer.contentType,
            "Accept": settings.deserializer.accepts,
            **settings.parameters,
            "Body": body,
        }

        def once() -> bytes:
            try:
                answer = self._session.client("sagemaker-runtime").invoke_endpoint(**request)
                content: bytes = answer["Body"].read()
            except Exception as error:
                if halving and _is_size_problem(error):
                    raise _TooLargeError(str(error)) from error
                raise
            return content

        try:
            return self._session.api.attempt(f"invoke {settings.endpoint}", once)
        except _TooLargeError:
            raise
        except ProcessingError:
            raise
        except Exception as error:
            raise PredictionError(f"endpoint {settings.endpoint}: {_reason(error)}") from error


def split(batch: Any, settings: PredictionSettings) -> Iterator[tuple[bytes, Any]]:
    """Yield bodies below the limit for a batch, each with its rows.

    Raises:
        PredictionError: a row is null, or alone above the limit.
    """
    if not len(batch):
        return
    try:
        body = settings.serializer.encode(batch)
    except VectorError as error:
        raise PredictionError(f"{settings.target}: {error}") from error
    parts = -(-len(body) // settings.limit)
    if parts <= 1 or len(batch) == 1:
        if parts > 1:
            raise PredictionError(
                f"{settings.target}: one row has {len(body)} bytes, and a request may have {settings.limit}"
            )
        yield body, batch
        return
    size = max(1, len(batch) // parts)
    for start in range(0, len(batch), size):
        yield from split(batch.slice(start, size), settings)


def answered(body: bytes, batch: Any, settings: PredictionSettings) -> Any:
    """Return a batch with the columns of its answer.

    Raises:
        PredictionError: the answer does not fit the rows.
    """
    import pyarrow as pa

    rows = len(batch)
    sent = rows + settings.serializer.padding(batch)
    try:
        decoded = settings.deserializer.decode(body, sent)
    except AnswerError as error:
        raise PredictionError(f"{settings.target}: {error}") from error
    names, arrays = (list(batch.schema.names), list(batch.columns)) if settings.prepended else ([], [])
    for field in settings.deserializer.schema.fields:
        column = decoded[field.name] if isinstance(decoded, dict) else decoded.column(field.name)
        if not isinstance(column, pa.Array):
            column = pa.array(column, arrow_type(field.dataType))
        if len(column) != sent:
            raise PredictionError(f"{settings.target}: the answer has {len(column)} rows, and {sent} were sent")
        names.append(field.name)
        arrays.append(column[:rows])
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _is_size_problem(error: BaseException) -> bool:
    from botocore.exceptions import ReadTimeoutError

    if isinstance(error, ReadTimeoutError):
        return True
    original = response_of(error).get("OriginalStatusCode")
    if http_status(error) == 413 or original in {408, 413, 504}:
        return True
    text = str(error).lower()
    return error_code(error) in {"ModelError", "ValidationError", "ValidationException"} and (
        "timed out" in text or "payload" in text or "too large" in text
    )


def _reason(error: BaseException) -> str:
    details = response_of(error)
    text = details.get("OriginalMessage") or details.get("Error", {}).get("Message") or str(error)
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    with contextlib.suppress(ValueError, AttributeError):
        text = json.loads(text).get("message", text)
    return str(text)[:1000]

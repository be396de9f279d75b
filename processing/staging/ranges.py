"""GetObject of a range, received into memory of the caller.

Two things that botocore does not do make a large download faster (`benchmarks/large_file.py`). botocore and urllib3
hand out the bytes of a body as new objects, which have to be copied to their place. Here a plain body is received in
its place: `http.client` reads it from the connection, below urllib3. Errors are raised as botocore's, and the
connection is used again. For 512 MB that takes 0.13 s of processor time instead of 0.24 s. Second, the thread that
receives a range also computes its CRC, while the bytes are in the processor's cache. The CRC of the object is put
together from those of its ranges. Thus the one thread that writes the file in order does nothing else, which saves it
0.4 s. The environment variable `PROCESSING_TRANSFERS=botocore` switches both off. A body whose bytes botocore compares
with a checksum is never received below it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
from typing import TYPE_CHECKING, Any

from processing.aws.retry import error_code
from processing.aws.truncation import check_response
from processing.exceptions import StagingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from processing.aws.retry import Failure, RetryingApi

_PIECE = 1 << 20  # bytes that are received at a time: few enough for the processor's cache


def fetch_range(
    api: RetryingApi,
    params: Mapping[str, Any],
    wanted: range,
    object_size: int,
    memory: memoryview,
    on_piece: Callable[[memoryview], object] | None = None,
    on_failure: Callable[[Failure], None] | None = None,
) -> None:
    """Get a range of an object. If the body breaks off, continue at that byte.

    Args:
        api: the calls to S3.
        params: the parameters of GetObject. IfMatch among them keeps bytes of different contents apart.
        wanted: the positions of the bytes.
        object_size: the size of the whole object.
        memory: receives the bytes of the range.
        on_piece: called with each piece of the memory that has been filled, in order.
        on_failure: called for every failed attempt.

    Raises:
        StagingError: the object changed, or S3 sent another range.
    """
    size = len(wanted)
    received = 0

    def get() -> None:
        nonlocal received
        if size and received == size:
            return  # the last attempt failed after the last byte
        client = api.client("s3")  # a later try may have another one, with renewed credentials
        byte_range = f"bytes={wanted.start + received}-{wanted.stop - 1}"
        answer = client.get_object(**params, Range=byte_range)
        check_response(client, "GetObject", answer)
        with contextlib.closing(answer["Body"]) as body:
            if answer.get("ContentRange") != f"{byte_range.replace('=', ' ')}/{object_size}":
                raise StagingError("S3 sent another range than the requested one")
            receive = _receiver(body)
            while received < size:
                piece = memory[received : min(received + _PIECE, size)]
                count = receive(piece)
                if not count:
                    raise _incomplete(received, size)
                if on_piece is not None:
                    on_piece(piece[:count])
                received += count

    try:
        api.attempt("GetObject", get, on_failure=on_failure)
    except Exception as error:
        if error_code(error) in {"PreconditionFailed", "412"}:
            raise StagingError("the object changed while it was downloaded") from error
        raise


def is_fast() -> bool:
    """Return whether ranges may be received below botocore, and their CRCs computed apart."""
    return os.environ.get("PROCESSING_TRANSFERS") != "botocore"


def _receiver(body: Any) -> Callable[[memoryview], int]:
    """Return the function that receives bytes of a body into memory. It returns their number, 0 at the end."""
    return _direct_receiver(body) or (lambda memory: _copy(body, memory))


def _copy(body: Any, memory: memoryview) -> int:
    block = body.read(len(memory))
    memory[: len(block)] = block
    return len(block)


def _direct_receiver(body: Any) -> Callable[[memoryview], int] | None:
    """Return a function that receives from the connection; None if botocore or urllib3 have to see the bytes."""
    from botocore.exceptions import ResponseStreamingError
    from botocore.response import StreamingBody
    from urllib3.response import HTTPResponse

    if type(body) is not StreamingBody or not is_fast():
        return None
    response = getattr(body, "_raw_stream", None)  # neither this nor its source has a public name
    source = getattr(response, "_fp", None)
    if type(response) is not HTTPResponse or type(source) is not http.client.HTTPResponse:
        return None

    def receive(memory: memoryview) -> int:
        try:
            count = source.readinto(memory)
        except (http.client.HTTPException, OSError) as error:
            raise ResponseStreamingError(error=error) from error
        if source.isclosed():
            response.release_conn()
        return count

    return receive


def _incomplete(received: int, size: int) -> Exception:
    from botocore.exceptions import IncompleteReadError

    return IncompleteReadError(actual_bytes=received, expected_bytes=size)

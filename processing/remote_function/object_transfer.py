"""Objects of remote functions in S3: chunks of memory to an object, and an object into memory.

A large object is sent in parts, which are read from the caller's memory meanwhile. It is received in ranges, which are
written into one block of memory. So neither direction needs memory beyond the value and a few blocks. Every call names
the account that must own the bucket.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from processing._utils.validation import NAME, require
from processing.exceptions import (
    ConfigurationError,
    DeserializationError,
    ProcessingError,
    ServiceError,
    StagingError,
)
from processing.staging.downloads import get_object
from processing.staging.error_text import failure_reason
from processing.staging.multipart import MultipartUpload
from processing.staging.objects import encryption_params, object_params
from processing.staging.pending_uploads import Upload
from processing.staging.progress import ProgressMeter
from processing.staging.ranges import fetch_range
from processing.staging.source_file import RangeFile
from processing.staging.thread_pool import MB, SMALL_FILE, TransferPool
from processing.staging.transfers import SINGLE_PUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from processing.aws.retry import RetryingApi
    from processing.request.s3_uri import S3Uri
    from processing.session.session import Session
    from processing.staging.objects import ExpectedOwner

_RANGE_SIZE = 8 * MB  # as for a part of an upload
_REQUESTS = 8  # in flight for one object: more share the same network, and each needs a thread
_REPLACED = "the object is not the one that was written: it was replaced or damaged, and was not loaded"


@attrs.frozen
class Trailer:
    """Bytes at the end of an object that depend on the SHA-256 of the bytes before them.

    Args:
        size: the number of bytes.
        make: returns them; called with the SHA-256 in hexadecimal digits.
    """

    size: int
    make: Callable[[str], bytes]


@attrs.frozen
class ObjectEnd:
    """The last bytes of an object.

    Args:
        content: the bytes.
        object_size: the size of the whole object in bytes.
        etag: the object's ETag.
    """

    content: bytes = attrs.field(repr=False)
    object_size: int
    etag: str


def write_object(
    session: Session,
    uri: S3Uri,
    chunks: Sequence[memoryview],
    *,
    kms_key: str | None = None,
    bucket_owner: str | None = None,
    trailer: Trailer | None = None,
) -> None:
    """Write an object, and replace an existing one.

    Args:
        session: the session.
        uri: the object.
        chunks: its content, as one-dimensional views of bytes. They must not change meanwhile.
        kms_key: the KMS key that encrypts it; by default the bucket decides.
        bucket_owner: the account that must own the bucket; by default the session's.
        trailer: further bytes, made of the hash of the content while that is sent.

    Raises:
        ConfigurationError: `kms_key` or `bucket_owner` is not a string.
        ServiceError: a call failed for good. The object is unchanged then.
    """
    require("s3_kms_key", kms_key, NAME, optional=True)
    source = ChunkSource(chunks, trailer)
    try:
        _ChunkUpload(session.api, Upload(Path(), uri, kms_key), source, _owner(session, bucket_owner)).send()
    except Exception as error:  # noqa: BLE001 - every failure of a transfer, whatever its class
        _raise_service_error(error, uri, "written", kms_key)


def read_tail(session: Session, uri: S3Uri, size: int, *, bucket_owner: str | None = None) -> ObjectEnd:
    """Return the last bytes of an object; all of them if it is smaller.

    Args:
        session: the session.
        uri: the object.
        size: the most bytes.
        bucket_owner: the account that must own the bucket; by default the session's.

    Raises:
        DeserializationError: the object is empty.
        ServiceError: a call failed for good, or the object does not exist.
    """

    def use(answer: Any) -> ObjectEnd:
        content_range = str(answer.get("ContentRange") or "")
        content = answer["Body"].read()
        whole = content_range.rpartition("/")[2]
        if not whole.isdecimal() or not 0 < len(content) == min(size, int(whole)):
            raise DeserializationError(f"{uri}: S3 sent another range than the requested one: {content_range!r}")
        return ObjectEnd(content, int(whole), answer["ETag"])

    try:
        params = object_params(uri, _owner(session, bucket_owner))
        return get_object(session.api, {**params, "Range": f"bytes=-{size}"}, use)
    except Exception as error:  # noqa: BLE001 - every failure of a transfer, whatever its class
        _raise_service_error(error, uri, "read")


def read_object(
    session: Session,
    uri: S3Uri,
    *,
    size: int,
    sha256: str,
    bucket_owner: str | None = None,
    tail: ObjectEnd | None = None,
) -> bytearray:
    """Return the content of an object once its hash is that of the content that was written.

    Args:
        session: the session.
        uri: the object.
        size: the size of the content in bytes: of the whole object, or of its beginning if there is a tail.
        sha256: the SHA-256 of the content, in hexadecimal digits.
        bucket_owner: the account that must own the bucket; by default the session's.
        tail: the object's last bytes, which are not fetched again.

    Raises:
        DeserializationError: the object has another size or another content.
        ServiceError: a call failed for good, or the object does not exist.
    """
    try:
        memory = bytearray(size)
    except (MemoryError, OverflowError) as error:
        raise DeserializationError(f"{uri}: {size} bytes do not fit into memory") from error
    object_size, end, etag = size, size, None
    if tail is not None:
        object_size, etag = tail.object_size, tail.etag
        end = max(0, object_size - len(tail.content))
        memory[end:] = tail.content[: max(0, size - end)]
        end = min(end, size)
    try:
        params = object_params(uri, _owner(session, bucket_owner))
        params.update({} if etag is None else {"IfMatch": etag})
        digest = _RangedRead(session.api, params, memory, object_size).read(end)
    except Exception as error:  # noqa: BLE001 - every failure of a transfer, whatever its class
        _raise_service_error(error, uri, "read")
    digest.update(memoryview(memory)[end:])
    if digest.hexdigest() != sha256:
        raise DeserializationError(f"{uri}: {_REPLACED}")
    return memory


def _owner(session: Session, bucket_owner: str | None) -> ExpectedOwner:
    require("bucket_owner", bucket_owner, NAME, optional=True)
    return lambda _bucket: bucket_owner or session.account_id()


def _raise_service_error(error: Exception, uri: S3Uri, done: str, kms_key: str | None = None) -> NoReturn:
    """Raise the error of this module for the failure of a transfer."""
    from processing.aws.retry import error_code, is_denied

    if isinstance(error, (ConfigurationError, DeserializationError, ServiceError)):
        raise error
    if error_code(error) == "InvalidRange" or (isinstance(error, StagingError) and done == "read"):
        raise DeserializationError(f"{uri}: {_REPLACED} ({error})") from error
    reason = str(error) if isinstance(error, ProcessingError) else failure_reason(error, uri, kms_key)
    if is_denied(error):
        reason += "; if the bucket belongs to another account, give that as bucket_owner"
    raise ServiceError(f"{uri} could not be {done}: {reason}") from error


class ChunkSource:
    """Chunks of memory as the content of an upload.

    Args:
        chunks: the content.
        trailer: further bytes, made when all chunks were hashed.
    """

    def __init__(self, chunks: Sequence[memoryview], trailer: Trailer | None = None) -> None:
        self._chunks = list(chunks)
        self._starts = [0, *itertools.accumulate(chunk.nbytes for chunk in chunks)]
        self._content_size = self._starts.pop()
        self._trailer = trailer
        self._digest = hashlib.sha256()
        self.size = self._content_size + (trailer.size if trailer else 0)

    def stream_part(self, offset: int, size: int) -> Callable[[], ChunkStream]:
        """Return a function that returns a file-like object over a range. Ranges are requested in order."""
        if self._trailer is not None:
            self._hash(offset, min(offset + size, self._content_size))
            if offset + size >= self._content_size:
                self._add_trailer(self._trailer)
        return lambda: ChunkStream(self, offset, size)

    def _hash(self, start: int, end: int) -> None:
        while start < end:
            piece = self.piece(start, end - start)
            self._digest.update(piece)
            start += piece.nbytes

    def _add_trailer(self, trailer: Trailer) -> None:
        self._trailer = None
        content = trailer.make(self._digest.hexdigest())
        assert len(content) == trailer.size
        self._chunks.append(memoryview(content))
        self._starts.append(self._content_size)

    def piece(self, offset: int, size: int) -> memoryview:
        """Return at most `size` bytes from an offset on, as far as one chunk has them."""
        number = bisect.bisect_right(self._starts, offset) - 1
        begin = offset - self._starts[number]
        return self._chunks[number][begin : begin + size]

    def block(self, offset: int, size: int) -> bytes:
        """Return the bytes of a range."""
        return bytes(ChunkStream(self, offset, size).read())

    def check_unchanged(self) -> None:
        """Do nothing: a reader finds out by the hash that memory has changed."""


class ChunkStream(RangeFile):
    """A range of chunks as a file for botocore: views of the memory where one chunk has the bytes."""

    def __init__(self, source: ChunkSource, offset: int, size: int) -> None:
        super().__init__(offset, size)
        self._source = source

    def read(self, size: int | None = -1) -> Any:
        """Return the next bytes as an object with the buffer interface."""
        place, count = self._advance(size)
        pieces = []
        while count:
            piece = self._source.piece(place, count)
            place += piece.nbytes
            count -= piece.nbytes
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _ChunkUpload:
    """The upload of one object from memory: the context of a multipart upload."""

    def __init__(self, api: RetryingApi, upload: Upload, source: ChunkSource, expected_owner: ExpectedOwner) -> None:
        self.api = api
        self._upload = upload
        self._source = source
        self._place = object_params(upload.target, expected_owner)
        self.pool: TransferPool[Upload] = _pool(api, lambda _: MultipartUpload(self, upload, source).send)

    def place(self, _upload: Upload) -> dict[str, Any]:
        """Return the parameters of the object's location."""
        return dict(self._place)

    def settings(self, upload: Upload) -> dict[str, Any]:
        """Return all parameters of the upload except its content."""
        return {**self._place, **encryption_params(upload.kms_key)}

    def send(self) -> None:
        """Upload the content."""
        if self._source.size > SINGLE_PUT:
            _raise_failure(self.pool.run([self._upload]))
            return
        stream = self._source.stream_part(0, self._source.size)
        small = self._source.size <= SMALL_FILE  # joined, so that it takes one packet where it can
        content = self._source.block(0, self._source.size) if small else None
        self.api.call(
            "s3", "PutObject", lambda: {**self.settings(self._upload), "Body": stream() if content is None else content}
        )


class _RangedRead:
    """The read of one object into memory, in ranges."""

    def __init__(self, api: RetryingApi, params: dict[str, Any], memory: bytearray, object_size: int) -> None:
        self._api = api
        self._params = params
        self._view = memoryview(memory)
        self._object_size = object_size
        self._digest = hashlib.sha256()
        self._pool: TransferPool[int] = _pool(api, lambda end: lambda: self._fetch_all(end))

    def read(self, end: int) -> Any:
        """Read the bytes up to a position into the memory, and return their digest."""
        if 0 < end <= _RANGE_SIZE:
            self._fetch(range(end))
            self._digest.update(self._view[:end])
        elif end:
            _raise_failure(self._pool.run([end]))
        return self._digest

    def _fetch_all(self, end: int) -> None:
        """Fetch ranges, many at once, and hash them in order as they arrive."""
        ranges = [range(start, min(end, start + _RANGE_SIZE)) for start in range(0, end, _RANGE_SIZE)]
        futures: list[tuple[range, Future[None]]] = []
        try:
            futures.extend((wanted, self._pool.submit(functools.partial(self._fetch, wanted))) for wanted in ranges)
            for wanted, future in futures:
                future.result()
                self._digest.update(self._view[wanted.start : wanted.stop])
        finally:
            for _, future in futures:
                future.cancel()

    def _fetch(self, wanted: range) -> None:
        memory = self._view[wanted.start : wanted.stop]
        fetch_range(self._api, self._params, wanted, self._object_size, memory, on_failure=self._pool.record_failure)


def _pool(api: RetryingApi, work: Callable[[Any], Callable[[], object]]) -> TransferPool[Any]:
    return TransferPool(work, _REQUESTS, ProgressMeter(None, api.clock, 1, None))


def _raise_failure(failures: list[tuple[Any, Exception | None]]) -> None:
    for _, error in failures:
        if error is not None:
            raise error

"""Objects of remote functions on the engine: written from chunks, and read into memory after a check."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError, DeserializationError, ServiceError
from processing.remote_function.object_transfer import ChunkSource, Trailer, read_object, read_tail, write_object
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from processing import LocalSession

MB = 1024 * 1024


def chunks_of(content: bytes, seed: int) -> list[memoryview]:
    """Return the content as views of random sizes, empty ones included."""
    cuts = sorted(random.Random(seed).choices(range(len(content) + 1), k=5))
    view = memoryview(content)
    return [view[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]


@pytest.mark.parametrize("size", [1, 1000, 2 * MB, 16 * MB + 1, 24 * MB])
def test_an_object_has_its_chunks_and_its_trailer(local_session: LocalSession, size: int) -> None:
    """Small objects, streamed ones and those in parts have the same bytes, and the trailer has their hash."""
    content = random.Random(size).randbytes(size)
    uri = S3Uri(local_session.default_bucket(), "some/key")
    write_object(
        local_session, uri, chunks_of(content, size), trailer=Trailer(70, lambda found: found.encode() + b"......")
    )
    digest = hashlib.sha256(content).hexdigest()
    tail = read_tail(local_session, uri, MB)
    assert tail.content[-70:] == digest.encode() + b"......"
    assert tail.object_size == size + 70
    assert read_object(local_session, uri, size=size, sha256=digest, tail=tail) == content


def test_another_content_or_size_is_refused(local_session: LocalSession) -> None:
    """Bytes of another size or hash than the written ones are not returned."""
    uri = S3Uri(local_session.default_bucket(), "key")
    write_object(local_session, uri, [memoryview(b"content")])
    digest = hashlib.sha256(b"content").hexdigest()
    assert read_object(local_session, uri, size=7, sha256=digest) == b"content"
    for size, expected in ((6, digest), (8, digest), (7, "0" * 64), (2**62, digest)):
        with pytest.raises(DeserializationError):
            read_object(local_session, uri, size=size, sha256=expected)


def test_failures_of_s3_are_service_errors(local_session: LocalSession) -> None:
    """The error names the object and the reason: a missing object, a bucket of another account."""
    bucket = local_session.default_bucket()
    uri = S3Uri(bucket, "key")
    with pytest.raises(ServiceError, match=r"s3://.*key could not be read: NoSuchKey"):
        read_object(local_session, uri, size=7, sha256="")
    for call in (
        lambda: write_object(local_session, uri, [memoryview(b"x")], bucket_owner="999999999999"),
        lambda: read_tail(local_session, uri, 10, bucket_owner="999999999999"),
    ):
        with pytest.raises(ServiceError, match="AccessDenied"):
            call()
    with pytest.raises(ConfigurationError, match="bucket_owner"):
        read_tail(local_session, uri, 10, bucket_owner=123)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [[5], [0, 3, 0, 4, 0], [1] * 9])
def test_a_stream_reads_as_a_file_does(sizes: list[int]) -> None:
    """Reads of any size, from any position, return the bytes of the chunks in order."""
    content = bytes(range(sum(sizes)))
    chunks, start = [], 0
    for size in sizes:
        chunks.append(memoryview(content)[start : start + size])
        start += size
    stream: Any = ChunkSource(chunks).stream_part(1, len(content) - 1)()
    expected = content[1:]
    assert len(stream) == len(expected)
    assert bytes(stream.read()) == expected
    assert not stream.read(10)
    stream.seek(2)
    assert bytes(stream.read(1)) == expected[2:3]
    assert stream.tell() == 3
    assert stream.seek(0, 2) == len(expected)
    stream.seek(0)
    assert b"".join(iter(lambda: bytes(stream.read(2)), b"")) == expected

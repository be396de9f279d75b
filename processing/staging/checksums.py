"""Verification of an object's bytes against the checksum or ETag that S3 keeps.

S3 keeps a checksum of the whole object, or one of its parts' checksums. It also keeps an ETag, which is an MD5 of the
content or of the parts' MD5s, unless a KMS key encrypts the object. For the forms see
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html (ETag).
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any, Protocol

from processing.aws.checksums import digest_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from processing.aws.checksums import Digest

MD5 = re.compile(r"[0-9a-f]{32}")

# In order of preference; S3 keeps one of them for most objects.
_ALGORITHMS = ("crc32", "sha256", "sha1", "crc32c", "crc64nvme")


class ChecksumVerifier(Protocol):
    """Receives an object's bytes in order, and then compares them with the checksum in S3."""

    def update(self, block: bytes | memoryview) -> None:
        """Add bytes."""

    def matches(self) -> bool:
        """Return whether all bytes added so far match the checksum."""


def new_verifier(found: Mapping[str, Any], part_size: Callable[[], int | None]) -> ChecksumVerifier | None:
    """Return a verifier for an object's bytes; None if S3 keeps nothing about them that can be computed here.

    Args:
        found: the response of HeadObject or GetObject.
        part_size: returns the size of the object's first part in bytes, after a request to S3; None if it is unknown.
    """
    claims = [*_checksums(found), *_etag(found)]
    for algorithm, expected in claims:
        if "-" not in expected:
            return _ObjectVerifier(algorithm, expected)
    for algorithm, expected in claims:
        size, count = part_size(), int(expected.rpartition("-")[2])
        # The boundaries are known only if all parts but the last have the size of the first.
        if size and (count - 1) * size < int(found["ContentLength"]) <= count * size:
            return _CompositeVerifier(algorithm, expected, size)
    return None


class _ObjectVerifier:
    def __init__(self, algorithm: Callable[[], Digest], expected: str) -> None:
        self._hash = algorithm()
        self._expected = expected

    def update(self, block: bytes | memoryview) -> None:
        self._hash.update(block)

    def matches(self) -> bool:
        return self._expected in _texts(self._hash.digest())


class _CompositeVerifier:
    """Verifier for a checksum of the parts' checksums."""

    def __init__(self, algorithm: Callable[[], Digest], expected: str, part_size: int) -> None:
        self._algorithm = algorithm
        self._expected, _, self._count = expected.rpartition("-")
        self._part_size = part_size
        self._digests: list[bytes] = []
        self._hash = algorithm()
        self._left = part_size

    def update(self, block: bytes | memoryview) -> None:
        position = 0
        while position < len(block):
            piece = block[position : position + self._left]
            self._hash.update(piece)
            position += len(piece)
            self._left -= len(piece)
            if not self._left:
                self._next_part()

    def matches(self) -> bool:
        if self._left < self._part_size:
            self._next_part()
        whole = self._algorithm()
        whole.update(b"".join(self._digests))
        return len(self._digests) == int(self._count) and self._expected in _texts(whole.digest())

    def _next_part(self) -> None:
        self._digests.append(self._hash.digest())
        self._hash = self._algorithm()
        self._left = self._part_size


def _texts(digest: bytes) -> tuple[str, str]:
    """Return S3's two forms of a digest: base64 for a checksum, hexadecimal digits for an ETag."""
    return base64.b64encode(digest).decode(), digest.hex()


def _checksums(found: Mapping[str, Any]) -> list[tuple[Callable[[], Digest], str]]:
    """Return the checksums that S3 keeps and that can be computed here, each with its factory."""
    kept = [(name, found.get(f"Checksum{name.upper()}")) for name in _ALGORITHMS]
    factories = [(digest_factory(name), str(value)) for name, value in kept if value]
    return [(factory, value) for factory, value in factories if factory is not None]


def _etag(found: Mapping[str, Any]) -> list[tuple[Callable[[], Digest], str]]:
    """Return the ETag with the factory of MD5, if the ETag is an MD5."""
    etag = str(found.get("ETag") or "").strip('"')
    encrypted = found.get("ServerSideEncryption") not in {None, "AES256"} or found.get("SSECustomerAlgorithm")
    if encrypted or not re.fullmatch(MD5.pattern + r"(-\d+)?", etag):
        return []
    return [(lambda: hashlib.md5(usedforsecurity=False), etag)]

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
import sys
from typing import TYPE_CHECKING, Any

from processing.aws.checksums import Crc, digest_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from processing.aws.checksums import Digest

MD5 = re.compile(r"[0-9a-f]{32}")

# In order of preference; S3 keeps one of them for most objects.
_ALGORITHMS = ("crc32", "sha256", "sha1", "crc32c", "crc64nvme")


class PartDigests:
    """The digests of consecutive bytes, one for each part of the object.

    Args:
        algorithm: makes an incremental digest.
        part_size: the bytes of every part but the last.
        start: the position of the first byte.
    """

    def __init__(self, algorithm: Callable[[], Digest], part_size: int, start: int = 0) -> None:
        self._algorithm = algorithm
        self._part_size = part_size
        self._left = part_size - start % part_size  # bytes until the end of the part
        self._digests = [algorithm()]

    def update(self, block: bytes | memoryview) -> None:
        """Add bytes."""
        position = 0
        while position < len(block):
            if not self._left:
                self._digests.append(self._algorithm())
                self._left = self._part_size
            piece = block[position : position + self._left]
            self._digests[-1].update(piece)
            position += len(piece)
            self._left -= len(piece)

    def append(self, following: PartDigests) -> None:
        """Add the bytes that follow, by their CRCs."""
        first, *others = following._digests
        last = self._digests[-1]
        assert isinstance(last, Crc)
        assert isinstance(first, Crc)
        if self._left:
            last.append(first)
        else:
            self._digests.append(first)
        self._digests += others
        self._left = following._left

    def digests(self) -> list[bytes]:
        """Return the digests of the parts."""
        return [digest.digest() for digest in self._digests]


class ChecksumVerifier:
    """Receives an object's bytes in order, or the CRCs of its ranges, and compares them with the checksum in S3.

    Args:
        algorithm: makes an incremental digest.
        expected: the checksum in S3.
        part_size: the bytes of every part but the last, if the checksum is one of the parts' checksums.
    """

    def __init__(self, algorithm: Callable[[], Digest], expected: str, part_size: int | None = None) -> None:
        self._algorithm = algorithm
        self._expected, _, self._count = expected.partition("-")
        self._part_size = part_size or sys.maxsize
        self._received = PartDigests(algorithm, self._part_size)

    def update(self, block: bytes | memoryview) -> None:
        """Add bytes."""
        self._received.update(block)

    def range_digests(self, start: int) -> PartDigests | None:
        """Return the digests for a range of bytes; None if the algorithm needs all bytes in order.

        Args:
            start: the position of the range.
        """
        return PartDigests(self._algorithm, self._part_size, start) if isinstance(self._algorithm(), Crc) else None

    def append(self, following: PartDigests) -> None:
        """Add the bytes of a range by their digests."""
        self._received.append(following)

    def matches(self) -> bool:
        """Return whether all bytes added so far match the checksum."""
        digests = self._received.digests()
        if not self._count:
            return self._expected in _texts(digests[0])
        whole = self._algorithm()
        whole.update(b"".join(digests))
        return len(digests) == int(self._count) and self._expected in _texts(whole.digest())


def new_verifier(found: Mapping[str, Any], part_size: Callable[[], int | None]) -> ChecksumVerifier | None:
    """Return a verifier for an object's bytes; None if S3 keeps nothing about them that can be computed here.

    Args:
        found: the response of HeadObject or GetObject.
        part_size: returns the size of the object's first part in bytes, after a request to S3; None if it is unknown.
    """
    claims = [*_checksums(found), *_etag(found)]
    for algorithm, expected in claims:
        if "-" not in expected:
            return ChecksumVerifier(algorithm, expected)
    for algorithm, expected in claims:
        size, count = part_size(), int(expected.rpartition("-")[2])
        # The boundaries are known only if all parts but the last have the size of the first.
        if size and (count - 1) * size < int(found["ContentLength"]) <= count * size:
            return ChecksumVerifier(algorithm, expected, size)
    return None


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

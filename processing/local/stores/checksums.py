"""Checksums of bodies and of multipart objects.

The CRC of a whole object can be computed from the CRCs of its parts. Other algorithms only allow a checksum of the
parts' checksums, which S3 calls composite.
"""

from __future__ import annotations

import base64
import functools
from typing import TYPE_CHECKING

from processing.aws.checksums import POLYNOMIALS, digest_factory, joined_crc
from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processing.aws.checksums import Digest


ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256", "sha512", "md5", "xxhash64", "xxhash3", "xxhash128")
"""S3's names in lower case. The last three are never verified here."""

FULL_OBJECT = frozenset(POLYNOMIALS)
"""The algorithms that allow a checksum of the whole object to be computed from those of its parts."""


def new_digest(algorithm: str) -> Digest | None:
    """Return an incremental checksum, or None if it cannot be computed here at speed.

    Args:
        algorithm: S3's lower-case algorithm name, or `content-md5`. `crc32c` and `crc64nvme` need awscrt.
    """
    factory = _digest_factory(algorithm)
    return None if factory is None else factory()


def new_slow_digest(algorithm: str) -> Digest | None:
    """Return an incremental checksum, computed in pure Python (7 MB/s) if there is no other way, or None.

    Use it for checksums that no client sends, since an answer would lack them otherwise.
    """
    return new_digest(algorithm) or (_PythonCrc(*POLYNOMIALS[algorithm]) if algorithm in POLYNOMIALS else None)


class _PythonCrc:
    """An incremental CRC in pure Python."""

    def __init__(self, width: int, polynomial: int) -> None:
        self._width, self._table = width, _crc_table(polynomial)
        self._inverted = (1 << 8 * width) - 1  # the CRC so far, with all bits inverted

    def update(self, data: bytes | memoryview, /) -> None:
        table, crc = self._table, self._inverted
        for byte in data:
            crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        self._inverted = crc

    def digest(self) -> bytes:
        return (self._inverted ^ ((1 << 8 * self._width) - 1)).to_bytes(self._width, "big")


@functools.cache
def _crc_table(polynomial: int) -> tuple[int, ...]:
    """Return the CRCs of all bytes."""
    table = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = (crc >> 1) ^ (polynomial if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


@functools.cache
def _digest_factory(algorithm: str) -> Callable[[], Digest] | None:
    """Return the algorithm's factory. If there is none, log once per process that the algorithm is not verified."""
    factory = digest_factory("md5" if algorithm == "content-md5" else algorithm)
    if factory is None:
        known = algorithm in FULL_OBJECT
        reason = "awscrt is not installed, or too old" if known else "the engine does not know the algorithm"
        import logging  # here, because a supervisor starts without it

        text = "%s checksums are accepted without verification: %s"
        logging.getLogger(__name__).info(text, algorithm.upper(), reason)
    return factory


def decode_checksum(value: str) -> bytes:
    """Return the bytes of a base64 checksum from a header, or raise `InvalidDigest`."""
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise ApiError("InvalidDigest", "The Content-MD5 or checksum value that you specified was invalid.") from None


def bad_digest(algorithm: str) -> ApiError:
    """Return S3's error for a checksum that does not match."""
    name = "Content-MD5" if algorithm == "content-md5" else algorithm.upper()
    return ApiError("BadDigest", f"The {name} you specified did not match the calculated checksum.")


def composite_checksum(algorithm: str, values: Sequence[str]) -> str | None:
    """Return the checksum of the parts' checksums and `-<number of parts>`, or None if it is not computable."""
    digest = new_slow_digest(algorithm)
    if digest is None:
        return None
    for value in values:
        digest.update(decode_checksum(value))
    return f"{base64.b64encode(digest.digest()).decode()}-{len(values)}"


def combine_crcs(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    """Return the CRC of a concatenation, from each part's CRC in base64 and length in bytes."""
    width, polynomial = POLYNOMIALS[algorithm]
    whole = 0
    for value, length in parts:
        part = int.from_bytes(decode_checksum(value), "big")
        whole = joined_crc(whole, part, length, width, polynomial)
    return base64.b64encode(whole.to_bytes(width, "big")).decode()

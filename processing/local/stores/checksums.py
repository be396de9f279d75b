"""Checksums of bodies and of multipart objects.

The CRC of a whole object can be computed from the CRCs of its parts. Other algorithms only allow a checksum of the
parts' checksums, which S3 calls composite.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib
import logging
import zlib
from typing import TYPE_CHECKING, Protocol

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

logger = logging.getLogger(__name__)

ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256", "sha512", "md5", "xxhash64", "xxhash3", "xxhash128")
"""S3's names in lower case. The last three are never verified here."""

_POLYNOMIALS = {"crc32": (32, 0xEDB88320), "crc32c": (32, 0x82F63B78), "crc64nvme": (64, 0x9A6C9329AC4BC9B5)}
"""The number of bits and the reflected polynomial of each CRC."""

_HASHES: Mapping[str, Callable[..., Digest]] = {
    "content-md5": hashlib.md5,
    "md5": hashlib.md5,
    "sha1": hashlib.sha1,
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
}

FULL_OBJECT = frozenset(_POLYNOMIALS)
"""The algorithms that allow a checksum of the whole object to be computed from those of its parts."""


class Digest(Protocol):
    """An incremental checksum."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""

    def digest(self) -> bytes:
        """Return the checksum of the bytes so far, big-endian."""


class _Crc:
    def __init__(self, function: Callable[[bytes, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def new_digest(algorithm: str) -> Digest | None:
    """Return an incremental checksum for S3's lower-case algorithm name, or None if it cannot be computed here.

    `crc32c` and `crc64nvme` need awscrt, because pure Python would reach only 7 MB/s.
    """
    constructor = _HASHES.get(algorithm)
    if constructor is not None:
        return constructor(usedforsecurity=False)
    if algorithm == "crc32":
        return _Crc(zlib.crc32, 4)
    function = _crt_function(algorithm)
    return None if function is None else _Crc(function, 4 if algorithm == "crc32c" else 8)


@functools.cache
def _crt_function(algorithm: str) -> Callable[[bytes, int], int] | None:
    """Return awscrt's function. If there is none, log once per process that the algorithm is not verified."""
    if algorithm in FULL_OBJECT:
        try:
            function: Callable[[bytes, int], int] = getattr(importlib.import_module("awscrt.checksums"), algorithm)
        except (ImportError, AttributeError):
            reason = "awscrt is not installed, or too old"
        else:
            return function
    else:
        reason = "the engine does not know the algorithm"
    logger.info("%s checksums are accepted without verification: %s", algorithm.upper(), reason)
    return None


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
    digest = new_digest(algorithm)
    if digest is None:
        return None
    for value in values:
        digest.update(decode_checksum(value))
    return f"{base64.b64encode(digest.digest()).decode()}-{len(values)}"


def combine_crcs(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    """Return the CRC of a concatenation, from each part's CRC in base64 and length in bytes."""
    bits, polynomial = _POLYNOMIALS[algorithm]
    whole = 0
    for value, length in parts:
        whole = _append_zeros(whole, length, bits, polynomial) ^ int.from_bytes(decode_checksum(value), "big")
    return base64.b64encode(whole.to_bytes(bits // 8, "big")).decode()


def _append_zeros(crc: int, length: int, bits: int, polynomial: int) -> int:
    """Return a CRC extended by `length` zero bytes: multiplied by x^(8 * length), modulo the polynomial."""
    # In reflected order the highest bit is x^0, so this is x^8, one byte. Squaring doubles the number of bytes.
    power = 1 << (bits - 1 - 8)
    while length:
        if length & 1:
            crc = _multiply(crc, power, bits, polynomial)
        power = _multiply(power, power, bits, polynomial)
        length >>= 1
    return crc


def _multiply(one: int, other: int, bits: int, polynomial: int) -> int:
    """Return the product of two polynomials over GF(2), modulo the polynomial, in reflected order."""
    product = 0
    for position in range(bits - 1, -1, -1):
        if one >> position & 1:
            product ^= other
        other = (other >> 1) ^ (polynomial if other & 1 else 0)
    return product

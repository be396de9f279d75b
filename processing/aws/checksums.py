"""S3's checksum algorithms as incremental digests.

Both ends use this module: a transfer verifies the bytes that it receives, and the embedded engine those that a client
sends. It needs the standard library only, because the engine's supervisors and stores run without botocore.
"""

from __future__ import annotations

import functools
import importlib
import zlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Digest(Protocol):
    """An incremental checksum."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes."""

    def digest(self) -> bytes:
        """Return the checksum of the bytes so far, big-endian."""


class Crc:
    """An incremental CRC, to which the CRC of the bytes that follow can be appended.

    Args:
        function: returns the CRC of bytes that follow those with the given CRC, as `zlib.crc32` does.
        width: the bytes of the checksum.
        polynomial: the divisor, with the coefficient of the highest power in the lowest bit.
    """

    def __init__(self, function: Callable[[bytes | memoryview, int], int], width: int, polynomial: int) -> None:
        self._function = function
        self._width = width
        self._polynomial = polynomial
        self._value = 0
        self.size = 0
        """The number of bytes."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes."""
        self._value = self._function(data, self._value)
        self.size += len(data)

    def append(self, following: Crc) -> None:
        """Add bytes by their CRC."""
        self._value = joined_crc(self._value, following._value, following.size, self._width, self._polynomial)
        self.size += following.size

    def digest(self) -> bytes:
        """Return the checksum of the bytes so far, big-endian."""
        return self._value.to_bytes(self._width, "big")


def joined_crc(crc: int, following: int, size: int, width: int, polynomial: int) -> int:
    """Return the CRC of a concatenation.

    A CRC is a remainder of the bytes as a polynomial over GF(2). Bytes that follow multiply it by a power of x.

    Args:
        crc: the CRC of the first bytes.
        following: the CRC of the bytes that follow.
        size: the number of the bytes that follow.
        width: the bytes of the CRC.
        polynomial: the divisor, as `Crc` has it.
    """
    bits = 8 * width
    return _multiply(crc, _power_of_x(8 * size, polynomial, bits), polynomial, bits) ^ following


def _multiply(a: int, b: int, polynomial: int, bits: int) -> int:
    """Return the product of two polynomials, modulo a third one. Their highest bits are the coefficients of 1."""
    product = 0
    for position in reversed(range(bits)):
        if a >> position & 1:
            product ^= b
        b = b >> 1 ^ (polynomial if b & 1 else 0)
    return product


@functools.lru_cache(maxsize=16)  # nearly all ranges of an object have one size
def _power_of_x(exponent: int, polynomial: int, bits: int) -> int:
    """Return a power of x, modulo a polynomial, by squaring."""
    power, square = 1 << bits - 1, 1 << bits - 2
    while exponent:
        if exponent & 1:
            power = _multiply(power, square, polynomial, bits)
        square = _multiply(square, square, polynomial, bits)
        exponent >>= 1
    return power


_HASHES = frozenset({"md5", "sha1", "sha256", "sha512"})

POLYNOMIALS: Mapping[str, tuple[int, int]] = {
    "crc32": (4, 0xEDB88320),
    "crc32c": (4, 0x82F63B78),
    "crc64nvme": (8, 0x9A6C9329AC4BC9B5),
}
"""By CRC: the width in bytes, and the polynomial."""


def digest_factory(algorithm: str) -> Callable[[], Digest] | None:
    """Return a function that makes incremental digests; None if the algorithm cannot be computed here.

    Args:
        algorithm: S3's name of the algorithm in lower case. `crc32c` and `crc64nvme` need awscrt.
    """
    if algorithm in _HASHES:
        import hashlib  # every supervisor imports this module, and OpenSSL takes a tenth of its start

        return functools.partial(getattr(hashlib, algorithm), usedforsecurity=False)
    if algorithm not in POLYNOMIALS:
        return None
    try:
        # Pure Python computes the CRCs that zlib lacks at 7 MB/s.
        function = (
            zlib.crc32 if algorithm == "crc32" else getattr(importlib.import_module("awscrt.checksums"), algorithm)
        )
    except (ImportError, AttributeError):  # the latter: an old awscrt has no crc64nvme
        return None
    return functools.partial(Crc, function, *POLYNOMIALS[algorithm])

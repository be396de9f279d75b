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


class _Crc:
    """An incremental CRC over a function with the signature of `zlib.crc32`.

    Args:
        function: returns the CRC of bytes that follow those with the given CRC.
        width: the bytes of the checksum.
    """

    def __init__(self, function: Callable[[bytes | memoryview, int], int], width: int) -> None:
        self._function = function
        self._width = width
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


_HASHES = frozenset({"md5", "sha1", "sha256", "sha512"})

# The CRCs that need compiled code, with their bytes: pure Python computes them at 7 MB/s.
_AWSCRT_WIDTHS: Mapping[str, int] = {"crc32c": 4, "crc64nvme": 8}


def digest_factory(algorithm: str) -> Callable[[], Digest] | None:
    """Return a function that makes incremental digests; None if the algorithm cannot be computed here.

    Args:
        algorithm: S3's name of the algorithm in lower case. `crc32c` and `crc64nvme` need awscrt.
    """
    if algorithm in _HASHES:
        import hashlib  # every supervisor imports this module, and OpenSSL takes a tenth of its start

        return functools.partial(getattr(hashlib, algorithm), usedforsecurity=False)
    if algorithm == "crc32":
        return functools.partial(_Crc, zlib.crc32, 4)
    if algorithm not in _AWSCRT_WIDTHS:
        return None
    try:
        function = getattr(importlib.import_module("awscrt.checksums"), algorithm)
    except (ImportError, AttributeError):  # the latter: an old awscrt has no crc64nvme
        return None
    return functools.partial(_Crc, function, _AWSCRT_WIDTHS[algorithm])

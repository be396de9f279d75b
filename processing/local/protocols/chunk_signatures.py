"""Signatures of the chunks of an aws-chunked body.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html describes them.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from processing.local.protocols import auth_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

ALGORITHM = "AWS4-HMAC-SHA256"
"""The name of Signature Version 4 in headers, query strings and strings to sign."""

ALGORITHM = "AWS4-HMAC-SHA256"


EMPTY_HASH = hashlib.sha256(b"").hexdigest()


def sign(key: bytes, text: str) -> str:
    """Return the signature of a string to sign, in hexadecimal."""
    return hmac.digest(key, text.encode(), "sha256").hex()


class ChunkSignatures:
    """The signatures of the chunks of an aws-chunked body: each covers the one before, the first the request's.

    Args:
        key: the signing key.
        stamp: the time of the request's signature.
        scope: the scope of it.
        seed: the request's signature.
    """

    def __init__(self, key: bytes, stamp: str, scope: str, seed: str) -> None:
        self._key = key
        self._prefix = f"\n{stamp}\n{scope}\n"
        self._previous = seed
        self._claimed = ""
        self._hash = hashlib.sha256()

    def begin(self, extension: str) -> None:
        """Start a chunk, with what stands behind the size in its first line: `chunk-signature=...`."""
        self._claimed = extension.partition("chunk-signature=")[2].strip()
        self._hash = hashlib.sha256()

    def update(self, data: bytes) -> None:
        """Add bytes of the chunk."""
        self._hash.update(data)

    def end(self) -> None:
        """Check the chunk.

        Raises:
            ApiError: it is not as it was signed.
        """
        self._check(f"{ALGORITHM}-PAYLOAD", f"{EMPTY_HASH}\n{self._hash.hexdigest()}", self._claimed)

    def check_trailers(self, trailers: Mapping[str, str]) -> None:
        """Check the headers behind the last chunk, by name in lower case, their signature among them.

        Raises:
            ApiError: they are not as they were signed.
        """
        lines = "".join(f"{name}:{value}\n" for name, value in trailers.items() if name != "x-amz-trailer-signature")
        if lines or "x-amz-trailer-signature" in trailers:
            digest = hashlib.sha256(lines.encode()).hexdigest()
            self._check(f"{ALGORITHM}-TRAILER", digest, trailers.get("x-amz-trailer-signature", ""))

    def _check(self, kind: str, digest: str, claimed: str) -> None:
        text = f"{kind}{self._prefix}{self._previous}\n{digest}"
        expected = sign(self._key, text)
        if not hmac.compare_digest(expected.encode(), claimed.encode()):
            raise auth_errors.mismatch("rest", lambda: {"StringToSign": text, "SignatureProvided": claimed})
        self._previous = expected

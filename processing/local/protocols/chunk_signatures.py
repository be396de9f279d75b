"""Signatures of the chunks of an aws-chunked body.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
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

EMPTY_HASH = hashlib.sha256(b"").hexdigest()
"""The SHA-256 of an empty body, in hexadecimal."""


def sign(key: bytes, text: str) -> str:
    """Return the signature of a string to sign, in hexadecimal."""
    return hmac.digest(key, text.encode(), "sha256").hex()


class ChunkSignatures:
    """The chain of chunk signatures of one body: each covers its predecessor, the first covers the request's.

    Args:
        key: the signing key.
        stamp: the time of the request's signature.
        scope: the scope of the request's signature.
        seed: the request's signature.
    """

    def __init__(self, key: bytes, stamp: str, scope: str, seed: str) -> None:
        self._key = key
        self._prefix = f"\n{stamp}\n{scope}\n"
        self._previous = seed
        self._claimed = ""
        self._hash = hashlib.sha256()

    def begin(self, extension: str) -> None:
        """Start a chunk. The extension follows the size in its first line: `chunk-signature=...`."""
        self._claimed = extension.partition("chunk-signature=")[2].strip()
        self._hash = hashlib.sha256()

    def update(self, data: bytes) -> None:
        """Add bytes of the chunk."""
        self._hash.update(data)

    def end(self) -> None:
        """Check the chunk.

        Raises:
            ApiError: the chunk differs from the signed one.
        """
        self._check(f"{ALGORITHM}-PAYLOAD", f"{EMPTY_HASH}\n{self._hash.hexdigest()}", self._claimed)

    def check_trailers(self, trailers: Mapping[str, str]) -> None:
        """Check the headers after the last chunk, by name in lower case. Their signature is one of them.

        Raises:
            ApiError: the headers differ from the signed ones.
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

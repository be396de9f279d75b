"""Signatures of stored values: ECDSA with the curve P-256 and SHA-256.

The client that submits a call signs with a fresh private key. The public half travels in the job's request.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, cast

import attrs

from processing._utils import type_name
from processing.exceptions import ConfigurationError, DeserializationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

SIGNATURE_LENGTH = 96
"""The most characters of a signature: 72 bytes of DER in base64."""

_DOMAIN = b"sm-processing: a value of a remote function\n"  # no signature for another purpose fits here
_CURVE = "secp256r1"  # the name of P-256 in the library


@attrs.frozen
class SignedContext:
    """Everything that a signature vouches for: the bytes, their place and their origin.

    A copy at another place, of another kind or of another version has another context, so its signature does not fit.

    Args:
        kind: `function`, `object` or `exception`.
        s3_uri: the place, as the reader names it.
        sha256: the SHA-256 of the bytes, in hexadecimal digits.
        size: the number of bytes.
        python: the version of Python that wrote them.
        version: the version of the format.
    """

    kind: str
    s3_uri: str
    sha256: str
    size: int
    python: str
    version: str

    def to_bytes(self) -> bytes:
        """Return the signed message: the same bytes for equal contexts."""
        return _DOMAIN + json.dumps(attrs.asdict(self), sort_keys=True, separators=(",", ":")).encode()


def require_private_key(parameter: str, key: Any) -> EllipticCurvePrivateKey:
    """Return a key that can sign.

    Args:
        parameter: the parameter's name.
        key: its value.

    Raises:
        ConfigurationError: it is not a private key of the curve P-256, or cryptography is not installed.
    """
    ec = _ec()
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != _CURVE:
        raise ConfigurationError(
            f"{parameter}: must be a private key of the curve P-256, as "
            "ec.generate_private_key(ec.SECP256R1()) of cryptography makes it, not "
            f"{key.curve.name if isinstance(key, ec.EllipticCurvePrivateKey) else type_name(key)}"
        )
    return cast("EllipticCurvePrivateKey", key)


def load_public_key(parameter: str, pem: Any) -> EllipticCurvePublicKey:
    """Return the key of a text in PEM.

    Args:
        parameter: the parameter's name.
        pem: the text.

    Raises:
        ConfigurationError: cryptography is not installed.
        DeserializationError: the text is not a public key of the curve P-256.
    """
    ec = _ec()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode() if isinstance(pem, str) else bytes(pem))
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise DeserializationError(f"{parameter}: is not a public key in PEM, so nothing was loaded") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != _CURVE:
        raise DeserializationError(f"{parameter}: is not a public key of the curve P-256, so nothing was loaded")
    return cast("EllipticCurvePublicKey", key)


def sign(key: EllipticCurvePrivateKey, message: bytes) -> str:
    """Return the signature of a message, in base64."""
    from cryptography.hazmat.primitives import hashes

    return base64.b64encode(key.sign(message, _ec().ECDSA(hashes.SHA256()))).decode()


def is_signed(key: EllipticCurvePublicKey, signature: Any, message: bytes, *, is_digest: bool = False) -> bool:
    """Return whether the private half of a key has signed a message.

    Args:
        key: the public half.
        signature: the signature in base64. Any other value is not a signature.
        message: the message.
        is_digest: True if the message is only its SHA-256, as 32 bytes.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    algorithm: Any = Prehashed(hashes.SHA256()) if is_digest else hashes.SHA256()
    try:
        key.verify(base64.b64decode(signature, validate=True), message, _ec().ECDSA(algorithm))
    except (InvalidSignature, TypeError, ValueError, binascii.Error):
        return False
    return True


def _ec() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise ConfigurationError(
            "signatures of remote functions need cryptography; install it with `pip install 'sm-processing[remote]'`"
        ) from error
    return ec

"""Values of remote functions as a session stores them: their places, their keys and their bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from processing import Session

KEY = ec.generate_private_key(ec.SECP256R1())
"""A key that signs."""


def public(key: Any) -> str:
    """Return the public half of a key in PEM."""
    encoded: bytes = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


@attrs.frozen
class Slot:
    """A session, the prefix of a value in its bucket, and the folder of its engine."""

    session: Session
    uri: str
    home: str = ""

    @property
    def key(self) -> str:
        """The key of the value's object."""
        return self.uri.partition("//")[2].partition("/")[2] + "/payload.bin"

    @property
    def bucket(self) -> str:
        """The bucket."""
        return self.session.default_bucket()

    def content(self) -> bytes:
        """Return the bytes of the value's object."""
        content: bytes = self.session.client("s3").get_object(Bucket=self.bucket, Key=self.key)["Body"].read()
        return content

    def replace(self, content: bytes, name: str = "payload.bin") -> None:
        """Replace the value's object."""
        key = self.key.replace("payload.bin", name)
        self.session.client("s3").put_object(Bucket=self.bucket, Key=key, Body=content)


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the metadata of a stored value, and its packed value."""
    length = int.from_bytes(content[-12:-8], "little")
    return json.loads(content[-12 - length : -12]), content[: -12 - length]


def joined(packed: bytes, metadata: Any) -> bytes:
    """Return a stored value with other metadata."""
    text = json.dumps(metadata).encode()
    return packed + text + len(text).to_bytes(4, "little") + b"SMVALUE\x01"

"""Stored values: one object in S3 with a packed value and, behind it, its metadata.

Layout: the packed value | the metadata in JSON, padded with spaces | the size of the metadata (4 bytes, little-endian)
| 8 fixed bytes. The metadata is at the end because it has the hash of the bytes before it, which are hashed while they
are sent. A reader fetches the end first. So it verifies a signature before it fetches or allocates the rest.
"""

from __future__ import annotations

import json
import platform
import re
import struct
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.exceptions import DeserializationError, ServiceError
from processing.remote_function.object_transfer import Trailer, read_object, read_tail, write_object
from processing.remote_function.packing import unpack
from processing.remote_function.signatures import SIGNATURE_LENGTH, SignedContext, is_signed, sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

    from processing.container.remote.packing import PackedValue
    from processing.request.s3_uri import S3Uri
    from processing.session.session import Session

VERSION: Final = "sm-processing-1"
"""The version of the format."""
KEY: Final = "payload.bin"
"""The name of the object below the URI of a value."""

_MAGIC = b"SMVALUE\x01"
_END = struct.Struct("<I8s")
_LONGEST_METADATA = 16 * 1024  # bytes; with the longest URI of S3 it has about 1,500
_TAIL = 1024 * 1024  # bytes of the first read: a small value comes with its metadata in one call
_SHA256: Final = re.compile("[0-9a-f]{64}")


@attrs.frozen
class Place:
    """The place of a value in S3.

    Args:
        session: the session.
        uri: the prefix that the user gave, without a slash at the end.
        kind: the kind of the value: `function`, `object` or `exception`.
        bucket_owner: the account that must own the bucket; None for the session's.
    """

    session: Session
    uri: S3Uri
    kind: str
    bucket_owner: str | None = None

    def context(self, sha256: str, size: int, python: str, version: str) -> SignedContext:
        """Return the context of a value at this place."""
        return SignedContext(self.kind, str(self.uri), sha256, size, python, version)


@attrs.frozen
class Metadata:
    """The metadata of a stored value, as the object has it. Only a signature proves that it is genuine.

    Args:
        context: the context.
        signature: the signature of the context; None if the value is only hashed.
    """

    context: SignedContext
    signature: str | None

    def to_json(self) -> bytes:
        """Return the JSON text."""
        return json.dumps({**attrs.asdict(self.context), "context_signature": self.signature}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Metadata:
        """Return the metadata of a JSON text.

        Raises:
            ValueError: it is not metadata; the message has the reason.
        """
        try:
            fields = json.loads(text)
        except RecursionError as error:
            raise ValueError("JSON that is nested too deeply") from error
        types = {field.name: int if field.name == "size" else str for field in attrs.fields(SignedContext)}
        if not isinstance(fields, dict) or {*fields} != {*types, "context_signature"}:
            raise ValueError("fields are missing")
        signature = fields.pop("context_signature")
        wrong = [name for name, kind in types.items() if type(fields[name]) is not kind]
        if wrong or not isinstance(signature, (str, type(None))) or not _SHA256.fullmatch(fields["sha256"]):
            raise ValueError("fields have other types")
        return cls(SignedContext(**fields), signature)


def write_value(
    place: Place, packed: PackedValue, *, kms_key: str | None = None, private_key: EllipticCurvePrivateKey | None = None
) -> None:
    """Write a packed value.

    Args:
        place: its place.
        packed: the value.
        kms_key: the KMS key that encrypts the object; None if the bucket decides.
        private_key: the key that signs it; None to hash it only.

    Raises:
        ServiceError: a call to S3 failed for good.
    """

    def metadata(sha256: str, signature: str | None = None) -> Metadata:
        return Metadata(place.context(sha256, packed.size, platform.python_version(), VERSION), signature)

    length = len(metadata("0" * 64, "0" * SIGNATURE_LENGTH).to_json())

    def trailer(sha256: str) -> bytes:
        unsigned = metadata(sha256)
        signature = None if private_key is None else sign(private_key, unsigned.context.to_bytes())
        return attrs.evolve(unsigned, signature=signature).to_json().ljust(length) + _END.pack(length, _MAGIC)

    write_object(
        place.session,
        place.uri / KEY,
        packed.chunks,
        kms_key=kms_key,
        bucket_owner=place.bucket_owner,
        trailer=Trailer(length + _END.size, trailer),
    )


def read_value(place: Place, public_key: EllipticCurvePublicKey | None = None) -> Any:
    """Return the value at a place. It is loaded only if it is the one that was stored there.

    Args:
        place: the place.
        public_key: the key that verifies its signature; None to compare its hash only.

    Raises:
        DeserializationError: the object is not the one that was stored, or the value cannot be loaded here.
        ServiceError: a call to S3 failed for good, or there is no object.
    """
    uri = place.uri / KEY
    try:
        tail = read_tail(place.session, uri, _TAIL, bucket_owner=place.bucket_owner)
    except ServiceError as error:
        if "NoSuchKey" in str(error):
            raise ServiceError(f"{error}. accept='v3' reads a value that sagemaker-core wrote") from error.__cause__
        raise
    metadata = _find_metadata(tail.content, tail.object_size, str(uri))
    _check(metadata, place, public_key, str(uri))
    context = metadata.context
    memory = read_object(
        place.session, uri, size=context.size, sha256=context.sha256, bucket_owner=place.bucket_owner, tail=tail
    )
    return unpack(memory, str(uri), written_by=context.python)


def _find_metadata(tail: bytes, object_size: int, source: str) -> Metadata:
    """Return the metadata at the end of an object, and check the sizes."""
    try:
        return _parse_end(tail, object_size)
    except (ValueError, struct.error) as error:
        raise DeserializationError(
            f"{source}: is not a value that sm-processing stored, or only a part of one: {error}"
        ) from error


def _parse_end(tail: bytes, object_size: int) -> Metadata:
    length, magic = _END.unpack(tail[-_END.size :])
    if magic != _MAGIC:
        raise ValueError("it has another end")
    if length > min(_LONGEST_METADATA, len(tail) - _END.size):
        raise ValueError("its metadata is longer than the object")
    metadata = Metadata.from_json(tail[-_END.size - length : -_END.size])
    if metadata.context.size + length + _END.size != object_size:
        raise ValueError("it has another size than its metadata says")
    return metadata


def _check(metadata: Metadata, place: Place, public_key: EllipticCurvePublicKey | None, source: str) -> None:
    """Refuse a value of another place, kind or version, and one without a right signature if there has to be one."""
    context = metadata.context
    if context.version != VERSION:
        raise DeserializationError(
            f"{source}: has the format {context.version!r}, and this release of sm-processing reads {VERSION!r}"
        )
    if context.kind != place.kind:
        raise DeserializationError(f"{source}: is of the kind {context.kind!r}, not {place.kind!r}, and was not loaded")
    if context.s3_uri != str(place.uri):
        raise DeserializationError(f"{source}: is a copy of the value at {context.s3_uri}, and was not loaded")
    if public_key is None:
        return
    if metadata.signature is None:
        raise DeserializationError(f"{source}: is not signed, and was not loaded")
    if not is_signed(public_key, metadata.signature, context.to_bytes()):
        raise DeserializationError(
            f"{source}: its signature is not of the given key, or it was changed; it was not loaded"
        )

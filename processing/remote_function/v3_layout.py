"""Values that sagemaker-core 3 stored: `payload.pkl` and `metadata.json` below one prefix.

Its signature is over the bytes alone, so a copy from another place or job is accepted. Read such values only where no
one else can write.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from processing.exceptions import DeserializationError
from processing.remote_function.object_transfer import read_object, read_tail
from processing.remote_function.packing import load_pickle
from processing.remote_function.signatures import is_signed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from processing.remote_function.object_transfer import ObjectEnd
    from processing.remote_function.stored_value import Place

_VERSION: Final = "2023-04-24"
_MODULE: Final = "cloudpickle"
_TAIL = 1024 * 1024  # bytes of the first read of each object
_SHA256: Final = re.compile("[0-9a-f]{64}")


def read_v3_value(place: Place, public_key: EllipticCurvePublicKey | None = None) -> Any:
    """Return the value at a place. It is loaded only if its hash, and its signature if there is a key, are right.

    Args:
        place: the place.
        public_key: the key that verifies its signature; None to compare its hash only.

    Raises:
        DeserializationError: the objects are not those that were stored, or the value cannot be loaded here.
        ServiceError: a call to S3 failed for good, or an object is missing.
    """
    metadata = _read_metadata(place)
    uri = place.uri / "payload.pkl"
    sha256 = metadata["sha256_hash"]
    if public_key is not None:
        signature = metadata.get("asymmetric_signature")
        if signature is None:
            raise DeserializationError(f"{uri}: is not signed, and was not loaded")
        if not is_signed(public_key, signature, bytes.fromhex(sha256), is_digest=True):
            raise DeserializationError(
                f"{uri}: its signature is not of the given key, or it was changed; it was not loaded"
            )
    tail = read_tail(place.session, uri, _TAIL, bucket_owner=place.bucket_owner)
    memory = read_object(
        place.session, uri, size=tail.object_size, sha256=sha256, bucket_owner=place.bucket_owner, tail=tail
    )
    # Nothing proves the version. Code is not loaded if it is not this one.
    return load_pickle(memory, str(uri), written_by=str(metadata.get("python_version")))


def _read_metadata(place: Place) -> Mapping[str, Any]:
    uri = place.uri / "metadata.json"
    tail = read_tail(place.session, uri, _TAIL, bucket_owner=place.bucket_owner)
    try:
        return _parse(tail)
    except (ValueError, RecursionError) as error:
        raise DeserializationError(f"{uri}: is not the metadata of a value: {error}") from error


def _parse(tail: ObjectEnd) -> Mapping[str, Any]:
    if tail.object_size != len(tail.content):
        raise ValueError("it is larger than 1 MB")
    fields = json.loads(tail.content)
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - one error for all that the text can be
    sha256 = fields.get("sha256_hash")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError("sha256_hash is missing or is not a SHA-256")
    found = fields.get("version"), fields.get("serialization_module")
    if found != (_VERSION, _MODULE):
        raise ValueError(f"version and serialization_module are {found}, not {(_VERSION, _MODULE)}")
    return fields

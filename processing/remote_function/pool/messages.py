"""The messages between a pool and its owner: calls with the digests of their values, and results with a proof.

A call's message has a secret of its own. A result has to prove that its sender received the call, with an HMAC over the
digest of its data. A permission to write to S3, to describe the job or to send to the queue is not enough to make one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.container.remote.channel import CALL, INLINE_BYTES, signature
from processing.container.remote.segments import SegmentEntry
from processing.exceptions import DeserializationError
from processing.remote_function import packing
from processing.remote_function.mapping.results import CallResult
from processing.remote_function.packed_call import check_arguments, function_name
from processing.remote_function.pool.leftovers import remove_objects
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from processing.session.session import Session

_LARGE: Final = 1 << 16
"""The bytes from which a chunk is an object of its own in S3, stored once for all calls that have it."""
_INLINE: Final = INLINE_BYTES // 2
"""The bytes of a function, and of arguments, that travel in a message."""


@attrs.frozen(eq=False)
class OutgoingCall:
    """A call that can be sent.

    Args:
        number: its number in the pool.
        name: its name in messages.
        key: its secret.
        body: the text of its message.
        future: its future.
    """

    number: int
    name: str
    key: bytes = attrs.field(repr=False)
    body: str = attrs.field(repr=False)
    future: Future[Any]

    def outcome(self, result: Mapping[str, Any], read: Callable[[str, int], bytes | bytearray]) -> CallResult | None:
        """Return the outcome in a message; None if its sender did not receive the call.

        Args:
            result: the message.
            read: returns the object with a digest and a size, once they have been compared.
        """
        kind, digest = result["outcome"], result["sha256"]
        if not hmac.compare_digest(str(result["signature"]), signature(self.key, self.number, kind, digest)):
            return None
        try:
            data = base64.b64decode(result["data"]) if "data" in result else read(digest, result["size"])
            if hashlib.sha256(data).hexdigest() != digest:
                return None
            return CallResult.of(SegmentEntry(self.number, b"", kind, 1, memoryview(data)), self.name)
        except Exception as error:  # noqa: BLE001 - of S3, or of a message that is not ours
            return CallResult(error=DeserializationError(f"{self.name}: the result cannot be read: {error}"))


class PoolValues:
    """The packed values of a pool. Large ones are objects in S3, under their digests.

    Args:
        session: the session.
        prefix: the S3 prefix of the objects.
        kms_key: the key that encrypts them; None for the bucket's own.
    """

    def __init__(self, session: Session, prefix: S3Uri, kms_key: str | None) -> None:
        self._session = session
        self._prefix = prefix
        self._kms_key = kms_key
        self._stored: set[str] = set()
        self._used = False
        self._lock = threading.Lock()

    def call(
        self, number: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> OutgoingCall:
        """Pack a call, and store its large values.

        Raises:
            ConfigurationError: the arguments do not fit the function's signature.
            SerializationError: the function or an argument cannot be packed.
        """
        check_arguments(function, args, kwargs)
        name = function_name(function)
        digest, function_parts = self._parts(packing.pack(function, name).chunks)
        _, argument_parts = self._parts(packing.pack((args, dict(kwargs)), f"arguments of {name}").chunks)
        key = secrets.token_bytes(16)
        message = {
            "kind": CALL,
            "number": number,
            "key": key.hex(),
            "sha256": digest,
            "function": function_parts,
            "arguments": argument_parts,
        }
        return OutgoingCall(number, f"call {number} of {name}", key, json.dumps(message), Future())

    def read(self, digest: str, size: int) -> bytearray:
        """Return the object with a digest, once it has been compared.

        Raises:
            DeserializationError: the object has another content.
            ServiceError: S3 could not be read.
        """
        from processing.remote_function.object_transfer import read_object

        self._used = True
        return read_object(self._session, self._prefix / digest, size=size, sha256=digest)

    def remove(self) -> None:
        """Remove the objects, if there are any."""
        if self._used:
            remove_objects(self._session, S3Uri(self._prefix.bucket, f"{self._prefix.key}/"))

    def _parts(self, chunks: Iterable[memoryview]) -> tuple[str, list[dict[str, str]]]:
        """Return the digest of a packed value, and its parts for a message."""
        whole, pieces, small = hashlib.sha256(), list[bytes | memoryview](), bytearray()
        for chunk in chunks:
            whole.update(chunk)
            if chunk.nbytes >= _LARGE:
                pieces += [bytes(small), chunk]
                small = bytearray()
            else:
                small += chunk
        pieces.append(bytes(small))
        inline = sum(len(piece) for piece in pieces if len(piece) < _LARGE)
        limit = _LARGE if inline <= _INLINE else 0
        return whole.hexdigest(), [self._part(piece, limit) for piece in pieces if len(piece)]

    def _part(self, piece: bytes | memoryview, limit: int) -> dict[str, str]:
        if len(piece) < limit:
            return {"data": base64.b64encode(piece).decode("ascii")}
        digest = hashlib.sha256(piece).hexdigest()
        if digest not in self._stored:
            self._store(digest, bytes(piece))
        return {"sha256": digest}

    def _store(self, digest: str, data: bytes) -> None:
        from processing.staging.transfers import put_bytes

        self._used = True
        session = self._session
        session.ensure_bucket(self._prefix.bucket)  # the first call's values are stored before the job is started
        put_bytes(
            session.api, data, self._prefix / digest, kms_key=self._kms_key, expected_owner=session.expected_owner
        )
        with self._lock:
            self._stored.add(digest)

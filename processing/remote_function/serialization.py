"""Python values in S3: the functions of sagemaker-core's module of this name, with the same signatures.

A value is one object. Its arrays are sent and received without a copy. Functions and arguments are signed, together
with their place, so a copy at another place is refused. Results and exceptions have a SHA-256, which every writer of
the object can compute too. Load only objects that you can trust.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from processing._utils import type_name
from processing._utils.validation import NAME, Kind, require
from processing.exceptions import ConfigurationError, SerializationError
from processing.remote_function.object_transfer import write_object
from processing.remote_function.packing import load_pickle, pack, require_cloudpickle
from processing.remote_function.signatures import load_public_key, require_private_key
from processing.remote_function.stored_value import Place, read_value, write_value
from processing.remote_function.v3_layout import read_v3_value
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from processing.container.remote.packing import PackedValue
    from processing.session.session import Session

__all__ = [
    "CloudpickleSerializer",
    "deserialize_exception_from_s3",
    "deserialize_func_from_s3",
    "deserialize_obj_from_s3",
    "json_serialize_obj_to_s3",
    "serialize_exception_to_s3",
    "serialize_func_to_s3",
    "serialize_obj_to_s3",
]

Layout: TypeAlias = Literal["processing", "v3"]
"""The layout of a stored value: this package's, or the one of sagemaker-core 3."""

_READERS: Final = {"processing": read_value, "v3": read_v3_value}
_LAYOUT = Kind("'processing' or 'v3'", lambda value: isinstance(value, str) and value in _READERS)
_TEXT = Kind("a string", lambda value: isinstance(value, str))
_EXCEPTION = Kind("an exception", lambda value: isinstance(value, BaseException))


class CloudpickleSerializer:
    """Pickles of cloudpickle, as bytes in memory."""

    @staticmethod
    def serialize(obj: Any) -> bytes:
        """Return a pickle of any object. Functions and classes of `__main__` are in it by value.

        Raises:
            ConfigurationError: cloudpickle is not installed.
            SerializationError: the object cannot be pickled.
        """
        require_cloudpickle()
        import cloudpickle

        try:
            pickled: bytes = cloudpickle.dumps(obj)
        except Exception as error:
            raise SerializationError(f"an object of the type {type_name(obj)} cannot be pickled: {error!r}") from error
        return pickled

    @staticmethod
    def deserialize(s3_uri: str, bytes_to_deserialize: bytes) -> Any:
        """Return the object of a pickle. This runs the code in the pickle: check first that it is genuine.

        Args:
            s3_uri: the origin of the bytes, for messages.
            bytes_to_deserialize: the pickle.

        Raises:
            ConfigurationError: cloudpickle is not installed.
            DeserializationError: the bytes are not a pickle, or it cannot be loaded here.
        """
        return load_pickle(bytes_to_deserialize, str(s3_uri))


def serialize_func_to_s3(
    func: Callable[..., Any],
    sagemaker_session: Session,
    s3_uri: str,
    private_key: EllipticCurvePrivateKey,
    s3_kms_key: str | None = None,
    *,
    bucket_owner: str | None = None,
) -> None:
    """Store a function, signed.

    Args:
        func: the function.
        sagemaker_session: the session, as a processor takes it.
        s3_uri: the prefix of the value. Each value needs one of its own.
        private_key: the key of the curve P-256 that signs it.
        s3_kms_key: the KMS key that encrypts the object; by default the bucket decides.
        bucket_owner: the account that must own the bucket; by default the session's.

    Raises:
        ConfigurationError: a parameter has a wrong type or value; the message names it.
        SerializationError: the function cannot be serialized. The message names the variable that is the reason.
        processing.ServiceError: a call to S3 failed for good.
    """
    place = _place(sagemaker_session, s3_uri, "function", bucket_owner)
    key = require_private_key("private_key", private_key)
    write_value(place, _pack(func, _name_of(func, "func")), kms_key=s3_kms_key, private_key=key)


def deserialize_func_from_s3(
    sagemaker_session: Session,
    s3_uri: str,
    public_key_pem: str,
    *,
    accept: Layout = "processing",
    bucket_owner: str | None = None,
) -> Callable[..., Any]:
    """Return a stored function whose signature is right.

    Args:
        sagemaker_session: the session, as a processor takes it.
        s3_uri: the prefix that it was stored with.
        public_key_pem: the public half of the key that signed it, in PEM.
        accept: `v3` reads a function that sagemaker-core stored, whose signature does not name its place.
        bucket_owner: the account that must own the bucket; by default the session's.

    Raises:
        ConfigurationError: a parameter has a wrong type or value; the message names it.
        DeserializationError: the function is not the signed one, the key is unusable, or it cannot be loaded here.
        processing.ServiceError: a call to S3 failed for good, or there is no object.
    """
    require("accept", accept, _LAYOUT)
    place = _place(sagemaker_session, s3_uri, "function", bucket_owner)
    function: Callable[..., Any] = _READERS[accept](place, load_public_key("public_key_pem", public_key_pem))
    return function


def serialize_obj_to_s3(
    obj: Any,
    sagemaker_session: Session,
    s3_uri: str,
    signing_key: EllipticCurvePrivateKey | None = None,
    s3_kms_key: str | None = None,
    *,
    bucket_owner: str | None = None,
) -> None:
    """Store any object: with a signature, or with its SHA-256 alone.

    Args:
        obj: the object. Do not change its arrays before the function returns: they are sent from where they are.
        sagemaker_session: the session, as a processor takes it.
        s3_uri: the prefix of the value. Each value needs one of its own.
        signing_key: the key of the curve P-256 that signs it; by default there is no signature.
        s3_kms_key: the KMS key that encrypts the object; by default the bucket decides.
        bucket_owner: the account that must own the bucket; by default the session's.

    Raises:
        ConfigurationError: a parameter has a wrong type or value; the message names it.
        SerializationError: the object cannot be serialized. The message names the part that is the reason.
        processing.ServiceError: a call to S3 failed for good.
    """
    place = _place(sagemaker_session, s3_uri, "object", bucket_owner)
    key = None if signing_key is None else require_private_key("signing_key", signing_key)
    write_value(place, _pack(obj, _name_of(obj, "obj")), kms_key=s3_kms_key, private_key=key)


def deserialize_obj_from_s3(
    sagemaker_session: Session,
    s3_uri: str,
    verification_key: str | None = None,
    *,
    accept: Layout = "processing",
    bucket_owner: str | None = None,
) -> Any:
    """Return a stored object whose signature, or SHA-256, is right.

    Args:
        sagemaker_session: the session, as a processor takes it.
        s3_uri: the prefix that it was stored with.
        verification_key: the public half of the key that signed it, in PEM. An object without a signature is then
            refused. By default only the SHA-256 is compared, which every writer of the object can compute too.
        accept: `v3` reads an object that sagemaker-core stored, whose signature does not name its place.
        bucket_owner: the account that must own the bucket; by default the session's.

    Raises:
        ConfigurationError: a parameter has a wrong type or value; the message names it.
        DeserializationError: the object is not the stored one, the key is unusable, or it cannot be loaded here.
        processing.ServiceError: a call to S3 failed for good, or there is no object.
    """
    require("accept", accept, _LAYOUT)
    place = _place(sagemaker_session, s3_uri, "object", bucket_owner)
    key = None if verification_key is None else load_public_key("verification_key", verification_key)
    return _READERS[accept](place, key)


def json_serialize_obj_to_s3(
    obj: Any,
    json_key: str,
    sagemaker_session: Session,
    s3_uri: str,
    s3_kms_key: str | None = None,
    *,
    bucket_owner: str | None = None,
) -> None:
    """Store an object as JSON: `{"<json_key>": ..., "Exception": null}`.

    If it is not serializable as JSON, it is stored as null, and the member `Exception` has the reason.

    Args:
        obj: the object.
        json_key: the name of the member for the object.
        sagemaker_session: the session, as a processor takes it.
        s3_uri: the object in S3, such as `s3://bucket/prefix/results.json`.
        s3_kms_key: the KMS key that encrypts the object; by default the bucket decides.
        bucket_owner: the account that must own the bucket; by default the session's.

    Raises:
        ConfigurationError: a parameter has a wrong type or value; the message names it.
        processing.ServiceError: a call to S3 failed for good.
    """
    require("json_key", json_key, _TEXT)
    place = _place(sagemaker_session, s3_uri, "json", bucket_owner)
    if not place.uri.key:
        raise ConfigurationError(f"s3_uri: {s3_uri!r} names a bucket; give the object's key too")
    try:
        text = json.dumps({json_key: obj, "Exception": None})
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"The function returned a value of the type {type_name(obj)}, which is not JSON serializable: {error}"
        text = json.dumps({json_key: None, "Exception": reason})
    chunks = [memoryview(text.encode())]
    write_object(place.session, place.uri, chunks, kms_key=s3_kms_key, bucket_owner=bucket_owner)


def serialize_exception_to_s3(
    exc: BaseException,
    sagemaker_session: Session,
    s3_uri: str,
    s3_kms_key: str | None = None,
    *,
    bucket_owner: str | None = None,
) -> None:
    """Store an exception with its SHA-256. Traceback, cause, context, notes and attributes are kept.

    Args:
        exc: the exception.
        sagemaker_session: the session, as a processor takes it.
        s3_uri: the prefix of the value. Each value needs one of its own.
        s3_kms_key: the KMS key that encrypts the object; by default the bucket decides.
        bucket_owner: the account that must own the bucket; by default the session's.

    Raises:
        ConfigurationError: a parameter has a wrong type or value; the message names it.
        SerializationError: the exception cannot be serialized. The message names the part that is the reason.
        processing.ServiceError: a call to S3 failed for good.
    """
    require("exc", exc, _EXCEPTION)
    place = _place(sagemaker_session, s3_uri, "exception", bucket_owner)
    write_value(place, _pack(exc, "exc"), kms_key=s3_kms_key)


def deserialize_exception_from_s3(
    sagemaker_session: Session, s3_uri: str, *, accept: Layout = "processing", bucket_owner: str | None = None
) -> Any:
    """Return a stored exception whose SHA-256 is right, with its traceback.

    Args:
        sagemaker_session: the session, as a processor takes it.
        s3_uri: the prefix that it was stored with.
        accept: `v3` reads an exception that sagemaker-core stored.
        bucket_owner: the account that must own the bucket; by default the session's.

    Raises:
        ConfigurationError: a parameter has a wrong type or value; the message names it.
        DeserializationError: the object is not the stored one, or it cannot be loaded here.
        processing.ServiceError: a call to S3 failed for good, or there is no object.
    """
    require("accept", accept, _LAYOUT)
    return _READERS[accept](_place(sagemaker_session, s3_uri, "exception", bucket_owner))


def _pack(value: Any, name: str) -> PackedValue:
    # By name: a reader catches an exception by its class, which a copy of the class is not.
    return pack(value, name, by_value=False)


def _place(sagemaker_session: Any, s3_uri: Any, kind: str, bucket_owner: Any) -> Place:
    from processing.default_sessions import session_for_attach

    require("bucket_owner", bucket_owner, NAME, optional=True)
    uri = S3Uri.checked(s3_uri, "s3_uri")
    return Place(session_for_attach(sagemaker_session), S3Uri(uri.bucket, uri.key.rstrip("/")), kind, bucket_owner)


def _name_of(value: Any, otherwise: str) -> str:
    """Return the name of a function or class for messages."""
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else otherwise

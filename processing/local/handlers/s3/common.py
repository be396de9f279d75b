"""Helpers that several groups of S3's operations share."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.stores.object_records import ObjectRecord


PAGE = 1000
"""S3's limit for the entries of a page."""

MAX_BODY_BYTES = 5 << 30
"""S3's limit for the body of one request: an object, a part, or the source of a copy."""

MAX_METADATA_BYTES = 2048
"""S3's limit for a user's own metadata, names and values together."""
OWNER = {"DisplayName": "local", "ID": "0" * 64}
STORED_HEADERS = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Expires",
    "ServerSideEncryption",
    "SSEKMSKeyId",
    "StorageClass",
    "WebsiteRedirectLocation",
)
"""Properties of an object that the engine stores and returns unchanged."""


def stored_headers(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the properties of an object that a request sets."""
    return {name: str(params[name]) for name in STORED_HEADERS if params.get(name) is not None}


def user_metadata(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the user's own metadata, or raise `MetadataTooLarge`."""
    metadata: dict[str, str] = params.get("Metadata") or {}
    size = sum(len(name.encode()) + len(value.encode("utf-8", "surrogatepass")) for name, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise ApiError(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
            400,
            Size=str(size),
            MaxSizeAllowed=str(MAX_METADATA_BYTES),
        )
    return metadata


def content_length(params: Mapping[str, Any]) -> int | None:
    """Return the announced length of a body (None if there is none), or raise `EntityTooLarge`."""
    length: int | None = params.get("ContentLength")
    if length is not None and length > MAX_BODY_BYTES:
        message = "Your proposed upload exceeds the maximum allowed size"
        sizes = {"ProposedSize": str(length), "MaxSizeAllowed": str(MAX_BODY_BYTES)}
        raise ApiError("EntityTooLarge", message, 400, **sizes)
    return length


def check_copy_size(length: int) -> None:
    """Raise `InvalidRequest` if a copy exceeds the limit of one request."""
    if length > MAX_BODY_BYTES:
        message = "The specified copy source is larger than the maximum allowable size for a copy source"
        raise ApiError("InvalidRequest", f"{message}: {MAX_BODY_BYTES}")


def copy_source(params: Mapping[str, Any]) -> tuple[str, str]:
    """Return the bucket and the key of the object to copy."""
    source, _, version = params["CopySource"].partition("?versionId=")
    bucket, slash, key = unquote(source).removeprefix("/").partition("/")
    if version not in {"", "null"}:
        raise not_implemented("VersionId")
    if not slash or not key:
        raise ApiError("InvalidArgument", "Invalid copy source object key", ArgumentName="x-amz-copy-source")
    return bucket, key


def page_limit(params: Mapping[str, Any], name: str, wire_name: str, most: int = PAGE) -> int:
    """Return the requested number of entries of a page, at most `most`."""
    requested: int = params.get(name, most)
    if requested < 0:
        raise ApiError(
            "InvalidArgument",
            f"Argument {wire_name} must be an integer between 0 and 2147483647",
            ArgumentName=wire_name,
            ArgumentValue=str(requested),
        )
    return min(requested, most)


def encryption_members(record: ObjectRecord) -> dict[str, str]:
    """Return the members of an answer about an object's encryption."""
    return {name: record.headers[name] for name in ("ServerSideEncryption", "SSEKMSKeyId") if name in record.headers}


def url_encoded(params: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts, percent-encoded if the request asks for it. botocore does so, and decodes them."""
    if params.get("EncodingType") == "url":
        return {name: quote(text, safe="/*") for name, text in texts.items()}
    return dict(texts)


def pick(params: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the named parameters that have a value."""
    return {name: params[name] for name in names if params.get(name) is not None}


def quoted(etag: str) -> str:
    """Return an ETag with the quotes of an answer."""
    return f'"{etag}"'


def to_datetime(seconds: float) -> dt.datetime:
    """Convert a time of the store to boto3's type."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)


def malformed() -> ApiError:
    """Return the error for XML that is not a valid request."""
    return ApiError(
        "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"
    )


def not_implemented(feature: str) -> ApiError:
    """Return the error for a missing feature."""
    return ApiError("NotImplemented", f"The local engine's S3 does not have {feature}.", 501)

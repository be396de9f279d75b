"""What the groups of S3's operations share: how things are named, encoded and refused."""

from __future__ import annotations

import datetime as dt
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.stores.objects import ObjectRecord


PAGE = 1000
"""The most entries of any page."""

MAX_BODY_BYTES = 5 << 30
"""Of one request: an object, a part, the source of a copy."""

MAX_METADATA_BYTES = 2048
OWNER = {"DisplayName": "local", "ID": "0" * 64}
KEPT = (
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
"""What a writer says of an object and a reader gets back."""


def headers_of(params: Mapping[str, Any]) -> dict[str, str]:
    """Return what a writer says of an object."""
    return {name: header_text(params[name]) for name in KEPT if params.get(name) is not None}


def metadata_of(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the user's own metadata, or raise `MetadataTooLarge`."""
    metadata: dict[str, str] = params.get("Metadata") or {}
    size = sum(len(name.encode()) + len(value.encode("utf-8", "surrogatepass")) for name, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        message = "Your metadata headers exceed the maximum allowed metadata size"
        raise ApiError("MetadataTooLarge", message, 400, Size=str(size), MaxSizeAllowed=str(MAX_METADATA_BYTES))
    return metadata


def header_text(value: Any) -> str:
    """Return a header's value."""
    return format_datetime(value, usegmt=True) if isinstance(value, dt.datetime) else str(value)


def length_of(params: Mapping[str, Any]) -> int | None:
    """Return the announced length of a body, or raise `EntityTooLarge`."""
    length: int | None = params.get("ContentLength")
    if length is not None and length > MAX_BODY_BYTES:
        message = "Your proposed upload exceeds the maximum allowed size"
        sizes = {"ProposedSize": str(length), "MaxSizeAllowed": str(MAX_BODY_BYTES)}
        raise ApiError("EntityTooLarge", message, 400, **sizes)
    return length


def check_source(length: int) -> None:
    """Refuse to copy more than one request may."""
    if length > MAX_BODY_BYTES:
        message = "The specified copy source is larger than the maximum allowable size for a copy source"
        raise ApiError("InvalidRequest", f"{message}: {MAX_BODY_BYTES}")


def copy_source(params: Mapping[str, Any]) -> tuple[str, str]:
    """Return bucket and key of the object to copy."""
    source, _, version = params["CopySource"].partition("?versionId=")
    bucket, slash, key = unquote(source).removeprefix("/").partition("/")
    if version not in {"", "null"}:
        raise not_implemented("VersionId")
    if not slash or not key:
        raise ApiError("InvalidArgument", "Invalid copy source object key", ArgumentName="x-amz-copy-source")
    return bucket, key


def limit_of(params: Mapping[str, Any], name: str, wire_name: str, most: int = PAGE) -> int:
    """Return how many entries a page may have."""
    asked: int = params.get(name, most)
    if asked < 0:
        message = f"Argument {wire_name} must be an integer between 0 and 2147483647"
        raise ApiError("InvalidArgument", message, ArgumentName=wire_name, ArgumentValue=str(asked))
    return min(asked, most)


def encryption(record: ObjectRecord) -> dict[str, str]:
    """Return what an answer says of an object's encryption."""
    return {name: record.headers[name] for name in ("ServerSideEncryption", "SSEKMSKeyId") if name in record.headers}


def encoded(params: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts, percent-encoded if the request asked for it (botocore does, and decodes them)."""
    if params.get("EncodingType") == "url":
        return {name: quote(text, safe="/*") for name, text in texts.items()}
    return dict(texts)


def echo(params: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return those of the parameters that are there."""
    return {name: params[name] for name in names if params.get(name) is not None}


def quoted(etag: str) -> str:
    """Return an ETag as it stands in an answer."""
    return f'"{etag}"'


def moment(seconds: float) -> dt.datetime:
    """Return a time of the store's as boto3 knows it."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)


def malformed() -> ApiError:
    """Return the error for XML that is no request."""
    message = "The XML you provided was not well-formed or did not validate against our published schema"
    return ApiError("MalformedXML", message)


def not_implemented(what: str) -> ApiError:
    """Return the error for what the engine lacks."""
    return ApiError("NotImplemented", f"The local engine's S3 does not have {what}.", 501)

"""S3's CopyObject. UploadPartCopy is in `multipart`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3 import checksums
from processing.local.handlers.s3.common import (
    check_copy_size,
    copy_source,
    encryption_members,
    quoted,
    stored_headers,
    to_datetime,
    user_metadata,
)
from processing.local.handlers.s3.conditions import check_conditions, writing_conditions
from processing.local.handlers.s3.tagging import tags_of_header
from processing.local.protocols.message import FileSection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation
    from processing.local.stores.object_records import ObjectRecord

_ENCRYPTION = ("ServerSideEncryption", "SSEKMSKeyId")
_NOT_INHERITED = ("StorageClass", "WebsiteRedirectLocation", *_ENCRYPTION)
"""Properties that a copy never inherits. It has them only if the request sets them."""


class CopyOperations:
    """The operation that copies an object. See `S3Handler`."""

    def __init__(self, engine: EngineContext) -> None:
        self._objects = engine.objects
        self.operations: dict[str, Operation] = {"CopyObject": self._copy}

    def _copy(self, params: dict[str, Any]) -> dict[str, Any]:
        bucket, key = copy_source(params)
        _refuse_unchanged(params, (bucket, key))
        source, descriptor = self._objects.open(bucket, key)
        with FileSection(descriptor, 0, source.size) as body:
            check_conditions(source, params, "CopySource")
            check_copy_size(source.size)
            record = self._objects.put(
                params["Bucket"],
                params["Key"],
                body,
                length=source.size,
                algorithms=_new_algorithms(source, params),
                **_copied_properties(source, params),
                **writing_conditions(params),
            )
        sums = checksums.object_checksums(record.headers)
        result = {"ETag": quoted(record.etag), "LastModified": to_datetime(record.last_modified), **sums}
        return {"CopyObjectResult": result, **encryption_members(record)}


def _refuse_unchanged(params: Mapping[str, Any], source: tuple[str, str]) -> None:
    """Raise `InvalidRequest` if the copy of an object to itself changes nothing."""
    if source != (params["Bucket"], params["Key"]) or _directive(params, "MetadataDirective") == "REPLACE":
        return
    if not any(name in params for name in _NOT_INHERITED):
        raise ApiError(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes.",
        )


def _copied_properties(source: ObjectRecord, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of the copy, inherited from the source or set by the request."""
    requested = stored_headers(params) | _known_checksums(source, params)
    if _directive(params, "MetadataDirective") == "REPLACE":
        properties = {"headers": requested, "metadata": user_metadata(params)}
    else:
        inherited = {
            name: value
            for name, value in source.headers.items()
            if name not in _NOT_INHERITED and name[:8] != "Checksum"
        }
        own = {name: value for name, value in requested.items() if name in {*_NOT_INHERITED, *checksums.MEMBERS}}
        properties = {"headers": inherited | own, "metadata": dict(source.metadata)}
    replaced = _directive(params, "TaggingDirective") == "REPLACE"
    return {**properties, "tags": tags_of_header(params.get("Tagging")) if replaced else source.tags}


def _directive(params: Mapping[str, Any], name: str) -> str:
    directive: str = params.get(name, "COPY")
    if directive not in {"COPY", "REPLACE"}:
        kind = "metadata" if name == "MetadataDirective" else "tagging"
        raise ApiError("InvalidArgument", f"Unknown {kind} directive.", ArgumentValue=directive)
    return directive


def _checksum_members(source: ObjectRecord, params: Mapping[str, Any]) -> list[str]:
    """Return the members for the copy's checksums: the requested one, or those of the source."""
    requested = params.get("ChecksumAlgorithm")
    names = [f"Checksum{requested}"] if requested else checksums.checksum_names(source.headers)
    return [name for name in names if name in checksums.MEMBERS]


def _known_checksums(source: ObjectRecord, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the copy's checksums that the source has, since the same bytes have the same checksums."""
    if source.headers.get("ChecksumType") == "COMPOSITE":
        return {}
    return {name: source.headers[name] for name in _checksum_members(source, params) if name in source.headers}


def _new_algorithms(source: ObjectRecord, params: Mapping[str, Any]) -> list[str]:
    """Return the algorithms of the copy's checksums that have to be computed."""
    known = _known_checksums(source, params)
    return [checksums.MEMBERS[name] for name in _checksum_members(source, params) if name not in known]

"""Objects copied inside the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3 import checksums
from processing.local.handlers.s3.common import (
    check_source,
    copy_source,
    encryption,
    headers_of,
    metadata_of,
    moment,
    quoted,
)
from processing.local.handlers.s3.conditions import check_conditions, writing_conditions
from processing.local.handlers.s3.tagging import tags_of_header
from processing.local.protocols.message import FileSection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation
    from processing.local.stores.objects import ObjectRecord

_ENCRYPTION = ("ServerSideEncryption", "SSEKMSKeyId")
_OWN = ("StorageClass", "WebsiteRedirectLocation", *_ENCRYPTION)
"""What a copy has only if the request says so, whether the rest is copied or replaced."""


class CopyOperations:
    """The operation that copies an object; see `S3Handler`."""

    def __init__(self, engine: EngineContext) -> None:
        self._objects = engine.objects
        self.operations: dict[str, Operation] = {"CopyObject": self._copy}

    def _copy(self, params: dict[str, Any]) -> dict[str, Any]:
        bucket, key = copy_source(params)
        _refuse_pointless(params, (bucket, key))
        source, descriptor = self._objects.open(bucket, key)
        with FileSection(descriptor, 0, source.size) as body:
            check_conditions(source, params, "CopySource")
            check_source(source.size)
            record = self._objects.put(
                params["Bucket"],
                params["Key"],
                body,
                length=source.size,
                algorithms=_algorithms(source, params),
                **_said(source, params),
                **writing_conditions(params),
            )
        sums = checksums.of_object(record.headers)
        result = {"ETag": quoted(record.etag), "LastModified": moment(record.last_modified), **sums}
        return {"CopyObjectResult": result, **encryption(record)}


def _refuse_pointless(params: Mapping[str, Any], source: tuple[str, str]) -> None:
    """Refuse to copy an object to itself unless something changes."""
    if source != (params["Bucket"], params["Key"]) or _directive(params, "MetadataDirective") == "REPLACE":
        return
    if not any(name in params for name in _OWN):
        message = (
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes."
        )
        raise ApiError("InvalidRequest", message)


def _said(source: ObjectRecord, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of the copy: what was said of the source, or what the request says anew."""
    given = headers_of(params)
    if _directive(params, "MetadataDirective") == "REPLACE":
        said = {"headers": given, "metadata": metadata_of(params)}
    else:
        kept = {name: value for name, value in source.headers.items() if name not in _OWN and name[:8] != "Checksum"}
        own = {name: value for name, value in given.items() if name in _OWN}
        said = {"headers": kept | own, "metadata": dict(source.metadata)}
    replaced = _directive(params, "TaggingDirective") == "REPLACE"
    return {**said, "tags": tags_of_header(params.get("Tagging")) if replaced else source.tags}


def _directive(params: Mapping[str, Any], name: str) -> str:
    directive: str = params.get(name, "COPY")
    if directive not in {"COPY", "REPLACE"}:
        what = "metadata" if name == "MetadataDirective" else "tagging"
        raise ApiError("InvalidArgument", f"Unknown {what} directive.", ArgumentValue=directive)
    return directive


def _algorithms(source: ObjectRecord, params: Mapping[str, Any]) -> list[str]:
    """Return the algorithms of the copy's checksums: the one asked for, else the source's."""
    asked = params.get("ChecksumAlgorithm")
    names = [f"Checksum{asked}"] if asked else checksums.checksum_names(source.headers)
    return [checksums.MEMBERS[name] for name in names if name in checksums.MEMBERS]

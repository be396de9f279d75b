"""S3's operations that read an object or its properties."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3 import checksums
from processing.local.handlers.s3.common import STORED_HEADERS, page_limit, quoted, to_datetime
from processing.local.handlers.s3.conditions import check_conditions
from processing.local.protocols.message import FileSection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation
    from processing.local.stores.object_records import ObjectPart, ObjectRecord

_DEFAULT_TYPE = "binary/octet-stream"
_RANGE = re.compile(r"bytes=([0-9]{0,30})-([0-9]{0,30})")


class ReadOperations:
    """Operations that read an object. See `S3Handler`."""

    def __init__(self, engine: EngineContext) -> None:
        self._objects = engine.objects
        self.operations: dict[str, Operation] = {
            "GetObject": self._get,
            "HeadObject": self._head,
            "GetObjectAttributes": self._attributes,
        }

    def _get(self, params: dict[str, Any]) -> dict[str, Any]:
        record, descriptor = self._objects.open(params["Bucket"], params["Key"])
        try:
            answer, start, length = _read(record, params)
        except BaseException:
            os.close(descriptor)
            raise
        if record.tags:
            answer["TagCount"] = len(record.tags)
        return {**answer, "Body": FileSection(descriptor, start, length)}

    def _head(self, params: dict[str, Any]) -> dict[str, Any]:
        # Clients rely on the answer, for example to skip the upload of unchanged code, so this counts as a use.
        return _read(self._objects.touch(params["Bucket"], params["Key"]), params)[0]

    def _attributes(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the requested properties of an object."""
        record = self._objects.get(params["Bucket"], params["Key"])
        requested = set(params.get("ObjectAttributes", ()))
        found: dict[str, Any] = {
            "ETag": record.etag,
            "Checksum": checksums.object_checksums(record.headers) or None,
            "ObjectParts": _object_parts(record, params),
            "StorageClass": record.headers.get("StorageClass", "STANDARD"),
            "ObjectSize": record.size,
        }
        if not requested <= set(found):
            raise ApiError(
                "InvalidArgument", "Invalid attribute name specified.", ArgumentName="x-amz-object-attributes"
            )
        chosen = {name: value for name, value in found.items() if name in requested}
        return {"LastModified": to_datetime(record.last_modified), **chosen}


def _object_parts(record: ObjectRecord, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a page of an object's parts. As in S3, parts are listed only if they have checksums."""
    parts = record.load_parts()
    if not parts:
        return None
    count: dict[str, Any] = {"TotalPartsCount": len(parts)}
    if not any(part.checksums for part in parts):
        return count
    marker, limit = int(params.get("PartNumberMarker", 0)), page_limit(params, "MaxParts", "max-parts")
    page = list(enumerate(parts, 1))[marker : marker + limit]
    return {
        **count,
        "PartNumberMarker": marker,
        "NextPartNumberMarker": page[-1][0] if page else 0,
        "MaxParts": limit,
        "IsTruncated": marker + len(page) < len(parts),
        "Parts": [
            {"PartNumber": number, "Size": part.size, **checksums.to_members(part.checksums)} for number, part in page
        ],
    }


def _read(record: ObjectRecord, params: Mapping[str, Any]) -> tuple[dict[str, Any], int, int]:
    """Return the answer to GetObject without the body, and the body's first byte and length."""
    check_conditions(record, params)
    answer: dict[str, Any] = {}
    sums = checksums.object_checksums(record.headers)
    section = _parse_range(params.get("Range"), record.size)
    if params.get("PartNumber") is not None:
        section, answer, sums = _find_part(record, params, sums)
    elif section is not None:
        sums = {}
    start, length = (0, record.size) if section is None else section
    if section is not None:
        answer["ContentRange"] = f"bytes {start}-{start + length - 1}/{record.size}"
        answer["ResponseMetadata"] = {"HTTPStatusCode": 206}
    if params.get("ChecksumMode") == "ENABLED":
        answer |= sums
    answer |= {
        "AcceptRanges": "bytes",
        "LastModified": to_datetime(record.last_modified),
        "ContentLength": length,
        "ETag": quoted(record.etag),
        "ContentType": _DEFAULT_TYPE,
        "Metadata": dict(record.metadata),
        **{name: value for name, value in record.headers.items() if name in STORED_HEADERS},
        **_overrides(params),
    }
    if answer.get("StorageClass") == "STANDARD":  # S3 omits the default
        del answer["StorageClass"]
    return answer, start, length


def _overrides(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that the request sets in place of the object's own, as presigned URLs do."""
    prefix = "Response"
    named = {name[len(prefix) :]: value for name, value in params.items() if name.startswith(prefix)}
    return {name: str(value) for name, value in named.items() if name in STORED_HEADERS}


def _find_part(
    record: ObjectRecord, params: Mapping[str, Any], sums: dict[str, str]
) -> tuple[tuple[int, int] | None, dict[str, Any], dict[str, str]]:
    """Return a part's first byte and length, the answer's members about parts, and the part's checksums."""
    if params.get("Range") is not None:
        raise ApiError("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
    number, parts = params["PartNumber"], record.load_parts()
    if not 1 <= number <= max(len(parts), 1):
        details = {"PartNumberRequested": str(number), "ActualPartCount": str(max(len(parts), 1))}
        raise ApiError("InvalidPartNumber", "The requested partnumber is not satisfiable", 416, **details)
    if not parts:
        return ((0, record.size) if record.size else None), {}, sums
    part: ObjectPart = parts[number - 1]
    start = sum(each.size for each in parts[: number - 1])
    found = checksums.to_members(part.checksums)
    kind = {"ChecksumType": record.headers["ChecksumType"]} if found and "ChecksumType" in record.headers else {}
    section = (start, part.size) if part.size else None
    return section, {"PartsCount": len(parts)}, {**found, **kind}


def _parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the length of a Range header, or None for the whole object.

    Like S3, the engine also returns the whole object for a malformed range and for several ranges.
    """
    match = _RANGE.fullmatch(text.strip()) if text else None
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        start, end = int(match[1]), int(match[2]) + 1 if match[2] else size
        if match[2] and end <= start:
            return None
    else:
        start, end = max(size - int(match[2]), 0), size
    end = min(end, size)
    if start >= end:
        details = {"RangeRequested": str(text), "ActualObjectSize": str(size)}
        raise ApiError("InvalidRange", "The requested range is not satisfiable", 416, **details)
    return start, end - start


def copied_range(text: str | None, size: int) -> tuple[int, int]:
    """Return the first byte and the length of the copied part of an object."""
    if text is None:
        return 0, size
    match = _RANGE.fullmatch(text)
    start, end = (int(match[1]), int(match[2]) + 1) if match and match[1] and match[2] else (0, -1)
    if not 0 <= start < end <= size:
        raise ApiError(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last, inside the object",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=text,
        )
    return start, end - start

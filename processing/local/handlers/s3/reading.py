"""Objects read: whole, a range, a part; if a condition holds; and what is known of them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3 import checksums
from processing.local.handlers.s3.common import KEPT, header_text, limit_of, moment, quoted
from processing.local.handlers.s3.conditions import check_conditions
from processing.local.protocols.message import FileSection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation
    from processing.local.stores.objects import ObjectPart, ObjectRecord

_DEFAULT_TYPE = "binary/octet-stream"
_RANGE = re.compile(r"bytes=([0-9]{0,30})-([0-9]{0,30})")


class ReadOperations:
    """The operations that read an object; see `S3Handler`."""

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
            answer, start, length = _reading(record, params)
        except BaseException:
            os.close(descriptor)
            raise
        if record.tags:
            answer["TagCount"] = len(record.tags)
        return {**answer, "Body": FileSection(descriptor, start, length)}

    def _head(self, params: dict[str, Any]) -> dict[str, Any]:
        # Who asks whether it is there may rely on that, as for code that need not be uploaded again.
        return _reading(self._objects.touch(params["Bucket"], params["Key"]), params)[0]

    def _attributes(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer those of an object's properties that are asked for."""
        record = self._objects.get(params["Bucket"], params["Key"])
        asked = set(params.get("ObjectAttributes", ()))
        found: dict[str, Any] = {
            "ETag": record.etag,
            "Checksum": checksums.of_object(record.headers) or None,
            "ObjectParts": _object_parts(record, params),
            "StorageClass": record.headers.get("StorageClass", "STANDARD"),
            "ObjectSize": record.size,
        }
        if not asked <= set(found):
            message = "Invalid attribute name specified."
            raise ApiError("InvalidArgument", message, ArgumentName="x-amz-object-attributes")
        chosen = {name: value for name, value in found.items() if name in asked}
        return {"LastModified": moment(record.last_modified), **chosen}


def _object_parts(record: ObjectRecord, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the page of an object's parts; the parts themselves are told only if they had checksums, as by S3."""
    parts = record.load_parts()
    if not parts:
        return None
    count: dict[str, Any] = {"TotalPartsCount": len(parts)}
    if not any(part.checksums for part in parts):
        return count
    marker, limit = int(params.get("PartNumberMarker", 0)), limit_of(params, "MaxParts", "max-parts")
    page = list(enumerate(parts, 1))[marker : marker + limit]
    return {
        **count,
        "PartNumberMarker": marker,
        "NextPartNumberMarker": page[-1][0] if page else 0,
        "MaxParts": limit,
        "IsTruncated": marker + len(page) < len(parts),
        "Parts": [
            {"PartNumber": number, "Size": part.size, **checksums.members(part.checksums)} for number, part in page
        ],
    }


def _reading(record: ObjectRecord, params: Mapping[str, Any]) -> tuple[dict[str, Any], int, int]:
    """Return the answer to GetObject without the body, and where the body begins and how long it is."""
    check_conditions(record, params)
    answer: dict[str, Any] = {}
    sums = checksums.of_object(record.headers)
    wanted = _range_of(params.get("Range"), record.size)
    if params.get("PartNumber") is not None:
        wanted, answer, sums = _part_of(record, params, sums)
    elif wanted is not None:
        sums = {}
    start, length = (0, record.size) if wanted is None else wanted
    if wanted is not None:
        answer["ContentRange"] = f"bytes {start}-{start + length - 1}/{record.size}"
        answer["ResponseMetadata"] = {"HTTPStatusCode": 206}
    if params.get("ChecksumMode") == "ENABLED":
        answer |= sums
    answer |= {
        "AcceptRanges": "bytes",
        "LastModified": moment(record.last_modified),
        "ContentLength": length,
        "ETag": quoted(record.etag),
        "ContentType": _DEFAULT_TYPE,
        "Metadata": dict(record.metadata),
        **{name: value for name, value in record.headers.items() if name in KEPT},
        **_overrides(params),
    }
    if answer.get("StorageClass") == "STANDARD":  # S3 leaves it out
        del answer["StorageClass"]
    return answer, start, length


def _overrides(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that the request asks for in place of the object's own, as presigned URLs do."""
    prefix = "Response"
    named = {name[len(prefix) :]: value for name, value in params.items() if name.startswith(prefix)}
    return {name: header_text(value) for name, value in named.items() if name in KEPT}


def _part_of(
    record: ObjectRecord, params: Mapping[str, Any], sums: dict[str, str]
) -> tuple[tuple[int, int] | None, dict[str, Any], dict[str, str]]:
    """Return the place of a part, what the answer says of the parts, and the part's checksums."""
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
    found = checksums.members(part.checksums)
    kind = {"ChecksumType": record.headers["ChecksumType"]} if found and "ChecksumType" in record.headers else {}
    place = (start, part.size) if part.size else None
    return place, {"PartsCount": len(parts)}, {**found, **kind}


def _range_of(text: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the length that a Range header asks for; None for everything.

    Everything is also S3's answer to what is no range, and to several ranges at once.
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
    """Return the first byte and the length of what is copied of an object."""
    if text is None:
        return 0, size
    match = _RANGE.fullmatch(text)
    start, end = (int(match[1]), int(match[2]) + 1) if match and match[1] and match[2] else (0, -1)
    if not 0 <= start < end <= size:
        message = "The x-amz-copy-source-range value must be of the form bytes=first-last, inside the object"
        raise ApiError("InvalidArgument", message, ArgumentName="x-amz-copy-source-range", ArgumentValue=text)
    return start, end - start

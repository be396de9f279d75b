"""S3's operations on multipart uploads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from processing.local.handlers.s3 import checksums
from processing.local.handlers.s3.common import (
    OWNER,
    check_copy_size,
    content_length,
    copy_source,
    encryption_members,
    page_limit,
    pick,
    quoted,
    stored_headers,
    to_datetime,
    url_encoded,
    user_metadata,
)
from processing.local.handlers.s3.conditions import check_conditions, writing_conditions
from processing.local.handlers.s3.listing import check_encoding
from processing.local.handlers.s3.reading import copied_range
from processing.local.handlers.s3.tagging import tags_of_header
from processing.local.protocols.message import FileSection
from processing.local.stores.uploads import CompletedPart, MultipartUploads, PartRecord, UploadRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

_CHECKSUM_SETTINGS = ("ChecksumAlgorithm", "ChecksumType")


class MultipartOperations:
    """Operations on multipart uploads. See `S3Handler`."""

    def __init__(self, engine: EngineContext) -> None:
        self._objects = engine.objects
        self._uploads = MultipartUploads(engine.objects)
        self.operations: dict[str, Operation] = {
            "CreateMultipartUpload": self._create,
            "UploadPart": self._upload_part,
            "UploadPartCopy": self._copy_part,
            "CompleteMultipartUpload": self._complete,
            "AbortMultipartUpload": self._abort,
            "ListParts": self._list_parts,
            "ListMultipartUploads": self._list_uploads,
        }

    def _create(self, params: dict[str, Any]) -> dict[str, Any]:
        bucket, key = params["Bucket"], params["Key"]
        headers = stored_headers(params) | checksums.algorithm_and_type(params)
        tags = tags_of_header(params.get("Tagging"))
        upload = self._uploads.create(bucket, key, headers=headers, metadata=user_metadata(params), tags=tags)
        settings = pick(headers, "ServerSideEncryption", "SSEKMSKeyId", *_CHECKSUM_SETTINGS)
        return {"Bucket": bucket, "Key": key, "UploadId": upload.id, **settings}

    def _upload_part(self, params: dict[str, Any]) -> dict[str, Any]:
        """Store a part and verify its checksums."""
        body = params.get("Body", b"")
        expected = checksums.expected_checksums(params, body)
        upload_args = _upload_args(params)
        part = self._uploads.add_part(
            *upload_args, params["PartNumber"], body, length=content_length(params), expected=expected
        )
        return {"ETag": quoted(part.etag), **checksums.to_members(part.checksums)}

    def _copy_part(self, params: dict[str, Any]) -> dict[str, Any]:
        """Store a part that is copied from an object or a range of it."""
        source, descriptor = self._objects.open(*copy_source(params))
        try:
            check_conditions(source, params, "CopySource")
            start, length = copied_range(params.get("CopySourceRange"), source.size)
            check_copy_size(length)
        except BaseException:
            os.close(descriptor)
            raise
        with FileSection(descriptor, start, length) as body:
            part = self._uploads.add_part(*_upload_args(params), params["PartNumber"], body, length=length, copied=True)
        result = {"ETag": quoted(part.etag), "LastModified": to_datetime(part.last_modified)}
        return {"CopyPartResult": {**result, **checksums.to_members(part.checksums)}}

    def _complete(self, params: dict[str, Any]) -> dict[str, Any]:
        """Join the parts into the object."""
        parts = params.get("MultipartUpload", {}).get("Parts", ())
        chosen = [
            CompletedPart(part.get("PartNumber", 0), part.get("ETag", "").strip('"'), checksums.sent_checksums(part))
            for part in parts
        ]
        record = self._uploads.complete(
            *_upload_args(params),
            chosen,
            size=params.get("MpuObjectSize"),
            expected=checksums.sent_checksums(params),
            checksum_type=params.get("ChecksumType"),
            **writing_conditions(params),
        )
        answer = {"Bucket": record.bucket, "Key": record.key, "ETag": quoted(record.etag)}
        location = f"/{record.bucket}/{quote(record.key)}"
        return {
            **answer,
            "Location": location,
            **encryption_members(record),
            **checksums.object_checksums(record.headers),
        }

    def _abort(self, params: dict[str, Any]) -> dict[str, Any]:
        self._uploads.abort(*_upload_args(params))
        return {}

    def _list_parts(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of the uploaded parts, sorted by number."""
        marker, limit = int(params.get("PartNumberMarker", 0)), page_limit(params, "MaxParts", "max-parts")
        upload_id, bucket, key = _upload_args(params)
        upload = self._uploads.get(upload_id, bucket, key)
        parts = [part for part in self._uploads.parts(upload_id, bucket, key) if part.number > marker]
        page = parts[:limit]
        return {
            "Bucket": bucket,
            "Key": key,
            "UploadId": upload_id,
            "PartNumberMarker": marker,
            "NextPartNumberMarker": page[-1].number if page else 0,
            "MaxParts": limit,
            "IsTruncated": len(parts) > len(page),
            "Parts": [_part_entry(part) for part in page],
            "Initiator": OWNER,
            "Owner": OWNER,
            "StorageClass": upload.headers.get("StorageClass", "STANDARD"),
            **pick(upload.headers, *_CHECKSUM_SETTINGS),
        }

    def _list_uploads(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of the unfinished uploads, sorted by key and age."""
        check_encoding(params)
        bucket, prefix, delimiter = params["Bucket"], params.get("Prefix", ""), params.get("Delimiter", "")
        uploads = _after_markers(params, self._uploads.list(bucket, prefix))
        limit = page_limit(params, "MaxUploads", "max-uploads")
        page, prefixes, markers = _group_by_prefix(uploads, prefix, delimiter, params.get("KeyMarker", ""), limit)
        following = {} if markers is None else {"NextKeyMarker": markers[0], "NextUploadIdMarker": markers[1]}
        names = {"Prefix": prefix, "KeyMarker": params.get("KeyMarker", ""), **pick(params, "Delimiter")}
        return {
            "Bucket": bucket,
            "MaxUploads": limit,
            "IsTruncated": bool(following),
            **following,
            **url_encoded(params, names),
            **url_encoded(params, pick(following, "NextKeyMarker")),
            **pick(params, "EncodingType", "UploadIdMarker"),
            "Uploads": [_upload_entry(upload, params) for upload in page],
            "CommonPrefixes": [url_encoded(params, {"Prefix": common}) for common in prefixes],
        }


def _after_markers(params: Mapping[str, Any], uploads: list[UploadRecord]) -> list[UploadRecord]:
    """Return the uploads that follow the markers of the request."""
    marker = (params.get("KeyMarker", ""), params.get("UploadIdMarker", ""))
    if not marker[0]:
        return uploads
    positions = [(upload.key, upload.id) for upload in uploads]
    if marker in positions:
        return uploads[positions.index(marker) + 1 :]
    return [upload for upload in uploads if upload.key.encode() > marker[0].encode()]


def _group_by_prefix(
    uploads: Sequence[UploadRecord], prefix: str, delimiter: str, after: str, limit: int
) -> tuple[list[UploadRecord], list[str], tuple[str, str] | None]:
    """Return a page of uploads and common prefixes, and its last markers or None if no page follows."""
    page: list[UploadRecord] = []
    prefixes: list[str] = []
    last = ("", "")
    for upload in uploads:
        found = upload.key.find(delimiter, len(prefix)) if delimiter else -1
        common = upload.key[: found + len(delimiter)] if found >= 0 else None
        if common is not None and (common in prefixes[-1:] or common == after):
            continue
        if len(page) + len(prefixes) >= limit:
            return page, prefixes, last if limit else None
        if common is None:
            page.append(upload)
            last = (upload.key, upload.id)
        else:
            prefixes.append(common)
            last = (common, "")
    return page, prefixes, None


def _upload_entry(upload: UploadRecord, params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **url_encoded(params, {"Key": upload.key}),
        "UploadId": upload.id,
        "Initiated": to_datetime(upload.initiated),
        "StorageClass": upload.headers.get("StorageClass", "STANDARD"),
        "Initiator": OWNER,
        "Owner": OWNER,
        **pick(upload.headers, *_CHECKSUM_SETTINGS),
    }


def _part_entry(part: PartRecord) -> dict[str, Any]:
    return {
        "PartNumber": part.number,
        "LastModified": to_datetime(part.last_modified),
        "ETag": quoted(part.etag),
        "Size": part.size,
        **checksums.to_members(part.checksums),
    }


def _upload_args(params: Mapping[str, Any]) -> tuple[str, str, str]:
    return params["UploadId"], params["Bucket"], params["Key"]

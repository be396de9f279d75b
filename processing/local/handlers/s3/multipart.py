"""Multipart uploads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from processing.local.errors import ApiError
from processing.local.handlers.s3 import checksums
from processing.local.handlers.s3.common import (
    OWNER,
    check_source,
    copy_source,
    echo,
    encoded,
    encryption,
    headers_of,
    length_of,
    limit_of,
    metadata_of,
    moment,
    quoted,
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

_SAID = ("ChecksumAlgorithm", "ChecksumType")


class MultipartOperations:
    """The operations on multipart uploads; see `S3Handler`."""

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
        headers = headers_of(params) | checksums.algorithm_and_type(params)
        tags = tags_of_header(params.get("Tagging"))
        upload = self._uploads.create(bucket, key, headers=headers, metadata=metadata_of(params), tags=tags)
        said = echo(headers, "ServerSideEncryption", "SSEKMSKeyId", *_SAID)
        return {"Bucket": bucket, "Key": key, "UploadId": upload.id, **said}

    def _upload_part(self, params: dict[str, Any]) -> dict[str, Any]:
        """Store a part; checksums that come with it are checked."""
        body = params.get("Body", b"")
        expected = checksums.expected(params, body)
        where = _upload_of(params)
        part = self._uploads.add_part(*where, params["PartNumber"], body, length=length_of(params), expected=expected)
        return {"ETag": quoted(part.etag), **checksums.members(part.checksums)}

    def _copy_part(self, params: dict[str, Any]) -> dict[str, Any]:
        """Make a part of an object, or of a range of it."""
        source, descriptor = self._objects.open(*copy_source(params))
        try:
            check_conditions(source, params, "CopySource")
            start, length = copied_range(params.get("CopySourceRange"), source.size)
            check_source(length)
        except BaseException:
            os.close(descriptor)
            raise
        with FileSection(descriptor, start, length) as body:
            part = self._uploads.add_part(*_upload_of(params), params["PartNumber"], body, length=length, copied=True)
        result = {"ETag": quoted(part.etag), "LastModified": moment(part.last_modified)}
        return {"CopyPartResult": {**result, **checksums.members(part.checksums)}}

    def _complete(self, params: dict[str, Any]) -> dict[str, Any]:
        """Make the object of its parts."""
        parts = params.get("MultipartUpload", {}).get("Parts", ())
        chosen = [
            CompletedPart(part.get("PartNumber", 0), part.get("ETag", "").strip('"'), checksums.stated(part))
            for part in parts
        ]
        where = _upload_of(params)
        self._check_type(where, params)
        record = self._uploads.complete(
            *where,
            chosen,
            size=params.get("MpuObjectSize"),
            expected=checksums.stated(params),
            **writing_conditions(params),
        )
        answer = {"Bucket": record.bucket, "Key": record.key, "ETag": quoted(record.etag)}
        place = f"/{record.bucket}/{quote(record.key)}"
        return {**answer, "Location": place, **encryption(record), **checksums.of_object(record.headers)}

    def _check_type(self, where: tuple[str, str, str], params: Mapping[str, Any]) -> None:
        given = params.get("ChecksumType")
        if given is None:
            return
        known = self._uploads.get(*where).headers.get("ChecksumType", "FULL_OBJECT")
        if given != known:
            message = (
                f"The upload was created using the {known} checksum mode. The complete request must use the same "
                "checksum mode."
            )
            raise ApiError("InvalidRequest", message)

    def _abort(self, params: dict[str, Any]) -> dict[str, Any]:
        self._uploads.abort(*_upload_of(params))
        return {}

    def _list_parts(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer the parts that have arrived, by number."""
        marker, limit = int(params.get("PartNumberMarker", 0)), limit_of(params, "MaxParts", "max-parts")
        upload_id, bucket, key = _upload_of(params)
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
            "Parts": [_part(part) for part in page],
            "Initiator": OWNER,
            "Owner": OWNER,
            "StorageClass": upload.headers.get("StorageClass", "STANDARD"),
            **echo(upload.headers, *_SAID),
        }

    def _list_uploads(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer the uploads that are neither completed nor aborted, by key and age."""
        check_encoding(params)
        bucket, prefix, delimiter = params["Bucket"], params.get("Prefix", ""), params.get("Delimiter", "")
        uploads = _behind(params, self._uploads.list(bucket, prefix))
        limit = limit_of(params, "MaxUploads", "max-uploads")
        page, prefixes, more = _roll_up(uploads, prefix, delimiter, params.get("KeyMarker", ""), limit)
        following = {} if more is None else {"NextKeyMarker": more[0], "NextUploadIdMarker": more[1]}
        names = {"Prefix": prefix, "KeyMarker": params.get("KeyMarker", ""), **echo(params, "Delimiter")}
        return {
            "Bucket": bucket,
            "MaxUploads": limit,
            "IsTruncated": bool(following),
            **following,
            **encoded(params, names),
            **encoded(params, echo(following, "NextKeyMarker")),
            **echo(params, "EncodingType", "UploadIdMarker"),
            "Uploads": [_upload(upload, params) for upload in page],
            "CommonPrefixes": [encoded(params, {"Prefix": common}) for common in prefixes],
        }


def _behind(params: Mapping[str, Any], uploads: list[UploadRecord]) -> list[UploadRecord]:
    """Return the uploads behind the markers."""
    marker = (params.get("KeyMarker", ""), params.get("UploadIdMarker", ""))
    if not marker[0]:
        return uploads
    places = [(upload.key, upload.id) for upload in uploads]
    if marker in places:
        return uploads[places.index(marker) + 1 :]
    return [upload for upload in uploads if upload.key.encode() > marker[0].encode()]


def _roll_up(
    uploads: Sequence[UploadRecord], prefix: str, delimiter: str, after: str, limit: int
) -> tuple[list[UploadRecord], list[str], tuple[str, str] | None]:
    """Return a page of uploads and common prefixes, and the markers of its end if there is more."""
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


def _upload(upload: UploadRecord, params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **encoded(params, {"Key": upload.key}),
        "UploadId": upload.id,
        "Initiated": moment(upload.initiated),
        "StorageClass": upload.headers.get("StorageClass", "STANDARD"),
        "Initiator": OWNER,
        "Owner": OWNER,
        **echo(upload.headers, *_SAID),
    }


def _part(part: PartRecord) -> dict[str, Any]:
    return {
        "PartNumber": part.number,
        "LastModified": moment(part.last_modified),
        "ETag": quoted(part.etag),
        "Size": part.size,
        **checksums.members(part.checksums),
    }


def _upload_of(params: Mapping[str, Any]) -> tuple[str, str, str]:
    return params["UploadId"], params["Bucket"], params["Key"]

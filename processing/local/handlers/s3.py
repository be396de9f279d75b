"""S3: the operations that SDK clients need to move objects, on the engine's object store.

Left out on purpose, and answered with 501: versions, access control, tags, encryption with keys of the client's own.
"""

from __future__ import annotations

import base64
import datetime as dt
import os
import re
from collections import ChainMap
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote

from processing.local.errors import ApiError
from processing.local.stores.objects import ObjectRecord, ObjectStore, precondition_failed
from processing.local.stores.uploads import MultipartUploads
from processing.local.wire.message import FileSection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

PAGE = 1000
_KEPT = (
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

_CHECKSUMS = {f"Checksum{name}": name.lower() for name in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")}
_DEFAULT_TYPE = "binary/octet-stream"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_OWNER = {"DisplayName": "local", "ID": "0" * 64}


class Surroundings(Protocol):
    """What the handler needs to know of the engine."""

    account: str
    region: str
    objects: ObjectStore


class S3Handler:
    """The object operations, by their names in the API. Params and results have boto3's names and types.

    Args:
        engine: the engine that it belongs to.

    Attributes:
        operations: the function for each operation.
    """

    def __init__(self, engine: Surroundings) -> None:
        self._engine = engine
        self._objects = engine.objects
        self._uploads = MultipartUploads(engine.objects)
        functions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "ListBuckets": self.list_buckets,
            "CreateBucket": self.create_bucket,
            "HeadBucket": self.head_bucket,
            "DeleteBucket": self.delete_bucket,
            "GetBucketLocation": self.get_bucket_location,
            "ListObjectsV2": self.list_objects_v2,
            "ListObjects": self.list_objects,
            "PutObject": self.put_object,
            "GetObject": self.get_object,
            "HeadObject": self.head_object,
            "CopyObject": self.copy_object,
            "DeleteObject": self.delete_object,
            "DeleteObjects": self.delete_objects,
            "CreateMultipartUpload": self.create_multipart_upload,
            "UploadPart": self.upload_part,
            "UploadPartCopy": self.upload_part_copy,
            "CompleteMultipartUpload": self.complete_multipart_upload,
            "AbortMultipartUpload": self.abort_multipart_upload,
            "ListParts": self.list_parts,
            "ListMultipartUploads": self.list_multipart_uploads,
        }
        self.operations = {name: self._guarded(function) for name, function in functions.items()}

    def _guarded(
        self, function: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """Return the function with the checks that all operations share."""

        def carry_out(params: dict[str, Any]) -> dict[str, Any]:
            for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
                if params.get(name, self._engine.account) != self._engine.account:
                    self._objects.head_bucket(params["Bucket"])
                    raise ApiError("AccessDenied", "Access Denied", 403)
            for name in ("SSECustomerKey", "VersionId"):
                if params.get(name, "null") != "null":
                    raise _not_implemented(name)
            return function(params)

        return carry_out

    # Buckets

    def list_buckets(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer all buckets, by name."""
        prefix = params.get("Prefix", "")
        buckets = [bucket for bucket in self._objects.list_buckets() if bucket.name.startswith(prefix)]
        return {
            "Buckets": [{"Name": bucket.name, "CreationDate": _time(bucket.created)} for bucket in buckets],
            "Owner": _OWNER,
        }

    def create_bucket(self, params: dict[str, Any]) -> dict[str, Any]:
        """Make a bucket. One that exists is always a conflict: S3 makes an exception in us-east-1."""
        region = params.get("CreateBucketConfiguration", {}).get("LocationConstraint", "")
        self._objects.create_bucket(params["Bucket"], region)
        return {"Location": f"/{params['Bucket']}"}

    def head_bucket(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer whether there is such a bucket, and its region."""
        bucket = self._objects.head_bucket(params["Bucket"])
        return {"BucketRegion": bucket.region or self._engine.region, "AccessPointAlias": False}

    def delete_bucket(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete an empty bucket."""
        self._objects.delete_bucket(params["Bucket"])
        return {}

    def get_bucket_location(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer the region that the bucket was made with; nothing for us-east-1."""
        return {"LocationConstraint": self._objects.head_bucket(params["Bucket"]).region or None}

    # Listing

    def list_objects_v2(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a page of keys, which a continuation token or StartAfter follows on."""
        token = params.get("ContinuationToken")
        after = params.get("StartAfter", "") if token is None else _from_token(token)
        answer, last = self._page(params, after)
        answer["KeyCount"] = len(answer["Contents"]) + len(answer["CommonPrefixes"])
        answer |= _echo(params, "ContinuationToken")
        answer |= _encoded(params, _echo(params, "StartAfter"))
        if answer["IsTruncated"] and last is not None:
            answer["NextContinuationToken"] = base64.urlsafe_b64encode(last.encode()).decode()
        return answer

    def list_objects(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a page of keys, which a marker follows on."""
        answer, last = self._page(params, params.get("Marker", ""))
        answer |= _encoded(params, {"Marker": params.get("Marker", "")})
        if answer["IsTruncated"] and params.get("Delimiter") and last is not None:  # else it is the last key
            answer |= _encoded(params, {"NextMarker": last})
        return answer

    def _page(self, params: dict[str, Any], after: str) -> tuple[dict[str, Any], str | None]:
        asked = params.get("MaxKeys", PAGE)
        if asked < 0:
            raise ApiError("InvalidArgument", "Argument max-keys must be an integer between 0 and 2147483647")
        bucket, prefix, delimiter = params["Bucket"], params.get("Prefix", ""), params.get("Delimiter")
        listing = self._objects.list(bucket, prefix, after, delimiter, min(asked, PAGE))
        contents = [
            {
                **_encoded(params, {"Key": record.key}),
                "LastModified": _time(record.last_modified),
                "ETag": _quoted(record.etag),
                "Size": record.size,
                "StorageClass": record.headers.get("StorageClass", "STANDARD"),
            }
            for record in listing.objects
        ]
        answer = {
            "Name": bucket,
            "MaxKeys": min(asked, PAGE),
            "IsTruncated": listing.truncated,
            "Contents": contents,
            "CommonPrefixes": [_encoded(params, {"Prefix": common}) for common in listing.prefixes],
            **_encoded(params, {"Prefix": prefix, **_echo(params, "Delimiter")}),
            **_echo(params, "EncodingType"),
        }
        return answer, listing.last

    # Objects

    def put_object(self, params: dict[str, Any]) -> dict[str, Any]:
        """Store an object; checksums that come with it are checked."""
        body = params.get("Body", b"")
        expected = _expected(params, body)
        if_none_match = params.get("IfNoneMatch")
        if if_none_match not in {None, "*"}:
            raise _not_implemented("If-None-Match with an ETag")
        match = params.get("IfMatch")
        record = self._objects.put(
            params["Bucket"],
            params["Key"],
            body,
            headers=_headers(params),
            metadata=params.get("Metadata"),
            if_none_match=if_none_match is not None,
            if_match=None if match is None else match.strip('"'),
            length=params.get("ContentLength"),
            expected=expected,
        )
        return {"ETag": _quoted(record.etag), **_encryption(record.headers), **_checksums_of(record)}

    def get_object(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer an object's bytes, all of them or a range."""
        record, descriptor = self._objects.open(params["Bucket"], params["Key"])
        try:
            answer, start, length = _reading(record, params)
        except BaseException:
            os.close(descriptor)
            raise
        return {**answer, "Body": FileSection(descriptor, start, length)}

    def head_object(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer what GetObject would, without the bytes."""
        return _reading(self._objects.get(params["Bucket"], params["Key"]), params)[0]

    def copy_object(self, params: dict[str, Any]) -> dict[str, Any]:
        """Copy an object inside the engine."""
        bucket, key = _copy_source(params)
        replace = params.get("MetadataDirective") == "REPLACE"
        if (bucket, key) == (params["Bucket"], params["Key"]) and not replace and not _headers(params):
            message = (
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                "object's metadata, storage class, website redirect location or encryption attributes."
            )
            raise ApiError("InvalidRequest", message)
        source, descriptor = self._objects.open(bucket, key)
        with FileSection(descriptor, 0, source.size) as body:
            _check_conditions(source, params, "CopySource")
            kept = {name: value for name, value in source.headers.items() if name != "SSEKMSKeyId"}
            record = self._objects.put(
                params["Bucket"],
                params["Key"],
                body,
                headers=_headers(params) if replace else kept | _headers(params),
                metadata=params.get("Metadata") if replace else source.metadata,
                if_none_match=params.get("IfNoneMatch") == "*",
                length=source.size,
            )
        result = {"ETag": _quoted(record.etag), "LastModified": _time(record.last_modified)}
        return {"CopyObjectResult": result, **_encryption(record.headers)}

    def delete_object(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete an object; that there is none is no error."""
        self._objects.delete(params["Bucket"], params["Key"])
        return {}

    def delete_objects(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete up to 1,000 objects."""
        self._objects.head_bucket(params["Bucket"])
        wanted = params.get("Delete", {})
        keys = [each.get("Key") for each in wanted.get("Objects", ())]
        if not 1 <= len(keys) <= PAGE or None in keys:
            message = "The XML you provided was not well-formed or did not validate against our published schema"
            raise ApiError("MalformedXML", message)
        for key in keys:
            self._objects.delete(params["Bucket"], key)
        return {} if wanted.get("Quiet") else {"Deleted": [{"Key": key} for key in keys]}

    # Multipart uploads

    def create_multipart_upload(self, params: dict[str, Any]) -> dict[str, Any]:
        """Begin an upload."""
        bucket, key, headers = params["Bucket"], params["Key"], _headers(params)
        upload = self._uploads.create(bucket, key, headers=headers, metadata=params.get("Metadata") or {})
        return {"Bucket": bucket, "Key": key, "UploadId": upload.id, **_encryption(headers)}

    def upload_part(self, params: dict[str, Any]) -> dict[str, Any]:
        """Store a part; checksums that come with it are checked."""
        body = params.get("Body", b"")
        expected = _expected(params, body)
        length = params.get("ContentLength")
        part = self._uploads.add_part(*_upload_of(params), params["PartNumber"], body, length=length, expected=expected)
        echoed = {name: expected[algorithm] for name, algorithm in _CHECKSUMS.items() if expected.get(algorithm)}
        return {"ETag": _quoted(part.etag), **echoed}

    def upload_part_copy(self, params: dict[str, Any]) -> dict[str, Any]:
        """Make a part of an object, or of a range of it."""
        source, descriptor = self._objects.open(*_copy_source(params))
        start, end = 0, source.size
        if "CopySourceRange" in params:
            match = _RANGE.fullmatch(params["CopySourceRange"])
            start, end = (int(match[1]), int(match[2]) + 1) if match and match[1] and match[2] else (0, -1)
        with FileSection(descriptor, start, end - start) as body:
            _check_conditions(source, params, "CopySource")
            if not 0 <= start < end <= source.size:
                message = "The x-amz-copy-source-range value must be of the form bytes=first-last, inside the object"
                raise ApiError("InvalidArgument", message)
            part = self._uploads.add_part(*_upload_of(params), params["PartNumber"], body, length=end - start)
        return {"CopyPartResult": {"ETag": _quoted(part.etag), "LastModified": _time(part.last_modified)}}

    def complete_multipart_upload(self, params: dict[str, Any]) -> dict[str, Any]:
        """Make the object of its parts."""
        parts = params.get("MultipartUpload", {}).get("Parts", ())
        chosen = [(part.get("PartNumber", 0), part.get("ETag", "").strip('"')) for part in parts]
        once = params.get("IfNoneMatch") == "*"
        record = self._uploads.complete(*_upload_of(params), chosen, if_none_match=once)
        place = f"{record.bucket}/{quote(record.key)}"
        answer = {"Bucket": record.bucket, "Key": record.key, "ETag": _quoted(record.etag)}
        return {**answer, "Location": f"/{place}", **_encryption(record.headers)}

    def abort_multipart_upload(self, params: dict[str, Any]) -> dict[str, Any]:
        """Throw an upload away."""
        self._uploads.abort(*_upload_of(params))
        return {}

    def list_parts(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer the parts that have arrived, by number."""
        marker, limit = params.get("PartNumberMarker", 0), min(params.get("MaxParts", PAGE), PAGE)
        upload_id, bucket, key = _upload_of(params)
        parts = [part for part in self._uploads.parts(upload_id, bucket, key) if part.number > int(marker)]
        page = parts[:limit]
        return {
            "Bucket": bucket,
            "Key": key,
            "UploadId": upload_id,
            "PartNumberMarker": int(marker),
            "NextPartNumberMarker": page[-1].number if page else 0,
            "MaxParts": limit,
            "IsTruncated": len(parts) > len(page),
            "Parts": [
                {
                    "PartNumber": part.number,
                    "LastModified": _time(part.last_modified),
                    "ETag": _quoted(part.etag),
                    "Size": part.size,
                }
                for part in page
            ],
            "StorageClass": "STANDARD",
        }

    def list_multipart_uploads(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer the uploads that are neither completed nor aborted, by key and age."""
        bucket, prefix = params["Bucket"], params.get("Prefix", "")
        if params.get("Delimiter"):
            raise _not_implemented("a delimiter in ListMultipartUploads")
        uploads = self._uploads.list(bucket, prefix)
        marker = (params.get("KeyMarker", ""), params.get("UploadIdMarker", ""))
        if marker[0]:
            places = [(upload.key, upload.id) for upload in uploads]
            begin = places.index(marker) + 1 if marker in places else None
            uploads = [upload for upload in uploads if upload.key > marker[0]] if begin is None else uploads[begin:]
        limit = min(params.get("MaxUploads", PAGE), PAGE)
        page = uploads[:limit]
        more = {"NextKeyMarker": page[-1].key, "NextUploadIdMarker": page[-1].id} if len(uploads) > limit > 0 else {}
        return {
            "Bucket": bucket,
            "MaxUploads": limit,
            "IsTruncated": bool(more),
            **_encoded(params, {"Prefix": prefix, "KeyMarker": marker[0]}),
            **_encoded(params, {name: value for name, value in more.items() if name == "NextKeyMarker"}),
            **{name: value for name, value in more.items() if name != "NextKeyMarker"},
            **_echo(params, "EncodingType"),
            "Uploads": [
                {
                    **_encoded(params, {"Key": upload.key}),
                    "UploadId": upload.id,
                    "Initiated": _time(upload.initiated),
                    "StorageClass": "STANDARD",
                }
                for upload in page
            ],
        }


# Reading


def _reading(record: ObjectRecord, params: Mapping[str, Any]) -> tuple[dict[str, Any], int, int]:
    """Return the answer to GetObject without the body, and where the body begins and how long it is."""
    _check_conditions(record, params)
    start, length = 0, record.size
    answer: dict[str, Any] = {}
    wanted = _range_of(params.get("Range"), record.size)
    if params.get("PartNumber", 1) != 1:
        raise _not_implemented("PartNumber")
    if wanted is not None:
        start, length = wanted
        answer["ContentRange"] = f"bytes {start}-{start + length - 1}/{record.size}"
        answer["ResponseMetadata"] = {"HTTPStatusCode": 206}
    elif params.get("ChecksumMode") == "ENABLED":
        answer |= _checksums_of(record)
    overrides = {
        name.removeprefix("Response"): value for name, value in params.items() if name.removeprefix("Response") in _KEPT
    }
    answer |= {
        "AcceptRanges": "bytes",
        "LastModified": _time(record.last_modified),
        "ContentLength": length,
        "ETag": _quoted(record.etag),
        "ContentType": _DEFAULT_TYPE,
        "Metadata": dict(record.metadata),
        **{name: value for name, value in record.headers.items() if name in _KEPT},
        **{name: _header_text(value) for name, value in overrides.items()},
    }
    return answer, start, length


def _range_of(text: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the length that a Range header asks for; None for everything, or if it is no range."""
    match = _RANGE.fullmatch(text) if text else None
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


def _check_conditions(record: ObjectRecord, params: Mapping[str, Any], prefix: str = "") -> None:
    """Check If-Match and its kin. Of a copy the refusal always is 412; a reader gets 304 for what it has already."""
    match, none_match = params.get(f"{prefix}IfMatch"), params.get(f"{prefix}IfNoneMatch")
    modified, unmodified = params.get(f"{prefix}IfModifiedSince"), params.get(f"{prefix}IfUnmodifiedSince")
    changed = dt.datetime.fromtimestamp(int(record.last_modified), dt.timezone.utc)  # headers tell whole seconds
    if match is not None and not _names(match, record.etag):
        raise precondition_failed("If-Match")
    if match is None and unmodified is not None and changed > unmodified:
        raise precondition_failed("If-Unmodified-Since")
    same = none_match is not None and _names(none_match, record.etag)
    if same or (none_match is None and modified is not None and changed <= modified):
        if prefix:
            raise precondition_failed("If-None-Match" if same else "If-Modified-Since")
        raise ApiError("NotModified", "Not Modified", 304)


def _names(condition: str, etag: str) -> bool:
    return condition.strip() == "*" or etag in {each.strip().strip('"') for each in condition.split(",")}


# Writing


def _headers(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: _header_text(params[name]) for name in _KEPT if params.get(name) is not None}


def _header_text(value: Any) -> str:
    return format_datetime(value, usegmt=True) if isinstance(value, dt.datetime) else str(value)


def _expected(params: Mapping[str, Any], body: Any) -> MutableMapping[str, str]:
    """Return the checksums that the body must have; those that trail it are filled in when it has been read."""
    given = {algorithm: params[name] for name, algorithm in _CHECKSUMS.items() if name in params}
    if "ContentMD5" in params:
        given["md5"] = params["ContentMD5"]
    return ChainMap(given, getattr(body, "checksums", {}))


def _upload_of(params: Mapping[str, Any]) -> tuple[str, str, str]:
    return params["UploadId"], params["Bucket"], params["Key"]


def _copy_source(params: Mapping[str, Any]) -> tuple[str, str]:
    source, _, version = params["CopySource"].partition("?versionId=")
    bucket, slash, key = unquote(source).removeprefix("/").partition("/")
    if version not in {"", "null"}:
        raise _not_implemented("VersionId")
    if not slash or not key:
        raise ApiError("InvalidArgument", "Invalid copy source object key", ArgumentName="x-amz-copy-source")
    return bucket, key


# Answers


def _encryption(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in ("ServerSideEncryption", "SSEKMSKeyId") if name in headers}


def _checksums_of(record: ObjectRecord) -> dict[str, str]:
    found = {name: record.headers[name] for name in _CHECKSUMS if name in record.headers}
    return {**found, "ChecksumType": "FULL_OBJECT"} if found else {}


def _encoded(params: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts, percent-encoded if the request asked for it (botocore does, and decodes them)."""
    if params.get("EncodingType") == "url":
        return {name: quote(text, safe="/*") for name, text in texts.items()}
    return dict(texts)


def _echo(params: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: params[name] for name in names if params.get(name) is not None}


def _quoted(etag: str) -> str:
    return f'"{etag}"'


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:
        message = "The continuation token provided is incorrect"
        raise ApiError("InvalidArgument", message, ArgumentName="continuation-token") from None


def _not_implemented(what: str) -> ApiError:
    return ApiError("NotImplemented", f"The local engine's S3 does not have {what}.", 501)

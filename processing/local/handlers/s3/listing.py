"""S3's ListObjects, in both versions."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3.checksums import checksum_names
from processing.local.handlers.s3.common import OWNER, page_limit, pick, quoted, to_datetime, url_encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation
    from processing.local.stores.object_records import ObjectRecord


class ListOperations:
    """Operations that list objects. See `S3Handler`."""

    def __init__(self, engine: EngineContext) -> None:
        self._objects = engine.objects
        self.operations: dict[str, Operation] = {
            "ListObjectsV2": self._list_v2,
            "ListObjects": self._list_v1,
        }

    def _list_v2(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of keys after a continuation token or StartAfter."""
        token = params.get("ContinuationToken")
        after = params.get("StartAfter", "") if token is None else _from_token(token)
        answer, last = self._page(params, after, owner=bool(params.get("FetchOwner")))
        answer["KeyCount"] = len(answer["Contents"]) + len(answer["CommonPrefixes"])
        answer |= pick(params, "ContinuationToken")
        answer |= url_encoded(params, pick(params, "StartAfter"))
        if answer["IsTruncated"] and last is not None:
            answer["NextContinuationToken"] = base64.urlsafe_b64encode(last.encode()).decode()
        return answer

    def _list_v1(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of keys after a marker."""
        answer, last = self._page(params, params.get("Marker", ""), owner=True)
        answer |= url_encoded(params, {"Marker": params.get("Marker", "")})
        # Without a delimiter there is no NextMarker, and the marker is the last key.
        if answer["IsTruncated"] and params.get("Delimiter") and last is not None:
            answer |= url_encoded(params, {"NextMarker": last})
        return answer

    def _page(self, params: dict[str, Any], after: str, *, owner: bool) -> tuple[dict[str, Any], str | None]:
        check_encoding(params)
        limit = page_limit(params, "MaxKeys", "max-keys")
        bucket, prefix, delimiter = params["Bucket"], params.get("Prefix", ""), params.get("Delimiter")
        listing = self._objects.list(bucket, prefix, after, delimiter, limit)
        answer = {
            "Name": bucket,
            "MaxKeys": limit,
            "IsTruncated": listing.truncated,
            "Contents": [_entry(record, params, owner=owner) for record in listing.objects],
            "CommonPrefixes": [url_encoded(params, {"Prefix": common}) for common in listing.prefixes],
            **url_encoded(params, {"Prefix": prefix, **pick(params, "Delimiter")}),
            **pick(params, "EncodingType"),
        }
        return answer, listing.last


def check_encoding(params: Mapping[str, Any]) -> None:
    """Raise `InvalidArgument` if the requested encoding of names does not exist."""
    if params.get("EncodingType") not in {None, "url"}:
        raise ApiError(
            "InvalidArgument",
            "Invalid Encoding Method specified in Request",
            ArgumentName="encoding-type",
            ArgumentValue=params["EncodingType"],
        )


def _entry(record: ObjectRecord, params: Mapping[str, Any], *, owner: bool) -> dict[str, Any]:
    entry = {
        **url_encoded(params, {"Key": record.key}),
        "LastModified": to_datetime(record.last_modified),
        "ETag": quoted(record.etag),
        "Size": record.size,
        "StorageClass": record.headers.get("StorageClass", "STANDARD"),
    }
    names = checksum_names(record.headers)
    if names:
        entry["ChecksumAlgorithm"] = [name.removeprefix("Checksum") for name in names]
        entry["ChecksumType"] = record.headers.get("ChecksumType", "FULL_OBJECT")
    return {**entry, "Owner": OWNER} if owner else entry


def _from_token(token: str) -> str:
    try:
        after = base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:
        after = ""
    if not after:
        raise ApiError(
            "InvalidArgument", "The continuation token provided is incorrect", ArgumentName="continuation-token"
        )
    return after

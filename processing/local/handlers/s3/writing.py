"""S3's operations that write or delete objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3 import checksums
from processing.local.handlers.s3.common import (
    PAGE,
    content_length,
    encryption_members,
    malformed,
    not_implemented,
    quoted,
    stored_headers,
    user_metadata,
)
from processing.local.handlers.s3.conditions import writing_conditions
from processing.local.handlers.s3.tagging import tags_of_header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation


class WriteOperations:
    """Operations that write or delete objects. See `S3Handler`."""

    def __init__(self, engine: EngineContext) -> None:
        self._objects = engine.objects
        self.operations: dict[str, Operation] = {
            "PutObject": self._put,
            "DeleteObject": self._delete,
            "DeleteObjects": self._delete_many,
        }

    def _put(self, params: dict[str, Any]) -> dict[str, Any]:
        """Store an object and verify its checksums."""
        body = params.get("Body", b"")
        record = self._objects.put(
            params["Bucket"],
            params["Key"],
            body,
            headers=stored_headers(params),
            metadata=user_metadata(params),
            tags=tags_of_header(params.get("Tagging")),
            length=content_length(params),
            expected=checksums.expected_checksums(params, body),
            **writing_conditions(params),
        )
        return {"ETag": quoted(record.etag), **encryption_members(record), **checksums.object_checksums(record.headers)}

    def _delete(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete an object. A missing object is an error only with a condition."""
        match = params.get("IfMatch")
        self._objects.delete(params["Bucket"], params["Key"], if_match=None if match is None else match.strip('"'))
        return {}

    def _delete_many(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete up to 1,000 objects. The answer has an error for each object that was not deleted."""
        self._objects.head_bucket(params["Bucket"])
        request = params.get("Delete", {})
        entries = request.get("Objects", ())
        if not 1 <= len(entries) <= PAGE or not all(entry.get("Key") for entry in entries):
            raise malformed()
        deleted, errors = [], []
        for entry in entries:
            try:
                self._delete_one(params["Bucket"], entry)
            except ApiError as error:  # noqa: PERF203 - each key has its own error
                errors.append({"Key": entry["Key"], "Code": error.code, "Message": error.message})
            else:
                deleted.append({"Key": entry["Key"]})
        return {"Errors": errors} if request.get("Quiet") else {"Deleted": deleted, "Errors": errors}

    def _delete_one(self, bucket: str, entry: Mapping[str, Any]) -> None:
        for name in ("LastModifiedTime", "Size"):
            if entry.get(name) is not None:
                raise not_implemented(f"{name} as a condition of a deletion")
        if entry.get("VersionId") not in {None, "null"}:
            raise not_implemented("VersionId")
        match = entry.get("ETag")
        self._objects.delete(bucket, entry["Key"], if_match=None if match is None else match.strip('"'))

"""Objects written and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3 import checksums
from processing.local.handlers.s3.common import (
    PAGE,
    encryption,
    headers_of,
    length_of,
    malformed,
    metadata_of,
    not_implemented,
    quoted,
)
from processing.local.handlers.s3.conditions import writing_conditions
from processing.local.handlers.s3.tagging import tags_of_header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation


class WriteOperations:
    """The operations that write or delete objects; see `S3Handler`."""

    def __init__(self, engine: EngineContext) -> None:
        self._objects = engine.objects
        self.operations: dict[str, Operation] = {
            "PutObject": self._put,
            "DeleteObject": self._delete,
            "DeleteObjects": self._delete_many,
        }

    def _put(self, params: dict[str, Any]) -> dict[str, Any]:
        """Store an object; checksums that come with it are checked."""
        body = params.get("Body", b"")
        record = self._objects.put(
            params["Bucket"],
            params["Key"],
            body,
            headers=headers_of(params),
            metadata=metadata_of(params),
            tags=tags_of_header(params.get("Tagging")),
            length=length_of(params),
            expected=checksums.expected(params, body),
            **writing_conditions(params),
        )
        return {"ETag": quoted(record.etag), **encryption(record), **checksums.of_object(record.headers)}

    def _delete(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete an object; that there is none is no error, without a condition."""
        match = params.get("IfMatch")
        self._objects.delete(params["Bucket"], params["Key"], if_match=None if match is None else match.strip('"'))
        return {}

    def _delete_many(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete up to 1,000 objects; each is deleted or has its own error."""
        self._objects.head_bucket(params["Bucket"])
        wanted = params.get("Delete", {})
        entries = wanted.get("Objects", ())
        if not 1 <= len(entries) <= PAGE or not all(entry.get("Key") for entry in entries):
            raise malformed()
        deleted, errors = [], []
        for entry in entries:
            try:
                self._delete_one(params["Bucket"], entry)
            except ApiError as error:  # noqa: PERF203 — each key has its own error
                errors.append({"Key": entry["Key"], "Code": error.code, "Message": error.message})
            else:
                deleted.append({"Key": entry["Key"]})
        return {"Errors": errors} if wanted.get("Quiet") else {"Deleted": deleted, "Errors": errors}

    def _delete_one(self, bucket: str, entry: Mapping[str, Any]) -> None:
        for name in ("LastModifiedTime", "Size"):
            if entry.get(name) is not None:
                raise not_implemented(f"{name} as a condition of a deletion")
        if entry.get("VersionId") not in {None, "null"}:
            raise not_implemented("VersionId")
        match = entry.get("ETag")
        self._objects.delete(bucket, entry["Key"], if_match=None if match is None else match.strip('"'))

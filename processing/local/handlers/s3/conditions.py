"""Conditions of S3's reads and writes."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3.common import not_implemented
from processing.local.stores.objects import precondition_failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.stores.object_records import ObjectRecord


def check_conditions(record: ObjectRecord, params: Mapping[str, Any], prefix: str = "") -> None:
    """Raise `ApiError` if a condition of a read or a copy does not hold.

    Args:
        record: the object to read or copy.
        params: the parameters of the request.
        prefix: `CopySource` for a copy, which always fails with 412. A read may fail with 304 (not modified).
    """
    match, none_match = params.get(f"{prefix}IfMatch"), params.get(f"{prefix}IfNoneMatch")
    modified, unmodified = params.get(f"{prefix}IfModifiedSince"), params.get(f"{prefix}IfUnmodifiedSince")
    # Headers have whole seconds, so the time is truncated before the comparison.
    changed = dt.datetime.fromtimestamp(int(record.last_modified), dt.timezone.utc)
    if match is not None and not _matches(match, record.etag):
        raise precondition_failed("If-Match")
    if match is None and unmodified is not None and changed > unmodified:
        raise precondition_failed("If-Unmodified-Since")
    same = none_match is not None and _matches(none_match, record.etag)
    if same or (none_match is None and modified is not None and changed <= modified):
        if prefix:
            raise precondition_failed("If-None-Match" if same else "If-Modified-Since")
        raise ApiError("NotModified", "Not Modified", 304)


def _matches(condition: str, etag: str) -> bool:
    return condition.strip() == "*" or etag in {each.strip().strip('"') for each in condition.split(",")}


def writing_conditions(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conditions of a write as arguments of the object store."""
    none_match, match = params.get("IfNoneMatch"), params.get("IfMatch")
    if none_match not in {None, "*"}:
        raise not_implemented("If-None-Match with an ETag in a write")
    if none_match is not None and match is not None:
        raise not_implemented("If-Match together with If-None-Match in a write")
    return {"if_none_match": none_match is not None, "if_match": None if match is None else match.strip('"')}

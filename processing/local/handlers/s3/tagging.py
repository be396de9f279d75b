"""S3's operations on the tags of objects and buckets."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

OBJECT_TAGS = 10
"""S3's limit for the tags of an object."""
BUCKET_TAGS = 50
"""S3's limit for the tags of a bucket."""
_KEY = re.compile(r"[\w\s+\-=.:/@]{1,128}")
_VALUE = re.compile(r"[\w\s+\-=.:/@]{0,256}")


class TaggingOperations:
    """Operations on tags. See `S3Handler`."""

    def __init__(self, engine: EngineContext) -> None:
        self._objects = engine.objects
        self.operations: dict[str, Operation] = {
            "GetObjectTagging": self._get,
            "PutObjectTagging": self._put,
            "DeleteObjectTagging": self._delete,
            "GetBucketTagging": self._get_of_bucket,
            "PutBucketTagging": self._put_of_bucket,
            "DeleteBucketTagging": self._delete_of_bucket,
        }

    def _get(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"TagSet": _as_set(self._objects.get(params["Bucket"], params["Key"]).tags)}

    def _put(self, params: dict[str, Any]) -> dict[str, Any]:
        tags = tags_of_set(params.get("Tagging", {}).get("TagSet") or ())
        self._objects.tag(params["Bucket"], params["Key"], tags)
        return {}

    def _delete(self, params: dict[str, Any]) -> dict[str, Any]:
        self._objects.tag(params["Bucket"], params["Key"], {})
        return {}

    def _get_of_bucket(self, params: dict[str, Any]) -> dict[str, Any]:
        tags = json.loads(self._objects.head_bucket(params["Bucket"]).tags)
        if not tags:
            raise ApiError("NoSuchTagSet", "The TagSet does not exist", 404, BucketName=params["Bucket"])
        return {"TagSet": _as_set(tags)}

    def _put_of_bucket(self, params: dict[str, Any]) -> dict[str, Any]:
        tags = tags_of_set(params.get("Tagging", {}).get("TagSet") or (), limit=BUCKET_TAGS)
        self._objects.tag_bucket(params["Bucket"], tags)
        return {}

    def _delete_of_bucket(self, params: dict[str, Any]) -> dict[str, Any]:
        self._objects.tag_bucket(params["Bucket"], {})
        return {}


def tags_of_header(text: str | None) -> dict[str, str]:
    """Return the tags in a header, which is encoded like the query of a URL."""
    pairs = parse_qsl(text or "", keep_blank_values=True)
    if len({key for key, _ in pairs}) < len(pairs):
        raise ApiError(
            "InvalidArgument",
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag "
            "name duplicates.",
            ArgumentName="x-amz-tagging",
            ArgumentValue=str(text),
        )
    return _checked(pairs, OBJECT_TAGS)


def tags_of_set(tags: Iterable[Mapping[str, str]], limit: int = OBJECT_TAGS) -> dict[str, str]:
    """Return the tags of a `TagSet`."""
    pairs = [(tag.get("Key", ""), tag.get("Value", "")) for tag in tags]
    if len({key for key, _ in pairs}) < len(pairs):
        raise ApiError("InvalidTag", "Cannot provide multiple Tags with the same key")
    return _checked(pairs, limit)


def _checked(pairs: list[tuple[str, str]], limit: int) -> dict[str, str]:
    if len(pairs) > limit:
        kind = "Object" if limit == OBJECT_TAGS else "Bucket"
        raise ApiError("BadRequest", f"{kind} tags cannot be greater than {limit}")
    for key, value in pairs:
        if not _KEY.fullmatch(key):
            raise ApiError("InvalidTag", "The TagKey you have provided is invalid", TagKey=key)
        if not _VALUE.fullmatch(value):
            raise ApiError("InvalidTag", "The TagValue you have provided is invalid", TagKey=key, TagValue=value)
    return dict(pairs)


def _as_set(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]

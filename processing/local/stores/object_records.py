"""Records of the object store: buckets, objects, parts and pages of listings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class ObjectPart(NamedTuple):
    """A part of a multipart object: its size in bytes, and its checksums in base64 by algorithm."""

    size: int
    checksums: Mapping[str, str]


class ObjectMetadata(NamedTuple):
    """Properties that the writer of an object sets.

    Attributes:
        headers: properties by boto3's names (`ContentType`, `SSEKMSKeyId`, ...). Readers get them back unchanged.
        metadata: the user's own metadata.
        tags: the object's tags.
        parts: the parts of a multipart object.
    """

    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: Mapping[str, str]
    parts: Sequence[ObjectPart] = ()


class ObjectRecord(NamedTuple):
    """An object in the index.

    Attributes:
        bucket: the bucket's name.
        key: the object's key.
        size: the size in bytes.
        etag: S3's ETag, without quotes.
        last_modified: the time of the write, in seconds since the epoch.
        path: the file with the body. It never changes. It is removed soon after the object is replaced or deleted.
        headers: properties set by the writer, by boto3's names (`ContentType`, `SSEKMSKeyId`, ...).
        metadata: the user's own metadata.
        tags: the object's tags.
        parts: the parts of a multipart object, as JSON. Empty in listings. See `load_parts`.
    """

    bucket: str
    key: str
    size: int
    etag: str
    last_modified: float
    path: Path
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: Mapping[str, str]
    parts: str

    def load_parts(self) -> list[ObjectPart]:
        """Return the parts of a multipart object, or an empty list for other objects."""
        return [ObjectPart(*part) for part in json.loads(self.parts)] if self.parts else []


class BucketRecord(NamedTuple):
    """A bucket.

    Attributes:
        name: the bucket's name.
        created: the time of creation, in seconds since the epoch.
        region: the location constraint, or "" if the bucket has none.
        tags: the bucket's tags, as JSON.
    """

    name: str
    created: float
    region: str
    tags: str


class ObjectPage(NamedTuple):
    """One page of a listing.

    Attributes:
        objects: the objects, ordered by the UTF-8 bytes of their keys.
        prefixes: the common prefixes, in the same order.
        truncated: whether another page follows.
        last: the last key or common prefix of the page, to be passed as `after=` for the next page. None if the page
            is empty.
    """

    objects: list[ObjectRecord]
    prefixes: list[str]
    truncated: bool
    last: str | None

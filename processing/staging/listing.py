"""Listings of S3 prefixes, and the local path of each listed object."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import attrs

from processing.exceptions import StagingError
from processing.staging.objects import owner_params, shared_params

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from processing.aws.retry import RetryingApi
    from processing.request.s3_uri import S3Uri
    from processing.staging.objects import ExpectedOwner


@attrs.frozen
class ListedObject:
    """An object in a listing.

    Args:
        key: its key.
        size: its size in bytes.
        etag: its ETag, in quotes.
    """

    key: str
    size: int
    etag: str


@attrs.frozen
class Download:
    """An object and the file that receives it."""

    object: ListedObject
    path: Path


def list_objects(
    api: RetryingApi, uri: S3Uri, expected_owner: ExpectedOwner, extra: Mapping[str, Any] | None = None
) -> list[ListedObject]:
    """Return every object whose key begins with the URI's. All pages are read.

    Args:
        api: the calls to S3.
        uri: the bucket and the beginning of the keys.
        expected_owner: the account that must own the bucket.
        extra: parameters of GetObject. Those that ListObjectsV2 also has are sent, such as RequestPayer.
    """
    params: dict[str, Any] = {
        **shared_params(api, "ListObjectsV2", extra or {}),
        "Bucket": uri.bucket,
        "Prefix": uri.key,
        **owner_params(uri.bucket, expected_owner),
    }
    found: list[ListedObject] = []
    while True:
        answer = api.call("s3", "ListObjectsV2", params)
        found += [
            ListedObject(entry["Key"], int(entry.get("Size", 0)), entry.get("ETag", ""))
            for entry in answer.get("Contents", ())
        ]
        token = answer.get("NextContinuationToken")
        if not token:
            return found
        params["ContinuationToken"] = token


def has_objects(api: RetryingApi, uri: S3Uri, expected_owner: ExpectedOwner) -> bool:
    """Return whether there is an object whose key begins with the URI's. One call."""
    params = {"Bucket": uri.bucket, "Prefix": uri.key, "MaxKeys": 1, **owner_params(uri.bucket, expected_owner)}
    return bool(api.call("s3", "ListObjectsV2", params).get("Contents"))


def downloads_below(uri: S3Uri, listed: Iterable[ListedObject], to: Path) -> list[Download]:
    """Return the objects at or below the URI, each with its local path.

    A key is any text. A key that is not a path of its own inside the directory is refused before anything is fetched.
    """
    names: dict[str, ListedObject] = {}
    refused = []
    for entry in listed:
        name = _relative_key(uri.key, entry.key)
        # Skip empty objects whose key ends in a slash: consoles create them for folders.
        if name is None or (entry.size == 0 and entry.key.endswith("/")):
            continue
        problem = key_problem(name)
        if problem:
            refused.append((f"s3://{uri.bucket}/{entry.key}", problem))
        names[name] = entry
    directories = {name[:index] for name in names for index, letter in enumerate(name) if letter == "/"}
    refused += [
        (f"s3://{uri.bucket}/{names[name].key}", "is an object and also the directory of others")
        for name in sorted(directories & names.keys())
    ]
    if refused:
        raise StagingError("nothing was downloaded: keys that cannot be files in the directory", refused)
    return [Download(entry, to / name) for name, entry in names.items()]


def _relative_key(prefix: str, key: str) -> str | None:
    """Return the key relative to the prefix; None if it is not below the prefix."""
    if not prefix or prefix.endswith("/"):
        return key[len(prefix) :] or None
    if key == prefix:
        return key.rpartition("/")[2]
    return key[len(prefix) + 1 :] or None if key.startswith(prefix + "/") else None


def key_problem(name: str, *, windows: bool = os.name == "nt") -> str | None:
    """Return why a name (a key or its end) is not a path inside a directory; None if it is."""
    parts = name.split("/")
    if ".." in parts or "." in parts:
        return "its key holds . or .. as a part of the path"
    if "" in parts:
        return "its key holds an empty part of the path"
    if "\0" in name:
        return "its key holds a null character"
    if windows and any(set(part) & set('\\:*?"<>|') or part.endswith((".", " ")) for part in parts):
        return "its key is not a path on Windows"
    return None

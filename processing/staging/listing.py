"""What lies below a prefix, and the path that each object gets in a directory."""

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
    """An object as a listing shows it.

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
    """An object, and the file that it is to become."""

    object: ListedObject
    path: Path


def list_objects(
    api: RetryingApi, uri: S3Uri, expected_owner: ExpectedOwner, extra: Mapping[str, Any] | None = None
) -> list[ListedObject]:
    """Return every object whose key begins with the URI's; every page is read.

    Args:
        api: the calls to S3.
        uri: the bucket, and what the keys begin with.
        expected_owner: the account that the bucket has to belong to.
        extra: parameters of GetObject; those that a listing has too go with it, such as who pays.
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


def downloads_below(uri: S3Uri, listed: Iterable[ListedObject], to: Path) -> list[Download]:
    """Return the objects at or below the URI, each with the path that it gets.

    A key is any text. One that is no path of its own inside the directory is refused before anything is fetched.
    """
    names: dict[str, ListedObject] = {}
    refused = []
    for entry in listed:
        name = _relative_key(uri.key, entry.key)
        if name is None or (entry.size == 0 and entry.key.endswith("/")):  # the latter: what consoles make for a folder
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
    """Return the key below the prefix; None for one that is not below it."""
    if not prefix or prefix.endswith("/"):
        return key[len(prefix) :] or None
    if key == prefix:
        return key.rpartition("/")[2]
    return key[len(prefix) + 1 :] or None if key.startswith(prefix + "/") else None


def key_problem(name: str, *, windows: bool = os.name == "nt") -> str | None:
    """Return why a name, a key or its end, is no path inside a directory; None where it is one."""
    parts = name.split("/")
    if ".." in parts or "." in parts:
        return "its key holds . or .. as a part of the path"
    if "" in parts:
        return "its key holds an empty part of the path"
    if "\0" in name:
        return "its key holds a null character"
    if windows and any(set(part) & set('\\:*?"<>|') or part.endswith((".", " ")) for part in parts):
        return "its key is no path on Windows"
    return None

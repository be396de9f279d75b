"""Deduplication of reused data: skips files that S3 has already, and lets S3 copy files that another tree has.

A directory goes to a prefix that names the content of the whole tree (`processing.staging.tree_hash`). No file of a
running job is therefore ever overwritten. One listing of the prefix shows the existing files: an object of the right
size was uploaded completely. If the tree is new, the tree of the directory's last upload may hold most of its files,
and S3 copies those. Only the names and hashes of that tree are kept on this machine. Its location in S3 follows from
them, so a wrong entry in the cache leads to no object at all.

The effect: a second run with 2,000 unchanged files calls ListObjectsV2 twice and sends nothing
(`benchmarks/unchanged.py`); without deduplication it sends all files again. The user switches it on with `reuse=True`
for an input; it is off by default.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs

from processing.aws.retry import error_code
from processing.container.terminal_text import safe_text
from processing.exceptions import StagingError
from processing.request.s3_uri import S3Uri
from processing.staging import cache
from processing.staging.listing import list_objects
from processing.staging.pending_uploads import CopySource, Upload
from processing.staging.tree_hash import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from processing.aws.retry import RetryingApi
    from processing.staging.listing import ListedObject
    from processing.staging.objects import ExpectedOwner

logger = logging.getLogger(__name__)

_LONGEST_COPY = 5 * 1024**3  # bytes, https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html


def missing_uploads(api: RetryingApi, uploads: Sequence[Upload], expected_owner: ExpectedOwner) -> tuple[Upload, ...]:
    """Return the uploads that S3 does not have yet. Each unchanged tree costs one listing.

    Args:
        api: the calls to S3.
        uploads: the pending uploads.
        expected_owner: as for `upload_all`.

    Raises:
        StagingError: a prefix could not be listed.
    """
    left = [upload for upload in uploads if upload.tree is None]
    for tree in _trees(uploads):
        members = [upload for upload in uploads if upload.tree is tree]
        there = {entry.key: entry.size for entry in _list_tree(api, tree, expected_owner)}
        missing = [upload for upload in members if there.get(upload.target.key) != upload.size]
        copies = _copy_sources(api, tree, expected_owner) if missing else {}
        left += [_without_tree(upload, copies) for upload in missing]
        surplus = there.keys() - {upload.target.key for upload in members}
        if surplus:
            first = safe_text(min(surplus))
            logger.warning("%s holds objects that are not from %s: %s, ...", tree.target, tree.directory, first)
        logger.debug("%s: %d of %d files are missing in %s", tree.directory, len(missing), len(members), tree.target)
    return tuple(left)


def record_trees(uploads: Iterable[Upload]) -> None:
    """Store the uploaded trees in the cache, so that S3 can copy from them after their directory has changed."""
    for tree in _trees(uploads):
        cache.store("trees", _cache_key(tree), dict(tree.files))


def _trees(uploads: Iterable[Upload]) -> list[Tree]:
    return list({id(upload.tree): upload.tree for upload in uploads if upload.tree is not None}.values())


def _cache_key(tree: Tree) -> str:
    return f"{tree.directory}\0{tree.folder}\0{tree.kms_key or ''}"


def _without_tree(upload: Upload, copies: dict[str, tuple[int, CopySource]]) -> Upload:
    """Return an upload for a file that S3 is known not to have."""
    size, copy = copies.get(upload.sha256 or "", (None, None))
    return attrs.evolve(upload, content_addressed=False, tree=None, copy_of=copy if size == upload.size else None)


def _copy_sources(api: RetryingApi, tree: Tree, expected_owner: ExpectedOwner) -> dict[str, tuple[int, CopySource]]:
    """Return, by hash, the size and the copy source of each object of the directory's last upload."""
    files = cache.load("trees", _cache_key(tree))
    if not files:
        return {}
    earlier = Tree(tree.directory, tree.folder, tree.kms_key, files)
    if earlier.target == tree.target:
        return {}
    found = {}
    for entry in _list_tree(api, earlier, expected_owner):
        sha256 = files.get(entry.key[len(earlier.target.key) + 1 :])
        if sha256 is not None and entry.size <= _LONGEST_COPY:
            found[sha256] = entry.size, CopySource(S3Uri(tree.target.bucket, entry.key), entry.etag)
    return found


def _list_tree(api: RetryingApi, tree: Tree, expected_owner: ExpectedOwner) -> list[ListedObject]:
    """Return the objects of a tree; none if listing is not permitted."""
    from botocore.exceptions import BotoCoreError, ClientError

    place = S3Uri(tree.target.bucket, tree.target.key + "/")
    try:
        return list_objects(api, place, expected_owner)
    except ClientError as error:
        if error_code(error) in {"AccessDenied", "403"}:
            logger.warning(
                "%s: all of %s is uploaded, because finding existing objects requires s3:ListBucket",
                place,
                tree.directory,
            )
            return []
        raise StagingError("the existing objects could not be listed", [(str(place), str(error))]) from error
    except BotoCoreError as error:
        raise StagingError("the existing objects could not be listed", [(str(place), str(error))]) from error

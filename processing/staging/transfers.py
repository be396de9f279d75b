"""The package's only S3 transfer: uploads of files and downloads of prefixes.

Small files and the parts of large ones share one thread pool (`processing.staging.thread_pool`), so latency costs
little for files of any size. The pool bounds the memory, independent of the number and sizes of the files. A file that
changes while it is read is an error. In all cases, Ctrl-C included, a started multipart upload is completed or aborted,
and no partial file is visible under its final name. If obstore is installed, it transfers the small files.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from typing import TYPE_CHECKING, Any, cast

import attrs

from processing.aws.retry import error_code
from processing.exceptions import StagingError
from processing.request.s3_uri import S3Uri
from processing.staging.downloads import Downloader, get_object
from processing.staging.error_text import failure_reason, upload_failure_reason
from processing.staging.listing import downloads_below, list_objects
from processing.staging.multipart import MultipartUpload
from processing.staging.objects import (
    CLAIM_METADATA,
    ClaimedError,
    claim_of,
    encryption_params,
    head_object,
    object_params,
    write_upload,
)
from processing.staging.progress import ProgressMeter
from processing.staging.small_files import BOTOCORE_REQUESTS, SmallFiles
from processing.staging.source_file import SourceFile
from processing.staging.sources import make_directory
from processing.staging.thread_pool import MB, SMALL_FILE, TransferPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from processing.aws.retry import RetryingApi
    from processing.staging.objects import ExpectedOwner
    from processing.staging.pending_uploads import Upload
    from processing.staging.progress import Report

logger = logging.getLogger(__name__)

SINGLE_PUT = 16 * MB
"""A file of up to this many bytes is sent by one PutObject."""

_REMOVAL_SECONDS = 5.0


def upload_all(
    api: RetryingApi,
    uploads: Iterable[Upload],
    *,
    expected_owner: ExpectedOwner,
    progress: Report | None = None,
    workers: int | None = None,
    begun: list[Upload] | None = None,
) -> None:
    """Upload the files. All are tried before the error is raised.

    Args:
        api: the calls to S3.
        uploads: the files and their objects.
        expected_owner: returns the account that must own a bucket; None for any account.
        progress: receives a `Progress` whenever a file, or a part of one, has arrived. An error that it raises ends the
            transfer.
        workers: the most requests in flight; by default the number that suits the client.
        begun: receives each file before its first request, so that `remove_claimed` can remove what an interrupted
            upload has left.

    Raises:
        ClaimedError: another run has created an object that this run has to create.
        StagingError: files could not be uploaded. The message names each with the reason.
    """
    uploads = tuple(uploads)
    if not uploads:
        return
    sizes = [upload.size for upload in uploads]
    total = None if None in sizes else sum(cast("list[int]", sizes))
    with SmallFiles.from_environment(api, len(uploads)) as small_files:
        meter = ProgressMeter(progress, api.clock, len(uploads), total)
        uploader = Uploader(api, expected_owner, small_files, meter, workers, begun)
        failures = uploader.pool.run(uploads)
    for _, error in failures:
        if isinstance(error, ClaimedError):
            raise error
    count = f"{len(failures)} of {len(uploads)} files" if len(uploads) > 1 else "a file"
    _raise_failures(
        [
            (str(upload.source), error, upload_failure_reason(upload, error) if error else "")
            for upload, error in failures
        ],
        f"{count} could not be uploaded",
    )


def remove_claimed(api: RetryingApi, uploads: Iterable[Upload], expected_owner: ExpectedOwner) -> None:
    """Delete the objects that a run has created for a job that does not come to be. Those of other runs stay.

    One warning names what could not be removed. An object that may not be read stays without one, since it may be of
    another run. The user waits for this, so a call has a few seconds.

    Args:
        api: the calls to S3.
        uploads: the files whose objects may exist.
        expected_owner: as for `upload_all`.
    """
    claimed = [upload for upload in uploads if upload.claim is not None]
    removed: set[S3Uri] = set()
    reason: Exception | None = None
    for bucket in sorted({upload.target.bucket for upload in claimed}):  # one may be out of reach
        of_bucket = [upload for upload in claimed if upload.target.bucket == bucket]
        try:
            failures = _remove_from_bucket(api, of_bucket, expected_owner, removed)
        except Exception as error:  # noqa: BLE001 - such as for the credentials; the run has an error of its own
            reason = error
            break
        reason = reason or next((error for _, error in failures if error is not None), None)
    kept = [upload for upload in claimed if upload.target not in removed]
    if kept:
        others = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
        logger.warning("%s%s: not needed any more, and could not be removed: %s", kept[0].target, others, reason)


def _remove_from_bucket(
    api: RetryingApi, uploads: Sequence[Upload], expected_owner: ExpectedOwner, removed: set[S3Uri]
) -> list[tuple[Upload, Exception | None]]:
    """Delete the objects of one bucket, and return the failures. Record what is not there any more."""
    policy = attrs.evolve(api.policy, attempts=3, budget=_REMOVAL_SECONDS, patience=_REMOVAL_SECONDS)

    def remove(upload: Upload) -> None:
        place = object_params(upload.target, expected_owner)
        limits: dict[str, Any] = {"on_failure": pool.record_failure, "policy": policy}
        if claim_of(head_object(api, place, **limits)) == upload.claim:
            api.call("s3", "DeleteObject", place, **limits)
        removed.add(upload.target)

    meter = ProgressMeter(None, api.clock, len(uploads), None)
    pool: TransferPool[Upload] = TransferPool(remove, BOTOCORE_REQUESTS, meter)
    return pool.run(uploads)


def download_prefix(
    api: RetryingApi,
    uri: S3Uri,
    to: Path,
    *,
    expected_owner: ExpectedOwner,
    extra: Mapping[str, Any] | None = None,
    progress: Report | None = None,
    workers: int | None = None,
) -> list[Path]:
    """Download an object, or everything below a prefix, into a directory.

    Args:
        api: the calls to S3.
        uri: an object or a prefix. Keys that only begin with the same letters (`out2/` for `out`) are not below it.
        to: the directory, created if missing. Files of the same names are replaced.
        expected_owner: as for `upload_all`.
        extra: further parameters of GetObject.
        progress: as for `upload_all`.
        workers: as for `upload_all`.

    Returns:
        The files, sorted.

    Raises:
        StagingError: objects could not be downloaded, each named. If a key is not a path inside the directory, nothing
            is downloaded.
    """
    with SmallFiles.from_environment(api) as small_files:
        with small_files.learn("ListObjectsV2", {"Bucket": uri.bucket}):
            listed = list_objects(api, uri, expected_owner, extra)
        downloads = downloads_below(uri, listed, to)
        make_directory(to)
        small_files.expect_files(len(downloads))
        meter = ProgressMeter(progress, api.clock, len(downloads), sum(entry.object.size for entry in downloads))
        downloader = Downloader(api, uri.bucket, expected_owner, dict(extra or {}), small_files, meter, workers)
        failures = downloader.pool.run(downloads)
    places = [(S3Uri(uri.bucket, entry.object.key), error) for entry, error in failures]
    _raise_failures(
        [(str(place), error, failure_reason(error, place) if error else "") for place, error in places],
        f"{len(failures)} of {len(downloads)} objects could not be downloaded",
    )
    return sorted(entry.path for entry in downloads)


def put_bytes(
    api: RetryingApi, body: bytes, target: S3Uri, *, kms_key: str | None = None, expected_owner: ExpectedOwner
) -> None:
    """Put an object with this content."""
    api.call("s3", "PutObject", {**object_params(target, expected_owner), **encryption_params(kms_key), "Body": body})


def get_bytes(api: RetryingApi, source: S3Uri, *, expected_owner: ExpectedOwner) -> bytes:
    """Return an object's content, which has to fit into memory."""
    return get_object(api, object_params(source, expected_owner), lambda answer: cast("bytes", answer["Body"].read()))


def _raise_failures(failures: list[tuple[str, Exception | None, str]], message: str) -> None:
    """Raise one error for all failures (name, error, reason), if there are any."""
    if failures:
        # The first ones are listed in the text, so those with a reason precede.
        tried = sorted((name, reason) for name, _, reason in failures if reason)
        rest = sorted((name, "not tried after the earlier failures") for name, _, reason in failures if not reason)
        raise StagingError(message, [*tried, *rest]) from next((error for _, error, _ in failures if error), None)


class Uploader:
    """Uploads the files of one call of `upload_all`."""

    def __init__(
        self,
        api: RetryingApi,
        expected_owner: ExpectedOwner,
        small_files: SmallFiles,
        meter: ProgressMeter,
        workers: int | None,
        begun: list[Upload] | None = None,
    ) -> None:
        self.api = api
        self.expected_owner = expected_owner
        self.pool: TransferPool[Upload] = TransferPool(self.send, workers or small_files.max_requests, meter)
        self._small_files = small_files
        self._begun = [] if begun is None else begun

    def place(self, upload: Upload) -> dict[str, Any]:
        """Return the parameters of an upload's location."""
        return object_params(upload.target, self.expected_owner)

    def settings(self, upload: Upload) -> dict[str, Any]:
        """Return all parameters of an upload except its content."""
        claim = {} if upload.claim is None else {"Metadata": {CLAIM_METADATA: upload.claim}}
        return {**dict(upload.extra), **claim, **self.place(upload), **encryption_params(upload.kms_key)}

    def send(self, upload: Upload) -> Callable[[], None] | None:
        """Upload a file. If it needs many parts, return the function that sends them instead."""
        self._begun.append(upload)
        if upload.copy_of is not None and self._copy(upload):
            size = upload.size or 0
        elif upload.body is not None:
            size = len(upload.body)
            if not self._exists(upload, size):
                self._put_content(upload, upload.body)
        else:
            with SourceFile(upload.source) as source:
                # A file that is hashed while it is sent goes in parts unless it is small. Parts are in memory, and the
                # upload need not be completed if the hash is wrong.
                if source.size > (SINGLE_PUT if upload.sha256 is None else SMALL_FILE):
                    return functools.partial(self._send_large, upload)
                size = source.size
                if not self._exists(upload, size):
                    self._send_small(upload, source)
        self.pool.record_arrival(size, 1)
        return None

    def _send_small(self, upload: Upload, source: SourceFile) -> None:
        if source.size <= SMALL_FILE:
            content = source.content()
            if upload.sha256 is not None and upload.sha256 != hashlib.sha256(content).hexdigest():
                raise StagingError("the file changed after its content was named")
            self._put_content(upload, content)
        else:
            try:
                self._put(upload, lambda: {"Body": source.stream()})
            except Exception:
                source.check_unchanged()  # a change may be the reason why S3 refused the body
                raise
        source.check_unchanged()

    def _send_large(self, upload: Upload) -> None:
        with SourceFile(upload.source) as source:
            if self._exists(upload, source.size):
                self.pool.record_arrival(source.size, 1)
            else:
                MultipartUpload(self, upload, source).send()
                self.pool.record_arrival(0, 1)

    def _exists(self, upload: Upload, size: int) -> bool:
        """Return whether an object whose key names the content, and the KMS key, exists already.

        Files of a directory that reach this point are known to be missing: a listing was compared before.

        Raises:
            StagingError: the existing object cannot be that content. A job must not read it, and another may be reading
                it.
        """
        if not upload.content_addressed or upload.tree is not None:
            return False
        found = head_object(self.api, self.place(upload))
        if found is None:
            return False
        if found.get("ContentLength") != size:
            raise StagingError(
                f"{upload.target} has {found.get('ContentLength')} bytes, but its name stands for content of {size}: "
                "the object was replaced; remove it"
            )
        return True

    def _put_content(self, upload: Upload, content: bytes) -> None:
        def params() -> dict[str, Any]:
            condition = {} if upload.claim is None and not upload.content_addressed else {"IfNoneMatch": "*"}
            return {**self.settings(upload), **condition}

        if not self._small_files.put(upload, params, content, self.pool.record_failed_request):
            with self._small_files.learn("PutObject", params()):
                self._put(upload, lambda: {"Body": content})

    def _put(self, upload: Upload, body: Callable[[], Mapping[str, Any]]) -> None:
        settings = self.settings(upload)

        def put(condition: Mapping[str, str]) -> object:
            return self.api.call(
                "s3", "PutObject", lambda: {**settings, **body(), **condition}, on_failure=self.pool.record_failure
            )

        write_upload(self.api, upload, self.place(upload), put)

    def _copy(self, upload: Upload) -> bool:
        """Let S3 copy the content from an object that has it. Return False if the file has to be uploaded instead."""
        from botocore.exceptions import ClientError

        assert upload.copy_of is not None
        source = upload.copy_of.source
        owner = self.expected_owner(source.bucket)
        params = {
            **self.settings(upload),
            "CopySource": {"Bucket": source.bucket, "Key": source.key},
            "CopySourceIfMatch": upload.copy_of.etag,
            **({} if owner is None else {"ExpectedSourceBucketOwner": owner}),
        }
        try:
            self.api.call("s3", "CopyObject", params, on_failure=self.pool.record_failure)
        except ClientError as error:
            if error_code(error) in _COPY_NOT_POSSIBLE:
                return False
            raise
        return True


# The object is gone or has changed, may not be read, or exceeds the 5 GB of one CopyObject.
_COPY_NOT_POSSIBLE = frozenset(
    {"NoSuchKey", "NoSuchBucket", "404", "PreconditionFailed", "412", "AccessDenied", "403", "InvalidRequest"}
)

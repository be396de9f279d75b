"""The one S3 transfer of the package: files up, prefixes down.

Small files and the parts of large ones share one pool of threads (`processing.staging.thread_pool`), so that latency
costs little whatever the sizes; memory is bounded by the pool, not by files or sizes. A file that changes while it is
read is an error. Whatever happens, Ctrl-C included, a multipart upload that was begun is completed or aborted, and
nothing half-written is seen under its final name. Where obstore is installed, it sends and fetches the small files.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any, cast

from processing.aws.retry import error_code
from processing.exceptions import StagingError
from processing.staging.downloads import Downloader, get_object
from processing.staging.error_text import failure_reason, upload_failure_reason
from processing.staging.listing import Download, downloads_below, list_objects
from processing.staging.multipart import MultipartUpload
from processing.staging.objects import (
    CLAIM_METADATA,
    ClaimedError,
    encryption_params,
    head_object,
    object_params,
    write_upload,
)
from processing.staging.obstore import ObstoreClient
from processing.staging.progress import ProgressMeter
from processing.staging.source_file import SourceFile
from processing.staging.thread_pool import MB, SMALL_FILE, TransferPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from processing.aws.retry import RetryingApi
    from processing.request.s3_uri import S3Uri
    from processing.staging.objects import ExpectedOwner
    from processing.staging.pending_uploads import Upload
    from processing.staging.progress import Report

SINGLE_PUT = 16 * MB
"""Bytes up to which a file is one PutObject."""


def upload_all(
    api: RetryingApi,
    uploads: Iterable[Upload],
    *,
    expected_owner: ExpectedOwner,
    progress: Report | None = None,
    workers: int | None = None,
) -> None:
    """Upload the files; all are tried before the error is raised.

    Args:
        api: the calls to S3.
        uploads: the files and where they go.
        expected_owner: the account that a bucket has to belong to; None for one that may be anybody's.
        progress: takes a `Progress` whenever a file, or a part of one, has arrived. What it raises ends the transfer.
        workers: requests in flight at most; as many as the transport is good for where left out.

    Raises:
        ClaimedError: another run has put an object that this one has to put.
        StagingError: names every file that was not uploaded, and why.
    """
    uploads = tuple(uploads)
    if not uploads:
        return
    sizes = [upload.size for upload in uploads]
    total = None if None in sizes else sum(cast("list[int]", sizes))
    with ObstoreClient.from_environment(api) as obstore:
        obstore.expect_files(len(uploads))
        uploader = Uploader(
            api, expected_owner, obstore, ProgressMeter(progress, api.clock, len(uploads), total), workers
        )
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
        uri: an object, or a prefix. What only begins with the same letters (`out2/` for `out`) is not below it.
        to: the directory; made if missing. Files of the same names are replaced.
        expected_owner: as for `upload_all`.
        extra: more parameters of GetObject.
        progress: as for `upload_all`.
        workers: as for `upload_all`.

    Returns:
        The files, sorted.

    Raises:
        StagingError: names every object that was not fetched. Where a key is no path inside the directory, nothing is.
    """
    with ObstoreClient.from_environment(api) as obstore:
        with obstore.learn_route(uri.bucket, ""):
            listed = list_objects(api, uri, expected_owner, extra)
        downloads = downloads_below(uri, listed, to)
        to.mkdir(parents=True, exist_ok=True)
        obstore.expect_files(len(downloads))
        meter = ProgressMeter(progress, api.clock, len(downloads), sum(entry.object.size for entry in downloads))
        downloader = Downloader(api, uri.bucket, expected_owner, dict(extra or {}), obstore, meter, workers)
        failures = downloader.pool.run(downloads)
    _raise_failures(
        [(_name(uri, entry), error, failure_reason(error) if error else "") for entry, error in failures],
        f"{len(failures)} of {len(downloads)} objects could not be downloaded",
    )
    return sorted(entry.path for entry in downloads)


def put_bytes(
    api: RetryingApi, body: bytes, target: S3Uri, *, kms_key: str | None = None, expected_owner: ExpectedOwner
) -> None:
    """Put an object with the given content."""
    api.call("s3", "PutObject", {**object_params(target, expected_owner), **encryption_params(kms_key), "Body": body})


def get_bytes(api: RetryingApi, source: S3Uri, *, expected_owner: ExpectedOwner) -> bytes:
    """Return an object's content; it has to fit in memory."""
    return get_object(api, object_params(source, expected_owner), lambda answer: cast("bytes", answer["Body"].read()))


def _name(uri: S3Uri, entry: Download) -> str:
    return f"s3://{uri.bucket}/{entry.object.key}"


def _raise_failures(failures: list[tuple[str, Exception | None, str]], message: str) -> None:
    """Raise one error for all the failures (name, error, reason), if there are any."""
    if failures:
        named = [(name, reason or "not tried, after the failures before it") for name, _, reason in failures]
        raise StagingError(message, sorted(named)) from next((error for _, error, _ in failures if error), None)


class Uploader:
    """Uploads the files of one call of `upload_all`."""

    def __init__(
        self,
        api: RetryingApi,
        expected_owner: ExpectedOwner,
        obstore: ObstoreClient,
        meter: ProgressMeter,
        workers: int | None,
    ) -> None:
        self.api = api
        self.expected_owner = expected_owner
        self.pool: TransferPool[Upload] = TransferPool(self.send, workers or obstore.max_requests, meter)
        self._obstore = obstore

    def place(self, upload: Upload) -> dict[str, Any]:
        """Return the parameters that say where an upload goes."""
        return object_params(upload.target, self.expected_owner)

    def settings(self, upload: Upload) -> dict[str, Any]:
        """Return these, and all others that an upload has but its content."""
        claim = {} if upload.claim is None else {"Metadata": {CLAIM_METADATA: upload.claim}}
        return {**dict(upload.extra), **claim, **self.place(upload), **encryption_params(upload.kms_key)}

    def send(self, upload: Upload) -> Callable[[], None] | None:
        """Upload a file; where it takes many parts, return what does so."""
        if upload.copy_of is not None and self._copy(upload):
            size = upload.size or 0
        elif upload.body is not None:
            size = len(upload.body)
            if not self._exists(upload, size):
                self._put_content(upload, upload.body)
        else:
            with SourceFile(upload.source) as source:
                # What has to be hashed on its way goes in parts where it is not small: those are in memory, and the
                # last step can be refused.
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
            if upload.sha256 not in {None, hashlib.sha256(content).hexdigest()}:
                raise StagingError("the file changed after its content was named")
            self._put_content(upload, content)
        else:
            try:
                self._put(upload, lambda: {"Body": source.stream()})
            except Exception:
                source.check_unchanged()  # it may be why S3 refused the body
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
        """Whether an object whose key names the content, and the KMS key, is there already.

        Of a whole directory's files a listing has told so before: what comes here is missing.

        Raises:
            StagingError: what is there cannot be that content: a job must not get it, and another may be reading it.
        """
        if not upload.content_addressed or upload.tree is not None:
            return False
        found = head_object(self.api, self.place(upload))
        if found is None:
            return False
        if found.get("ContentLength") != size:
            raise StagingError(
                f"{upload.target} has {found.get('ContentLength')} bytes, and by its name it would have {size}: "
                "somebody has put something else there; remove it"
            )
        return True

    def _put_content(self, upload: Upload, content: bytes) -> None:
        if not self._obstore.put(upload, content, self.pool.slow_down):
            with self._obstore.learn_route(upload.target.bucket, upload.target.key):
                self._put(upload, lambda: {"Body": content})

    def _put(self, upload: Upload, body: Callable[[], Mapping[str, Any]]) -> None:
        settings = self.settings(upload)

        def put(condition: Mapping[str, str]) -> object:
            return self.api.call(
                "s3", "PutObject", lambda: {**settings, **body(), **condition}, on_failure=self.pool.record_failure
            )

        write_upload(self.api, upload, self.place(upload), put)

    def _copy(self, upload: Upload) -> bool:
        """Let S3 copy the content from an object that has it; False where it has to be uploaded after all."""
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


# The object has gone or changed, may not be read, or is larger than the 5 GB that are copied at once.
_COPY_NOT_POSSIBLE = frozenset(
    {"NoSuchKey", "NoSuchBucket", "404", "PreconditionFailed", "412", "AccessDenied", "403", "InvalidRequest"}
)

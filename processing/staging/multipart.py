"""Multipart uploads: the parts of a large file are sent in parallel, and become one object or none."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Protocol

from processing.aws.retry import error_code
from processing.exceptions import StagingError
from processing.staging.objects import head_object, shared_params, write_upload
from processing.staging.thread_pool import MB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from processing.aws.checksums import Digest
    from processing.aws.retry import RetryingApi
    from processing.staging.pending_uploads import Upload
    from processing.staging.thread_pool import TransferPool

logger = logging.getLogger(__name__)

_PART_SIZE = 8 * MB  # as boto3's own transfers: ten parts fit into the memory of the pool
_MAX_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_CONDITIONS = frozenset({"IfMatch", "IfNoneMatch"})  # CompleteMultipartUpload alone takes them


class PartSource(Protocol):
    """The content of a multipart upload."""

    @property
    def size(self) -> int:
        """The number of bytes."""

    def stream_part(self, offset: int, size: int) -> Callable[[], Any]:
        """Return a function that returns a file-like object over a range, for each attempt. Called in order."""

    def block(self, offset: int, size: int) -> bytes:
        """Return the bytes of a range."""

    def check_unchanged(self) -> None:
        """Raise a StagingError if the content has changed."""


class UploadContext(Protocol):
    """The transfer that a multipart upload belongs to, as far as it uses it."""

    @property
    def api(self) -> RetryingApi:
        """The calls to S3."""

    def place(self, upload: Upload) -> dict[str, Any]:
        """Return the bucket, the key and the expected owner."""

    def settings(self, upload: Upload) -> dict[str, Any]:
        """Return the parameters of `place`, the encryption and the user's own parameters."""

    @property
    def pool(self) -> TransferPool[Upload]:
        """The pool that sends the parts."""


class MultipartUpload:
    """One multipart upload, which is completed or aborted."""

    def __init__(self, context: UploadContext, upload: Upload, source: PartSource) -> None:
        self._context = context
        self._api = context.api
        self._upload = upload
        self._source = source
        self._pool = context.pool
        # A whole number of MB, large enough to stay below the limit of parts.
        self._part_size = max(_PART_SIZE, -(-source.size // (_MAX_PARTS * MB)) * MB)
        self._parts: list[Future[dict[str, Any]]] = []
        self._failed = False
        self._place: dict[str, Any] = context.place(upload)

    def send(self) -> None:
        """Upload the content."""
        settings = {**self._checksum(), **self._context.settings(self._upload)}
        settings = {name: value for name, value in settings.items() if name not in _CONDITIONS}
        self._place["UploadId"] = self._api.call("s3", "CreateMultipartUpload", settings)["UploadId"]
        try:
            parts = self._send_parts()
            self._source.check_unchanged()
            completed = self._complete(parts)
        except BaseException as error:
            self._abort()
            if isinstance(error, Exception):
                self._source.check_unchanged()  # a change may be the reason why S3 refused a part
            raise
        if not completed:
            self._abort()

    def _user_params(self, operation: str) -> dict[str, Any]:
        """Return those of the user's own parameters that an operation has."""
        return shared_params(self._api, operation, dict(self._upload.extra))

    def _checksum(self) -> dict[str, str]:
        """Let S3 keep a checksum of the whole object, as for one PutObject, so that any reader can verify it."""
        client = self._api.client("s3")
        if client.meta.config.request_checksum_calculation != "when_supported":  # perhaps another S3, without checksums
            return {}
        if "ChecksumAlgorithm" in dict(self._upload.extra):
            return {}
        return {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}

    def _send_parts(self) -> list[dict[str, Any]]:
        """Upload as many parts at a time as the pool has memory for."""
        import hashlib
        from concurrent.futures import FIRST_EXCEPTION, wait

        digest = hashlib.sha256()
        for number, offset in enumerate(range(0, self._source.size, self._part_size), 1):
            size = min(self._part_size, self._source.size - offset)
            self._pool.acquire_memory(size)
            try:
                body = self._body(offset, size, digest)
            except BaseException:
                self._pool.release_memory(size)
                raise
            part = self._pool.submit(functools.partial(self._send_part, number, size, body))
            part.add_done_callback(functools.partial(self._part_done, size))
            self._parts.append(part)
            if self._failed:
                break
        wait(self._parts, return_when=FIRST_EXCEPTION)
        parts = [part.result() for part in self._parts]
        if self._upload.sha256 not in {None, digest.hexdigest()}:
            raise StagingError("the file changed after its content was named")
        return parts

    def _body(self, offset: int, size: int, digest: Digest) -> Callable[[], Any]:
        """Return a function that returns the part's body for each attempt."""
        if self._upload.sha256 is None:
            return self._source.stream_part(offset, size)
        block = self._source.block(offset, size)  # in order, and the hashed bytes are those that are sent
        digest.update(block)
        return lambda: block

    def _part_done(self, size: int, part: Future[dict[str, Any]]) -> None:
        self._pool.release_memory(size)
        # Several threads may be here: none may set the flag back.
        if part.cancelled() or part.exception() is not None:
            self._failed = True

    def _send_part(self, number: int, size: int, body: Callable[[], Any]) -> dict[str, Any]:
        params = {**self._user_params("UploadPart"), **self._place, "PartNumber": number}
        answer = self._api.call(
            "s3", "UploadPart", lambda: {**params, "Body": body()}, on_failure=self._pool.record_failure
        )
        self._pool.record_arrival(size)
        checksums = {
            name: value for name, value in answer.items() if name.startswith("Checksum") and name[-4:] != "Type"
        }
        return {"PartNumber": number, "ETag": answer["ETag"], **checksums}

    def _complete(self, parts: list[dict[str, Any]]) -> bool:
        """Create the object from the parts. Return False if the key exists already and the parts are not used."""
        from botocore.exceptions import ClientError

        completed = False
        params = {**self._user_params("CompleteMultipartUpload"), **self._place, "MultipartUpload": {"Parts": parts}}

        def complete(condition: Mapping[str, str]) -> None:
            nonlocal completed
            self._api.call("s3", "CompleteMultipartUpload", {**params, **condition})
            completed = True

        try:
            write_upload(self._api, self._upload, self._context.place(self._upload), complete)
        except ClientError as error:
            # The response to an earlier attempt was lost: the upload is gone because it was completed.
            if error_code(error) != "NoSuchUpload" or not self._is_complete(len(parts)):
                raise
        return completed

    def _is_complete(self, count: int) -> bool:
        found = head_object(self._api, {**self._user_params("HeadObject"), **self._context.place(self._upload)})
        if found is None or found.get("ContentLength") != self._source.size:
            return False
        return str(found.get("ETag", "")).strip('"').endswith(f"-{count}")

    def _abort(self) -> None:
        """Remove the parts: S3 would keep them invisibly, and charge for them."""
        from concurrent.futures import wait

        for part in self._parts:
            part.cancel()
        wait([part for part in self._parts if not part.cancelled()])
        try:
            self._api.call("s3", "AbortMultipartUpload", {**self._user_params("AbortMultipartUpload"), **self._place})
        except Exception as error:  # noqa: BLE001 - the error that caused the abort is raised
            if error_code(error) != "NoSuchUpload":
                logger.warning(
                    "multipart upload %s of %s could not be aborted; its parts stay: %s",
                    self._place["UploadId"],
                    self._upload.target,
                    error,
                )

"""Multipart uploads: of a large file's parts many at once, and in the end one object or none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from processing.exceptions import StagingError
from processing.retrying import error_code
from processing.staging.objects import head, write

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from processing.retrying import RetryingApi
    from processing.staging.plan import Upload
    from processing.staging.reading import Source

logger = logging.getLogger(__name__)

MB = 1024 * 1024
_PART = 8 * MB
_MOST_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_IN_FLIGHT = 64 * MB  # bytes of one file's parts in memory


class Sender(Protocol):
    """What a multipart upload needs of the transfer that it belongs to."""

    @property
    def api(self) -> RetryingApi:
        """The calls to S3."""

    def place(self, upload: Upload) -> dict[str, Any]:
        """Return bucket, key and expected owner."""

    def settings(self, upload: Upload) -> dict[str, Any]:
        """Return these, the encryption and what else the user wants."""

    def arrived(self, size: int) -> None:
        """Take note of bytes that have arrived."""


class Multipart:
    """One multipart upload: completed, or aborted."""

    def __init__(self, sender: Sender, upload: Upload, source: Source, pool: Executor) -> None:
        self._sender = sender
        self._api = sender.api
        self._upload = upload
        self._source = source
        self._pool = pool
        # Parts of a whole number of MB, as many bytes as it takes to stay below the limit of parts.
        self._part_size = max(_PART, -(-source.size // (_MOST_PARTS * MB)) * MB)
        self._in_flight: set[Future[dict[str, Any]]] = set()
        self._place: dict[str, Any] = sender.place(upload)

    def send(self) -> None:
        """Upload the file."""
        answer = self._api.call("s3", "CreateMultipartUpload", self._sender.settings(self._upload))
        self._place["UploadId"] = answer["UploadId"]
        try:
            parts = self._send_parts()
            self._source.check_unchanged()
            self._complete(parts)
        except BaseException:
            self._abort()
            raise

    def _send_parts(self) -> list[dict[str, Any]]:
        """Read the file once, in order, and upload its parts as they come."""
        import hashlib
        from concurrent.futures import FIRST_COMPLETED, wait

        digest = hashlib.sha256()
        window = max(2, _IN_FLIGHT // self._part_size)
        parts: list[dict[str, Any]] = []
        for number, block in enumerate(self._source.blocks(self._part_size), 1):
            if self._upload.sha256 is not None:
                digest.update(block)
            if len(self._in_flight) >= window:
                done, self._in_flight = wait(self._in_flight, return_when=FIRST_COMPLETED)
                parts += [future.result() for future in done]
            self._in_flight.add(self._pool.submit(self._send_part, number, block))
        while self._in_flight:
            done, self._in_flight = wait(self._in_flight, return_when=FIRST_COMPLETED)
            parts += [future.result() for future in done]
        if self._upload.sha256 not in {None, digest.hexdigest()}:
            raise StagingError("the file changed after its content was named")
        return sorted(parts, key=lambda part: int(part["PartNumber"]))

    def _send_part(self, number: int, block: bytes) -> dict[str, Any]:
        answer = self._api.call("s3", "UploadPart", {**self._place, "PartNumber": number, "Body": block})
        self._sender.arrived(len(block))
        checksums = {
            name: value for name, value in answer.items() if name.startswith("Checksum") and name[-4:] != "Type"
        }
        return {"PartNumber": number, "ETag": answer["ETag"], **checksums}

    def _complete(self, parts: list[dict[str, Any]]) -> None:
        from botocore.exceptions import ClientError

        params = {**self._place, "MultipartUpload": {"Parts": parts}}
        try:
            write(
                self._api,
                self._upload,
                self._sender.place(self._upload),
                lambda condition: self._api.call("s3", "CompleteMultipartUpload", {**params, **condition}),
            )
        except ClientError as error:
            # The answer to an earlier try was lost: the upload is gone because it was completed.
            if error_code(error) != "NoSuchUpload" or not self._is_complete(len(parts)):
                raise

    def _is_complete(self, count: int) -> bool:
        found = head(self._api, self._sender.place(self._upload))
        if found is None or found.get("ContentLength") != self._source.size:
            return False
        return str(found.get("ETag", "")).strip('"').endswith(f"-{count}")

    def _abort(self) -> None:
        """Leave no parts behind: S3 would keep them, unseen, and charge for them."""
        from concurrent.futures import wait

        for future in self._in_flight:
            future.cancel()
        wait(self._in_flight)
        try:
            self._api.call("s3", "AbortMultipartUpload", self._place)
        except Exception as error:  # noqa: BLE001 - what made us abort is the news
            if error_code(error) != "NoSuchUpload":
                logger.warning(
                    "multipart upload %s of %s could not be aborted; its parts stay: %s",
                    self._place["UploadId"],
                    self._upload.target,
                    error,
                )

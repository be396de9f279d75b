"""Downloads: an object gets its final file name only when all its bytes have arrived and are verified.

A small object takes one request. A large one is fetched in ranges, many at once, which are written in order, so its
temporary file always holds the beginning of the object. After an interruption the next download continues there, if the
object is unchanged and S3 keeps a checksum to verify the whole in the end.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import secrets
import stat
from collections import deque
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from processing.aws.refusals import add_explanation
from processing.aws.truncation import check_response
from processing.exceptions import StagingError
from processing.request.s3_uri import S3Uri
from processing.staging.checksums import new_verifier
from processing.staging.objects import head_object, object_params, shared_params
from processing.staging.ranges import fetch_range, is_fast
from processing.staging.thread_pool import MB, SMALL_FILE, TransferPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from processing.aws.retry import Failure, RetryingApi
    from processing.staging.checksums import ChecksumVerifier, PartDigests
    from processing.staging.listing import Download
    from processing.staging.objects import ExpectedOwner
    from processing.staging.progress import ProgressMeter
    from processing.staging.small_files import SmallFiles

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Ten ranges fit into the memory of the pool. With twenty of half the size, botocore's work for each request cost a
# fifth more processor time, and 512 MB took a fifth longer.
_RANGE_SIZE = 8 * MB
_BLOCK = MB  # bytes of a file that are read and hashed at a time
# Bytes that are written at a time. A larger write makes Linux look for larger pages of memory: 8 MB at a time cost four
# times the processor time once memory is fragmented.
_PIECE = MB // 4


def get_object(
    api: RetryingApi,
    params: Mapping[str, Any],
    use: Callable[[Mapping[str, Any]], T],
    on_failure: Callable[[Failure], None] | None = None,
) -> T:
    """Get an object and use the response, including its body. If either fails in transit, repeat both.

    botocore compares the length of the body, and the bytes with the checksum that S3 keeps.
    """

    def get() -> T:
        client = api.client("s3")  # a later try may have another one, with renewed credentials
        answer = client.get_object(**params)
        check_response(client, "GetObject", answer)
        try:
            return use(answer)
        finally:
            answer["Body"].close()

    try:
        return api.attempt("GetObject", get, on_failure=on_failure)
    except Exception as error:
        add_explanation(error, params)
        raise


class Downloader:
    """Downloads the objects of one call of `download_prefix`."""

    def __init__(
        self,
        api: RetryingApi,
        bucket: str,
        expected_owner: ExpectedOwner,
        extra: dict[str, Any],
        small_files: SmallFiles,
        meter: ProgressMeter,
        workers: int | None,
    ) -> None:
        self.api = api
        self.pool: TransferPool[Download] = TransferPool(self.get, workers or small_files.max_requests, meter)
        self.extra = extra
        self._bucket = bucket
        self._expected_owner = expected_owner
        self._small_files = small_files
        self._folders: set[Path] = set()  # that exist

    def place(self, download: Download) -> dict[str, Any]:
        """Return the parameters of an object's location."""
        return object_params(S3Uri(self._bucket, download.object.key), self._expected_owner)

    def get(self, download: Download) -> Callable[[], None] | None:
        """Download an object. If it is large, return the function that fetches it in ranges instead."""
        folder = download.path.parent
        if folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        if download.object.size > SMALL_FILE:
            return functools.partial(self._get_large, download)
        params = {**self.extra, **self.place(download)}
        content = self._small_files.get(download.object, params, self.pool.record_failed_request)
        if content is None:
            with atomic_file(download.path) as file, self._small_files.learn("GetObject", params):
                self._get_small(download, file)
        else:
            write_atomically(download.path, content)
        self.pool.record_arrival(download.object.size, 1)
        return None

    def _get_small(self, download: Download, file: BinaryIO) -> None:
        def save(answer: Mapping[str, Any]) -> None:
            file.seek(0)
            file.truncate()
            # botocore compares the checksums that it can compute; the ETag may say more.
            verifier = None if answer.keys() & _VERIFIED_BY_BOTOCORE else new_verifier(answer, lambda: None)
            while block := answer["Body"].read(_BLOCK):
                write_block(file, block)
                if verifier is not None:
                    verifier.update(block)
            if verifier is not None and not verifier.matches():
                raise StagingError(CHECKSUM_MISMATCH)

        get_object(self.api, {**self.extra, **self.place(download)}, save, self.pool.record_failure)

    def _get_large(self, download: Download) -> None:
        found = head_object(self.api, {**self._head_parameters(), **self.place(download), "ChecksumMode": "ENABLED"})
        if found is None:  # GetObject raises the reason
            with atomic_file(download.path) as file:
                self._get_small(download, file)
            self.pool.record_arrival(download.object.size, 1)
            return
        RangedDownload(self, download, found).get()
        self.pool.record_arrival(0, 1)

    def _head_parameters(self) -> dict[str, Any]:
        return shared_params(self.api, "HeadObject", self.extra)

    def part_size(self, download: Download) -> int | None:
        """Return the size in bytes of the first part of a multipart object."""
        found = head_object(self.api, {**self._head_parameters(), **self.place(download), "PartNumber": 1})
        return None if found is None else int(found["ContentLength"])


_VERIFIED_BY_BOTOCORE = frozenset({"ChecksumCRC32", "ChecksumSHA1", "ChecksumSHA256"})
CHECKSUM_MISMATCH = "the received bytes do not match the checksum in S3"


_Range = tuple[bytearray, "PartDigests | None"]


class RangedDownload:
    """The download of one large object in ranges."""

    def __init__(self, downloader: Downloader, download: Download, found: Mapping[str, Any]) -> None:
        self._downloader = downloader
        self._pool = downloader.pool
        self._download = download
        self._found = found
        self._size = int(found["ContentLength"])
        self._etag = str(found["ETag"])
        self._params = {**downloader.extra, **downloader.place(download), "IfMatch": self._etag}
        # Buffers of ranges that have been written. New memory for each range would double the processor time.
        self._buffers: deque[bytearray] = deque()

    def get(self) -> None:
        """Download the object, continuing after the bytes of an earlier attempt."""
        verifier = self._verifier()
        if verifier is None:
            logger.info(
                "%s: S3 keeps no checksum that can be computed here, so only the length is compared",
                self._download.path,
            )
        name = f"{self._download.path.name}\0{self._params['Bucket']}\0{self._params['Key']}\0{self._etag}"
        with resumable_file(self._download.path, name) as file:
            existing = self._verify_existing(file, verifier)
            self._pool.record_arrival(existing)
            self._fetch_rest(file, existing, verifier)
            if verifier is not None and not verifier.matches():
                # Either these bytes or those of an earlier attempt are wrong, so the next attempt must not use them.
                file.truncate(0)
                raise StagingError(CHECKSUM_MISMATCH)

    def _verifier(self) -> ChecksumVerifier | None:
        return new_verifier(self._found, functools.partial(self._downloader.part_size, self._download))

    def _verify_existing(self, file: BinaryIO, verifier: ChecksumVerifier | None) -> int:
        """Add the bytes of an earlier attempt to the verifier and return their number.

        Bytes that cannot be verified are discarded.
        """
        if verifier is None or file.seek(0, os.SEEK_END) > self._size:
            file.seek(0)
            file.truncate()
            return 0
        file.seek(0)
        while block := file.read(_BLOCK):
            verifier.update(block)
        return file.tell()

    def _fetch_rest(self, file: BinaryIO, offset: int, verifier: ChecksumVerifier | None) -> None:
        """Fetch the missing bytes, and write them in order.

        Ranges are fetched ahead as far as the pool has memory for them. Writing the first one releases its memory.
        """
        ahead: deque[tuple[int, Future[_Range]]] = deque()

        def write_first() -> None:
            size, future = ahead.popleft()
            try:
                buffer, digests = future.result()
                for start in range(0, size, _PIECE):
                    piece = memoryview(buffer)[start : min(start + _PIECE, size)]
                    write_block(file, piece)
                    if verifier is not None and digests is None:
                        verifier.update(piece)
                if verifier is not None and digests is not None:
                    verifier.append(digests)
                self._buffers.append(buffer)
            finally:
                self._pool.release_memory(size)

        try:
            for start in range(offset, self._size, _RANGE_SIZE):
                size = min(_RANGE_SIZE, self._size - start)
                # Wait for memory only if this download holds none: its own memory becomes free by writing.
                while not self._pool.acquire_memory(size, wait=not ahead):
                    write_first()
                ahead.append((size, self._pool.submit(functools.partial(self._fetch, start, size, verifier))))
                while ahead and ahead[0][1].done():
                    write_first()
            while ahead:
                write_first()
        finally:
            for size, future in ahead:
                future.cancel()
                future.add_done_callback(functools.partial(self._release, size))

    def _release(self, size: int, _future: object) -> None:
        self._pool.release_memory(size)

    def _fetch(self, start: int, size: int, verifier: ChecksumVerifier | None) -> _Range:
        """Return a buffer whose first bytes are the range, with the digests of the range."""
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = bytearray(min(_RANGE_SIZE, self._size))
        digests = verifier.range_digests(start) if verifier is not None and is_fast() else None
        fetch_range(
            self._downloader.api,
            self._params,
            range(start, start + size),
            self._size,
            memoryview(buffer)[:size],
            None if digests is None else digests.update,
            self._pool.record_failure,
        )
        self._pool.record_arrival(size)
        return buffer, digests


def write_block(file: BinaryIO, block: bytes | memoryview) -> None:
    """Write to a file. An error is final, as in `_final_errors`."""
    with _final_errors():
        file.write(block)


@contextlib.contextmanager
def _final_errors() -> Iterator[None]:
    """Make a full disk a final error: fetching the object again would not help."""
    try:
        yield
    except OSError as error:
        raise StagingError(f"cannot be written: {error}") from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file beside the path. It gets the path's name at the end, and is removed after an error."""
    with _temporary_name(path) as temporary, open(temporary, "x+b") as file:  # noqa: PTH123 - a name
        yield file


_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file, which gets its name when it is complete.

    It uses no file object, for speed: see `processing.staging.source_file`.
    """
    with _temporary_name(path) as temporary:
        descriptor = os.open(temporary, _NEW_FILE, 0o666)
        try:
            with _final_errors():
                written = os.write(descriptor, content)
                while written < len(content):  # the system may write only a part, as on a disk that is nearly full
                    written += os.write(descriptor, content[written:])
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _temporary_name(path: Path) -> Iterator[str]:
    """Yield a name beside the path. The caller makes the file and closes it.

    Then the file gets the path's name. After an error it is removed.
    """
    # Names are text: with paths, 2,000 small files took a tenth longer.
    temporary = f"{path.parent}{os.sep}.{secrets.token_hex(8)}.part"
    try:
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 - as above
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108 - as above
        raise


@contextlib.contextmanager
def resumable_file(path: Path, content: str) -> Iterator[BinaryIO]:
    """Yield a file beside the path. It gets the path's name at the end, and keeps its bytes after an error.

    Args:
        path: the final name.
        content: identifies the content: the same value yields the same file again, with the bytes that it has. If
            another process uses that file, or it may be another user's, a new one is yielded, which is removed after
            an error.
    """
    temporary = path.with_name(f".{hashlib.sha256(content.encode()).hexdigest()[:16]}.part")
    with contextlib.ExitStack() as stack:
        file = _locked(temporary)
        if file is None:
            yield stack.enter_context(atomic_file(path))
            return
        stack.enter_context(file)
        try:
            yield file
            file.flush()
        except BaseException:
            with contextlib.suppress(OSError):
                if temporary.lstat().st_size == 0:
                    temporary.unlink()
            raise
        temporary.replace(path)


def _locked(path: Path) -> BinaryIO | None:
    """Open and lock a file of this user, created if missing.

    The name can be computed, so in a shared folder another user may have made it. It may be a link to a file of this
    user, or a file that they can still write. Such a file is never opened for writing.

    Returns:
        The file, or None if another process has it, it is not this user's alone, or locks are unavailable.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666), "r+b")
    except OSError:  # a link, or a file that this user may not open; if the folder is the reason, a new file fails too
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        opened, named = os.fstat(file.fileno()), path.lstat()
        is_own = stat.S_ISREG(opened.st_mode) and opened.st_uid == os.geteuid() and opened.st_nlink == 1
        if is_own and os.path.samestat(opened, named):  # otherwise it got its final name just now
            return file
    except OSError:
        pass
    file.close()
    return None

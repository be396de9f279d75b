"""The one S3 transfer of the package: files up, prefixes down.

Uploads: one PutObject for a file of up to 64 MB, a multipart upload above. Memory is bounded by the number of threads,
not by files or sizes. A file that changes while it is read is an error. Whatever happens, Ctrl-C included, a multipart
upload that was begun is completed or aborted. Downloads: each object goes to a temporary name in its own directory and
gets the final one when its length and checksum are right, so nothing half-written is ever seen there.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import attrs
from typing_extensions import Self

from processing.exceptions import StagingError
from processing.request.uris import S3Uri

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from processing.retrying import RetryingApi
    from processing.staging.plan import Upload

logger = logging.getLogger(__name__)

T = TypeVar("T")
ExpectedOwner = Callable[[str], "str | None"]

WORKERS = 16
"""Threads per transfer: enough to hide the latency, few enough for S3 not to ask for less."""

MB = 1024 * 1024
SINGLE_PUT = 64 * MB
"""Bytes up to which a file is one PutObject."""

_IN_MEMORY = MB  # a file up to this size is read at once, a larger one streamed
_PART = 8 * MB
_MOST_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_PARTS_IN_FLIGHT = 64 * MB  # bytes of one file's parts in memory
_BLOCK = MB
_CONFLICT_TRIES = 5


def upload_all(
    api: RetryingApi,
    uploads: Iterable[Upload],
    *,
    workers: int = WORKERS,
    expected_owner: ExpectedOwner,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Upload the files; all are tried before the error is raised.

    Args:
        api: the calls to S3.
        uploads: the files and where they go.
        workers: threads.
        expected_owner: the account that a bucket has to belong to; None for one that may be anybody's.
        progress: called with a number of bytes whenever so many have arrived.

    Raises:
        StagingError: names every file that was not uploaded, and why.
    """
    uploads = tuple(uploads)
    sender = _Sender(api, expected_owner, progress)
    large: list[Upload] = []

    def send(upload: Upload) -> None:
        if not sender.send_small(upload):
            large.append(upload)

    failures = _for_each(send, uploads, workers, lambda upload: str(upload.source), _upload_reason)
    if large:
        failures += _send_large(sender, large, workers)
    if failures:
        count = f"{len(failures)} of {len(uploads)} files" if len(uploads) > 1 else "a file"
        raise StagingError(
            f"{count} could not be uploaded", [(name, reason) for name, reason, _ in failures]
        ) from _first_error(failures)


def put_bytes(
    api: RetryingApi, body: bytes, target: S3Uri, *, kms_key: str | None = None, expected_owner: ExpectedOwner
) -> None:
    """Put an object with the given content."""
    api.call("s3", "PutObject", {**_place(target, expected_owner), **_encryption(kms_key), "Body": body})


def get_bytes(api: RetryingApi, source: S3Uri, *, expected_owner: ExpectedOwner) -> bytes:
    """Return an object's content; it has to fit in memory."""
    return _fetch(api, _place(source, expected_owner), lambda body: cast("bytes", body.read()))


def exists(api: RetryingApi, target: S3Uri, *, expected_owner: ExpectedOwner) -> bool:
    """Say whether there is an object of that key."""
    return _head(api, _place(target, expected_owner)) is not None


def download_prefix(
    api: RetryingApi,
    uri: S3Uri,
    to: Path,
    *,
    workers: int = WORKERS,
    expected_owner: ExpectedOwner,
    extra: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Download an object, or everything below a prefix, into a directory.

    Args:
        api: the calls to S3.
        uri: an object, or a prefix. What only begins with the same letters (`out2/` for `out`) is not below it.
        to: the directory; made if missing. Files of the same names are replaced.
        workers: threads.
        expected_owner: as for `upload_all`.
        extra: more parameters of GetObject.

    Returns:
        The files, sorted.

    Raises:
        StagingError: names every object that was not fetched. Where a key is no path inside the directory, nothing is.
    """
    entries = _local_names(uri, _list_keys(api, uri, expected_owner), to)
    to.mkdir(parents=True, exist_ok=True)

    def get(entry: tuple[str, Path]) -> None:
        key, path = entry
        params = {**(extra or {}), **_place(S3Uri(uri.bucket, key), expected_owner)}
        _download(api, params, path)

    failures = _for_each(
        get, entries, workers, lambda entry: f"s3://{uri.bucket}/{entry[0]}", lambda _, error: _reason(error)
    )
    if failures:
        raise StagingError(
            f"{len(failures)} of {len(entries)} objects could not be downloaded",
            [(name, reason) for name, reason, _ in failures],
        ) from _first_error(failures)
    return sorted(path for _, path in entries)


# Many files at once.

Failure = tuple[str, str, "Exception | None"]


def _for_each(
    work: Callable[[T], None],
    items: Sequence[T],
    workers: int,
    name: Callable[[T], str],
    reason: Callable[[T, Exception], str],
) -> list[Failure]:
    """Do the work for every item, in threads; return the failures.

    When as many items in a row have failed as there are threads, the rest is not tried: each failure has waited out its
    tries by then, and a network that is gone would keep a hundred thousand files waiting for days.
    """
    remaining: Iterator[T] = iter(items)
    lock = threading.Lock()
    failures: list[Failure] = []
    in_a_row = 0
    stop = threading.Event()

    def run() -> None:
        nonlocal in_a_row
        while not stop.is_set():
            with lock:
                item = next(remaining, _END)
                hopeless = in_a_row >= max(workers, 2)
                if item is not _END and hopeless:
                    failures.append((name(cast("T", item)), "not tried, after the failures before it", None))
            if item is _END:
                return
            if hopeless:
                continue
            try:
                work(cast("T", item))
            except Exception as error:  # noqa: BLE001 - each is reported, with the file's name
                with lock:
                    failures.append((name(cast("T", item)), reason(cast("T", item), error), error))
                    in_a_row += 1
            else:
                in_a_row = 0

    if len(items) <= 1 or workers == 1:
        run()
    else:
        _in_threads(run, min(workers, len(items)), stop)
    return failures


_END: Any = object()


def _in_threads(run: Callable[[], None], count: int, stop: threading.Event) -> None:
    """Run the same function in threads; an interrupt lets each end with what it has in hand."""
    threads = [threading.Thread(target=run, name="processing-transfer", daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise


def _first_error(failures: Iterable[Failure]) -> Exception | None:
    return next((error for _, _, error in failures if error is not None), None)


# Up.


class _Sender:
    """Uploads files of one call of `upload_all`."""

    def __init__(
        self, api: RetryingApi, expected_owner: ExpectedOwner, progress: Callable[[int], object] | None
    ) -> None:
        self.api = api
        self.expected_owner = expected_owner
        self._progress = progress
        self._lock = threading.Lock()

    def arrived(self, size: int) -> None:
        """Tell the caller that bytes have arrived."""
        if self._progress is not None:
            with self._lock:
                self._progress(size)

    def place(self, upload: Upload) -> dict[str, Any]:
        return _place(upload.target, self.expected_owner)

    def settings(self, upload: Upload) -> dict[str, Any]:
        return {**dict(upload.extra), **self.place(upload), **_encryption(upload.kms_key)}

    def send_small(self, upload: Upload) -> bool:
        """Upload the file if one PutObject is enough, and say so."""
        if upload.body is not None:
            if not (upload.content_addressed and self.is_there(upload, len(upload.body))):
                self._put(upload, {"Body": upload.body})
            self.arrived(len(upload.body))
            return True
        with _Source(upload.source) as source:
            # What has to be hashed on its way goes in parts: those are in memory, and the last step can be refused.
            if source.size > SINGLE_PUT or upload.sha256 is not None:
                return False
            body = source.content() if source.size <= _IN_MEMORY else None
            self._put(upload, lambda: {"Body": body if body is not None else source.stream()})
            source.check_unchanged()
            self.arrived(source.size)
        return True

    def is_there(self, upload: Upload, size: int) -> bool:
        """Whether an object whose key names the content is there already, encrypted as asked."""
        found = _head(self.api, self.place(upload))
        return found is not None and found.get("ContentLength") == size and _same_key(upload.kms_key, found)

    def _put(self, upload: Upload, body: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        settings = self.settings(upload)

        def params() -> dict[str, Any]:
            return {**settings, **(body() if callable(body) else body)}

        if not upload.content_addressed:
            self.api.call("s3", "PutObject", params)
            return
        _unless_there(
            self.api, upload, lambda condition: self.api.call("s3", "PutObject", lambda: params() | condition)
        )


def _unless_there(api: RetryingApi, upload: Upload, put: Callable[[dict[str, str]], object]) -> None:
    """Make an object whose key names the content, unless somebody else just did: either way it is there.

    With a KMS key it may be there under another key; it is then replaced.
    """
    from botocore.exceptions import ClientError

    condition = {"IfNoneMatch": "*"} if upload.kms_key is None else {}
    for tries in range(1, _CONFLICT_TRIES + 1):
        try:
            put(condition)
        except ClientError as error:
            code = _code(error)
            if code in {"PreconditionFailed", "412"}:
                return
            if code == "NotImplemented" and condition:  # an S3 of somebody else's, without conditional writes
                condition = {}
            elif code != "ConditionalRequestConflict" or tries == _CONFLICT_TRIES:
                raise
            else:  # another upload to the key is under way
                api.clock.sleep(0.2 * 2**tries)
        else:
            return


class _Source:
    """A file while it is uploaded: opened once, and held against what it was at the beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._file: BinaryIO = self._path.open("rb")
        try:
            self._status = os.fstat(self._file.fileno())
            if not stat.S_ISREG(self._status.st_mode):
                raise StagingError(f"{self._path} is not a regular file")
        except BaseException:
            self._file.close()
            raise
        self.size = self._status.st_size
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def content(self) -> bytes:
        """Return the whole file."""
        content = self._file.read()
        self.check_unchanged()
        if len(content) != self.size:
            raise StagingError("the file changed while it was read")
        return content

    def stream(self) -> _Stream:
        """Return the file from its beginning, as it was: for one attempt."""
        self.check_unchanged()
        self._file.seek(0)
        return _Stream(self._file, self.size)

    def blocks(self, size: int) -> Iterator[bytes]:
        """Yield the whole file in blocks, the last one shorter."""
        self._file.seek(0)
        for offset in range(0, self.size, size):
            block = self._file.read(size)
            if len(block) != min(size, self.size - offset):
                raise StagingError("the file changed while it was read")
            yield block

    def check_unchanged(self) -> None:
        """Raise a StagingError if the file has another size or time than at the beginning."""
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise StagingError("the file changed while it was uploaded")


class _Stream:
    """A file of a fixed length, for botocore: what is appended meanwhile does not get into the body."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def __len__(self) -> int:
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        """Read on, at most to the length at the beginning."""
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, as in a file of that length."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._size}[whence]
        return self._file.seek(base + offset)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()


def _send_large(sender: _Sender, uploads: Sequence[Upload], workers: int) -> list[Failure]:
    """Upload large files one after the other, the parts of each at once; return the failures."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers, thread_name_prefix="processing-part") as pool:

        def send(upload: Upload) -> None:
            with _Source(upload.source) as source:
                if not (upload.content_addressed and sender.is_there(upload, source.size)):
                    _Multipart(sender, upload, source, pool).send()

        return _for_each(send, uploads, 1, lambda upload: str(upload.source), _upload_reason)


class _Multipart:
    """One multipart upload: completed, or aborted."""

    def __init__(self, sender: _Sender, upload: Upload, source: _Source, pool: Executor) -> None:
        self._sender = sender
        self._api = sender.api
        self._upload = upload
        self._source = source
        self._pool = pool
        # Parts of a whole number of MB, as many bytes as it takes to stay below the limit of parts.
        self._part_size = max(_PART, -(-source.size // _MOST_PARTS // MB + 1) * MB if source.size else _PART)
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
        window = max(2, _PARTS_IN_FLIGHT // self._part_size)
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
            if self._upload.content_addressed:
                _unless_there(
                    self._api,
                    self._upload,
                    lambda condition: self._api.call("s3", "CompleteMultipartUpload", params | condition),
                )
            else:
                self._api.call("s3", "CompleteMultipartUpload", params)
        except ClientError as error:
            # The answer to an earlier try was lost: the upload is gone because it was completed.
            if _code(error) != "NoSuchUpload" or not self._is_complete(len(parts)):
                raise

    def _is_complete(self, count: int) -> bool:
        found = _head(self._api, self._sender.place(self._upload))
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
            if _code(error) != "NoSuchUpload":
                logger.warning(
                    "multipart upload %s of %s could not be aborted; its parts stay: %s",
                    self._place["UploadId"],
                    self._upload.target,
                    error,
                )


# Down.


def _list_keys(api: RetryingApi, uri: S3Uri, expected_owner: ExpectedOwner) -> list[tuple[str, int]]:
    """Return every key that begins with the URI's, and its size; every page is read."""
    params: dict[str, Any] = {"Bucket": uri.bucket, "Prefix": uri.key, **_owner(uri.bucket, expected_owner)}
    found: list[tuple[str, int]] = []
    while True:
        answer = api.call("s3", "ListObjectsV2", params)
        found += [(entry["Key"], int(entry.get("Size", 0))) for entry in answer.get("Contents", ())]
        token = answer.get("NextContinuationToken")
        if not token:
            return found
        params["ContinuationToken"] = token


def _local_names(uri: S3Uri, listed: Iterable[tuple[str, int]], to: Path) -> list[tuple[str, Path]]:
    """Return the keys at or below the URI, each with the path that it gets.

    A key is any text. One that is no path of its own inside the directory is refused before anything is fetched.
    """
    names: dict[str, str] = {}  # relative name to key
    refused = []
    for key, size in listed:
        name = _relative_name(uri.key, key)
        if name is None or (size == 0 and key.endswith("/")):  # the latter is what consoles make for a folder
            continue
        problem = _problem(name)
        if problem:
            refused.append((f"s3://{uri.bucket}/{key}", problem))
        names[name] = key
    directories = {name[:index] for name in names for index, letter in enumerate(name) if letter == "/"}
    refused += [
        (f"s3://{uri.bucket}/{names[name]}", "is an object and also the directory of others")
        for name in sorted(directories & names.keys())
    ]
    if refused:
        raise StagingError("nothing was downloaded: keys that cannot be files in the directory", refused)
    return [(key, to / name) for name, key in names.items()]


def _relative_name(prefix: str, key: str) -> str | None:
    """Return the key below the prefix; None for one that is not below it."""
    if not prefix or prefix.endswith("/"):
        return key[len(prefix) :] or None
    if key == prefix:
        return key.rpartition("/")[2]
    return key[len(prefix) + 1 :] or None if key.startswith(prefix + "/") else None


def _problem(name: str, *, windows: bool = os.name == "nt") -> str | None:
    """Return why a name is no path inside a directory."""
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


def _download(api: RetryingApi, params: Mapping[str, Any], path: Path) -> None:
    """Fetch an object to a temporary name beside its final one; the last step gives it the final one."""
    import secrets

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")

    def save(body: Any) -> None:
        with temporary.open("wb") as file:
            while block := body.read(_BLOCK):
                try:
                    file.write(block)
                except OSError as error:  # a full disk is no reason to fetch again
                    raise StagingError(f"cannot be written: {error}") from error

    try:
        _fetch(api, params, save)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _fetch(api: RetryingApi, params: Mapping[str, Any], use: Callable[[Any], T]) -> T:
    """Get an object and use its body, both again if either fails on the way.

    botocore compares the length with what arrived, and the checksum that S3 keeps with the bytes.
    """
    once = attrs.evolve(api.policy, attempts=1)

    def get() -> T:
        answer = api.call("s3", "GetObject", params, policy=once)
        body = answer["Body"]
        try:
            return use(body)
        finally:
            body.close()

    return api.attempt("GetObject", get)


# Parameters and answers.


def _place(uri: S3Uri, expected_owner: ExpectedOwner) -> dict[str, Any]:
    return {"Bucket": uri.bucket, "Key": uri.key, **_owner(uri.bucket, expected_owner)}


def _owner(bucket: str, expected_owner: ExpectedOwner) -> dict[str, str]:
    owner = expected_owner(bucket)
    return {} if owner is None else {"ExpectedBucketOwner": owner}


def _encryption(kms_key: str | None) -> dict[str, str]:
    return {} if kms_key is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}


def _head(api: RetryingApi, place: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return HeadObject's answer, or None: it is not there, or may not be looked at."""
    from botocore.exceptions import ClientError

    try:
        return api.call("s3", "HeadObject", place)
    except ClientError as error:
        # Without s3:ListBucket S3 says 403 of an object that is missing.
        if _code(error) in {"404", "NoSuchKey", "NotFound", "403", "AccessDenied", "Forbidden"}:
            return None
        raise


def _same_key(asked: str | None, found: Mapping[str, Any]) -> bool:
    """Whether an object is encrypted with the KMS key that was asked for. An alias cannot be told from here: no."""
    if asked is None:
        return True
    has = str(found.get("SSEKMSKeyId") or "")
    return has == asked or has.endswith(f":key/{asked}")


def _code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _upload_reason(upload: Upload, error: Exception) -> str:
    reason = _reason(error)
    if upload.kms_key is not None and "kms" in reason.lower():
        return f"{reason} (KMS key {upload.kms_key})"
    return reason


def _reason(error: Exception) -> str:
    """Say in one line why a file was not moved."""
    if isinstance(error, FileNotFoundError):
        return "the file has vanished"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    code = _code(error)
    response: dict[str, Any] = getattr(error, "response", None) or {}
    text = str(response.get("Error", {}).get("Message") or error) if code else str(error)
    reason = f"{code}: {text}" if code and code not in text else text
    region = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if code in _OTHER_REGION:
        return f"{reason} (the bucket is in {region or 'another region'})"
    if code in {"AccessDenied", "403"}:
        return f"{reason} (no permission, or the bucket belongs to another account)"
    return reason


_OTHER_REGION = frozenset(
    {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)

"""The one S3 transfer of the package: files up, prefixes down.

Uploads: one PutObject for a file of up to 64 MB, a multipart upload above. Memory is bounded by the number of threads,
not by files or sizes. A file that changes while it is read is an error. Whatever happens, Ctrl-C included, a multipart
upload that was begun is completed or aborted. Downloads: each object goes to a temporary name in its own directory and
gets the final one when its length and checksum are right, so nothing half-written is ever seen there.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from processing.exceptions import StagingError
from processing.request.uris import S3Uri
from processing.retrying import check_answer, error_code
from processing.staging.multipart import MB, Multipart
from processing.staging.objects import (
    CLAIM,
    ClaimedError,
    ExpectedOwner,
    encryption,
    head,
    owner,
    place,
    same_key,
    write,
)
from processing.staging.reading import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from processing.retrying import RetryingApi
    from processing.staging.plan import Upload

T = TypeVar("T")

WORKERS = 16
"""Threads per transfer: enough to hide the latency, few enough for S3 not to ask for less."""

SINGLE_PUT = 64 * MB
"""Bytes up to which a file is one PutObject."""

_IN_MEMORY = MB  # a file up to this size is read at once, a larger one streamed
_BLOCK = MB


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
        ClaimedError: another run has put an object that this one has to put.
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
    for _, _, error in failures:
        if isinstance(error, ClaimedError):
            raise error
    if failures:
        count = f"{len(failures)} of {len(uploads)} files" if len(uploads) > 1 else "a file"
        raise StagingError(
            f"{count} could not be uploaded", [(name, reason) for name, reason, _ in failures]
        ) from _first_error(failures)


def put_bytes(
    api: RetryingApi, body: bytes, target: S3Uri, *, kms_key: str | None = None, expected_owner: ExpectedOwner
) -> None:
    """Put an object with the given content."""
    api.call("s3", "PutObject", {**place(target, expected_owner), **encryption(kms_key), "Body": body})


def get_bytes(api: RetryingApi, source: S3Uri, *, expected_owner: ExpectedOwner) -> bytes:
    """Return an object's content; it has to fit in memory."""
    return _fetch(api, place(source, expected_owner), lambda body: cast("bytes", body.read()))


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
        params = {**(extra or {}), **place(S3Uri(uri.bucket, key), expected_owner)}
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
    return sorted(failures, key=lambda failure: failure[0])


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
        return place(upload.target, self.expected_owner)

    def settings(self, upload: Upload) -> dict[str, Any]:
        claim = {} if upload.claim is None else {"Metadata": {CLAIM: upload.claim}}
        return {**dict(upload.extra), **claim, **self.place(upload), **encryption(upload.kms_key)}

    def send_small(self, upload: Upload) -> bool:
        """Upload the file if one PutObject is enough, and say so."""
        if upload.body is not None:
            if not (upload.content_addressed and self.is_there(upload, len(upload.body))):
                self._put(upload, {"Body": upload.body})
            self.arrived(len(upload.body))
            return True
        with Source(upload.source) as source:
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
        found = head(self.api, self.place(upload))
        return found is not None and found.get("ContentLength") == size and same_key(upload.kms_key, found)

    def _put(self, upload: Upload, body: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        settings = self.settings(upload)

        def params() -> dict[str, Any]:
            return {**settings, **(body() if callable(body) else body)}

        def put(condition: Mapping[str, str]) -> object:
            return self.api.call("s3", "PutObject", lambda: {**params(), **condition})

        write(self.api, upload, self.place(upload), put)


def _send_large(sender: _Sender, uploads: Sequence[Upload], workers: int) -> list[Failure]:
    """Upload large files one after the other, the parts of each at once; return the failures."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers, thread_name_prefix="processing-part") as pool:

        def send(upload: Upload) -> None:
            with Source(upload.source) as source:
                if not (upload.content_addressed and sender.is_there(upload, source.size)):
                    Multipart(sender, upload, source, pool).send()

        return _for_each(send, uploads, 1, lambda upload: str(upload.source), _upload_reason)


# Down.


def _list_keys(api: RetryingApi, uri: S3Uri, expected_owner: ExpectedOwner) -> list[tuple[str, int]]:
    """Return every key that begins with the URI's, and its size; every page is read."""
    params: dict[str, Any] = {"Bucket": uri.bucket, "Prefix": uri.key, **owner(uri.bucket, expected_owner)}
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
                _write(file, block)

    try:
        _fetch(api, params, save)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(file: BinaryIO, block: bytes) -> None:
    try:
        file.write(block)
    except OSError as error:  # a full disk: no reason to fetch the object again
        raise StagingError(f"cannot be written: {error}") from error


def _fetch(api: RetryingApi, params: Mapping[str, Any], use: Callable[[Any], T]) -> T:
    """Get an object and use its body, both again if either fails on the way.

    botocore compares the length with what arrived, and the checksum that S3 keeps with the bytes.
    """
    client = api.client("s3")

    def get() -> T:
        answer = client.get_object(**params)
        check_answer(client, "GetObject", answer)
        body = answer["Body"]
        try:
            return use(body)
        finally:
            body.close()

    return api.attempt("GetObject", get)


# What went wrong.


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
    code = error_code(error)
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

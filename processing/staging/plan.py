"""What one run has to upload: collected and checked first, moved afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from processing.exceptions import StagingError
from processing.staging.bundles import KEPT, Bundle, Member, make_bundle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from processing.request.uris import S3Uri
    from processing.staging.sources import LocalSource

_BLOCK = 1024 * 1024
_LONGEST_KEY = 1024  # bytes, https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html


@attrs.frozen
class Copy:
    """An object in S3 that has the content which an upload is to have.

    Args:
        source: the object.
        etag: its ETag, in quotes, as S3 gives it: another content is not copied.
    """

    source: S3Uri
    etag: str


@attrs.frozen
class Upload:
    """One file on its way to one object.

    Args:
        source: the file; where there is a body, a name for messages.
        target: the object.
        kms_key: the KMS key to encrypt it with; None leaves it to the bucket.
        content_addressed: True where the key names the content: the object is looked for first, and left as it is.
        sha256: the content's SHA-256 (hexadecimal), where the key names it: other bytes are never put there.
        body: the content, where it was read already.
        claim: what marks the object as this run's, where there must not be one yet; None to replace what is there.
        extra: more parameters of PutObject.
        size: the content's size in bytes, as it was when the upload was planned.
        tree: where the key names the content of a whole directory: its prefix. One listing of it says which of its
            files are there (`processing.staging.reuse`).
        copy_of: what S3 can copy (CopyObject with CopySourceIfMatch) in place of an upload. Where that fails because
            the object has gone or changed (404, 412) or may not be read (403), the file is uploaded.
    """

    source: Path
    target: S3Uri
    kms_key: str | None = None
    content_addressed: bool = False
    sha256: str | None = None
    body: bytes | None = attrs.field(default=None, repr=False)
    claim: str | None = None
    extra: tuple[tuple[str, Any], ...] = ()
    size: int | None = None
    tree: S3Uri | None = None
    copy_of: Copy | None = None


@attrs.frozen
class Staged:
    """What one `add_` of a plan comes to.

    Args:
        uri: where it will be.
        files: the number of files.
        size: their size in bytes.
        only_if_missing: True where it is uploaded only if it is not there already.
    """

    uri: str
    files: int
    size: int
    only_if_missing: bool


class StagingPlan:
    """Collects the uploads of one run. Adding looks at the files; nothing is sent.

    Large bundles are temporary files: `close` removes them.
    """

    def __init__(self) -> None:
        self._uploads: list[Upload] = []
        self._staged: list[Staged] = []
        self._bundles: list[Bundle] = []

    @property
    def uploads(self) -> tuple[Upload, ...]:
        """What has to be uploaded, in the order in which it was added."""
        return tuple(self._uploads)

    @property
    def buckets(self) -> frozenset[str]:
        """The buckets that something goes to."""
        return frozenset(upload.target.bucket for upload in self._uploads)

    def claimed(self, claim: str) -> StagingPlan:
        """Return the same plan for keys that nobody else may have: see `Upload.claim`."""
        plan = StagingPlan()
        plan._uploads = [
            upload if upload.content_addressed else attrs.evolve(upload, claim=claim) for upload in self._uploads
        ]
        plan._staged, plan._bundles = self._staged, self._bundles
        return plan

    @property
    def staged(self) -> tuple[Staged, ...]:
        """The uploads in sum: a value for each source, script, bundle or body that was added, in that order."""
        return tuple(self._staged)

    def close(self) -> None:
        """Remove temporary files. Uploads of large bundles fail from then on."""
        for bundle in self._bundles:
            bundle.close()

    def add_source(
        self,
        source: LocalSource,
        target: S3Uri,
        kms_key: str | None = None,
        *,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """Add a file or a directory, and return its URI to be.

        Args:
            source: a directory's files keep their relative names below the target, a file its own.
            target: the prefix.
            kms_key: the KMS key to encrypt with.
            extra: more parameters of PutObject.

        Returns:
            For a directory the prefix, for a file its object.

        Raises:
            StagingError: files that cannot be read, each named.
        """
        parameters = tuple((extra or {}).items())
        added = [
            Upload(path, target / name, kms_key, extra=parameters, size=size)
            for path, name, size in _checked(source, target)
        ]
        return self._add(target if source.is_dir else added[0].target, added)

    def add_code(self, path: Path, prefix: S3Uri, kms_key: str | None = None) -> str:
        """Add a script under a key that names its content, `<prefix>/code/<sha256>/<name>`, and return its URI to be.

        Args:
            path: the file.
            prefix: where `code/` goes.
            kms_key: the KMS key to encrypt with.

        Raises:
            StagingError: the file cannot be read.
        """
        return self._add_file(path, prefix / "code", kms_key)

    def add_bundle(
        self,
        members: Iterable[Member],
        prefix: S3Uri,
        kms_key: str | None = None,
        *,
        name: str = "sourcedir.tar.gz",
        limit: int | None = None,
        at: S3Uri | None = None,
    ) -> str:
        """Add a bundle of files, `<prefix>/code/<sha256>/<name>`, and return its URI to be.

        Args:
            members: the files, as `processing.staging.ignoring.code_members` returns them.
            prefix: where `code/` goes.
            kms_key: the KMS key to encrypt with.
            name: the bundle's file name.
            limit: bytes that the bundle may have at most; None for any number.
            at: the object, instead of one whose key names the content; what is there is replaced.

        Raises:
            ConfigurationError: the bundle would have more bytes than that, or there is no file.
            StagingError: files that cannot be read, or that change meanwhile, each named; or a full disk.
        """
        bundle = make_bundle(members, limit=limit)
        self._bundles.append(bundle)
        path = bundle.path or Path(name)
        return self._add_content(path, name, bundle.sha256, bundle.size, bundle.body, prefix / "code", kms_key, at)

    def add_bytes(
        self, body: bytes, name: str, prefix: S3Uri, kms_key: str | None = None, *, at: S3Uri | None = None
    ) -> str:
        """Add content that was made here, `<prefix>/code/<sha256>/<name>`, and return its URI to be.

        Args:
            body: the content.
            name: the file name.
            prefix: where `code/` goes.
            kms_key: the KMS key to encrypt with.
            at: the object, instead of one whose key names the content; what is there is replaced.
        """
        import hashlib  # loads OpenSSL

        sha256 = hashlib.sha256(body).hexdigest()
        return self._add_content(Path(name), name, sha256, len(body), body, prefix / "code", kms_key, at)

    def add_reusable(self, source: LocalSource, prefix: S3Uri, kms_key: str | None = None) -> str:
        """Add data under a prefix that names its content, and return its URI to be.

        `<prefix>/data/<sha256>/...` for a directory, whose hash is that of all names and contents, so that no two
        trees share a prefix; `<prefix>/data/<sha256>/<name>` for a file. What is there already is not sent again: see
        `processing.staging.reuse`.

        Args:
            source: a directory's files keep their relative names, a file its own.
            prefix: where `data/` goes.
            kms_key: the KMS key to encrypt with.

        Raises:
            StagingError: files that cannot be read, each named.
        """
        if not source.is_dir:
            return self._add_file(source.path, prefix / "data", kms_key)
        raise NotImplementedError

    def _add_file(self, path: Path, folder: S3Uri, kms_key: str | None) -> str:
        try:
            sha256, size, body = _read(path)
        except OSError as error:
            raise StagingError("the code could not be read", [(str(path), error.strerror or str(error))]) from error
        return self._add_content(path, path.name, sha256, size, body, folder, kms_key)

    def _add_content(
        self,
        path: Path,
        name: str,
        sha256: str,
        size: int,
        body: bytes | None,
        folder: S3Uri,
        kms_key: str | None,
        at: S3Uri | None = None,
    ) -> str:
        """Add one file under a key that names its content, or at a fixed place."""
        target = at or folder / sha256 / name
        upload = Upload(path, target, kms_key, content_addressed=at is None, sha256=sha256, body=body, size=size)
        return self._add(target, [upload])

    def _add(self, uri: S3Uri, uploads: list[Upload]) -> str:
        """Take note of uploads that belong together."""
        self._uploads += uploads
        size = sum(upload.size or 0 for upload in uploads)
        only_if_missing = all(upload.content_addressed for upload in uploads)
        self._staged.append(Staged(str(uri), len(uploads), size, only_if_missing))
        return str(uri)

    def __iter__(self) -> Iterator[Upload]:
        return iter(self.uploads)

    def __len__(self) -> int:
        return len(self._uploads)


def _checked(source: LocalSource, target: S3Uri) -> Iterator[tuple[Path, str, int]]:
    """Yield a source's files with their names and sizes in bytes; all that cannot be uploaded are in one error."""
    unreadable = []
    for path, name in source.files():
        problem = _problem(path, target / name)
        if problem:
            unreadable.append((str(path), problem))
        else:
            yield path, name, _size(path)
    if unreadable:
        raise StagingError("files could not be staged", unreadable)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise StagingError("files could not be staged", [(str(path), error.strerror or str(error))]) from error


def _problem(path: Path, target: S3Uri) -> str | None:
    """Return why a file cannot be uploaded, as far as can be seen without doing it."""
    if not os.access(path, os.R_OK):
        return "no permission to read it"
    try:
        length = len(target.key.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8, as an S3 key has to be"
    return f"its key would have {length} bytes, at most {_LONGEST_KEY}" if length > _LONGEST_KEY else None


def _read(path: Path) -> tuple[str, int, bytes | None]:
    """Return the file's SHA-256, its size, and if it is small its content: that is uploaded, and not read again."""
    import hashlib  # loads OpenSSL

    digest = hashlib.sha256()
    kept: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
            if size <= KEPT:
                kept.append(block)
    return digest.hexdigest(), size, b"".join(kept) if size <= KEPT else None

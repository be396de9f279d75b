"""What one run has to upload: collected and checked first, moved afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from processing.exceptions import StagingError
from processing.staging.bundles import MEMORY_LIMIT, Bundle, Member, make_bundle
from processing.staging.tree_hash import Tree, hash_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from processing.request.s3_uri import S3Uri
    from processing.staging.sources import LocalSource

_BLOCK = 1024 * 1024
_LONGEST_KEY = 1024  # bytes, https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html


@attrs.frozen
class CopySource:
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
        size: the content's size in bytes, as it was when the upload was added.
        tree: the directory, where the key names the content of the whole of it. One listing then says which of its
            files are there (`processing.staging.deduplication`).
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
    tree: Tree | None = attrs.field(default=None, repr=False, eq=False)
    copy_of: CopySource | None = None


class PendingUploads:
    """Collects the uploads of one run. Adding looks at the files; nothing is sent.

    Large bundles are temporary files: `close` removes them.
    """

    def __init__(self) -> None:
        self._uploads: list[Upload] = []
        self._bundles: list[Bundle] = []
        self._scripts: list[tuple[Path, bytes | None]] = []

    @property
    def uploads(self) -> tuple[Upload, ...]:
        """What has to be uploaded, in the order in which it was added."""
        return tuple(self._uploads)

    @property
    def buckets(self) -> frozenset[str]:
        """The buckets that something goes to."""
        return frozenset(upload.target.bucket for upload in self._uploads)

    def with_claim(self, claim: str) -> PendingUploads:
        """Return the same uploads for keys that nobody else may have: see `Upload.claim`."""
        copy = PendingUploads()
        copy._uploads = [
            upload if upload.content_addressed else attrs.evolve(upload, claim=claim) for upload in self._uploads
        ]
        copy._bundles, copy._scripts = self._bundles, self._scripts
        return copy

    @property
    def scripts(self) -> tuple[tuple[Path, bytes | None], ...]:
        """The scripts inside of bundles that the job starts, with their content where it is small.

        The file itself may be gone: that of a repository is there only while it is bundled.
        """
        return tuple(self._scripts)

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
        added, problems = [], []
        for path, name in source.files():
            upload = Upload(path, target / name, kms_key, extra=parameters, size=_size(path))
            problems.append((str(path), _upload_problem(path, upload.target)))
            added.append(upload)
        _raise_problems(problems)
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
        try:
            sha256, size, body = _hash_and_read(path)
        except OSError as error:
            raise StagingError("the code could not be read", [(str(path), error.strerror or str(error))]) from error
        return self._add_content(path, path.name, sha256, size, body, prefix / "code", kms_key)

    def add_bundle(
        self,
        members: Iterable[Member],
        prefix: S3Uri,
        kms_key: str | None = None,
        *,
        name: str = "sourcedir.tar.gz",
        limit: int | None = None,
        at: S3Uri | None = None,
        script: Path | None = None,
    ) -> str:
        """Add a bundle of files, `<prefix>/code/<sha256>/<name>`, and return its URI to be.

        Args:
            members: the files, as `processing.staging.code_files.code_members` returns them.
            prefix: where `code/` goes.
            kms_key: the KMS key to encrypt with.
            name: the bundle's file name.
            limit: bytes that the bundle may have at most; None for any number.
            at: the object, instead of one whose key names the content; what is there is replaced.
            script: the file among them that the job starts.

        Raises:
            ConfigurationError: the bundle would have more bytes than that, or there is no file.
            StagingError: files that cannot be read, or that change meanwhile, each named; or a full disk.
        """
        bundle = make_bundle(members, limit=limit)
        self._bundles.append(bundle)
        self._scripts += [(script, _hash_and_read(script)[2])] if script is not None else []
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
        `processing.staging.deduplication`.

        Args:
            source: a directory's files keep their relative names, a file its own.
            prefix: where `data/` goes.
            kms_key: the KMS key to encrypt with.

        Raises:
            StagingError: files that cannot be read, each named.
        """
        files = hash_files(source)
        folder = prefix / "data"
        if not source.is_dir:
            (file,) = files
            return self._add_content(file.path, file.name, file.sha256, file.size, None, folder, kms_key)
        tree = Tree(source.path, folder, kms_key, {file.name: file.sha256 for file in files})
        uploads = [
            Upload(
                file.path,
                tree.target / file.name,
                kms_key,
                content_addressed=True,
                sha256=file.sha256,
                size=file.size,
                tree=tree,
            )
            for file in files
        ]
        _raise_problems([(str(upload.source), _upload_problem(upload.source, upload.target)) for upload in uploads])
        return self._add(tree.target, uploads)

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
        target = at or folder / _content_name(sha256, kms_key) / name
        upload = Upload(path, target, kms_key, content_addressed=at is None, sha256=sha256, body=body, size=size)
        return self._add(target, [upload])

    def _add(self, uri: S3Uri, uploads: list[Upload]) -> str:
        """Take note of uploads, and return what they make."""
        self._uploads += uploads
        return str(uri)

    def __iter__(self) -> Iterator[Upload]:
        return iter(self.uploads)

    def __len__(self) -> int:
        return len(self._uploads)


def _content_name(sha256: str, kms_key: str | None) -> str:
    """Return the name for content: its hash, or with a KMS key that of both.

    Under another key it is another object: a job that may use the one only may still be reading.
    """
    import hashlib  # loads OpenSSL

    return sha256 if kms_key is None else hashlib.sha256(f"{kms_key}\0{sha256}".encode()).hexdigest()


def _raise_problems(problems: Iterable[tuple[str, str | None]]) -> None:
    """Raise one error for all files that have a problem."""
    failures = [(name, problem) for name, problem in problems if problem is not None]
    if failures:
        raise StagingError("files could not be staged", failures)


def _size(path: Path) -> int | None:
    """Return a file's size in bytes; None for one that has just vanished, which is said where it is read."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _upload_problem(path: Path, target: S3Uri) -> str | None:
    """Return why a file cannot be uploaded, as far as can be seen without doing it."""
    if not os.access(path, os.R_OK):
        return "no permission to read it"
    try:
        length = len(target.key.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8, as an S3 key has to be"
    return f"its key would have {length} bytes, at most {_LONGEST_KEY}" if length > _LONGEST_KEY else None


def _hash_and_read(path: Path) -> tuple[str, int, bytes | None]:
    """Return the file's SHA-256, its size, and if it is small its content: that is uploaded, and not read again."""
    import hashlib  # loads OpenSSL

    digest = hashlib.sha256()
    blocks: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
            if size <= MEMORY_LIMIT:
                blocks.append(block)
    return digest.hexdigest(), size, b"".join(blocks) if size <= MEMORY_LIMIT else None

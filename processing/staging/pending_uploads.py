"""Pending uploads of one run: collected and checked first, sent later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from processing.exceptions import StagingError
from processing.staging.bundles import MEMORY_LIMIT, Bundle, Member, keep_chunks, make_bundle
from processing.staging.tree_hash import Tree, hash_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from processing.request.s3_uri import S3Uri
    from processing.staging.sources import LocalSource

_BLOCK = 1024 * 1024  # bytes that are read and hashed at a time
_LONGEST_KEY = 1024  # bytes, https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html


@attrs.frozen
class CopySource:
    """An existing object with the content of an upload.

    Args:
        source: the object.
        etag: its ETag, in quotes, as S3 returns it. Other content is not copied.
    """

    source: S3Uri
    etag: str


@attrs.frozen
class Upload:
    """One file and the object that it becomes.

    Args:
        source: the file. If there is a body, only a name for messages.
        target: the object.
        kms_key: the KMS key for its encryption; None if the bucket decides.
        content_addressed: True if the key names the content. The object is then looked up first, and kept if it exists.
        sha256: the content's SHA-256 (hexadecimal), if the key names it. Other bytes are never put there.
        body: the content, if it is in memory already.
        claim: the mark of this run on the object, which must not exist yet; None to replace an existing object.
        extra: further parameters of PutObject.
        size: the content's size in bytes when the upload was added.
        tree: the directory, if the key names its whole content. One listing then finds its existing files
            (`processing.staging.deduplication`).
        copy_of: an object that S3 can copy instead (CopyObject with CopySourceIfMatch). If that fails because the
            object is gone, has changed (404, 412) or may not be read (403), the file is uploaded.
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
    """The uploads of one run. Adding reads the files; nothing is sent.

    Large bundles are temporary files, which `close` removes.
    """

    def __init__(self) -> None:
        self._uploads: list[Upload] = []
        self._bundles: list[Bundle] = []
        self._kept: list[Bundle] = []  # keeps their temporary files
        self._scripts: list[tuple[Path, bytes | None]] = []

    @property
    def uploads(self) -> tuple[Upload, ...]:
        """The uploads in the order of their addition."""
        return tuple(self._uploads)

    @property
    def buckets(self) -> frozenset[str]:
        """The buckets of the uploads."""
        return frozenset(upload.target.bucket for upload in self._uploads)

    def with_claim(self, claim: str) -> PendingUploads:
        """Return the same uploads with a claim on keys that no other run may use: see `Upload.claim`."""
        copy = PendingUploads()
        copy._uploads = [
            upload if upload.content_addressed else attrs.evolve(upload, claim=claim) for upload in self._uploads
        ]
        copy._bundles, copy._kept, copy._scripts = self._bundles, self._kept, self._scripts
        return copy

    @property
    def scripts(self) -> tuple[tuple[Path, bytes | None], ...]:
        """The scripts inside of bundles that the job starts, with their content if it is small.

        The file itself may be gone: that of a Git repository exists only while it is bundled.
        """
        return tuple(self._scripts)

    def close(self) -> None:
        """Remove temporary files. Uploads of large bundles fail afterwards."""
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
        """Add a file or a directory, and return its future URI.

        Args:
            source: the source. A directory's files keep their relative names below the target, a file its own name.
            target: the prefix.
            kms_key: the KMS key for encryption.
            extra: further parameters of PutObject.

        Returns:
            The prefix of a directory, or the object of a file.

        Raises:
            StagingError: files cannot be read, each named.
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
        """Add a script under a key that names its content, `<prefix>/code/<sha256>/<name>`, and return its future URI.

        Args:
            path: the file.
            prefix: the parent of `code/`.
            kms_key: the KMS key for encryption.

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
        field: str = "source_dir",
    ) -> str:
        """Add a bundle of files, `<prefix>/code/<sha256>/<name>`, and return its future URI.

        Args:
            members: the files, as `processing.staging.code_files.code_members` returns them.
            prefix: the parent of `code/`.
            kms_key: the KMS key for encryption.
            name: the bundle's file name.
            limit: the most bytes that the bundle may have; None for any number.
            at: a fixed object instead of one whose key names the content; an existing object is replaced.
            script: the file among them that the job starts.
            field: the parameter that names the files, for warnings.

        Raises:
            ConfigurationError: the bundle exceeds the limit, or there is no file.
            StagingError: files cannot be read or change meanwhile, each named; or the disk is full.
        """
        bundle = make_bundle(members, limit=limit, field=field)
        self._bundles.append(bundle)
        self._scripts += [(script, _hash_and_read(script)[2])] if script is not None else []
        path = bundle.path or Path(name)
        return self._add_content(path, name, bundle.sha256, bundle.size, bundle.body, prefix / "code", kms_key, at)

    def add_bytes(
        self, body: bytes, name: str, prefix: S3Uri, kms_key: str | None = None, *, at: S3Uri | None = None
    ) -> str:
        """Add generated content, `<prefix>/code/<sha256>/<name>`, and return its future URI.

        Args:
            body: the content.
            name: the file name.
            prefix: the parent of `code/`.
            kms_key: the KMS key for encryption.
            at: a fixed object instead of one whose key names the content; an existing object is replaced.
        """
        import hashlib  # loads OpenSSL

        sha256 = hashlib.sha256(body).hexdigest()
        return self._add_content(Path(name), name, sha256, len(body), body, prefix / "code", kms_key, at)

    def add_kept(self, content: Bundle, name: str, prefix: S3Uri, kms_key: str | None = None) -> str:
        """Add finished content, `<prefix>/code/<sha256>/<name>`, and return its future URI. It may be added again.

        Args:
            content: the content. Its temporary file lives as long as the value.
            name: the file name.
            prefix: the parent of `code/`.
            kms_key: the KMS key for encryption.
        """
        self._kept.append(content)
        path = content.path or Path(name)
        return self._add_content(path, name, content.sha256, content.size, content.body, prefix / "code", kms_key)

    def add_chunks(self, chunks: Iterable[bytes | memoryview], size: int, at: S3Uri, kms_key: str | None = None) -> str:
        """Add generated content at a fixed location, and return its URI. An existing object is replaced.

        Args:
            chunks: the content, in order. It is copied: to a temporary file if it is large.
            size: the number of all bytes.
            at: the object.
            kms_key: the KMS key for encryption.

        Raises:
            StagingError: the disk is full.
        """
        kept = keep_chunks(chunks, size)
        self._bundles.append(kept)
        name = at.key.rpartition("/")[2]
        path = kept.path or Path(name)
        return self._add_content(path, name, kept.sha256, kept.size, kept.body, at, kms_key, at)

    def add_reusable(self, source: LocalSource, prefix: S3Uri, kms_key: str | None = None) -> str:
        """Add data under a prefix that names its content, and return its future URI.

        A directory goes to `<prefix>/data/<sha256>/...`, with the hash of all names and contents, so that no two trees
        share a prefix. A file goes to `<prefix>/data/<sha256>/<name>`. Existing objects are not sent again: see
        `processing.staging.deduplication`.

        Args:
            source: the source. A directory's files keep their relative names, a file its own name.
            prefix: the parent of `data/`.
            kms_key: the KMS key for encryption.

        Raises:
            StagingError: files cannot be read, each named.
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
        """Add one file under a key that names its content, or at a fixed location."""
        target = at or folder / _content_name(sha256, kms_key) / name
        upload = Upload(path, target, kms_key, content_addressed=at is None, sha256=sha256, body=body, size=size)
        return self._add(target, [upload])

    def _add(self, uri: S3Uri, uploads: list[Upload]) -> str:
        """Record uploads, and return their URI."""
        self._uploads += uploads
        return str(uri)

    def __iter__(self) -> Iterator[Upload]:
        return iter(self.uploads)

    def __len__(self) -> int:
        return len(self._uploads)


def _content_name(sha256: str, kms_key: str | None) -> str:
    """Return the name for content: its hash, or with a KMS key the hash of both.

    Each key leads to an object of its own, because a running job may have access to only one of the keys.
    """
    import hashlib  # loads OpenSSL

    return sha256 if kms_key is None else hashlib.sha256(f"{kms_key}\0{sha256}".encode()).hexdigest()


def _raise_problems(problems: Iterable[tuple[str, str | None]]) -> None:
    """Raise one error for all files that have a problem."""
    failures = [(name, problem) for name, problem in problems if problem is not None]
    if failures:
        raise StagingError("files could not be staged", failures)


def _size(path: Path) -> int | None:
    """Return a file's size in bytes; None if it has just vanished, which reading it reports."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _upload_problem(path: Path, target: S3Uri) -> str | None:
    """Return why a file cannot be uploaded, as far as that is known in advance."""
    if not os.access(path, os.R_OK):
        return "no permission to read it"
    try:
        length = len(target.key.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8, as an S3 key has to be"
    return f"its key would have {length} bytes, at most {_LONGEST_KEY}" if length > _LONGEST_KEY else None


def _hash_and_read(path: Path) -> tuple[str, int, bytes | None]:
    """Return a file's SHA-256 and size, and the content of a small one, which then need not be read again."""
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

"""What one run has to upload: collected and checked first, moved afterwards."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import attrs

from processing.exceptions import StagingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from processing.request.uris import S3Uri
    from processing.staging.sources import LocalSource

_KEPT = 8 * 1024 * 1024  # code up to this size (bytes) is kept in memory between hashing and upload
_BLOCK = 1024 * 1024
_LONGEST_KEY = 1024  # bytes, https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html


@attrs.frozen
class Upload:
    """One file on its way to one object.

    Args:
        source: the file.
        target: the object.
        kms_key: the KMS key to encrypt it with; None leaves it to the bucket.
        content_addressed: True where the key names the content: the object is looked for first, and left as it is.
        sha256: the content's SHA-256 (hexadecimal), where the key names it: other bytes are never put there.
        body: the content, where it was read already.
        claim: what marks the object as this run's, where there must not be one yet; None to replace what is there.
        extra: more parameters of PutObject.
    """

    source: Path
    target: S3Uri
    kms_key: str | None = None
    content_addressed: bool = False
    sha256: str | None = None
    body: bytes | None = attrs.field(default=None, repr=False)
    claim: str | None = None
    extra: tuple[tuple[str, Any], ...] = ()


class StagingPlan:
    """Collects the uploads of one run. Adding looks at the files; nothing is sent."""

    def __init__(self) -> None:
        self._uploads: list[Upload] = []

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
        return plan

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
        added = []
        unreadable = []
        for path, name in source.files():
            problem = _problem(path, target / name)
            if problem:
                unreadable.append((str(path), problem))
            added.append(Upload(path, target / name, kms_key, extra=tuple((extra or {}).items())))
        if unreadable:
            raise StagingError("files could not be staged", unreadable)
        self._uploads += added
        return str(target if source.is_dir else added[0].target)

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
            sha256, body = _read(path)
        except OSError as error:
            raise StagingError("the code could not be read", [(str(path), error.strerror or str(error))]) from error
        target = prefix / "code" / sha256 / path.name
        self._uploads.append(Upload(path, target, kms_key, content_addressed=True, sha256=sha256, body=body))
        return str(target)

    def __iter__(self) -> Iterator[Upload]:
        return iter(self.uploads)

    def __len__(self) -> int:
        return len(self._uploads)


def _problem(path: Path, target: S3Uri) -> str | None:
    """Return why a file cannot be uploaded, as far as can be seen without doing it."""
    if not os.access(path, os.R_OK):
        return "no permission to read it"
    try:
        length = len(target.key.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8, as an S3 key has to be"
    return f"its key would have {length} bytes, at most {_LONGEST_KEY}" if length > _LONGEST_KEY else None


def _read(path: Path) -> tuple[str, bytes | None]:
    """Return the file's SHA-256, and its content if it is small: that is then what is uploaded, and not read again."""
    import hashlib  # loads OpenSSL

    digest = hashlib.sha256()
    kept: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
            if size <= _KEPT:
                kept.append(block)
    return digest.hexdigest(), b"".join(kept) if size <= _KEPT else None

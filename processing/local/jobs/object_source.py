"""The S3 that a host's inputs come from and its outputs go to: the engine's own, or another one in its place.

This module is the one exception to the rule that a supervisor knows nothing of boto3. Only a job whose plan names
another S3 loads boto3. Every other job starts without it, in milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processing.local.jobs.execution_plan import RemoteS3Options
    from processing.local.stores.bodies import BodySource


class ObjectEntry(Protocol):
    """An object that exists in S3."""

    @property
    def key(self) -> str:
        """The object's key."""


class ObjectSource(Protocol):
    """The operations on S3 that move a host's data."""

    def iter_prefix(self, bucket: str, prefix: str = "") -> Iterator[ObjectEntry]:
        """Yield every object whose key begins with the prefix, in order.

        Raises:
            ApiError: the bucket does not exist or cannot be read.
        """

    def open(self, bucket: str, key: str) -> tuple[ObjectEntry, int]:
        """Return an object and its body as an open file descriptor.

        Raises:
            ApiError: the object does not exist or cannot be read.
        """

    def put(self, bucket: str, key: str, source: BodySource) -> object:
        """Store an object: bytes, a path, or a stream.

        Raises:
            ApiError: the object cannot be stored.
        """


def object_source(home: Path, remote: RemoteS3Options | None) -> ObjectSource:
    """Return the S3 of a job.

    Args:
        home: the engine's folder.
        remote: the S3 in place of the engine's own; None for the engine's own.
    """
    if remote is None:
        from processing.local.stores.objects import ObjectStore

        return ObjectStore(home)
    from processing.local.remote_s3 import RemoteS3Objects

    return RemoteS3Objects(remote.endpoint, remote.region, remote.path, home)

"""The objects of the makers of endpoints and training jobs: their arguments and their bucket."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from processing._utils.validation import MAPPING, NAME, TEXT, Kind, require
from processing.local.errors import ApiError

if TYPE_CHECKING:
    from processing.local.session import LocalSession

BUCKET = "processing-testing-models"
PAUSE = 0.01
"""The seconds between two looks at a status."""
_BYTES = Kind("bytes", lambda value: isinstance(value, (bytes, bytearray)))


def require_files(parameter: str, files: Any) -> None:
    """Check files, by their paths.

    Raises:
        ConfigurationError: a path or a content has a wrong type.
    """
    require(parameter, files, MAPPING)
    for path, content in files.items():
        require(f"{parameter}: the path {path!r}", path, NAME)
        require(f"{parameter}[{path!r}]", content, _BYTES)


def require_texts(parameter: str, values: Any) -> None:
    """Check texts by their names; None counts as empty.

    Raises:
        ConfigurationError: a name or a value has a wrong type.
    """
    require(parameter, values, MAPPING, optional=True)
    for name, value in (values or {}).items():
        require(f"{parameter}: the name {name!r}", name, NAME)
        require(f"{parameter}[{name!r}]", value, TEXT)


def put(session: LocalSession, key: str, body: bytes) -> str:
    """Store an object, without faults, and return its URI."""
    handle = session.engine.handle
    with contextlib.suppress(ApiError):  # it exists
        handle("s3", "CreateBucket", {"Bucket": BUCKET})
    handle("s3", "PutObject", {"Bucket": BUCKET, "Key": key, "Body": body})
    return f"s3://{BUCKET}/{key}"


def get(session: LocalSession, key: str) -> bytes:
    """Return the body of an object, read without faults.

    Raises:
        ApiError: there is no such object.
    """
    with os.fdopen(session.engine.objects.open(BUCKET, key)[1], "rb") as body:
        return body.read()

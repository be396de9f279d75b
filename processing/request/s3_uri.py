"""S3 URIs as values."""

from __future__ import annotations

from typing import Any

import attrs

from processing.exceptions import ConfigurationError

_SCHEME = "s3://"


def is_s3(text: object) -> bool:
    """Return whether the text is an `s3://` URI. The scheme may be in capitals, as in any URI."""
    return isinstance(text, str) and text[: len(_SCHEME)].lower() == _SCHEME


@attrs.frozen
class S3Uri:
    """A location in S3: a bucket, and a key or a key prefix.

    The key is kept unchanged: S3 does not interpret `..` or percent-encoding, and `a//b` and `a/b` are different keys.

    Args:
        bucket: the bucket's name.
        key: the key or prefix, without a leading slash; empty for the whole bucket.
    """

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, text: Any) -> S3Uri:
        """Return the value of `s3://bucket/key`.

        Raises:
            ConfigurationError: the text is not an S3 URI, or has no bucket.
        """
        if not is_s3(text):
            raise ConfigurationError(f"{text!r} is not an S3 URI; it has to begin with s3://")
        bucket, _, key = text[len(_SCHEME) :].partition("/")
        if not bucket:
            raise ConfigurationError(f"{text!r} names no bucket; an S3 URI is s3://<bucket>/<key>")
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}" if self.key else f"{_SCHEME}{self.bucket}"

    def __truediv__(self, part: str) -> S3Uri:
        """Return the location one level deeper, with exactly one slash between the two parts."""
        left, right = self.key.rstrip("/"), part.lstrip("/")
        return S3Uri(self.bucket, f"{left}/{right}" if left else right)

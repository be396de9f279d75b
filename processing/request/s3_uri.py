"""S3 URIs as values."""

from __future__ import annotations

from typing import Any, NamedTuple

from processing.exceptions import ConfigurationError
from processing.request.bucket_names import SCHEME, bucket_problem, is_s3, split_s3_uri


class S3Uri(NamedTuple):
    """A location in S3: a bucket, and a key or a key prefix.

    The key is kept unchanged: S3 does not interpret `..` or percent-encoding, and `a//b` and `a/b` are different keys.

    Args:
        bucket: the bucket's name, or the ARN of an access point.
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
        bucket, key = split_s3_uri(text)
        if not bucket:
            raise ConfigurationError(f"{text!r} names no bucket; an S3 URI is s3://<bucket>/<key>")
        return cls(bucket, key)

    @classmethod
    def checked(cls, text: Any, field: str) -> S3Uri:
        """Return the value of a URI that a parameter of a public function holds.

        Args:
            text: the URI.
            field: the parameter's name.

        Raises:
            ConfigurationError: the text is not an S3 URI, or no bucket can have the name.
        """
        try:
            uri = cls.parse(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"{field}: {error}") from None
        problem = bucket_problem(uri.bucket)
        if problem is None and "\0" in uri.key:
            problem = f"{text!r} contains a NUL character"
        if problem is not None:
            raise ConfigurationError(f"{field}: {problem}")
        return uri

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}" if self.key else f"{SCHEME}{self.bucket}"

    def __truediv__(self, part: str) -> S3Uri:
        """Return the location one level deeper, with exactly one slash between the two parts."""
        left, right = self.key.rstrip("/"), part.lstrip("/")
        return S3Uri(self.bucket, f"{left}/{right}" if left else right)


def check_one_line(uri: object, field: str) -> None:
    """Refuse a URI with a line break, which no input or output of a request may have.

    Args:
        uri: the URI.
        field: the parameter's name.

    Raises:
        ConfigurationError: the URI holds a line break.
    """
    if "\n" in str(uri):
        raise ConfigurationError(f"{field}: holds a line break, which AWS does not allow in the S3 URI of an input")

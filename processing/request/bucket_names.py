"""The names of buckets: their rules, and their place in a URI.

The supervisor of a job imports this module, so it needs the standard library only.
"""

from __future__ import annotations

import re

SCHEME = "s3://"

# Texts, which `re` compiles on first use: `import processing` loads this module.

# An access point in the place of a bucket, as the AWS CLI, s3fs and awswrangler write it. Its ARN contains slashes.
_ACCESS_POINT = (
    r"arn:[^:/\s]+:s3(?:-object-lambda|-outposts)?:[^:/\s]*:\d{12}:(?:outpost[/:][\w-]+[/:])?accesspoint[/:][\w.-]+"
)
_BUCKET_ARN = r"arn:[^:/\s]+:s3:[^:/\s]*:[^:/\s]*:([^:/\s]+)"
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html. The lower limit of three characters is
# not checked: a short name is a placeholder, and S3 answers at once that there is no such bucket.
_BUCKET = r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?"
_LONGEST_BUCKET = 63
PLACEHOLDER = r"[${}<>%]"
"""The characters of placeholders in shells and templates, which neither buckets nor images have."""
PYTHON_VALUES = frozenset({"None", "True", "False", "NaN", "NaT"})
"""The texts that f-strings make of variables that are not set."""
_NAMING = "a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens"


def is_s3(text: object) -> bool:
    """Return whether the text is an `s3://` URI. The scheme may be in capitals, as in any URI."""
    return isinstance(text, str) and text[: len(SCHEME)].lower() == SCHEME


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of an `s3://` URI. The ARN of an access point counts as a bucket."""
    rest = uri[len(SCHEME) :]
    access_point = re.match(_ACCESS_POINT, rest)
    if access_point is not None and rest[access_point.end() :][:1] in ("", "/"):
        return access_point[0], rest[access_point.end() + 1 :]
    bucket, _, key = rest.partition("/")
    return bucket, key


def is_access_point(bucket: str) -> bool:
    """Return whether a bucket is the ARN of an access point."""
    return re.fullmatch(_ACCESS_POINT, bucket) is not None


def bucket_problem(bucket: str) -> str | None:
    """Return the reason why no bucket can have the name; None if one can.

    The ARN of an access point is accepted.
    """
    if is_access_point(bucket) or (len(bucket) <= _LONGEST_BUCKET and re.fullmatch(_BUCKET, bucket)):
        return None
    of_bucket = re.fullmatch(_BUCKET_ARN, bucket)
    if of_bucket is not None:
        return f"{bucket!r} is the ARN of a bucket; write its name, {of_bucket[1]!r}"
    if bucket.startswith("arn:"):
        return f"{bucket!r} is not the ARN of an access point, arn:<partition>:s3:<region>:<account>:accesspoint/<name>"
    return f"no bucket can be named {bucket[: 2 * _LONGEST_BUCKET]!r}: {_reason(bucket)}"


def _reason(bucket: str) -> str:
    """Return the most likely mistake in an impossible name."""
    if bucket.lower() in {"s3:", "s3a:", "s3n:", "http:", "https:", "file:"}:
        return "the URI has two schemes; write s3:// once"
    if re.search(PLACEHOLDER, bucket):
        return "a placeholder in it has not been replaced"
    if bucket in PYTHON_VALUES:
        return "it is a Python value as text; a variable is not set"
    if re.search(r"\s", bucket):
        return "it contains white space"
    if len(bucket) > _LONGEST_BUCKET:
        return f"it has {len(bucket)} characters; {_NAMING}"
    return _NAMING

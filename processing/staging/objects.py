"""S3's calls on one object: their parameters, their answers, their errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from processing.retrying import error_code

if TYPE_CHECKING:
    from processing.request.uris import S3Uri
    from processing.retrying import RetryingApi
    from processing.staging.plan import Upload

ExpectedOwner = Callable[[str], "str | None"]
"""Says which account a bucket has to belong to; None where it may be anybody's."""

_CONFLICT_TRIES = 5


def place(uri: S3Uri, expected_owner: ExpectedOwner) -> dict[str, Any]:
    """Return the parameters that name an object, and the account that its bucket has to belong to."""
    return {"Bucket": uri.bucket, "Key": uri.key, **owner(uri.bucket, expected_owner)}


def owner(bucket: str, expected_owner: ExpectedOwner) -> dict[str, str]:
    """Return the parameter that makes S3 refuse a bucket of another account; empty where it may be anybody's."""
    account = expected_owner(bucket)
    return {} if account is None else {"ExpectedBucketOwner": account}


def encryption(kms_key: str | None) -> dict[str, str]:
    """Return the parameters that encrypt an object with a KMS key; empty where that is left to the bucket."""
    return {} if kms_key is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}


def head(api: RetryingApi, place: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return HeadObject's answer, or None: it is not there, or may not be looked at."""
    from botocore.exceptions import ClientError

    try:
        return api.call("s3", "HeadObject", place)
    except ClientError as error:
        # Without s3:ListBucket S3 says 403 of an object that is missing.
        if error_code(error) in {"404", "NoSuchKey", "NotFound", "403", "AccessDenied", "Forbidden"}:
            return None
        raise


def same_key(asked: str | None, found: Mapping[str, Any]) -> bool:
    """Whether an object is encrypted with the KMS key that was asked for. An alias cannot be told from here: no."""
    if asked is None:
        return True
    has = str(found.get("SSEKMSKeyId") or "")
    return has == asked or has.endswith(f":key/{asked}")


def unless_there(api: RetryingApi, upload: Upload, put: Callable[[dict[str, str]], object]) -> None:
    """Make an object whose key names the content, unless somebody else just did: either way it is there.

    With a KMS key it may be there under another key; it is then replaced.
    """
    from botocore.exceptions import ClientError

    condition = {"IfNoneMatch": "*"} if upload.kms_key is None else {}
    for tries in range(1, _CONFLICT_TRIES + 1):
        try:
            put(condition)
        except ClientError as error:  # noqa: PERF203 - a handful of network calls
            code = error_code(error)
            if code in {"PreconditionFailed", "412"}:
                return
            if code == "NotImplemented" and condition:  # an S3 of somebody else's, without conditional writes
                condition = {}
            elif code != "ConditionalRequestConflict" or tries == _CONFLICT_TRIES:
                raise
            else:  # another upload to the key is under way
                api.clock.sleep(0.2 * 2**tries)
        else:
            return

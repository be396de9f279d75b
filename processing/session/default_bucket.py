"""The bucket that is made of the account's number: whether it is there and ours, and how it comes to be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from processing.aws.retry import RetryingApi

logger = logging.getLogger(__name__)

_DENIED = {"403", "AccessDenied", "Forbidden"}


def bucket_exists(api: RetryingApi, bucket: str, owner: str) -> bool:
    """Return whether there is a bucket of that name, and it belongs to the account.

    Raises:
        ConfigurationError: it belongs to another account, or may not be looked at.
    """
    from botocore.exceptions import ClientError

    try:
        api.call("s3", "HeadBucket", {"Bucket": bucket, "ExpectedBucketOwner": owner})
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code in {"404", "NoSuchBucket"}:
            return False
        if code in _DENIED:
            raise ConfigurationError(
                f"default_bucket: access to {bucket} is denied. Either it belongs to another account than {owner}, "
                "or these credentials lack s3:ListBucket on it. Give a bucket of your own: "
                "Session(default_bucket=...)"
            ) from error
        raise
    return True


def create_bucket(api: RetryingApi, bucket: str, region: str) -> None:
    """Create a bucket in a region; one that is ours by now is no error.

    Raises:
        ConfigurationError: the name is another account's, or no bucket may be created.
    """
    from botocore.exceptions import ClientError

    params: dict[str, Any] = {"Bucket": bucket}
    if region != "us-east-1":  # the one region that must not be named
        params["CreateBucketConfiguration"] = {"LocationConstraint": region}
    try:
        api.call("s3", "CreateBucket", params)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code == "BucketAlreadyOwnedByYou":  # somebody of ours was quicker
            return
        if code == "BucketAlreadyExists":
            raise ConfigurationError(
                f"default_bucket: {bucket} belongs to another account. Give a bucket of your own: "
                "Session(default_bucket=...)"
            ) from error
        if code in _DENIED:
            raise ConfigurationError(
                f"default_bucket: {bucket} does not exist, and these credentials may not create it. Give a bucket "
                "that exists: Session(default_bucket=...)"
            ) from error
        raise
    logger.info("created bucket %s", bucket)

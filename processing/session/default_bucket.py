"""The default bucket of a session: its name, its owner, and its creation.

A bucket that the user or the config file names is used as it is. Without one, the bucket is
`sagemaker-<region>-<account>`, as in `sagemaker` 2.x. Only this derived bucket is probed, created and held to its
owner: its name can be guessed, so another account may have created it first.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any, Protocol, cast

from processing.aws.credentials import check_after_head
from processing.config.values import BUCKET
from processing.exceptions import ConfigurationError
from processing.request.bucket_names import SCHEME, bucket_problem, is_s3, split_s3_uri

if TYPE_CHECKING:
    from processing.aws.retry import RetryingApi
    from processing.config.values import Config

logger = logging.getLogger(__name__)

_DENIED = {"403", "AccessDenied", "Forbidden"}


class BucketOwner(Protocol):
    """The session as its default bucket sees it."""

    @property
    def config(self) -> Config:
        """The values of the SageMaker config file."""

    @property
    def boto_region_name(self) -> str:
        """The AWS region."""

    @property
    def known_account(self) -> str | None:
        """The account's number, if it is known without a call."""

    @property
    def api(self) -> RetryingApi:
        """Calls to AWS."""

    def account_id(self) -> str:
        """Return the account's number."""


class DefaultBucket:
    """The default bucket of one session.

    Args:
        session: the session, which knows the region, the account, the config file and the calls to AWS.
        name: the bucket that the user named, with or without `s3://` before it; None if none was named.

    Attributes:
        chosen: the name of the bucket that the user named; None if none was named.

    Raises:
        ConfigurationError: the name contains a prefix, or is empty.
    """

    def __init__(self, session: BucketOwner, name: str | None) -> None:
        self._session = session
        self.chosen = _without_scheme(name)
        self._ensured: set[str] = set()

    def copy(self, session: BucketOwner) -> DefaultBucket:
        """Return the same default bucket for a copy of the session."""
        copied = copy.copy(self)
        copied._session, copied._ensured = session, set(self._ensured)  # noqa: SLF001 - of the same class
        return copied

    @property
    def named(self) -> str | None:
        """The bucket that the user or the config file names; None if the name is derived from the account."""
        return self.chosen or cast("str | None", self._session.config.get(BUCKET))

    def name(self) -> str:
        """Return the bucket's name. A derived name asks STS for the account once."""
        return self.named or self._derived(self._session.account_id())

    def name_without_call(self, role: str | None) -> str:
        """Return the bucket's name without a call to AWS.

        Args:
            role: the ARN of the job's role, whose account is used if the session's account is not known yet.

        Raises:
            ConfigurationError: no bucket is named, and no account is known.
        """
        if self.named:
            return self.named
        account = self._session.known_account
        if account is None:
            account = _account_of_role(role)
        return self._derived(account)

    def ensure(self, bucket: str) -> None:
        """Create a bucket if it is the derived one and does not exist. Any other bucket is left alone.

        Raises:
            ConfigurationError: another account owns the name, or the credentials may not look at the bucket.
        """
        owner = None if bucket in self._ensured else self.expected_owner(bucket)
        if owner is None:
            return
        api = self._session.api
        if not bucket_exists(api, bucket, owner):
            create_bucket(api, bucket, self._session.boto_region_name)
        self._ensured.add(bucket)

    def expected_owner(self, bucket: str) -> str | None:
        """Return the account that must own a bucket: this account for the derived bucket, None for a user's."""
        return None if self.named is not None else self.owner_if_derived(bucket)

    def owner_if_derived(self, bucket: str) -> str | None:
        """Return this account if a bucket's name is derived from it, else None.

        STS is asked only if the name has the form of a derived one.
        """
        prefix, _, digits = bucket.rpartition("-")
        has_form = len(digits) == 12 and digits.isdecimal() and prefix == f"sagemaker-{self._session.boto_region_name}"
        if not has_form:
            return None
        account = self._session.account_id()
        return account if bucket == self._derived(account) else None

    def _derived(self, account: str) -> str:
        return f"sagemaker-{self._session.boto_region_name}-{account}"


def bucket_exists(api: RetryingApi, bucket: str, owner: str) -> bool:
    """Return whether a bucket exists and belongs to an account.

    Raises:
        ConfigurationError: it belongs to another account, or the credentials may not look at it.
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
        check_after_head(api.call, error)
        raise
    return True


def create_bucket(api: RetryingApi, bucket: str, region: str) -> None:
    """Create a bucket in a region. It is not an error if this account has it already.

    Raises:
        ConfigurationError: another account owns the name, or the credentials may not create buckets.
    """
    from botocore.exceptions import ClientError

    params: dict[str, Any] = {"Bucket": bucket}
    if region != "us-east-1":  # S3 refuses a location constraint for this one region
        params["CreateBucketConfiguration"] = {"LocationConstraint": region}
    try:
        api.call("s3", "CreateBucket", params)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code == "BucketAlreadyOwnedByYou":  # another process of this account created it first
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


def _account_of_role(role: str | None) -> str:
    fields = (role or "").split(":")
    if len(fields) == 6 and fields[0] == "arn" and fields[4].isdecimal():
        return fields[4]
    raise ConfigurationError(
        "role: without a call to AWS the account is not known, and the default bucket's name is made of it; "
        "give the role's ARN, or a Session(default_bucket=...)"
    )


def _without_scheme(name: str | None) -> str | None:
    """Return the bucket's name alone, without `s3://` before it or `/` behind it."""
    if name is None:
        return None
    bucket, key = split_s3_uri(name if is_s3(name) else f"{SCHEME}{name}")
    problem = bucket_problem(bucket) if bucket else None
    if problem is None and (not bucket or key.strip("/") or (key and not is_s3(name))):
        problem = f"{name!r} is not a bucket's name; a prefix goes in default_bucket_prefix"
    if problem is not None:
        raise ConfigurationError(f"default_bucket: {problem}")
    return bucket

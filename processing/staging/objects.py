"""S3 calls on single objects: their parameters, responses and errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from processing.aws.credentials import check_after_head
from processing.aws.retry import error_code
from processing.exceptions import StagingError

if TYPE_CHECKING:
    from processing.aws.retry import Failure, RetryingApi, RetryPolicy
    from processing.request.s3_uri import S3Uri
    from processing.staging.pending_uploads import Upload

ExpectedOwner = Callable[[str], "str | None"]
"""Returns the account that must own a bucket; None if it may belong to any account."""

_CONFLICT_TRIES = 5  # with pauses of 6 seconds in all: the other upload is then most likely complete


def object_params(uri: S3Uri, expected_owner: ExpectedOwner) -> dict[str, Any]:
    """Return the parameters of an object's location, and the account that must own its bucket."""
    return {"Bucket": uri.bucket, "Key": uri.key, **owner_params(uri.bucket, expected_owner)}


def owner_params(bucket: str, expected_owner: ExpectedOwner) -> dict[str, str]:
    """Return the parameter that makes S3 refuse a bucket of another account; empty if any account may own it."""
    account = expected_owner(bucket)
    return {} if account is None else {"ExpectedBucketOwner": account}


def shared_params(api: RetryingApi, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the user's parameters that another operation also has, such as RequestPayer."""
    members = api.client("s3").meta.service_model.operation_model(operation).input_shape.members
    return {name: value for name, value in params.items() if name in members}


def encryption_params(kms_key: str | None) -> dict[str, str]:
    """Return the parameters that encrypt an object with a KMS key; empty if the bucket decides on encryption."""
    return {} if kms_key is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}


def head_object(
    api: RetryingApi,
    place: Mapping[str, Any],
    *,
    on_failure: Callable[[Failure], None] | None = None,
    policy: RetryPolicy | None = None,
) -> dict[str, Any] | None:
    """Return the response of HeadObject; None if the object does not exist or may not be read.

    Args:
        api: the calls to S3.
        place: the parameters of the object's location.
        on_failure: as for `RetryingApi.call`.
        policy: as for `RetryingApi.call`.
    """
    from botocore.exceptions import ClientError

    try:
        return api.call("s3", "HeadObject", place, on_failure=on_failure, policy=policy)
    except ClientError as error:
        # Without s3:ListBucket S3 answers 403 for a missing object.
        if error_code(error) in {"404", "NoSuchKey", "NotFound", "403", "AccessDenied", "Forbidden"}:
            return None
        check_after_head(api.call, error)
        raise


def put_if_absent(api: RetryingApi, put: Callable[[Mapping[str, str]], object]) -> None:
    """Create an object whose key names the content, unless it exists already: the content is the same in both cases."""
    from botocore.exceptions import ClientError

    condition = {"IfNoneMatch": "*"}
    for tries in range(1, _CONFLICT_TRIES + 1):
        try:
            put(condition)
        except ClientError as error:  # noqa: PERF203 - a handful of network calls
            code = error_code(error)
            if code in {"PreconditionFailed", "412"}:
                return
            if code == "NotImplemented" and condition:  # another S3, without conditional writes
                condition = {}
            elif code != "ConditionalRequestConflict" or tries == _CONFLICT_TRIES:
                raise
            else:  # another upload to the key is in progress
                api.clock.sleep(0.2 * 2**tries)
        else:
            return


CLAIM_METADATA = "processing-claim"
"""The object metadata that identifies the run that created an object."""


class ClaimedError(StagingError):
    """An object that this run has to create exists already: another run has the same name."""


def write_upload(
    api: RetryingApi, upload: Upload, place: Mapping[str, Any], put: Callable[[Mapping[str, str]], object]
) -> None:
    """Create the object of an upload with `put`, which receives the upload's condition.

    Raises:
        ClaimedError: another run has created an object under that key.
    """
    if upload.content_addressed:
        put_if_absent(api, put)
    elif upload.claim is not None:
        _put_claimed(api, upload, place, put)
    else:
        put({})


def _put_claimed(
    api: RetryingApi, upload: Upload, place: Mapping[str, Any], put: Callable[[Mapping[str, str]], object]
) -> None:
    from botocore.exceptions import ClientError

    try:
        put({"IfNoneMatch": "*"})
    except ClientError as error:
        code = error_code(error)
        if code == "NotImplemented":  # another S3, without conditional writes
            put({})
        elif code not in {"PreconditionFailed", "412"}:
            raise
        elif claim_of(head_object(api, place)) != upload.claim:  # otherwise the response to an earlier attempt was lost
            raise ClaimedError("another run has the same name", [(str(upload.target), "exists already")]) from error


def claim_of(found: Mapping[str, Any] | None) -> str | None:
    """Return the claim on an object by the answer of HeadObject; None if there is none."""
    claim: str | None = (found or {}).get("Metadata", {}).get(CLAIM_METADATA)
    return claim

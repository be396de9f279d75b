"""Detection of truncated responses, which botocore parses as an empty success if the body is JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from processing.exceptions import ProcessingError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


class TruncatedResponseError(ProcessingError):
    """A response had a success status, but lacked a member that the operation always returns.

    Args:
        operation: the operation that was called.
        missing: the names of the missing members.

    Attributes:
        operation: the operation that was called.
        missing: the names of the missing members.
    """

    def __init__(self, operation: str, missing: tuple[str, ...]) -> None:
        self.operation = operation
        self.missing = missing
        super().__init__(f"the response to {operation} was truncated: {', '.join(missing)} is missing")


# Members that AWS always returns although the service model does not require them. S3 responds with headers and XML,
# where an empty body would pass as an empty listing.
_ALWAYS_RETURNED: Final[Mapping[str, tuple[str, ...]]] = {
    "CompleteMultipartUpload": ("ETag",),
    "CopyObject": ("CopyObjectResult",),
    "CreateMultipartUpload": ("UploadId",),
    "DescribeLogStreams": ("logStreams",),
    "FilterLogEvents": ("events",),
    "GetCallerIdentity": ("Account", "Arn"),
    "GetLogEvents": ("events", "nextForwardToken"),
    "GetObject": ("Body", "ETag"),
    "HeadObject": ("ContentLength", "ETag"),
    "ListObjectsV2": ("IsTruncated",),
    "ListParts": ("IsTruncated",),
    "ListTags": ("Tags",),
    "PutObject": ("ETag",),
    "UploadPart": ("ETag",),
}

# The members that callers use, of those that the service model requires. A stand-in for AWS, such as moto, may omit the
# others. A truncated body is not JSON, and botocore then parses no member at all, so one member proves the whole.
# Services omit the members of DeleteMessageBatch if they are empty.
_USED: Final[Mapping[str, tuple[str, ...]]] = {
    "DeleteMessageBatch": (),
    "DescribeProcessingJob": ("ProcessingJobStatus",),
}


def check_response(
    client: Any, operation: str, response: Mapping[str, Any], used: Collection[str] | None = None
) -> None:
    """Check that a response has the members that the operation always returns and the caller uses.

    Args:
        client: the botocore client that made the call.
        operation: the operation as AWS spells it.
        response: the response as botocore returned it.
        used: the members that the caller uses, of those that the service model requires. None means the members that
            all callers use.

    Raises:
        TruncatedResponseError: a member is missing.
    """
    used = _USED.get(operation) if used is None else used
    missing = tuple(member for member in _required(client, operation, used) if member not in response)
    if missing:
        raise TruncatedResponseError(operation, missing)


def _required(client: Any, operation: str, used: Collection[str] | None) -> Iterator[str]:
    shape = client.meta.service_model.operation_model(operation).output_shape
    if shape is not None:
        yield from (member for member in shape.required_members if used is None or member in used)
    yield from _ALWAYS_RETURNED.get(operation, ())

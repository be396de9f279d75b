"""Whether an answer is whole: botocore takes a JSON body that was cut off on the way for an empty success."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from processing.exceptions import ProcessingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class TruncatedResponseError(ProcessingError):
    """An answer came with a success status, but without a member that the operation always answers.

    Attributes:
        operation: the operation that was called.
        missing: the members that were not there.
    """

    def __init__(self, operation: str, missing: tuple[str, ...]) -> None:
        self.operation = operation
        self.missing = missing
        super().__init__(f"the answer to {operation} is not whole: {', '.join(missing)} is missing")


# Members that AWS always answers though the service model does not require them. S3 answers in headers and in XML;
# an empty body would pass for an empty listing.
_ALWAYS_ANSWERED: Final[Mapping[str, tuple[str, ...]]] = {
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

# Members that the service model requires, and that are left out where they would be empty.
_LEFT_OUT: Final[Mapping[str, tuple[str, ...]]] = {"DeleteMessageBatch": ("Failed", "Successful")}


def check_response(client: Any, operation: str, answer: Mapping[str, Any]) -> None:
    """Check that an answer has every member that the operation always answers.

    Raises:
        TruncatedResponseError: it has not.
    """
    missing = tuple(member for member in _required(client, operation) if member not in answer)
    if missing:
        raise TruncatedResponseError(operation, missing)


def _required(client: Any, operation: str) -> Iterator[str]:
    shape = client.meta.service_model.operation_model(operation).output_shape
    if shape is not None:
        left_out = _LEFT_OUT.get(operation, ())
        yield from (member for member in shape.required_members if member not in left_out)
    yield from _ALWAYS_ANSWERED.get(operation, ())

"""Detection of responses that are truncated, which botocore parses as an empty success, or about another job."""

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


class ForeignResponseError(ProcessingError):
    """A response is about another job than the request: a proxy, or a shared connection, has mixed up two responses.

    Args:
        operation: the operation that was called.
        asked: the name of the job in the request.
        answered: the name or the ARN of the job in the response.

    Attributes:
        answered: the argument.
    """

    def __init__(self, operation: str, asked: str, answered: str) -> None:
        self.answered = answered
        super().__init__(f"the response to {operation} for the job {asked} is about another job, {answered}")


# Members that AWS always returns although the service model does not require them. S3 responds with headers and XML,
# where an empty body would pass as an empty listing.
_ALWAYS_RETURNED: Final[Mapping[str, tuple[str, ...]]] = {
    "CompleteMultipartUpload": ("ETag",),
    "CopyObject": ("CopyObjectResult",),
    "CreateMultipartUpload": ("UploadId",),
    "CreateQueue": ("QueueUrl",),
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
# Services omit the members of an answer to a batch of messages if they are empty.
_USED: Final[Mapping[str, tuple[str, ...]]] = {
    "DeleteMessageBatch": (),
    "DescribeEndpoint": ("EndpointStatus",),
    "DescribeProcessingJob": ("ProcessingJobStatus",),
    "DescribeTrainingJob": ("TrainingJobStatus",),
    "DescribeTransformJob": ("TransformJobStatus",),
    "SendMessageBatch": (),
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


def check_subject(operation: str, params: Mapping[str, Any], response: Mapping[str, Any]) -> None:
    """Check that a response is about the job that the request names.

    Args:
        operation: the operation as AWS spells it.
        params: the parameters of the request.
        response: the response as botocore returned it.

    Raises:
        ForeignResponseError: it is about another job.
    """
    asked = params.get("ProcessingJobName")
    if not isinstance(asked, str):
        return
    arn = str(response.get("ProcessingJobArn", ""))
    named = response.get("ProcessingJobName", asked)
    answered = arn.rpartition(":processing-job/")[2] if ":processing-job/" in arn else asked
    # An ARN has the name in lower case.
    for name, shown in ((answered, arn), (named, named)):
        if str(name).lower() != asked.lower():
            raise ForeignResponseError(operation, asked, str(shown))


def _required(client: Any, operation: str, used: Collection[str] | None) -> Iterator[str]:
    shape = client.meta.service_model.operation_model(operation).output_shape
    if shape is not None:
        yield from (member for member in shape.required_members if used is None or member in used)
    yield from _ALWAYS_RETURNED.get(operation, ())

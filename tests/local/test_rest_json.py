"""SageMaker Runtime's protocol: a path names the operation, and the body is the program's own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from processing.local.errors import ApiError
from processing.local.protocols import codec
from processing.local.protocols.event_stream import Events
from processing.local.protocols.message import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from processing import LocalSession

BODY = bytes(range(256)) * 10


class _Parts(Events):
    """A stream of two parts, and then an error."""

    def __init__(self) -> None:
        self._left = [b"one", b"\x00two"]

    def __next__(self) -> Mapping[str, Any]:
        if not self._left:
            raise ApiError("ModelStreamError", "it broke", ErrorCode="ModelInvocationTimeExceeded")
        return {"PayloadPart": {"Bytes": self._left.pop(0)}}


class _Handler:
    """The operations of SageMaker Runtime, which record their parameters and answer the same each time."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.error: ApiError | None = None
        self.operations = {
            "InvokeEndpoint": lambda params: self._answer(
                params, {"Body": params["Body"][::-1], "ContentType": "text/csv", "InvokedProductionVariant": "v"}
            ),
            "InvokeEndpointAsync": lambda params: self._answer(
                params, {"OutputLocation": "s3://b/out", "FailureLocation": "s3://b/failed", "InferenceId": "id"}
            ),
            "InvokeEndpointWithResponseStream": lambda params: self._answer(
                params, {"Body": _Parts(), "ContentType": "text/plain"}
            ),
        }

    def _answer(self, params: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(params)
        if self.error is not None:
            raise self.error
        return result


@pytest.fixture
def runtime(client: Callable[..., Any], local_session: LocalSession) -> Any:
    """A boto3 client of SageMaker Runtime through each transport, with the handler behind it as `handler`."""
    handler = _Handler()
    local_session.engine._operations["sagemaker-runtime"] = handler.operations
    made = client("sagemaker-runtime")
    made.handler = handler
    return made


def test_an_invocation_passes_both_ways(runtime: Any) -> None:
    """Labels of the path, headers and bytes arrive as they were sent, and so does the answer."""
    answer = runtime.invoke_endpoint(
        EndpointName="my-endpoint",
        Body=BODY,
        ContentType="text/csv",
        Accept="application/json",
        CustomAttributes="trace=1",
        TargetVariant="b",
    )
    assert answer["Body"].read() == BODY[::-1]
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("text/csv", "v")
    assert runtime.handler.seen == [
        {
            "EndpointName": "my-endpoint",
            "Body": BODY,
            "ContentType": "text/csv",
            "Accept": "application/json",
            "CustomAttributes": "trace=1",
            "TargetVariant": "b",
        }
    ]


def test_an_asynchronous_invocation_has_a_status_of_its_own(runtime: Any) -> None:
    """202, with two locations in headers and the id in the body."""
    answer = runtime.invoke_endpoint_async(
        EndpointName="e", InputLocation="s3://b/in", RequestTTLSeconds=60, InferenceId="id"
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (answer["OutputLocation"], answer["FailureLocation"]) == ("s3://b/out", "s3://b/failed")
    assert answer["InferenceId"] == "id"
    assert runtime.handler.seen[0]["InputLocation"] == "s3://b/in"
    assert runtime.handler.seen[0]["RequestTTLSeconds"] == 60


def test_a_stream_has_the_bytes_of_each_part(runtime: Any) -> None:
    """An error ends it, with its own code."""
    answer = runtime.invoke_endpoint_with_response_stream(EndpointName="e", Body=b"x", ContentType="a/b")
    assert answer["ContentType"] == "text/plain"
    with contextlib.closing(answer["Body"]) as body:
        events = iter(body)
        assert [next(events)["PayloadPart"]["Bytes"] for _ in range(2)] == [b"one", b"\x00two"]
        with pytest.raises(ClientError, match=r"ModelStreamError.*it broke"):
            next(events)


def test_an_error_of_the_model_keeps_its_status(runtime: Any) -> None:
    """The container's status is a number, beside its text."""
    runtime.handler.error = ApiError("ModelError", "no", 424, OriginalStatusCode="418", OriginalMessage="100")
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        runtime.invoke_endpoint(EndpointName="e", Body=b"")
    assert caught.value.response["Error"] == {"Code": "ModelError", "Message": "no"}
    assert caught.value.response["OriginalStatusCode"] == 418
    assert caught.value.response["OriginalMessage"] == "100"


def test_parameters_are_checked_against_the_model(runtime: Any) -> None:
    """A name that no endpoint can have is refused before the handler sees it."""
    with pytest.raises(ClientError, match=r"ValidationError.*endpointName"):
        runtime.invoke_endpoint(EndpointName="no_underscores", Body=b"")
    assert runtime.handler.seen == []


@pytest.mark.parametrize(
    ("path", "scope", "target", "expected"),
    [
        ("/endpoints/e/invocations", "sagemaker", None, ("sagemaker-runtime", "InvokeEndpoint")),
        ("/endpoints/e/async-invocations", "sagemaker", None, ("sagemaker-runtime", "InvokeEndpointAsync")),
        ("/endpoints/e/invocations", "s3", None, ("s3", "CreateMultipartUpload")),
        ("/", "sagemaker", "SageMaker.ListModels", ("sagemaker", "ListModels")),
        ("/endpoints/e/invocations", "sagemaker", "SageMaker.ListModels", ("sagemaker", "ListModels")),
    ],
)
def test_the_path_counts_in_a_request_that_is_signed_for_sagemaker(
    path: str, scope: str, target: str | None, expected: tuple[str, str]
) -> None:
    """A bucket named `endpoints` and the JSON protocol keep their requests."""
    credential = f"Credential=K/20261121/us-east-1/{scope}/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"}
    if target is not None:
        headers["X-Amz-Target"] = target
    query = "?uploads" if scope == "s3" else ""
    request = Request.from_url("POST", f"http://127.0.0.1:1{path}{query}", headers, b"")
    assert codec.identify(request) == expected
    assert codec.signing_name_of(request) == ("s3" if scope == "s3" else "sagemaker")

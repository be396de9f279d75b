"""The retry layer: every row of its table, its waits, and the check of responses."""

from __future__ import annotations

import email.utils
import http.client
import random
import socket
from typing import Any

import pytest
import urllib3.exceptions
from botocore import exceptions as botocore_errors
from botocore.parsers import ResponseParserError

from processing.aws.clock_skew import ClockSkewError
from processing.aws.retry import (
    RULES,
    Failure,
    FailureKind,
    RetryingApi,
    RetryPolicy,
    classify,
    rule_for,
)
from processing.aws.truncation import TruncatedResponseError
from processing.exceptions import CredentialsError
from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultInjector, FaultKind
from processing.testing.wire import JsonService, ServiceError, make_client, respond

URL = "https://api.example.com"


def refused(code: str, status: int = 400, message: str = "", operation: str = "PutObject") -> Exception:
    """Return the error that botocore raises for an error response."""
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore_errors.ClientError(answer, operation)


def certificate(text: str) -> Exception:
    """Return botocore's TLS error."""
    return botocore_errors.SSLError(endpoint_url=URL, error=Exception(text))


EXAMPLES: dict[str, list[Exception]] = {
    "clock skew": [refused("RequestTimeTooSkewed", 403), refused("RequestInTheFuture")],
    "credentials expired": [refused("ExpiredToken"), refused("ExpiredTokenException"), refused("RequestExpired")],
    "credentials not to be had": [
        botocore_errors.CredentialRetrievalError(provider="x", error_msg="y"),
        botocore_errors.MetadataRetrievalError(error_msg="y"),
        botocore_errors.NoCredentialsError(),
        botocore_errors.PartialCredentialsError(provider="env", cred_var="x"),
        botocore_errors.UnauthorizedSSOTokenError(),
        botocore_errors.SSOTokenLoadError(error_msg="y"),
        botocore_errors.TokenRetrievalError(provider="sso", error_msg="y"),
    ],
    "throttled by code": [refused("ThrottlingException"), refused("SlowDown", 503), refused("KMS.ThrottlingException")],
    "throttled by status": [refused("Whatever", 429), refused("Whatever", 509)],
    "role not yet known": [
        refused("ValidationException", 400, "Could not assume role arn:aws:iam::1:role/r. Please ensure that ...")
    ],
    "not taken in": [refused("RequestTimeout"), refused("ConditionalRequestConflict", 409), refused("BadDigest")],
    "no connection": [
        botocore_errors.EndpointConnectionError(endpoint_url=URL, error="Name or service not known"),
        botocore_errors.ConnectTimeoutError(endpoint_url=URL, error="x"),
        botocore_errors.ProxyConnectionError(proxy_url=URL, error="x"),
        ConnectionRefusedError(),
        socket.gaierror(-2, "Name or service not known"),
    ],
    "certificate refused": [certificate("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")],
    "TLS broke off": [certificate("EOF occurred in violation of protocol")],
    "server error by code": [refused("InternalFailure", 500), refused("ServiceUnavailable", 503)],
    "server error of a model": [
        refused("ModelError", 424, 'Received server error (500) from primary with message "no memory"')
    ],
    "server error by status": [refused("502", 502), refused("Odd", 500), refused("504", 504, operation="HeadObject")],
    "error body cut": [refused("400"), refused("", 400), refused("403", 403, operation="CreateProcessingJob")],
    "connection lost": [
        botocore_errors.ConnectionClosedError(endpoint_url=URL, error=ConnectionResetError()),
        botocore_errors.ReadTimeoutError(endpoint_url=URL, error="x"),
        botocore_errors.HTTPClientError(error=ValueError("x")),
        botocore_errors.ResponseStreamingError(error="x"),
        urllib3.exceptions.ProtocolError("Connection broken"),
        urllib3.exceptions.IncompleteRead(3, 4),
        http.client.IncompleteRead(b"abc", 4),
        ConnectionResetError(),
        TimeoutError(),
    ],
    "answer not whole": [
        TruncatedResponseError("CreateProcessingJob", ("ProcessingJobArn",)),
        ResponseParserError("no element found"),
        botocore_errors.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        botocore_errors.FlexibleChecksumError(error_msg="x"),
        UnicodeDecodeError("utf-8", b"\xc3", 0, 1, "unexpected end of data"),
    ],
    "anything else": [
        refused("ValidationException", 400, "1 validation error detected"),
        refused("AccessDeniedException"),
        refused("AccessDenied", 403),
        refused("ResourceLimitExceeded"),
        refused("ResourceInUse"),
        refused("404", 404, operation="HeadObject"),
        refused("403", 403, operation="HeadBucket"),
        refused("NotImplemented", 501),
        ValueError("a mistake in the program"),
    ],
}


@pytest.mark.parametrize(("name", "error"), [(name, error) for name, errors in EXAMPLES.items() for error in errors])
def test_each_failure_meets_its_row(name: str, error: Exception) -> None:
    """A failure matches the row that was written for it, and none above it."""
    assert rule_for(error).name == name


def test_every_row_has_examples() -> None:
    """Every row of the table has a test."""
    assert [rule.name for rule in RULES] == list(EXAMPLES)


def test_rows_have_the_right_kinds() -> None:
    """The kinds decide whether a job may exist."""
    kinds = {rule.name: rule.kind for rule in RULES}
    assert kinds["no connection"] is FailureKind.TRANSIENT
    assert kinds["connection lost"] is kinds["answer not whole"] is kinds["error body cut"] is FailureKind.AMBIGUOUS
    assert kinds["anything else"] is kinds["clock skew"] is kinds["certificate refused"] is FailureKind.FATAL


def test_interrupts_are_never_retried() -> None:
    """Ctrl-C is not a network failure."""
    assert classify(KeyboardInterrupt()) is FailureKind.FATAL


DESCRIBED = {
    "ProcessingJobName": "job",
    "ProcessingJobArn": "arn:aws:sagemaker:us-east-1:111122223333:processing-job/job",
    "ProcessingJobStatus": "InProgress",
    "ProcessingResources": {"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}},
    "AppSpecification": {"ImageUri": "image"},
    "CreationTime": 1_700_000_000.0,
}


def describing(
    faults: FaultInjector, clock: VirtualClock, policy: RetryPolicy | None = None, **handlers: Any
) -> RetryingApi:
    """Return an API of a SageMaker that has one job, with faults in between."""
    service = JsonService({"DescribeProcessingJob": lambda _: DESCRIBED, **handlers}, clock=clock)
    client = make_client("sagemaker", faults.wrap(service))
    return RetryingApi(lambda _: client, clock=clock, random=random.Random(1), policy=policy)


@pytest.mark.parametrize(
    "kind",
    ["throttle", "error500", "error503", "unreachable", "reset_before", "reset_after", "timeout_after", "truncate"],
)
def test_a_fault_costs_one_more_try(kind: FaultKind) -> None:
    """After any single fault on the wire, the second response is returned."""
    faults = FaultInjector().on("DescribeProcessingJob", kind)
    clock = VirtualClock()
    answer = describing(faults, clock).call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"})
    assert answer["ProcessingJobStatus"] == "InProgress"
    assert faults.count() == {"DescribeProcessingJob": 2}
    assert len(clock.sleeps) == 1


def test_a_truncated_response_names_the_missing_members() -> None:
    """botocore parses half a response as an empty success; the error names the missing members."""
    faults = FaultInjector().on("DescribeProcessingJob", "truncate", times=99)
    with pytest.raises(TruncatedResponseError, match="ProcessingJobStatus") as raised:
        describing(faults, VirtualClock()).call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"})
    assert raised.value.operation == "DescribeProcessingJob"
    assert faults.count() == {"DescribeProcessingJob": 8}


def test_members_that_the_model_does_not_require_are_checked_too() -> None:
    """An empty page of log lines contains an empty list."""
    service = JsonService({"FilterLogEvents": lambda _: {}})
    api = RetryingApi(lambda _: make_client("logs", service), clock=VirtualClock(), policy=RetryPolicy(attempts=2))
    with pytest.raises(TruncatedResponseError, match="events"):
        api.call("logs", "FilterLogEvents", {"logGroupName": "group"})
    assert len(service.calls) == 2


def test_a_cut_error_body_is_tried_again() -> None:
    """If an error body is cut off, only the status is left as its code: it may have been any error."""
    faults = FaultInjector()
    answers = [ServiceError("ThrottlingException", "Rate exceeded"), None]

    class Cutting:
        def send(self, request: Any) -> Any:
            error = answers.pop(0)
            if error is None:
                return service.send(request)
            return respond(request, 400, {}, b'{"__type":"Throttling')

    service = JsonService({"DescribeProcessingJob": lambda _: DESCRIBED})
    api = RetryingApi(lambda _: make_client("sagemaker", faults.wrap(Cutting())), clock=VirtualClock())
    failures: list[Failure] = []
    api.call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"}, on_failure=failures.append)
    assert [(failure.kind, failure.attempt) for failure in failures] == [(FailureKind.AMBIGUOUS, 1)]


def test_the_last_error_is_botocores_own() -> None:
    """After the last try, callers catch the error that boto3 would have raised."""
    faults = FaultInjector().on("DescribeProcessingJob", "reset_before", times=99)
    clock = VirtualClock()
    failures: list[Failure] = []
    with pytest.raises(botocore_errors.ConnectionClosedError):
        describing(faults, clock).call(
            "sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"}, on_failure=failures.append
        )
    assert [failure.attempt for failure in failures] == list(range(1, 9))
    bounds = [0.2 * 2**n for n in range(7)]
    assert all(0 <= slept <= bound for slept, bound in zip(clock.sleeps, bounds, strict=True))


def test_throttles_are_bounded_by_time_alone() -> None:
    """A throttled call is tried for the whole budget, and no longer."""
    faults = FaultInjector().on("DescribeProcessingJob", "throttle", probability=1.0)
    clock = VirtualClock()
    with pytest.raises(botocore_errors.ClientError, match="ThrottlingException"):
        describing(faults, clock).call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"})
    assert 160 < clock.monotonic() <= 180
    assert faults.count()["DescribeProcessingJob"] > 8


@pytest.mark.parametrize("code", ["ValidationException", "AccessDeniedException", "ResourceLimitExceeded"])
def test_refusals_are_not_repeated(code: str) -> None:
    """A call that AWS refuses for good is made once."""

    def refuse(_: Any) -> Any:
        raise ServiceError(code, "no")

    faults = FaultInjector()
    api = describing(faults, VirtualClock(), DescribeProcessingJob=refuse)
    with pytest.raises(botocore_errors.ClientError, match=code):
        api.call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"})
    assert len(faults.calls) == 1


def test_expired_credentials_are_tried_once_more() -> None:
    """botocore may have renewed them by then; otherwise they are expired."""

    def refuse(_: Any) -> Any:
        raise ServiceError("ExpiredTokenException", "The security token included in the request is expired")

    faults = FaultInjector()
    api = describing(faults, VirtualClock(), DescribeProcessingJob=refuse)
    with pytest.raises(CredentialsError, match="ExpiredToken"):
        api.call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"})
    assert len(faults.calls) == 2


def test_a_role_may_take_a_minute_to_be_known() -> None:
    """The wait for a role is longer than eight tries, and bounded."""

    def refuse(_: Any) -> Any:
        raise ServiceError("ValidationException", "Could not assume role arn:aws:iam::1:role/new.")

    clock = VirtualClock()
    api = describing(FaultInjector(), clock, DescribeProcessingJob=refuse)
    with pytest.raises(botocore_errors.ClientError, match="Could not assume role"):
        api.call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"})
    assert 30 < clock.monotonic() <= 60


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(form: str) -> None:
    """The server's own wait is respected, in both of its forms."""
    clock = VirtualClock()
    waits = {"seconds": "7", "date": email.utils.formatdate(clock.time() + 7, usegmt=True)}
    refusals = [ServiceError("ThrottlingException", "slow", headers={"Retry-After": waits[form]})]

    def once(_: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return DESCRIBED

    describing(FaultInjector(), clock, DescribeProcessingJob=once).call(
        "sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"}
    )
    assert clock.sleeps == [7.0]


@pytest.mark.parametrize(("minutes", "words"), [(10, "10 minutes behind"), (-10, "10 minutes ahead of")])
@pytest.mark.parametrize("code", ["InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed"])
def test_a_wrong_clock_is_named(code: str, minutes: int, words: str) -> None:
    """The error of a refused signature from a machine with a wrong clock contains the skew."""

    def refuse(_: Any) -> Any:
        raise ServiceError(code, "Signature expired", 403)

    clock = VirtualClock()
    service = JsonService({"DescribeProcessingJob": refuse}, clock=VirtualClock(clock.time() + 60 * minutes))
    api = RetryingApi(lambda _: make_client("sagemaker", service), clock=clock)
    with pytest.raises(ClockSkewError, match=words) as raised:
        api.call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"})
    assert isinstance(raised.value.__cause__, botocore_errors.ClientError)
    assert len(service.calls) == 1


def test_a_wrong_signature_at_the_right_time_is_left_alone() -> None:
    """A wrong secret key is not a wrong clock."""

    def refuse(_: Any) -> Any:
        raise ServiceError("SignatureDoesNotMatch", "no", 403)

    api = describing(FaultInjector(), VirtualClock(), DescribeProcessingJob=refuse)
    with pytest.raises(CredentialsError, match="SignatureDoesNotMatch"):
        api.call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"})


def test_parameters_can_be_made_anew_for_each_try() -> None:
    """A body that was partly read by one try is sent from its beginning by the next."""
    made: list[int] = []

    def parameters() -> dict[str, Any]:
        made.append(1)
        return {"ProcessingJobName": "job"}

    faults = FaultInjector().on("DescribeProcessingJob", "error500", times=2)
    describing(faults, VirtualClock()).call("sagemaker", "DescribeProcessingJob", parameters)
    assert len(made) == 3


def test_attempt_covers_the_reading_of_a_body() -> None:
    """Any function can be called under the policy; each try calls it again."""
    tries: list[int] = []

    def read() -> bytes:
        tries.append(1)
        if len(tries) < 3:
            raise urllib3.exceptions.IncompleteRead(3, 4)
        return b"whole"

    api = describing(FaultInjector(), VirtualClock())
    assert api.attempt("read the body", read) == b"whole"


def test_a_mistake_of_ours_is_not_hidden() -> None:
    """An error that has nothing to do with the network is raised at once."""
    clock = VirtualClock()
    with pytest.raises(ZeroDivisionError):
        describing(FaultInjector(), clock).attempt("divide", lambda: 1 // 0)
    assert clock.sleeps == []


def test_a_policy_may_be_passed_for_one_call() -> None:
    """A caller with a deadline shortens the tries."""
    faults = FaultInjector().on("DescribeProcessingJob", "throttle", probability=1.0)
    clock = VirtualClock()
    with pytest.raises(botocore_errors.ClientError):
        describing(faults, clock).call(
            "sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "job"}, policy=RetryPolicy(budget=5.0)
        )
    assert clock.monotonic() <= 5

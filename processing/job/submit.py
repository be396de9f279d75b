"""One request, one job: CreateProcessingJob exactly once, whatever the network does.

The job's name is the key: AWS gives a name once. So a call whose answer was lost may simply be sent again. If the first
one went through, the second is refused with `ResourceInUse`, and the job of that name is ours if it equals our request
in every field that DescribeProcessingJob answers and was created no earlier than our first try.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.aws.retry import (
    Failure,
    FailureKind,
    classify,
    error_code,
    is_not_found,
    response_of,
    server_time,
)
from processing.aws.truncation import check_response
from processing.container.contract import DEFAULT_MAX_RUNTIME
from processing.exceptions import NameTakenError, SubmissionError
from processing.request.capacity import capacity_advice
from processing.request.extra import RESPONSE_ONLY

if TYPE_CHECKING:
    from processing.aws.retry import RateLimiter, RetryingApi
    from processing.request.build import ProcessingRequest

logger = logging.getLogger(__name__)


@attrs.frozen
class Submitted:
    """A job that AWS has accepted.

    Args:
        arn: the job's ARN.
        adopted: True where the answer to CreateProcessingJob was lost, and the job was found to be there.
        since: a moment of AWS's time shortly before the job was created, in seconds since the epoch; None where AWS
            did not tell the time.
    """

    arn: str
    adopted: bool
    since: float | None = attrs.field(default=None, eq=False)


class NotWantedError(SubmissionError):
    """Nobody wants the job any more: it was not created."""


_pace: contextvars.ContextVar[RateLimiter | None] = contextvars.ContextVar("pace", default=None)


@contextlib.contextmanager
def paced_by(pace: RateLimiter) -> Iterator[None]:
    """Let everything that is submitted in the block be held back by a pace of its own.

    Args:
        pace: asked before each CreateProcessingJob is sent. It may raise NotWantedError to have no job created.
    """
    token = _pace.set(pace)
    try:
        yield
    finally:
        _pace.reset(token)


def submit(api: RetryingApi, request: ProcessingRequest) -> Submitted:
    """Create the job of a request, exactly once.

    Args:
        api: the session's calls.
        request: what to create.

    Raises:
        NotWantedError: what holds submissions back (`paced_by`) says so.
        NameTakenError: the name belongs to another request.
        SubmissionError: AWS refused the request, or it cannot be known whether the job exists; the message says which.
    """
    return _Submission(api, request).run()


class _Submission:
    """One submission, and what its tries have shown so far."""

    def __init__(self, api: RetryingApi, request: ProcessingRequest) -> None:
        self._api = api
        self._name = request.job_name
        self._request = request.to_boto()
        self._may_exist = False
        self._started = (api.clock.time(), api.clock.monotonic())
        self._sent = False

    def run(self) -> Submitted:
        try:
            answer = self._api.call(
                "sagemaker", "CreateProcessingJob", self._parameters, on_failure=self._note, rate_limiter=_pace.get()
            )
        except NotWantedError as error:
            if not self._may_exist:
                raise
            return self._after(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, a job may be there
            return self._after(error)
        told = server_time(answer.get("ResponseMetadata", {})) is not None
        since = self._first_try(answer) - _TOLERANCE if told else None
        return Submitted(answer["ProcessingJobArn"], adopted=False, since=since)

    def _parameters(self) -> dict[str, Any]:
        if not self._sent:  # called when the rate limiter has let the first try through
            self._started = (self._api.clock.time(), self._api.clock.monotonic())
            self._sent = True
        return self._request

    def _note(self, failure: Failure) -> None:
        taken = error_code(failure.error) == "ResourceInUse"
        if failure.kind is FailureKind.AMBIGUOUS or (
            taken and _client_retried(self._api.client("sagemaker"), failure.error)
        ):
            self._may_exist = True

    def _after(self, error: Exception) -> Submitted:
        """Return the job if a try that failed made it after all, or raise what went wrong."""
        taken = error_code(error) == "ResourceInUse"
        if not self._may_exist:
            raise self._taken() if taken else self._refused(error) from error
        logger.info("the answer to CreateProcessingJob for %s was lost; looking whether the job is there", self._name)
        try:
            # A name that is in use is a job that will be seen; otherwise a job that is not seen soon is not there.
            described = self._find(patience=60.0 if taken else 6.0)
        except Exception as unknown:  # noqa: BLE001 - as above
            raise self._unknown(error, unknown) from error
        if described is None:
            raise (self._unknown(error, None) if taken else self._refused(error)) from error
        if not self._is_ours(described):
            raise self._taken() from error
        return Submitted(described["ProcessingJobArn"], adopted=True, since=described["CreationTime"].timestamp())

    def _find(self, patience: float) -> dict[str, Any] | None:
        """Return the description of the job of our name; None where it is not there within `patience` seconds."""
        client = self._api.client("sagemaker")

        def look() -> dict[str, Any]:
            answer: dict[str, Any] = client.describe_processing_job(ProcessingJobName=self._name)
            check_response(client, "DescribeProcessingJob", answer)
            return answer

        clock = self._api.clock
        deadline, wait = clock.monotonic() + patience, 0.5
        while True:
            try:
                return self._api.attempt(f"describe {self._name}", look)
            except Exception as error:
                if not is_not_found(error):
                    raise
                if clock.monotonic() + wait > deadline:
                    return None
            clock.sleep(wait)
            wait = min(10.0, wait * 2)

    def _is_ours(self, described: Mapping[str, Any]) -> bool:
        difference = differences(self._request, described)
        if difference:
            logger.info("job %s is of another request: %s differ", self._name, ", ".join(difference))
            return False
        return bool(described["CreationTime"].timestamp() >= self._first_try(described) - _TOLERANCE)

    def _first_try(self, answer: Mapping[str, Any]) -> float:
        """Return when the first try was sent, in AWS's time as the answer tells it: its clock and ours may differ."""
        now = server_time(answer.get("ResponseMetadata", {}))
        if now is None:
            return self._started[0]
        clock = self._api.clock
        # A machine that slept may have stopped its monotonic clock, one that was set back has a wall clock that lies.
        return now - max(clock.time() - self._started[0], clock.monotonic() - self._started[1])

    def _taken(self) -> NameTakenError:
        return NameTakenError(
            f"job name {self._name} belongs to another request, which was left alone. "
            'Give another name, or none to have one made; if_exists="attach" or "suffix" is for names used again.',
            job_name=self._name,
            code="ResourceInUse",
        )

    def _refused(self, error: Exception) -> SubmissionError:
        code = error_code(error)
        text = response_of(error).get("Error", {}).get("Message") or str(error)
        advice = _advice(error, code, text, self._request)
        message = f"job {self._name} was not created: {text}" + (f"\n{advice}" if advice else "")
        return SubmissionError(message, job_name=self._name, code=code)

    def _unknown(self, error: Exception, unknown: Exception | None) -> SubmissionError:
        why = f" ({unknown})" if unknown else " (AWS calls the name taken, but shows no such job)"
        return SubmissionError(
            f"job {self._name} may exist: CreateProcessingJob was sent, its answer was lost ({error}), and what "
            f"became of it cannot be seen{why}. Look with `aws sagemaker describe-processing-job "
            f"--processing-job-name {self._name}`, or ProcessingJob.from_processing_name. "
            "Submitting again under the same name cannot make a second job.",
            job_name=self._name,
            code=error_code(error),
        )


_TOLERANCE = 2.0  # seconds: the Date header knows whole seconds only


def _client_retried(client: Any, error: BaseException) -> bool:
    """Return whether the client may have sent the request before the try that was answered with this error.

    Our clients never do. One that the user made may, and then its first `ResourceInUse` can speak of our own job.
    """
    retried = (response_of(error).get("ResponseMetadata") or {}).get("RetryAttempts")
    if retried is not None:
        return bool(retried)
    settings = client.meta.config.retries or {}
    attempts = settings.get("total_max_attempts") or settings.get("max_attempts", 4) + 1
    return bool(attempts > 1)


_ADVICE: Final[Mapping[FailureKind | str | None, str]] = {
    FailureKind.PROPAGATING: "The role does not exist, or its trust policy does not allow sagemaker.amazonaws.com to "
    "assume it. (Roles made a moment ago were allowed for: the request was repeated for a while.)",
    FailureKind.EXPIRED: "The AWS credentials have run out: renew them (for SSO: `aws sso login`), then run again.",
    FailureKind.THROTTLED: "AWS throttles CreateProcessingJob (one a second per account and region): "
    "submit fewer at a time.",
    "AccessDenied": "The caller needs sagemaker:CreateProcessingJob, and iam:PassRole on the job's role.",
    "AccessDeniedException": "The caller needs sagemaker:CreateProcessingJob, and iam:PassRole on the job's role.",
}


def _advice(error: Exception, code: str | None, text: str, request: Mapping[str, Any]) -> str:
    """Return what the user can do about a refusal; empty where the text says it all."""
    if code == "ResourceLimitExceeded":
        quota = re.search(r"limit '([^']+)'", text)
        name = f"the quota '{quota[1]}'" if quota else "the quota"
        return f"Ask for more of {name} in Service Quotas, wait for running jobs to end, or use another instance type."
    if "sagemaker:AddTags" in text:
        return (
            "The job has tags: the caller needs sagemaker:AddTags as well, or has to leave them out (submit_all gives "
            "its jobs one; with tagged=False it does not)."
        )
    known = _ADVICE.get(classify(error)) or _ADVICE.get(code, "")
    said = f"{code} {text}".replace(request["ProcessingJobName"], "")  # which may be `capacity-report`
    return capacity_advice(request) if not known and "capacity" in said.lower() else known


# What AWS answers for members that the request left out.
_DEFAULTS: Final[Mapping[str, Any]] = {
    "AppManaged": False,
    "DataDistributionType": "ShardedByS3Key",
    "EnableInterContainerTrafficEncryption": False,
    "EnableNetworkIsolation": False,
    "InputMode": "File",
    "S3CompressionType": "None",
    "S3DataDistributionType": "FullyReplicated",
    "S3InputMode": "File",
    "StoppingCondition": {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME},
}
_NOT_ANSWERED = frozenset({"Tags"})  # ListTags has them


def differences(request: Mapping[str, Any], described: Mapping[str, Any]) -> list[str]:
    """Return the members of a CreateProcessingJob request in which a described job differs.

    Server defaults count as left out, on both sides; the order of lists matters. Tags are not described, so they are
    not compared.

    Args:
        request: the parameters of CreateProcessingJob.
        described: the answer of DescribeProcessingJob.
    """
    compared = sorted((set(request) | (set(described) & _REQUEST_MEMBERS)) - _NOT_ANSWERED)
    return [member for member in compared if _plain(member, request) != _plain(member, described)]


_REQUEST_MEMBERS = frozenset(
    {
        "AppSpecification",
        "Environment",
        "ExperimentConfig",
        "NetworkConfig",
        "ProcessingInputs",
        "ProcessingJobName",
        "ProcessingOutputConfig",
        "ProcessingResources",
        "RoleArn",
        "StoppingCondition",
    }
)


def _plain(member: str, structure: Mapping[str, Any]) -> Any:
    """Return a member without what stands for nothing: defaults, None and empty collections; None if that is all."""
    value = structure.get(member)
    if member in RESPONSE_ONLY or value == _DEFAULTS.get(member):
        return None
    if member == "Environment":  # its keys are the user's own, and mean nothing here
        return dict(value) if value else None
    return _without_defaults(value)


def _without_defaults(value: Any) -> Any:
    if isinstance(value, Mapping):
        plain = {key: _plain(key, value) for key in value}
        return {key: inner for key, inner in plain.items() if inner is not None} or None
    if isinstance(value, (list, tuple)):
        return [_without_defaults(inner) for inner in value] or None
    return value

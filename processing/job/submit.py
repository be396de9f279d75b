"""The submission of one request: CreateProcessingJob exactly once, even if the network loses an answer.

The job's name is the key: AWS never creates two jobs of one name. So a call whose answer was lost may be sent again.
If the first call went through, the second is refused with `ResourceInUse`. A proxy may also send a request twice, and
return the second answer only. The job of that name is then ours if three conditions hold. It equals our request in
every field that DescribeProcessingJob returns. It was created no earlier than our first try. No other submission of
this session has the name.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils.forks import ForkSafeLock
from processing.aws.refusals import explanation
from processing.aws.retry import (
    Failure,
    FailureKind,
    classify,
    error_code,
    is_denied,
    is_not_found,
    response_of,
    server_time,
)
from processing.aws.truncation import ForeignResponseError, check_response, check_subject
from processing.container.contract import DEFAULT_MAX_RUNTIME
from processing.exceptions import CredentialsError, NameTakenError, SubmissionError
from processing.request.capacity import capacity_advice
from processing.request.extra import RESPONSE_ONLY

if TYPE_CHECKING:
    from processing.aws.rate_limit import RateLimiter
    from processing.aws.retry import RetryingApi
    from processing.request.build import ProcessingRequest

logger = logging.getLogger(__name__)

# Seconds by which a job may seem older than our first try: the Date header has whole seconds only.
_TOLERANCE: Final = 2.0

# After a lost answer the job is searched this long, in seconds. A name in use is proof that a job will become visible.
# Without that proof, a job that does not appear within a few seconds does not exist.
_SEARCH_TAKEN_NAME: Final = 60.0
_SEARCH_UNKNOWN: Final = 6.0


class SubmissionCancelledError(SubmissionError):
    """The submission was cancelled before the job was created.

    Attributes:
        job_name: the job that was not created; empty if one cancellation covers several jobs.
    """


@attrs.frozen
class Submitted:
    """A job that AWS has accepted.

    Args:
        arn: the job's ARN.
        adopted: True if the answer to CreateProcessingJob was lost and the job was found by its name.
        not_created_before: a moment of AWS's clock shortly before the job was created, in seconds since the epoch;
            None if AWS's answer had no time.
    """

    arn: str
    adopted: bool
    not_created_before: float | None = attrs.field(default=None, eq=False)


def submit(api: RetryingApi, request: ProcessingRequest, *, rate_limiter: RateLimiter | None = None) -> Submitted:
    """Create the job of a request, exactly once.

    Args:
        api: the session's calls.
        request: the request.
        rate_limiter: holds back each try, in place of the session's own limiter. It may raise
            `SubmissionCancelledError` to prevent the creation.

    Raises:
        SubmissionCancelledError: the rate limiter raised it before the first try.
        CredentialsError: the credentials are missing, expired, refused or unusable. There is no job.
        NameTakenError: the name belongs to another request.
        SubmissionError: AWS refused the request, or it cannot be determined whether the job exists. The message
            states which.
    """
    return _Submission(api, request, rate_limiter).run()


# The members of DescribeProcessingJob without which a job cannot be compared with a request.
_COMPARED: Final = ("AppSpecification", "CreationTime", "ProcessingJobArn", "ProcessingResources")


class _Submission:
    """One submission, and the knowledge that its tries have brought so far."""

    def __init__(self, api: RetryingApi, request: ProcessingRequest, rate_limiter: RateLimiter | None) -> None:
        self._api = api
        self._name = request.job_name
        self._request = request.to_boto()
        self._rate_limiter = rate_limiter
        self._may_exist = False  # True once a try of ours may have created the job without an answer
        self._mark = _Mark()
        self._started = (api.clock.time(), api.clock.monotonic())
        self._sent = False

    def run(self) -> Submitted:
        _register(self._api, self._name, self._mark)
        try:
            submitted = self._submit()
        except BaseException as error:
            if isinstance(error, SubmissionError) and not error.may_exist:
                _unregister(self._api, self._name, self._mark)
            raise
        return submitted

    def _submit(self) -> Submitted:
        try:
            answer = self._api.call(
                "sagemaker",
                "CreateProcessingJob",
                self._parameters,
                on_failure=self._record_failure,
                rate_limiter=self._rate_limiter,
            )
        except SubmissionCancelledError as error:
            if not self._may_exist:
                raise
            return self._resolve(error)
        except Exception as error:  # noqa: BLE001 - after any failure the job may exist
            return self._resolve(error)
        if server_time(answer.get("ResponseMetadata", {})) is None:
            return Submitted(answer["ProcessingJobArn"], adopted=False)
        earliest = self._first_try(answer) - _TOLERANCE
        return Submitted(answer["ProcessingJobArn"], adopted=False, not_created_before=earliest)

    def _parameters(self) -> dict[str, Any]:
        # Called for each try, after the rate limiter has let it through: the first call is the start of the first try.
        if not self._sent:
            self._started = (self._api.clock.time(), self._api.clock.monotonic())
            self._sent = True
        return self._request

    def _record_failure(self, failure: Failure) -> None:
        if failure.kind is FailureKind.AMBIGUOUS:
            self._may_exist = True

    def _resolve(self, error: Exception) -> Submitted:
        """Return the job if a failed try has created it after all; otherwise raise the reason."""
        taken = error_code(error) == "ResourceInUse"
        if not self._may_exist and not taken:
            if isinstance(error, CredentialsError):
                raise error
            raise self._refused(error) from error
        if not self._may_exist and self._mark.contested:
            raise self._name_taken() from error
        logger.info("the answer to CreateProcessingJob for %s may be lost; checking the job", self._name)
        try:
            described = self._find(_SEARCH_TAKEN_NAME if taken else _SEARCH_UNKNOWN)
        except Exception as unknown:  # noqa: BLE001 - any failure here leaves the job's existence open
            return self._without_look(error, unknown)
        if described is None:
            if isinstance(error, CredentialsError):
                raise error
            raise (self._undetermined(error, None) if taken else self._refused(error)) from error
        if not self._is_ours(described):
            raise self._name_taken() from error
        created = described["CreationTime"].timestamp()
        return Submitted(described["ProcessingJobArn"], adopted=True, not_created_before=created)

    def _without_look(self, error: Exception, unknown: Exception) -> Submitted:
        """Return the job, or raise the reason, after a failed Describe."""
        if is_denied(unknown):
            # Without a lost answer, a request that was sent twice is rare: the name most likely belongs to another run.
            if not self._may_exist:
                raise self._name_taken() from error
            if isinstance(error, ForeignResponseError) and "/" in error.answered:
                logger.warning(
                    "AWS has accepted %s, and named another job in each answer (%s). The permission "
                    "sagemaker:DescribeProcessingJob is missing, so the job is not checked.",
                    self._name,
                    error.answered,
                )
                return Submitted(f"{error.answered.rpartition('/')[0]}/{self._name.lower()}", adopted=True)
        raise self._undetermined(error, unknown) from error

    def _find(self, patience: float) -> dict[str, Any] | None:
        """Return the description of the job of our name; None if there is no such job within `patience` seconds."""
        params = {"ProcessingJobName": self._name}

        def describe() -> dict[str, Any]:
            client = self._api.client("sagemaker")
            answer: dict[str, Any] = client.describe_processing_job(**params)
            check_response(client, "DescribeProcessingJob", answer, _COMPARED)
            check_subject("DescribeProcessingJob", params, answer)
            return answer

        clock = self._api.clock
        deadline, pause = clock.monotonic() + patience, 0.5
        while True:
            try:
                return self._api.attempt(f"describe {self._name}", describe)
            except Exception as error:
                if not is_not_found(error):
                    raise
                if clock.monotonic() + pause > deadline:
                    return None
            clock.sleep(pause)
            pause = min(10.0, pause * 2)

    def _is_ours(self, described: Mapping[str, Any]) -> bool:
        difference = differences(self._request, described)
        if difference:
            logger.info("job %s is of another request: %s differ", self._name, ", ".join(difference))
            return False
        return bool(described["CreationTime"].timestamp() >= self._first_try(described) - _TOLERANCE)

    def _first_try(self, answer: Mapping[str, Any]) -> float:
        """Return the time of the first try by AWS's clock, which the answer has and which may differ from ours."""
        now = server_time(answer.get("ResponseMetadata", {}))
        if now is None:
            return self._started[0]
        clock = self._api.clock
        # A machine that sleeps may stop its monotonic clock, and a wall clock may be set back. The larger difference
        # gives the earlier first try.
        return now - max(clock.time() - self._started[0], clock.monotonic() - self._started[1])

    def _name_taken(self) -> NameTakenError:
        return NameTakenError(
            f"job name {self._name} belongs to another request, whose job was not touched. "
            'Give another name, or none to have one generated; if_exists="attach" or "suffix" is for names used again.',
            job_name=self._name,
            code="ResourceInUse",
        )

    def _refused(self, error: Exception) -> SubmissionError:
        code = error_code(error)
        text = response_of(error).get("Error", {}).get("Message") or str(error).partition("\n")[0]
        advice = _advice(error, code, text, self._request)
        message = f"job {self._name} was not created: {text}" + (f"\n{advice}" if advice else "")
        return SubmissionError(message, job_name=self._name, code=code)

    def _undetermined(self, error: Exception, unknown: Exception | None) -> SubmissionError:
        why = f" ({unknown})" if unknown else " (AWS calls the name taken, but shows no such job)"
        return SubmissionError(
            f"job {self._name} may exist: CreateProcessingJob was sent, its answer was lost ({error}), and the job "
            f"cannot be checked now{why}. Check with `aws sagemaker describe-processing-job "
            f"--processing-job-name {self._name}`, or ProcessingJob.from_processing_name. "
            "Submitting again under the same name cannot create a second job.",
            job_name=self._name,
            code=error_code(error),
            may_exist=True,
        )


@attrs.define(eq=False)
class _Mark:
    """The mark of one submission.

    Attributes:
        contested: True if another submission of the session has the same name: two runs that want a job each.
    """

    contested: bool = False


# By session, the names that it has submitted or is submitting, with the marks of their submissions. Only names of the
# last minutes matter, as an older job is never taken for ours.
_submitted: weakref.WeakKeyDictionary[RetryingApi, dict[str, list[_Mark]]] = weakref.WeakKeyDictionary()
_submitted_lock = ForkSafeLock()
_MOST_NAMES: Final = 10_000


def _register(api: RetryingApi, name: str, mark: _Mark) -> None:
    with _submitted_lock:
        names = _submitted.setdefault(api, {})
        marks = names.setdefault(name, [])
        marks.append(mark)
        if len(marks) > 1:
            for each in marks:
                each.contested = True
        if len(names) > _MOST_NAMES:
            del names[next(iter(names))]


def _unregister(api: RetryingApi, name: str, mark: _Mark) -> None:
    with _submitted_lock:
        names = _submitted.get(api, {})
        left = [each for each in names.get(name, ()) if each is not mark]
        if left:
            names[name] = left
        else:
            names.pop(name, None)


_THROTTLED: Final = "AWS throttles CreateProcessingJob (one a second per account and region): submit fewer at a time."


def _advice(error: Exception, code: str | None, text: str, request: Mapping[str, Any]) -> str:
    """Return advice for the user about a refusal; empty if AWS's text is enough."""
    known = explanation("CreateProcessingJob", code, text, request)
    if not known and classify(error) is FailureKind.THROTTLED:
        known = _THROTTLED
    # The job's own name may contain the word, as in `capacity-report`.
    answer = f"{code} {text}".replace(request["ProcessingJobName"], "")
    return capacity_advice(request) if not known and "capacity" in answer.lower() else known


# The values in DescribeProcessingJob's answer for members that the request omits.
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
_NOT_DESCRIBED = frozenset({"Tags"})  # only ListTags returns them


def differences(request: Mapping[str, Any], described: Mapping[str, Any]) -> list[str]:
    """Return the members of a CreateProcessingJob request in which a described job differs.

    A member that has the server's default counts as omitted, on both sides. The order of lists matters. Tags are not
    compared, as DescribeProcessingJob does not return them. Every job has the members that CreateProcessingJob
    requires, so an answer without one, such as moto's, proves no difference.

    Args:
        request: the parameters of CreateProcessingJob.
        described: the answer of DescribeProcessingJob.
    """
    left_out = {member for member in _REQUIRED_MEMBERS if described.get(member) is None}
    compared = sorted((set(request) | (set(described) & _REQUEST_MEMBERS)) - _NOT_DESCRIBED - left_out)
    return [member for member in compared if _plain(member, request) != _plain(member, described)]


_REQUIRED_MEMBERS = frozenset({"AppSpecification", "ProcessingJobName", "ProcessingResources", "RoleArn"})
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
    """Return a member without defaults, None and empty collections; None if nothing else is in it."""
    value = structure.get(member)
    if member in RESPONSE_ONLY or value == _DEFAULTS.get(member):
        return None
    if member == "Environment":  # its keys are the user's, so no default applies to them
        return dict(value) if value else None
    return _without_defaults(value)


def _without_defaults(value: Any) -> Any:
    if isinstance(value, Mapping):
        plain = {key: _plain(key, value) for key in value}
        return {key: inner for key, inner in plain.items() if inner is not None} or None
    if isinstance(value, (list, tuple)):
        return [_without_defaults(inner) for inner in value] or None
    return value

"""Submission: one request makes exactly one job under every network fault."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from processing.aws.retry import RetryingApi
from processing.aws.truncation import check_subject
from processing.exceptions import NameTakenError, SubmissionError
from processing.job.launch import LaunchOptions, _options, launch_options
from processing.job.submit import SubmissionCancelledError, Submitted, differences, submit
from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultInjector, FaultKind
from processing.testing.wire import JsonService, ServiceError, make_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.aws.rate_limit import RateLimiter
    from processing.request.build import ProcessingRequest

ARN = "arn:aws:sagemaker:us-east-1:111122223333:processing-job/"
REQUEST: dict[str, Any] = {
    "ProcessingJobName": "clean",
    "ProcessingResources": {
        "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 30}
    },
    "AppSpecification": {
        "ImageUri": "111122223333.dkr.ecr.us-east-1.amazonaws.com/image:1",
        "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/clean.py"],
        "ContainerArguments": ["--min-rows", "10"],
    },
    "ProcessingInputs": [
        {
            "InputName": "raw",
            "AppManaged": False,
            "S3Input": {
                "S3Uri": "s3://bucket/raw",
                "LocalPath": "/opt/ml/processing/input/raw",
                "S3DataType": "S3Prefix",
                "S3InputMode": "File",
                "S3DataDistributionType": "FullyReplicated",
                "S3CompressionType": "None",
            },
        }
    ],
    "Environment": {"S3InputMode": "File", "EMPTY": ""},
    "RoleArn": "arn:aws:iam::111122223333:role/r",
    "Tags": [{"Key": "team", "Value": "data"}],
}


class Request:
    """A request with a name and its parameters, which is all that submission looks at."""

    def __init__(self, **changes: Any) -> None:
        self.parameters = {**REQUEST, **changes}
        self.job_name = self.parameters["ProcessingJobName"]

    def to_boto(self) -> dict[str, Any]:
        return dict(self.parameters)


class SageMaker:
    """A CreateProcessingJob that keeps names unique, shows jobs after a delay, and adds its defaults."""

    def __init__(self, clock: VirtualClock, *, ahead: float = 0.0, invisible: float = 0.0) -> None:
        self.clock, self.ahead, self.invisible = clock, ahead, invisible
        self.jobs: dict[str, dict[str, Any]] = {}
        self.refusals: list[ServiceError] = []
        self.service = JsonService(
            {"CreateProcessingJob": self.create, "DescribeProcessingJob": self.describe}, clock=cast("Any", self)
        )

    def time(self) -> float:
        return self.clock.time() + self.ahead

    def create(self, params: dict[str, Any]) -> dict[str, Any]:
        if self.refusals:
            raise self.refusals.pop(0)
        name = params["ProcessingJobName"]
        if name in self.jobs:
            raise ServiceError("ResourceInUse", "Job Name must be unique within an AWS account and region")
        self.jobs[name] = {
            **{key: value for key, value in params.items() if key != "Tags"},
            "ProcessingJobArn": ARN + name,
            "ProcessingJobStatus": "InProgress",
            "CreationTime": self.time(),
            "StoppingCondition": params.get("StoppingCondition", {"MaxRuntimeInSeconds": 86400}),
            "NetworkConfig": params.get("NetworkConfig", {"EnableNetworkIsolation": False}),
        }
        return {"ProcessingJobArn": ARN + name}

    def describe(self, params: dict[str, Any]) -> dict[str, Any]:
        job = self.jobs.get(params["ProcessingJobName"])
        if job is None or self.time() < job["CreationTime"] + self.invisible:
            raise ServiceError("ValidationException", "Could not find requested job")
        return job


class World:
    """Everything that one test needs."""

    def __init__(self, *, retries: Any = None, **sagemaker: Any) -> None:
        self.clock = VirtualClock()
        self.sagemaker = SageMaker(self.clock, **sagemaker)
        self.faults = FaultInjector(seed=3)
        config = {"retries": retries} if retries else {}
        client = make_client("sagemaker", self.faults.wrap(self.sagemaker.service), **config)
        self.api = RetryingApi(lambda _: client, clock=self.clock, random=random.Random(5))

    def submit(self, rate_limiter: RateLimiter | None = None, **changes: Any) -> Submitted:
        return submit(self.api, cast("ProcessingRequest", Request(**changes)), rate_limiter=rate_limiter)


def test_an_answered_call_is_all_there_is() -> None:
    """Without a fault one call is made."""
    world = World()
    assert world.submit() == Submitted(ARN + "clean", adopted=False)
    assert world.faults.calls == ["CreateProcessingJob"]


@pytest.mark.parametrize("kind", ["reset_before", "unreachable", "throttle", "error500", "error503"])
def test_a_fault_before_the_commit_is_retried(kind: FaultKind) -> None:
    """A call that never reached AWS is sent again, and makes one job."""
    world = World()
    world.faults.on("CreateProcessingJob", kind, times=3)
    assert world.submit() == Submitted(ARN + "clean", adopted=False)
    assert list(world.sagemaker.jobs) == ["clean"]
    assert world.faults.calls == ["CreateProcessingJob"] * 4


@pytest.mark.parametrize("kind", ["reset_after", "timeout_after", "truncate"])
def test_a_lost_answer_is_a_success(kind: FaultKind) -> None:
    """A job that was made is found by its name and reported as ours."""
    world = World()
    world.faults.on("CreateProcessingJob", kind)
    assert world.submit() == Submitted(ARN + "clean", adopted=True)
    assert list(world.sagemaker.jobs) == ["clean"]
    assert world.faults.calls == ["CreateProcessingJob", "CreateProcessingJob", "DescribeProcessingJob"]


@pytest.mark.parametrize("kind", ["reset_after", "timeout_after", "truncate"])
@pytest.mark.parametrize("then", ["throttle", "unreachable", "reset_before", "truncate", "error500"])
def test_a_lost_answer_and_then_no_answer_at_all(kind: FaultKind, then: FaultKind) -> None:
    """A last look finds the job if the tries run out after a lost answer."""
    world = World()
    world.faults.on("CreateProcessingJob", kind).on("CreateProcessingJob", then, times=999)
    assert world.submit() == Submitted(ARN + "clean", adopted=True)


@pytest.mark.parametrize("kind", ["throttle", "error500", "reset_before", "reset_after", "timeout_after", "truncate"])
def test_the_look_itself_may_fail_too(kind: FaultKind) -> None:
    """Describe is asked under the same policy as everything else."""
    world = World()
    world.faults.on("CreateProcessingJob", "reset_after").on("DescribeProcessingJob", kind, times=3)
    assert world.submit().adopted


@pytest.mark.parametrize("seed", range(25))
def test_any_mixture_of_faults_makes_one_job(seed: int) -> None:
    """Any mixture of faults leads to one job, which is reported as ours."""
    world = World()
    world.faults = FaultInjector(seed)
    kinds: list[FaultKind] = ["throttle", "error500", "reset_before", "reset_after", "timeout_after", "truncate"]
    for kind in kinds:
        world.faults.on("*", kind, probability=0.1)
    client = make_client("sagemaker", world.faults.wrap(world.sagemaker.service))
    api = RetryingApi(lambda _: client, clock=world.clock, random=random.Random(seed))
    for number in range(10):
        name = f"job-{number}"
        assert submit(api, cast("ProcessingRequest", Request(ProcessingJobName=name))).arn == ARN + name
    assert len(world.sagemaker.jobs) == 10


def test_a_job_that_is_seen_late_is_waited_for() -> None:
    """A name in use is a job that Describe will show; until it does, it is asked again."""
    world = World(invisible=20.0)
    world.faults.on("CreateProcessingJob", "reset_after")
    assert world.submit().adopted
    assert 20 <= world.clock.monotonic() < 40


def test_an_answer_about_another_job_is_resolved() -> None:
    """A proxy that mixes up two answers loses no job: the request is sent again, and the job is found by its name."""
    world = World()
    create = world.sagemaker.create

    def mixed_up(params: dict[str, Any]) -> dict[str, Any]:
        world.sagemaker.service.handlers["CreateProcessingJob"] = create
        create(params)
        return {"ProcessingJobArn": ARN + "anothers"}

    world.sagemaker.service.handlers["CreateProcessingJob"] = mixed_up
    assert world.submit() == Submitted(ARN + "clean", adopted=True)
    assert list(world.sagemaker.jobs) == ["clean"]


def test_an_answer_about_another_job_is_no_success() -> None:
    """A job that was never created is created by the next try."""
    world = World()
    create = world.sagemaker.create

    def foreign(_params: dict[str, Any]) -> dict[str, Any]:
        world.sagemaker.service.handlers["CreateProcessingJob"] = create
        return {"ProcessingJobArn": ARN + "anothers"}

    world.sagemaker.service.handlers["CreateProcessingJob"] = foreign
    assert world.submit() == Submitted(ARN + "clean", adopted=False)


def test_a_description_of_another_job_is_asked_for_again() -> None:
    """Describe is compared with the name, too; upper case in a name is lower case in its ARN."""
    world = World()
    world.submit(ProcessingJobName="Clean")
    describe = world.sagemaker.describe

    def foreign(params: dict[str, Any]) -> dict[str, Any]:
        world.sagemaker.service.handlers["DescribeProcessingJob"] = describe
        return {**describe(params), "ProcessingJobName": "anothers"}

    world.sagemaker.service.handlers["DescribeProcessingJob"] = foreign
    answer = world.api.call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": "Clean"})
    assert answer["ProcessingJobName"] == "Clean"
    check_subject("CreateProcessingJob", {"ProcessingJobName": "Clean"}, {"ProcessingJobArn": ARN + "clean"})


def test_a_request_that_arrives_twice_is_one_job() -> None:
    """A proxy sends the request twice and returns the second answer, ResourceInUse: the job is ours."""
    world = World()
    world.faults.on("CreateProcessingJob", "double")
    assert world.submit() == Submitted(ARN + "clean", adopted=True)
    assert list(world.sagemaker.jobs) == ["clean"]


def test_a_taken_name_of_another_request_is_not_ours() -> None:
    """A first ResourceInUse is compared with the request: a job that differs, or an older one, is left alone."""
    for changes, later in (({"RoleArn": "arn:aws:iam::111122223333:role/other"}, 0), ({}, 60)):
        world = World()
        world.sagemaker.create(Request(**changes).parameters)
        world.clock.advance(later)
        with pytest.raises(NameTakenError, match="clean belongs to another request"):
            world.submit()


def test_two_submissions_of_one_session_never_share_a_job() -> None:
    """Threads of one process that race for one name with equal requests: one gets the job, the others an error."""
    world = World()
    api, count = world.api, 8
    barrier = threading.Barrier(count)
    results: list[object] = []

    def race() -> None:
        barrier.wait()
        try:
            results.append(submit(api, cast("ProcessingRequest", Request())))
        except NameTakenError as error:
            results.append(error)

    threads = [threading.Thread(target=race) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(each, Submitted) for each in results) == 1
    assert len(results) == count


def test_a_refused_name_can_be_submitted_again() -> None:
    """A submission that was refused does not contest the name of the next one."""
    world = World()
    world.sagemaker.refusals.append(ServiceError("ResourceLimitExceeded", "The account-level service limit"))
    with pytest.raises(SubmissionError) as raised:
        world.submit()
    assert not raised.value.may_exist
    world.faults.on("CreateProcessingJob", "double")
    assert world.submit().adopted


def test_a_taken_name_without_the_permission_to_look() -> None:
    """Without DescribeProcessingJob a taken name belongs to another request, unless an answer was lost."""
    world = World()

    def denied(_params: dict[str, Any]) -> dict[str, Any]:
        raise ServiceError("AccessDeniedException", "not authorized to perform: sagemaker:DescribeProcessingJob")

    world.sagemaker.service.handlers["DescribeProcessingJob"] = denied
    world.sagemaker.create(Request().parameters)
    with pytest.raises(NameTakenError):
        world.submit()
    world.faults.on("CreateProcessingJob", "reset_after", times=1)
    with pytest.raises(SubmissionError, match="new may exist") as raised:
        world.submit(ProcessingJobName="new")
    assert raised.value.may_exist


def test_foreign_answers_that_cannot_be_checked(caplog: pytest.LogCaptureFixture) -> None:
    """An endpoint that always names another job has accepted the request; one warning states that it is unchecked."""
    world = World()

    def denied(_params: dict[str, Any]) -> dict[str, Any]:
        raise ServiceError("AccessDeniedException", "not authorized to perform: sagemaker:DescribeProcessingJob")

    world.sagemaker.service.handlers["DescribeProcessingJob"] = denied
    world.sagemaker.service.handlers["CreateProcessingJob"] = lambda _: {"ProcessingJobArn": ARN + "fixed"}
    assert world.submit().arn == ARN + "clean"
    assert "sagemaker:DescribeProcessingJob is missing" in caplog.text


def test_a_name_of_another_request_is_left_alone() -> None:
    """A name that this session has submitted before belongs to that request: no Describe is sent."""
    world = World()
    world.submit()
    before = dict(world.sagemaker.jobs["clean"])
    with pytest.raises(NameTakenError, match="clean belongs to another request") as raised:
        world.submit()
    assert raised.value.code == "ResourceInUse"
    assert raised.value.job_name == "clean"
    assert world.sagemaker.jobs["clean"] == before
    assert world.faults.calls == ["CreateProcessingJob"] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"RoleArn": "arn:aws:iam::111122223333:role/other"},
        {"Environment": {"S3InputMode": "Pipe", "EMPTY": ""}},
        {"Environment": {"S3InputMode": "File"}},
        {"StoppingCondition": {"MaxRuntimeInSeconds": 60}},
        {"NetworkConfig": {"EnableNetworkIsolation": True}},
        {"AppSpecification": {**REQUEST["AppSpecification"], "ContainerArguments": ["10", "--min-rows"]}},
        {"ExperimentConfig": {"ExperimentName": "e"}},
    ],
)
def test_another_job_is_never_adopted(changes: dict[str, Any]) -> None:
    """After a lost call, a job of our name that differs in anything that Describe answers is not ours."""
    world = World()
    taker = Request(**changes).parameters

    def taken_meanwhile(params: dict[str, Any]) -> dict[str, Any]:
        if not world.sagemaker.jobs:
            world.sagemaker.create(taker)
            raise ServiceError("InternalFailure", "", 500)
        return world.sagemaker.create(params)

    world.sagemaker.service.handlers["CreateProcessingJob"] = taken_meanwhile
    with pytest.raises(NameTakenError):
        world.submit()


def test_an_older_job_of_the_same_request_is_not_ours() -> None:
    """A run of the same program an hour ago made an equal request: its job is not adopted."""
    world = World()
    world.submit()
    world.clock.advance(3600)
    world.faults.on("CreateProcessingJob", "reset_before")
    with pytest.raises(NameTakenError):
        world.submit()


@pytest.mark.parametrize("ahead", [-86_400.0, -600.0, 600.0, 86_400.0])
def test_ages_are_compared_in_the_servers_time(ahead: float) -> None:
    """A clock that is off neither adopts an old job nor misses our own."""
    world = World(ahead=ahead)
    world.faults.on("CreateProcessingJob", "timeout_after")
    assert world.submit().adopted
    world.clock.advance(60)
    world.faults.on("CreateProcessingJob", "reset_before")
    with pytest.raises(NameTakenError):
        world.submit()


def test_a_clients_own_retries_are_considered() -> None:
    """A client that retries by itself may hide the lost answer: its ResourceInUse is looked into."""
    world = World(retries={"total_max_attempts": 3, "mode": "standard"})
    sent: list[int] = []

    def lost_once(params: dict[str, Any]) -> dict[str, Any]:
        sent.append(1)
        answer = world.sagemaker.create(params)
        if len(sent) == 1:
            raise ServiceError("InternalFailure", "", 500)
        return answer

    world.sagemaker.service.handlers["CreateProcessingJob"] = lost_once
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", lambda _: None)  # the client's own back-off knows no clock of ours
        assert world.submit().adopted
    assert len(sent) == 2


def test_an_error_after_a_lost_answer_does_not_hide_the_job() -> None:
    """The job that was created may itself exhaust the quota: a refusal of the second try is not final."""
    world = World()
    calls: list[int] = []

    def full(params: dict[str, Any]) -> dict[str, Any]:
        calls.append(1)
        if len(calls) > 1:
            raise ServiceError("ResourceLimitExceeded", "The account-level service limit 'x' is 1 Instances")
        return world.sagemaker.create(params)

    world.sagemaker.service.handlers["CreateProcessingJob"] = full
    world.faults.on("CreateProcessingJob", "reset_after")
    assert world.submit().adopted


def test_an_undetermined_submission_is_an_error() -> None:
    """If Describe fails too, the error states that the job may exist, and how to check."""
    world = World()
    world.faults.on("CreateProcessingJob", "reset_after", times=99)
    world.faults.on("DescribeProcessingJob", "unreachable", times=99)
    with pytest.raises(SubmissionError, match=r"clean may exist.*describe-processing-job --processing-job-name clean"):
        world.submit()


def test_an_error_states_that_no_job_was_created() -> None:
    """If all tries fail and there is no job, the error states that none was created."""
    world = World()
    world.faults.on("CreateProcessingJob", "reset_before", times=99)
    with pytest.raises(SubmissionError, match="was not created: Connection was closed") as raised:
        world.submit()
    assert raised.value.code is None
    assert raised.value.__cause__ is not None
    assert not world.sagemaker.jobs


LIMIT = (
    "The account-level service limit 'ml.m5.xlarge for processing job usage' is 0 Instances, with current utilization "
    "of 0 Instances and a request delta of 1 Instances."
)


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        ("ResourceLimitExceeded", LIMIT, "Ask for more of the quota 'ml.m5.xlarge for processing job usage'"),
        ("ResourceLimitExceeded", "no", "Ask for more of the quota in Service Quotas"),
        ("CapacityError", "Unable to provision requested ML compute capacity", "instance_preferences"),
        ("AccessDeniedException", "User is not authorized to perform iam:PassRole", "iam:PassRole on the job's role"),
        ("ValidationException", "1 validation error detected: ...", "was not created: 1 validation error detected"),
    ],
)
def test_refusals_come_with_advice(code: str, text: str, words: str) -> None:
    """The error keeps AWS's message and adds advice."""
    world = World()
    world.sagemaker.refusals = [ServiceError(code, text)] * 9
    with pytest.raises(SubmissionError) as raised:
        world.submit()
    assert text in str(raised.value)
    assert words in str(raised.value)
    assert raised.value.code == code
    assert "DescribeProcessingJob" not in world.faults.calls


def test_capacity_in_a_name_is_no_want_of_it() -> None:
    """The word `capacity` in a job's own name is not taken for a lack of capacity."""
    world = World()
    text = (
        "User is not authorized to perform: sagemaker:CreateProcessingJob on resource: processing-job/capacity-report"
    )
    for code in ("AccessDeniedException", "ValidationException"):
        world.sagemaker.refusals = [ServiceError(code, text)] * 9
        with pytest.raises(SubmissionError) as raised:
            world.submit(ProcessingJobName="capacity-report")
        assert "instance_preferences" not in str(raised.value)


ROLE = "Could not assume role arn:aws:iam::1:role/r. Please ensure that the role exists and allows principal ..."


def test_a_new_role_is_waited_for() -> None:
    """A role that becomes known within the minute costs a few tries."""
    world = World()
    world.sagemaker.refusals = [ServiceError("ValidationException", ROLE)] * 4
    assert world.submit() == Submitted(ARN + "clean", adopted=False)
    assert 0 < world.clock.monotonic() < 60


def test_a_role_that_stays_unknown_has_advice() -> None:
    """After a minute the message names the problem with the role."""
    world = World()
    world.sagemaker.refusals = [ServiceError("ValidationException", ROLE)] * 999
    with pytest.raises(SubmissionError, match=r"trust policy does not allow sagemaker\.amazonaws\.com"):
        world.submit()
    assert world.clock.monotonic() <= 60


def changed(path: str, value: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the request with one member of a member replaced."""
    outer, inner = path.split(".")
    return {**REQUEST, outer: {**REQUEST[outer], inner: value(REQUEST[outer][inner])}}


def test_server_defaults_are_no_difference() -> None:
    """Defaults that AWS adds for omitted members, and explicit defaults that it omits, are no differences."""
    bare = {key: value for key, value in REQUEST.items() if key not in {"Environment", "Tags"}}
    filled = {
        **bare,
        "Environment": {},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "NetworkConfig": {"EnableNetworkIsolation": False, "EnableInterContainerTrafficEncryption": False},
        "ProcessingInputs": [{**REQUEST["ProcessingInputs"][0]}],
        "ProcessingStartTime": 1,
        "ExitMessage": "done",
    }
    del filled["ProcessingInputs"][0]["AppManaged"]
    assert differences(bare, filled) == []
    assert differences(filled, bare) == ["ExitMessage", "ProcessingStartTime"]


def test_the_order_of_lists_is_a_difference() -> None:
    """Arguments in another order are another program."""
    other = changed("AppSpecification.ContainerArguments", lambda value: value[::-1])
    assert differences(REQUEST, other) == ["AppSpecification"]


def test_the_instance_type_that_aws_chose_is_no_difference() -> None:
    """AWS's description has the instance preference that it chose."""
    chosen = changed(
        "ProcessingResources.ClusterConfig", lambda value: {**value, "SelectedInstanceType": "ml.m5.large"}
    )
    assert differences(REQUEST, chosen) == []


class Limiter:
    """A rate limiter that lets a number of tries through, and then cancels the submission."""

    def __init__(self, tries: int) -> None:
        self.left = tries

    def acquire(self, _: object) -> float:
        if not self.left:
            raise SubmissionCancelledError("enough", job_name="clean")
        self.left -= 1
        return 0.0

    def succeeded(self) -> None:
        """Nothing is learnt."""

    def throttled(self) -> None:
        """Nothing is learnt."""


def test_a_cancelled_submission_is_not_sent() -> None:
    """A rate limiter may cancel a submission, before the first try or before a later one."""
    for tries in (0, 2):
        world = World()
        world.faults.on("CreateProcessingJob", "throttle", times=99)
        with pytest.raises(SubmissionCancelledError, match="enough"):
            world.submit(Limiter(tries))
        assert world.faults.calls == ["CreateProcessingJob"] * tries


def test_a_lost_answer_is_resolved_after_a_cancellation() -> None:
    """A job whose answer was lost is returned, so that it can be stopped; a job that was never created is an error."""
    for kind, is_there in (("reset_after", True), ("error500", False)):
        world = World()
        world.faults.on("CreateProcessingJob", cast("FaultKind", kind))
        if is_there:
            assert world.submit(Limiter(1)) == Submitted(ARN + "clean", adopted=True)
        else:
            with pytest.raises(SubmissionError, match="was not created: enough"):
                world.submit(Limiter(1))


def test_launch_options_hold_for_their_block_alone() -> None:
    """After the block, launches have the default options, and submissions go as before."""
    world = World()
    with launch_options(LaunchOptions(Limiter(0))):
        inside = _options.get()
    with pytest.raises(SubmissionCancelledError):
        world.submit(inside.rate_limiter)
    assert world.submit(_options.get().rate_limiter) == Submitted(ARN + "clean", adopted=False)

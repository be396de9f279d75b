"""Fleets: many jobs under one name, each submitted once, at the account's pace, stopped and found again as a whole."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import ConfigurationError, ProcessingInput, ScriptProcessor, Session, SubmissionError
from processing.exceptions import ProcessingError, StagingError
from processing.job.fleet.fleet import Fleet, submit_all
from processing.job.fleet.runs import Runs
from processing.job.fleet.search import jobs
from processing.job.fleet.submission import FleetProgress
from processing.testing.clock import VirtualClock
from processing.testing.simulation import Life, SimulatedAws
from processing.testing.wire import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from processing import LocalSession

ROLE = "arn:aws:iam::000000000000:role/r"


class World:
    """AWS with a quota of creations, and a session and processor that submit to it."""

    def __init__(self, folder: Path, *, quota: float | None = None, **simulated: Any) -> None:
        self.clock = VirtualClock()
        quotas = {} if quota is None else {"CreateProcessingJob": quota}
        self.aws = SimulatedAws(self.clock, quotas=quotas, **simulated)
        self.script = folder / "prep.py"
        self.script.write_text("print('hello')")
        self.session = self.new_session()
        self.session.client("s3").create_bucket(Bucket="bucket")

    def new_session(self) -> Session:
        """Return a session as another process has it."""
        return self.aws.session(default_bucket="bucket")

    def processor(self, session: Session | None = None, **options: Any) -> ScriptProcessor:
        return ScriptProcessor(
            ROLE, "image", ["python3"], 1, "ml.m5.large", sagemaker_session=session or self.session, **options
        )

    def runs(self, count: int) -> list[dict[str, Any]]:
        return [{"code": self.script, "arguments": [str(number)]} for number in range(count)]

    def submit(self, count: int, name: str = "etl", **options: Any) -> Fleet:
        return submit_all(self.processor(), self.runs(count), name=name, **options)

    def names(self) -> list[str]:
        return sorted(job.job_name for job in jobs(session=self.session))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """AWS without quotas."""
    return World(tmp_path)


def test_each_run_is_a_job_under_its_key(world: World) -> None:
    """Positions are the keys of a list; jobs are found by position and by key, and have their run's arguments."""
    fleet = world.submit(12)
    assert fleet.job_names == [f"etl-{number}" for number in range(12)]
    assert fleet.keys() == [str(number) for number in range(12)]
    assert len(fleet) == 12
    assert fleet[3] is fleet["3"]
    assert [job.job_name for job in fleet[10:]] == ["etl-10", "etl-11"]
    assert fleet["7"].describe()["AppSpecification"]["ContainerArguments"] == ["7"]
    with pytest.raises(KeyError, match="'12': etl has no such job"):
        fleet["12"]
    assert world.aws.calls["CreateProcessingJob"] == 12
    assert world.aws.calls["DescribeProcessingJob"] == 1  # the test's own


def test_a_mapping_has_keys_of_its_own(world: World) -> None:
    """The keys of a mapping end the jobs' names."""
    fleet = submit_all(
        world.processor(), {"mon": {"code": world.script}, "tue": {"code": str(world.script)}}, name="day"
    )
    assert fleet.job_names == ["day-mon", "day-tue"]
    assert fleet["tue"].job_name == "day-tue"


def test_jobs_have_the_tag_and_the_processor_stays_as_it_was(world: World) -> None:
    """Every job has the fleet's tag beside the user's; the processor is not changed."""
    for tags in (None, {"team": "data"}, [{"Key": "team", "Value": "data"}]):
        processor = world.processor(tags=tags)
        name = f"t{0 if tags is None else type(tags).__name__}"
        sent = capture(world, "CreateProcessingJob")
        submit_all(processor, world.runs(2), name=name)
        expected = {"sm-processing:fleet": name, **({} if tags is None else {"team": "data"})}
        assert [{tag["Key"]: tag["Value"] for tag in params["Tags"]} for params in sent] == [expected] * 2
        assert (processor.tags, list(processor.jobs)) == (tags, [])


def capture(world: World, operation: str) -> list[dict[str, Any]]:
    """Return a list that gets the parameters of each call of an operation from now on."""
    asked: list[dict[str, Any]] = []
    handler = world.aws.service.handlers[operation]

    def called(params: dict[str, Any]) -> Any:
        asked.append(params)
        return handler(params)

    world.aws.service.handlers[operation] = called
    return asked


BAD: list[tuple[Mapping[str, Any], str]] = [
    ({"name": "a b"}, "name: 'a b' cannot begin job names"),
    ({"name": "x" * 62}, "name: "),
    ({"name": 3}, "name: must be a string, not int"),
    ({"runs": "abc"}, "runs: must be mappings"),
    ({"runs": [3]}, r"runs\[0\]: must be a mapping of run\(\)'s arguments, not int"),
    ({"runs": {"code": "prep.py"}}, r"runs\['code'\]: must be a mapping"),
    ({"runs": {"a_b": {}}}, r"runs\['a_b'\]: the key is part of the job's name"),
    ({"runs": {"x" * 60: {"code": "p"}}}, ".*the job's name would be .* of 64 characters"),
    ({"runs": {"Mon": {"code": "p"}, "mon": {"code": "p"}}}, "runs: the keys 'Mon' and 'mon' make the same job name"),
    ({"runs": {1: {"code": "p"}, "1": {"code": "p"}}}, "runs: the keys '1' and '1' make the same job name"),
    ({"runs": [{"code": "p", "wait": True}]}, r"runs\[0\]\.wait: is set by submit_all"),
    ({"runs": [{"code": "p", "job_name": "x"}]}, r"runs\[0\]\.job_name: is set by submit_all"),
    ({"runs": [{"code": "p"}, {"cod": "p"}]}, r"runs\[1\]: run\(\) cannot be called so: .*"),
    ({"rate": 0}, "rate: must be a positive number"),
    ({"rate": True}, "rate: must be a positive number"),
    ({"rate": float("inf")}, "rate: must be a positive number"),
    ({"rate": "1"}, "rate: must be a positive number"),
    ({"runs": {True: {"code": "p"}}}, r"runs\[True\]: the key is part of the job's name"),
    ({"processor": None}, "processor: must be a processor, such as a ScriptProcessor, not NoneType"),
    ({"processor": ScriptProcessor}, "processor: must be a processor, such as a ScriptProcessor, not "),
    ({"session": 3}, "session: must be a processing.Session"),
    ({"session": Session}, "session: must be a processing.Session"),
    ({"progress": 3}, "progress: must be a function"),
]


@pytest.mark.parametrize(("given", "words"), BAD)
def test_invalid_arguments_are_refused_before_any_call(world: World, given: Mapping[str, Any], words: str) -> None:
    """Names, keys and arguments are checked first; no call is made."""
    options: Any = {"processor": world.processor(), "runs": world.runs(2), "name": "abc", **given}
    before = world.aws.calls.total()
    with pytest.raises(ConfigurationError, match=f"^{words}"):
        submit_all(**options)
    assert world.aws.calls.total() == before


def test_empty_fleets(world: World) -> None:
    """No runs make no jobs, and are no error."""
    fleet = world.submit(0)
    assert (len(fleet), fleet.statuses()) == (0, {})
    fleet.stop()


def test_the_given_rate_is_kept_and_nothing_is_throttled(tmp_path: Path) -> None:
    """60 jobs at 10 a second: no call is refused, and the time is at most 1.02 of the ideal."""
    world = World(tmp_path, quota=10)
    fleet = world.submit(60, rate=10)
    assert (len(fleet), fleet.failures) == (60, {})
    assert (world.aws.calls["CreateProcessingJob"], world.aws.throttled["CreateProcessingJob"]) == (60, 0)
    assert world.clock.monotonic() <= 1.02 * 5 + 0.1  # one call of the bucket's ten is left to spare


def test_without_a_rate_the_accounts_is_learnt(tmp_path: Path) -> None:
    """A quota below and one above the published rate: all jobs are created, few calls are refused."""
    for quota, count in ((0.5, 12), (10, 40)):
        world = World(tmp_path, quota=quota)
        fleet = world.submit(count)
        assert (len(fleet), fleet.failures) == (count, {})
        assert world.aws.throttled["CreateProcessingJob"] <= 0.5 * count
        assert world.clock.monotonic() <= 2.5 * count / min(quota, 2)


def test_a_rate_that_is_too_high_adapts(tmp_path: Path) -> None:
    """All jobs are created although another client uses half of the quota."""
    world = World(tmp_path, quota=5)
    fleet = world.submit(40, rate=10)
    assert len(fleet) == 40
    assert world.aws.calls["CreateProcessingJob"] <= 1.5 * 40


def test_again_goes_on_where_it_was(world: World) -> None:
    """Existing jobs are attached to without an upload; the others are submitted."""
    world.submit(3)
    world.aws.calls.clear()
    again = world.submit(5)
    assert again.job_names == [f"etl-{number}" for number in range(5)]
    assert world.aws.calls["CreateProcessingJob"] == 2
    assert world.aws.calls["ListProcessingJobs"] == 1
    assert again["0"].describe()["AppSpecification"]["ContainerArguments"] == ["0"]


def test_a_listing_that_lags_doubles_nothing(tmp_path: Path) -> None:
    """Jobs that List does not show yet are found taken by CreateProcessingJob, and attached to."""
    world = World(tmp_path, list_lag=600.0)
    world.submit(4)
    again = world.submit(6)
    assert again.job_names == [f"etl-{number}" for number in range(6)]
    assert again.failures == {}


def test_a_name_that_is_taken_keeps_its_files(tmp_path: Path) -> None:
    """If uploads could replace the input of a job that List does not show yet, the name is looked up first."""
    world = World(tmp_path, list_lag=600.0)
    data = tmp_path / "data.txt"
    for text in ("first", "second"):
        data.write_text(text)
        runs = [{"code": world.script, "inputs": [ProcessingInput(data, "/opt/ml/processing/input/x")]}]
        (job,) = submit_all(world.processor(), runs, name="etl")
    bucket, key = str(job.inputs[0].source).removeprefix("s3://").split("/", 1)
    assert world.session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read() == b"first"


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "timeout_after", "truncate", "error500", "throttle"])
def test_faults_make_no_second_job(world: World, kind: Any) -> None:
    """Each run has one job although a third of the calls fail in some way."""
    world.aws.faults.on("CreateProcessingJob", kind, probability=0.33)
    fleet = world.submit(12)
    assert fleet.failures == {}
    assert world.names() == sorted(fleet.job_names) == sorted(f"etl-{number}" for number in range(12))


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    "point",
    [
        ("ListProcessingJobs", 1),
        ("HeadObject", 1),
        ("PutObject", 1),
        *(("CreateProcessingJob", n) for n in (1, 2, 3, 4)),
    ],
    ids=lambda point: f"{point[0]}-{point[1]}",
)
def test_a_crash_at_any_point_costs_nothing(world: World, point: tuple[str, int], moment: str) -> None:
    """The process dies before or after some call; run again, and each run has one job (fault 7)."""
    calls: Counter[str] = Counter()
    operation, number = point

    class Killed(BaseException):
        """An error that stands for the death of a process."""

    def dying(params: Any, model: Any, **_: Any) -> None:
        calls[model.name] += 1
        if calls[operation] >= number:
            raise Killed(model.name)

    session = world.new_session()
    for service in ("sagemaker", "s3"):
        event = "before-call" if moment == "before" else "after-call"
        session.client(service).meta.events.register(f"{event}.{service}", dying if moment == "before" else late(dying))
    with pytest.raises((Killed, ProcessingError)):
        submit_all(world.processor(session), world.runs(4), name="etl")
    fleet = world.submit(4)
    assert fleet.failures == {}
    assert world.names() == [f"etl-{number}" for number in range(4)]


def late(dying: Any) -> Any:
    """Return a function that raises after the answer has arrived."""
    return lambda model, **_: dying(None, model)


def test_two_processes_at_once_make_each_job_once(world: World) -> None:
    """Two that submit the same fleet share its jobs."""
    fleets: list[Fleet] = []
    threads = [
        threading.Thread(
            target=lambda: fleets.append(submit_all(world.processor(world.new_session()), world.runs(20), name="etl"))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.names() == sorted(f"etl-{number}" for number in range(20))
    assert [fleet.job_names for fleet in fleets] == [[f"etl-{number}" for number in range(20)]] * 2
    assert [dict(fleet.failures) for fleet in fleets] == [{}, {}]


def test_failures_are_collected(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A run that cannot be submitted does not stop the others, and its error is found by its key."""
    runs = world.runs(5)
    runs[1] = {"code": "missing.py"}
    runs[3] = {**runs[3], "inputs": [ProcessingInput(world.script.parent / "none", "/opt/ml/processing/input/x")]}
    with caplog.at_level(logging.WARNING, "processing"):
        fleet = submit_all(world.processor(), runs, name="etl")
    assert fleet.job_names == ["etl-0", "etl-2", "etl-4"]
    assert sorted(fleet.failures) == ["1", "3"]
    assert isinstance(fleet.failures["1"], ConfigurationError)
    assert isinstance(fleet.failures["3"], (ConfigurationError, StagingError))
    assert "2 of the jobs of etl could not be submitted" in caplog.text


def test_many_failures_in_a_row_abort_the_submission(world: World) -> None:
    """If one creation after another is refused, the remaining ones are not tried."""
    world.aws.faults.on("CreateProcessingJob", "denied", times=10_000)
    with pytest.raises(SubmissionError, match="given up after 10 failures in a row") as raised:
        world.submit(1_000)
    assert raised.value.code == "AccessDeniedException"
    assert world.aws.calls["CreateProcessingJob"] < 40


def test_a_generator_is_read_as_far_as_needed(tmp_path: Path) -> None:
    """Only so many runs are taken as are on their way, and its error ends the submission."""
    world = World(tmp_path)
    taken = 0

    def runs() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for run in world.runs(60):
            taken += 1
            assert taken - world.aws.calls["CreateProcessingJob"] <= 33
            yield run
        raise LookupError("no more rows")

    with pytest.raises(LookupError, match="no more rows"):
        submit_all(world.processor(), runs(), name="etl", rate=50)
    assert len(world.names()) == 60


def test_an_invalid_run_of_a_generator_is_an_error(world: World) -> None:
    """It is checked when it comes, and ends the submission."""
    with pytest.raises(ConfigurationError, match=r"runs\[2\]: run\(\) cannot be called so"):
        submit_all(world.processor(), iter([*world.runs(2), {"nonsense": 1}]), name="etl")


def test_progress_is_reported(world: World) -> None:
    """Progress is reported after each job, in order; an error that the function raises ends the submission."""
    world.submit(2)
    told: list[FleetProgress] = []
    world.submit(5, progress=told.append)
    assert [value.submitted + value.attached for value in told] == [1, 2, 3, 4, 5]
    assert told[-1] == FleetProgress(3, 2, 0, 5)

    def enough(_: FleetProgress) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        world.submit(500, "other", progress=enough)
    assert len(world.names()) < 100


def test_not_blocking(tmp_path: Path) -> None:
    """With block=False the call returns at once; `join` waits, and a deadline ends only the wait."""
    world = World(tmp_path, quota=1)
    go = threading.Event()
    create = world.aws.service.handlers["CreateProcessingJob"]

    def created(params: dict[str, Any]) -> Any:
        go.wait(30)
        return create(params)

    world.aws.service.handlers["CreateProcessingJob"] = created
    fleet = world.submit(3, block=False)
    assert fleet.submitting
    with pytest.raises(TimeoutError, match="etl: "):
        fleet.join(0)
    go.set()
    fleet.join()
    assert not fleet.submitting
    assert len(fleet) == 3


def hold_creations(world: World, first: int) -> threading.Event:
    """Hold the creations of the jobs from this number on until the event is set."""
    go = threading.Event()
    create = world.aws.service.handlers["CreateProcessingJob"]

    def created(params: dict[str, Any]) -> Any:
        if int(params["ProcessingJobName"].removeprefix("etl-")) >= first:
            go.wait(30)
        return create(params)

    world.aws.service.handlers["CreateProcessingJob"] = created
    return go


def test_a_wait_sees_jobs_as_they_come(tmp_path: Path) -> None:
    """A wait during the submission reports the first end at once, and waits for all jobs."""
    world = World(tmp_path, life=lambda _: Life(ends=5.0))
    go = hold_creations(world, 10)
    fleet = world.submit(20, rate=1, block=False)
    first = fleet.wait(return_when="FIRST_COMPLETED")
    assert fleet.submitting
    assert first.done
    in_time = fleet.wait(timeout=60)
    assert fleet.submitting
    assert (len(in_time.done), len(in_time.not_done)) == (10, 0)
    go.set()
    result = fleet.wait()
    assert not fleet.submitting
    assert (len(result.done), len(result.not_done), dict(result.failed)) == (20, 0, {})
    calls = world.aws.calls.total()
    assert fleet.wait().done == result.done
    assert world.aws.calls.total() == calls  # how they ended is known


def test_a_wait_raises_the_error_of_the_submission(world: World) -> None:
    """An error of the runs ends the wait: the other jobs will not come."""

    def runs() -> Iterator[dict[str, Any]]:
        yield from world.runs(3)
        raise LookupError("no more rows")

    fleet = submit_all(world.processor(), runs(), name="etl", block=False)
    with pytest.raises(LookupError, match="no more rows"):
        fleet.wait()


def test_a_wait_for_new_jobs_needs_no_describe_of_each(tmp_path: Path) -> None:
    """Jobs that were just created are known to run: only listings of changes are sent."""
    world = World(tmp_path, life=lambda _: Life(ends=100.0))
    asked, looked = capture(world, "ListProcessingJobs"), capture(world, "DescribeProcessingJob")
    fleet = world.submit(60, rate=1, block=False)
    # Real work before the first wait, such as a title, would let jobs grow old on the virtual clock.
    assert len(fleet.wait(quiet=True).done) == 60
    assert all("LastModifiedTimeAfter" in params for params in asked[1:])  # the first is that of what is there
    few = 8  # up to this many jobs are described: the first ones and the last ones to be created
    assert len({params["ProcessingJobName"] for params in looked}) <= 2 * few
    several = [
        world.processor().run(world.script, job_name=f"{number:02}-x", wait=False, logs=False) for number in range(30)
    ]
    looked.clear()
    assert len(processing.wait(several).done) == 30
    assert len({params["ProcessingJobName"] for params in looked}) <= few


def test_a_wait_for_found_jobs_begins_with_their_listed_status(tmp_path: Path) -> None:
    """Jobs that had ended are not polled; changes of the others are listed."""
    world = World(tmp_path, life=lambda _: Life(ends=5000.0))
    world.submit(150)
    world.aws.jobs.life = lambda _: Life(ends=10.0, status="Failed", failure_reason="AlgorithmError: bad")
    submit_all(world.processor(), {f"f{number}": run for number, run in enumerate(world.runs(20))}, name="etl")
    world.clock.advance(4000)
    for found in (Fleet.attach("etl", world.session), list(jobs("etl-", session=world.session))):
        world.aws.calls.clear()
        asked = capture(world, "ListProcessingJobs")
        result = processing.wait(found, timeout=20)
        assert (len(result.done), len(result.failed), len(result.not_done)) == (20, 20, 150)
        assert all("LastModifiedTimeAfter" in params for params in asked)
        assert 0 < len(asked) < 20
        assert world.aws.calls["DescribeProcessingJob"] == 0
    assert {error.failure_reason for error in result.failed.values()} == {"AlgorithmError: bad"}  # type: ignore[attr-defined]
    assert len(processing.wait(found).done) == 170
    assert [event.status for event in processing.events(found[:10], logs=False)] == ["Completed"] * 10  # type: ignore[union-attr]


def test_a_wait_for_ended_jobs_takes_no_time(tmp_path: Path) -> None:
    """A fleet whose jobs were seen to end is awaited without a call and without a pause."""
    world = World(tmp_path, life=lambda _: Life(ends=10.0))
    fleet = submit_all(world.processor(), world.runs(3), name="etl")
    assert len(fleet.wait().done) == 3
    world.aws.calls.clear()
    before = world.clock.monotonic()
    for timeout in (None, 60, 0):
        assert len(fleet.wait(timeout).done) == 3
    assert (world.clock.monotonic(), world.aws.calls.total()) == (before, 0)


def test_an_unawaited_submission_logs_its_failures(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Runs that could not be submitted, and an error that ended all, are in the log."""

    def runs() -> Iterator[dict[str, Any]]:
        yield {"code": "missing.py"}
        yield from world.runs(1)
        raise LookupError("no more rows")

    with caplog.at_level(logging.WARNING, "processing"):
        submit_all(world.processor(), runs(), name="etl", block=False)
        for thread in threading.enumerate():
            if thread.name.startswith("submission-"):
                thread.join()
    assert (
        "Not all jobs of etl have been submitted; submit them again to go on: LookupError: no more rows" in caplog.text
    )
    assert "1 of the jobs of etl could not be submitted" in caplog.text


def test_stop_during_submission_lets_no_job_be_created(tmp_path: Path) -> None:
    """After `stop` has returned, no job is created, and all existing jobs have been stopped."""
    world = World(tmp_path, quota=2, life=lambda _: Life(ends=None))
    reached = threading.Event()
    fleet = world.submit(
        10_000, rate=2, block=False, progress=lambda value: reached.set() if value.submitted == 7 else None
    )
    reached.wait(30)
    fleet.stop()
    created = world.aws.calls["CreateProcessingJob"]
    assert not fleet.submitting
    assert 7 <= created < 10_000
    assert world.names() == sorted(fleet.job_names)
    world.clock.advance(60)
    assert world.aws.calls["CreateProcessingJob"] == created
    assert fleet.statuses() == {"Stopped": created}
    fleet.stop()
    assert world.aws.calls["StopProcessingJob"] == created


def test_stop_survives_lost_answers(tmp_path: Path) -> None:
    """Stopping a job that is stopped already is not an error (faults 33 and 34)."""
    world = World(tmp_path, life=lambda _: Life(ends=None), list_lag=900.0)
    fleet = world.submit(6)
    world.aws.faults.on("StopProcessingJob", "reset_after", probability=0.5)
    fleet.stop()
    world.clock.advance(10)
    fleet.stop()
    assert {fleet[number].status for number in range(6)} == {"Stopped"}


def test_stop_raises_for_jobs_that_cannot_be_stopped(tmp_path: Path) -> None:
    """All jobs are tried before the error is raised."""
    world = World(tmp_path, life=lambda _: Life(ends=None))
    fleet = world.submit(3)
    world.aws.faults.on("StopProcessingJob", "denied", times=1)
    with pytest.raises(ProcessingError, match="1 of 3 jobs of etl could not be stopped"):
        fleet.stop()
    assert world.aws.calls["StopProcessingJob"] == 3


def test_stop_reaches_jobs_of_another_process(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The jobs of another process are stopped too, and a warning states that it still creates more."""
    world.aws.jobs.life = lambda _: Life(ends=None, stopping=3600.0)
    mine, name = world.submit(2), "etl"
    submit_all(world.processor(world.new_session()), world.runs(4), name=name)
    world.submit(1, "etl-9")  # of another fleet
    mine.stop()
    assert Fleet.attach(name, world.session).statuses() == {"Stopping": 4}
    stop = world.aws.service.handlers["StopProcessingJob"]

    def submit_one_more() -> None:
        count = len(world.names())
        submit_all(world.processor(world.new_session()), {f"more-{count}": world.runs(1)[0]}, name=name)

    def stopped(params: dict[str, Any]) -> Any:
        submit_one_more()
        return stop(params)

    world.aws.service.handlers["StopProcessingJob"] = stopped

    submit_one_more()
    with caplog.at_level(logging.WARNING, "processing"):
        Fleet.attach(name, world.session).stop()
    assert "another process has submitted further ones: end that process, and stop the fleet again" in caplog.text
    world.aws.service.handlers["StopProcessingJob"] = stop
    caplog.clear()
    Fleet.attach(name, world.session).stop()
    assert not caplog.text
    assert "InProgress" not in Fleet.attach(name, world.session).statuses()
    assert Fleet.attach("etl-9", world.session).statuses() == {"InProgress": 1}


def test_without_permission_to_tag(world: World) -> None:
    """The error names the missing permission and a remedy: a fleet without tags, found by its name alone."""
    create = world.aws.service.handlers["CreateProcessingJob"]

    def created(params: dict[str, Any]) -> Any:
        if params.get("Tags"):
            text = "User: arn:aws:iam::1:user/u is not authorized to perform: sagemaker:AddTags on resource: x"
            raise ServiceError("AccessDeniedException", text, 400)
        return create(params)

    world.aws.service.handlers["CreateProcessingJob"] = created
    fleet = world.submit(2)
    assert "needs sagemaker:AddTags as well" in str(fleet.failures["0"])
    assert "tagged=False" in str(fleet.failures["0"])
    fleet = world.submit(2, tagged=False)
    assert (len(fleet), fleet.failures) == (2, {})
    with pytest.raises(ConfigurationError, match=r"no job of a fleet named 'etl' .*; tagged=False takes all"):
        Fleet.attach("etl", world.session)
    attached = Fleet.attach("etl", world.session, tagged=False)
    assert attached.job_names == ["etl-0", "etl-1"]
    attached.stop()
    assert attached.statuses() == {"Stopping": 2}


def test_an_untagged_fleet_stops_its_own_jobs_alone(world: World) -> None:
    """Another job whose name begins alike is not stopped with it."""
    world.aws.jobs.life = lambda _: Life(ends=None)
    world.submit(1, "etl-x")
    world.submit(2, tagged=False).stop()
    assert Fleet.attach("etl-x", world.session).statuses() == {"InProgress": 1}


def test_without_permission_to_list(world: World) -> None:
    """Submission, going on and the stop do without a listing."""
    world.submit(2)
    world.aws.faults.on("ListProcessingJobs", "denied", times=1_000)
    fleet = world.submit(4)
    assert fleet.job_names == [f"etl-{number}" for number in range(4)]
    fleet.stop()
    assert world.aws.calls["StopProcessingJob"] == 4


def test_ctrl_c_ends_the_submission_and_shows_how_to_continue(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Submitted jobs go on; the message shows how to continue and how to stop."""
    interrupt(world, monkeypatch)
    with caplog.at_level(logging.WARNING, "processing"), pytest.raises(KeyboardInterrupt):
        world.submit(1_000, rate=1)
    monkeypatch.undo()
    for thread in threading.enumerate():
        if thread.name.startswith("submission-"):
            thread.join()
    assert len(world.names()) < 100
    for words in ("of 1000 jobs of etl exist", "submit_all(..., name='etl') again", "Fleet.attach('etl', session="):
        assert words in caplog.text


def interrupt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C come when this thread waits."""
    wait, main = world.clock.wait, threading.get_ident()

    def interrupted(condition: threading.Condition, seconds: float) -> None:
        if threading.get_ident() == main:
            raise KeyboardInterrupt
        wait(condition, seconds)

    monkeypatch.setattr(world.clock, "wait", interrupted)


def test_ctrl_c_during_the_start_ends_the_submission(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission that was interrupted while its threads start does not go on unseen."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name == "submission-2":
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.submit(1_000, block=False)
    for thread in threading.enumerate():
        if thread.name.startswith("submission-"):
            thread.join()
    assert len(world.names()) < 1_000


def test_ctrl_c_in_a_later_wait_leaves_the_submission(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The message shows how to end a submission that goes on in the background."""
    go = hold_creations(world, 20)  # on the virtual clock all jobs may be submitted before the wait begins
    fleet = world.submit(40, rate=2, block=False)
    interrupt(world, monkeypatch)
    with caplog.at_level(logging.WARNING, "processing"), pytest.raises(KeyboardInterrupt):
        fleet.wait()
    monkeypatch.undo()
    go.set()
    assert "the jobs of etl are still being submitted; stop() ends that" in caplog.text
    assert "attach: processing.Fleet.attach('etl', session=processing.Session(" in caplog.text
    fleet.join()
    assert len(fleet) == 40


# Finding what somebody else submitted, on the engine.


@pytest.fixture
def on_engine(local_session: LocalSession, tmp_path: Path) -> ScriptProcessor:
    """A processor of the embedded engine, and a script beside it."""
    (tmp_path / "prep.py").write_text("print('hello')")
    return ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=local_session
    )


def test_a_fleet_is_found_by_its_name(on_engine: ScriptProcessor, tmp_path: Path) -> None:
    """By name from elsewhere: its own jobs, in order, not those of a fleet whose name begins alike."""
    runs: list[dict[str, Any]] = [{"code": tmp_path / "prep.py"}] * 11
    submit_all(on_engine, runs, name="etl")
    submit_all(on_engine, runs[:1], name="etl-2")
    on_engine.run(tmp_path / "prep.py", job_name="etl-x", logs=False)
    session = on_engine.sagemaker_session
    fleet = Fleet.attach("etl", session)
    assert fleet.job_names == [f"etl-{number}" for number in range(11)]
    assert fleet[0].inputs[0].input_name == "code"
    for job in fleet:
        job.wait(logs=False)
    assert fleet.statuses() == {"Completed": 11}
    fleet.stop()
    assert Fleet.attach("etl-2", session).job_names == ["etl-2-0"]
    with pytest.raises(ConfigurationError, match="no job of a fleet named 'nothing'"):
        Fleet.attach("nothing", session)


def test_jobs_are_found_by_tags_status_and_age(on_engine: ScriptProcessor, tmp_path: Path) -> None:
    """By name prefix, tag, status and age; every condition has to hold."""
    session = on_engine.sagemaker_session
    on_engine.tags = {"team": "data", "stage": "test"}
    first = on_engine.run(tmp_path / "prep.py", job_name="a-first", logs=False)
    on_engine.tags = {"team": "web"}
    on_engine.run(tmp_path / "prep.py", job_name="b-second-a", logs=False)

    def names(*args: Any, **conditions: Any) -> list[str]:
        return [job.job_name for job in jobs(*args, session=session, **conditions)]

    assert names() == ["a-first", "b-second-a"]
    assert names("a-") == ["a-first"]
    assert names(tags={"team": "data"}) == ["a-first"]
    assert names(tags={"team": None}) == ["a-first", "b-second-a"]
    assert names(tags={"team": "data", "stage": "prod"}) == []
    assert names(status="Completed") == ["a-first", "b-second-a"]
    assert names(status="Failed") == []
    assert names(created_after=first.describe()["CreationTime"]) == ["b-second-a"]
    assert names(created_after=dt.timedelta.min) == []
    for long_ago in (dt.timedelta(hours=1), dt.timedelta.max, dt.datetime.min.replace(tzinfo=dt.timezone.utc)):
        assert names(created_after=long_ago) == ["a-first", "b-second-a"]
    for conditions, words in (
        ({"status": "Done"}, "status: "),
        ({"name_prefix": "a b"}, "name_prefix: "),
        ({"tags": ["x"]}, "tags: "),
        ({"tags": {"team": 3}}, r"tags\['team'\]: "),
        ({"tags": {3: "data"}}, r"tags\[3\]: "),
        ({"created_after": "today"}, "created_after: "),
    ):
        with pytest.raises(ConfigurationError, match=words):
            names(**conditions)


def test_long_listings_survive_expired_tokens(world: World) -> None:
    """A listing whose token has expired is begun anew; each job is yielded once (fault 21)."""
    for number in range(250):
        world.aws.add_job(f"old-{number:03}", ends=1.0)
    world.clock.advance(10)
    listing = world.aws.service.handlers["ListProcessingJobs"]
    calls = 0

    def expiring(params: dict[str, Any]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ServiceError("ValidationException", "The token has expired")
        return listing(params)

    world.aws.service.handlers["ListProcessingJobs"] = expiring
    assert [job.job_name for job in jobs("old-", session=world.session)] == [f"old-{n:03}" for n in range(250)]


def test_many_runs_take_little_memory(world: World) -> None:
    """The names of ten thousand runs are checked quickly, and are not kept in memory."""
    runs = Runs("etl", ({"code": "prep.py"} for _ in range(10_000)), world.processor().run)
    assert runs.total is None
    assert sum(1 for _ in runs) == 10_000


# Attached jobs, failures and retries


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_attaching_reports_the_number_the_age_and_the_changes(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """One warning names the runs whose request differs now; unchanged ones are counted only."""
    world.submit(3)
    world.clock.advance(7200)
    runs = world.runs(3)
    runs[1]["arguments"] = ["other"]
    caplog.clear()
    submit_all(world.processor(), runs, name="etl")
    (warning,) = warnings_of(caplog)
    assert "etl: 3 jobs exist already, created 2 hours ago" in warning
    assert "would differ now: 1 (AppSpecification);" in warning
    assert world.aws.calls["CreateProcessingJob"] == 3


def test_changed_code_is_reported(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A script with other content makes another request."""
    world.submit(2)
    world.script.write_text("print('version 2')")
    caplog.clear()
    world.submit(2)
    (warning,) = warnings_of(caplog)
    assert "would differ now: 0 (ProcessingInputs), 1 (ProcessingInputs);" in warning


def test_a_new_fleet_reports_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Without existing jobs there is no warning."""
    world.submit(2)
    assert warnings_of(caplog) == []


def test_the_comparison_is_bounded(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A hundred jobs are compared, and the warning says of how many it speaks."""
    world.submit(120)
    world.script.write_text("print('version 2')")
    caplog.clear()
    before = world.aws.calls["DescribeProcessingJob"]
    world.submit(120)
    assert world.aws.calls["DescribeProcessingJob"] - before == 100
    (warning,) = warnings_of(caplog)
    assert "120 jobs exist" in warning
    assert "(of the first 100, which were compared)" in warning
    assert "and 90 more;" in warning


def test_failed_runs_are_submitted_again_on_request(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """`retry_failed` runs failed and stopped jobs under a new name, and attaches to all others."""
    now = world.aws.now
    for number, status in enumerate(("Failed", "Stopped", "Completed")):
        world.aws.add_job(f"etl-{number}", starts=now, ends=now + 1, status=status)
    world.clock.advance(60)
    world.submit(3)
    assert "Failed or stopped: 0, 1;" in warnings_of(caplog)[0]
    fleet = world.submit(3, retry_failed=True)
    assert fleet.job_names == ["etl-0-retry2", "etl-1-retry2", "etl-2"]
    assert fleet.keys() == ["0", "1", "2"]
    again = world.submit(3, retry_failed=True)
    assert again.job_names == fleet.job_names
    assert world.aws.calls["CreateProcessingJob"] == 2


def test_an_attached_fleet_has_the_latest_attempts(world: World) -> None:
    """A job that was run again is found once, under its key."""
    now = world.aws.now
    world.aws.add_job("etl-0", starts=now, ends=now + 1, status="Failed")
    world.clock.advance(60)
    world.submit(2, retry_failed=True)
    fleet = Fleet.attach("etl", world.session, tagged=False)
    assert dict(zip(fleet.keys(), fleet.job_names, strict=True)) == {"0": "etl-0-retry2", "1": "etl-1"}


def test_a_fleet_retries_its_own_failures(world: World) -> None:
    """Jobs that failed and runs that were not submitted are tried again, in the same fleet."""
    runs = world.runs(3)
    missing = world.script.with_name("later.py")
    runs[2]["code"] = missing
    fleet = submit_all(world.processor(), iter(runs), name="etl")
    world.aws.stop_job("etl-0")
    result = fleet.wait(timeout=4000, return_when="FIRST_EXCEPTION")
    assert {job.job_name for job in result.failed} >= {"etl-2"}
    world.clock.advance(3600)
    processing.wait([fleet["0"]], timeout=100)
    missing.write_text("print('here now')")
    assert fleet.retry_failed() is fleet
    assert fleet.job_names == ["etl-0-retry2", "etl-1", "etl-2"]
    assert not fleet.failures


def test_an_attached_fleet_cannot_retry(world: World) -> None:
    """The runs are not known, and the error names what does it."""
    world.submit(1)
    with pytest.raises(ConfigurationError, match="retry_failed: the arguments of the runs of etl are not known"):
        Fleet.attach("etl", world.session, tagged=False).retry_failed()


def test_a_wait_names_jobs_that_could_not_be_submitted(world: World) -> None:
    """They are among the failed ones, with their errors."""
    runs = world.runs(2)
    runs[1]["code"] = "missing.py"
    fleet = submit_all(world.processor(), runs, name="etl")
    world.aws.stop_job("etl-0")
    failed = {job.job_name: error for job, error in fleet.wait(timeout=4000).failed.items()}
    assert isinstance(failed["etl-1"], processing.CodeNotFoundError)
    assert isinstance(failed["etl-0"], processing.JobStoppedError)


def test_a_wait_for_nothing_raises(world: World) -> None:
    """If no job could be submitted, there is nothing to wait for, and the first error is the cause."""
    fleet = submit_all(world.processor(), [{"code": "missing.py"}] * 3, name="etl")
    with pytest.raises(SubmissionError, match="none of the 3 jobs of etl could be submitted") as raised:
        fleet.wait()
    assert isinstance(raised.value.__cause__, processing.CodeNotFoundError)


def test_the_first_exception_may_be_a_missing_job(world: World) -> None:
    """FIRST_EXCEPTION does not wait for the jobs that run while another could not be submitted."""
    runs = world.runs(2)
    runs[1]["code"] = "missing.py"
    result = submit_all(world.processor(), runs, name="etl").wait(timeout=4000, return_when="FIRST_EXCEPTION")
    assert [job.job_name for job in result.failed] == ["etl-1"]
    assert [job.job_name for job in result.not_done] == ["etl-0"]


def test_results_have_status_duration_and_reason(world: World) -> None:
    """Each run has a result: ended, running, and not submitted."""
    now = world.aws.now
    world.aws.add_job("etl-0", starts=now, ends=now + 90, status="Failed", failure_reason="no space left")
    world.clock.advance(600)
    runs = world.runs(3)
    runs[2]["code"] = "missing.py"
    fleet = submit_all(world.processor(), runs, name="etl")
    first, second, third = fleet.results()
    assert (first.key, first.status, first.seconds, first.reason) == ("0", "Failed", 90.0, "no space left")
    assert (second.key, second.status, second.seconds, second.reason) == ("1", "InProgress", None, None)
    assert (third.key, third.status, third.seconds) == ("2", "NotSubmitted", None)
    assert "missing.py" in str(third.reason)


@pytest.mark.parametrize("most", [0, 2])
def test_a_repetition_without_threads_ends(world: World, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """If the machine refuses a thread, the error is raised, and the fleet can be waited for and stopped."""
    fleet = world.submit(4)
    start, started = threading.Thread.start, 0

    def refused(self: threading.Thread) -> None:
        nonlocal started
        started += self.name.startswith("submission-")
        if self.name.startswith("submission-") and started > most:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        fleet.retry_failed()
    submission = fleet._submission
    assert submission is not None
    waiting = threading.Thread(target=submission.join, daemon=True)
    waiting.start()
    waiting.join(60)  # of this machine's time: the virtual one passes while a thread starts
    assert not submission.active


@pytest.mark.parametrize("method", ["stop", "wait"])
def test_progress_cannot_wait_for_its_own_submission(world: World, method: str) -> None:
    """A fleet that is stopped in its progress function would wait for itself: that is an error, and an end."""
    submitted = threading.Event()

    def stop_at_the_second(progress: FleetProgress) -> None:
        submitted.wait(60)
        if progress.submitted >= 2:
            getattr(fleet, method)()

    fleet = world.submit(20, block=False, progress=stop_at_the_second)
    submitted.set()
    with pytest.raises(ConfigurationError, match="progress: the submission calls this function"):
        fleet.wait()  # virtual time would pass while a thread starts, and end a wait with a timeout
    assert len(fleet.job_names) < 20

"""Jobs under faults: each call that a run makes to the real engine fails in each way."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from processing import LocalSession, ProcessingInput, ProcessingJob, ScriptProcessor
from processing.aws.retry import RetryPolicy
from processing.exceptions import NameTakenError, SubmissionError
from processing.job.submit import submit
from processing.request.build import build_request
from processing.testing.faults import FaultInjector, FaultKind

if TYPE_CHECKING:
    from pathlib import Path

QUICK = RetryPolicy(base=0.001, cap=0.002, attempts=20)
BEFORE: list[FaultKind] = ["throttle", "error500", "error503", "unreachable", "reset_before"]
AFTER: list[FaultKind] = ["reset_after", "timeout_after", "truncate"]


class Place:
    """An engine with faults before it, and a script with an input."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.faults = FaultInjector(seed)
        self.session = LocalSession(
            folder / "engine", tick=0.01, grace=1.0, retry_policy=QUICK, transport=self.faults.wrap
        )
        self.script = folder / "script.py"
        self.script.write_text(
            "import pathlib\nprint(pathlib.Path('/opt/ml/processing/input/words/words.txt').read_text())"
        )
        self.words = folder / "words"
        self.words.mkdir(exist_ok=True)
        (self.words / "words.txt").write_text("one two three")

    def run(self, **options: Any) -> ProcessingJob:
        processor = ScriptProcessor(
            command=["python3"], instance_type="local", instance_count=1, sagemaker_session=self.session
        )
        inputs = [ProcessingInput(str(self.words), "/opt/ml/processing/input/words")]
        return processor.run(str(self.script), inputs=inputs, **{"wait": False, "logs": False, **options})

    def jobs(self) -> list[str]:
        """The names of all jobs that the engine knows."""
        answer = self.session.api.call("sagemaker", "ListProcessingJobs")
        return [summary["ProcessingJobName"] for summary in answer["ProcessingJobSummaries"]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("kind", [*BEFORE, *AFTER])
@pytest.mark.parametrize("operation", ["CreateProcessingJob", "PutObject", "HeadObject", "CreateBucket"])
def test_a_fault_of_any_call_of_a_run_makes_one_job(place: Place, operation: str, kind: FaultKind) -> None:
    """Whichever call of a submission fails once, in whichever way, there is one job and it succeeds."""
    place.faults.on(operation, kind)
    job = place.run(wait=True)
    assert place.jobs() == [job.job_name]
    assert job.status == "Completed"
    assert [event.message for event in job.logs()] == ["one two three"]


@pytest.mark.parametrize("kind", AFTER)
def test_a_job_whose_answer_was_lost_is_reported_as_ours(place: Place, kind: FaultKind) -> None:
    """The engine describes the job as it was asked for, so that it is known again."""
    place.faults.on("CreateProcessingJob", kind)
    job = place.run()
    assert place.faults.injected == [("CreateProcessingJob", kind)]
    assert place.faults.count()["CreateProcessingJob"] == 2
    assert place.jobs() == [job.job_name]


def test_a_taken_name_leaves_the_other_job_alone(place: Place) -> None:
    """A name of another request is an error under every fault, and the other job stays as it was."""
    place.run(job_name="clean", wait=True)
    before = place.session.describe_processing_job("clean")
    ours = build_request(
        job_name="clean",
        role_arn=before["RoleArn"],
        image_uri=before["AppSpecification"]["ImageUri"],
        instance_count=1,
        instance_type="ml.m5.large",
        entrypoint=["true"],
    )
    for faults in ([], ["reset_before"], ["timeout_after"]):
        for kind in faults:
            place.faults.on("CreateProcessingJob", cast("FaultKind", kind))
        with pytest.raises(NameTakenError, match="clean belongs to another request"):
            submit(place.session.api, ours)
    after = place.session.describe_processing_job("clean")
    for answer in (before, after):
        answer.pop("ResponseMetadata")
    assert after == before
    assert place.jobs() == ["clean"]


def test_without_any_answer_the_error_states_that_the_job_may_exist(place: Place) -> None:
    """If the last check fails too, the error shows how to look for the job."""
    place.faults.on("CreateProcessingJob", "reset_after", times=99)
    place.faults.on("DescribeProcessingJob", "unreachable", times=99, skip=1)  # the first asks whether the name is free
    with pytest.raises(SubmissionError, match="clean may exist"):
        place.run(job_name="clean")
    assert place.jobs() == ["clean"]


def test_a_program_that_was_killed_after_the_creation_finds_its_job(place: Place) -> None:
    """The same program, started again with `if_exists="attach"`, attaches to its job and makes no second one."""
    first = place.run(job_name="clean")
    uploads = place.faults.count()["PutObject"]
    again = place.run(job_name="clean", if_exists="attach")
    assert again.job_name == first.job_name
    assert place.jobs() == ["clean"]
    code = [uri for uri in (entry.source for entry in first.inputs) if str(uri).endswith("script.py")]
    assert code == [entry.source for entry in again.inputs if str(entry.source).endswith("script.py")]
    assert place.faults.count()["PutObject"] - uploads <= 1  # the words; the script is known by its content


def test_a_program_that_was_killed_before_the_creation_uploads_its_code_once(place: Place) -> None:
    """Between upload and creation nothing is lost: the next run finds the script by its content."""
    place.faults.on("CreateProcessingJob", "unreachable", times=20)
    with pytest.raises(SubmissionError):
        place.run()
    first = place.faults.count()["PutObject"]
    place.run()
    assert place.faults.count()["PutObject"] - first == 1  # the words alone
    assert len(place.jobs()) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_day_of_bad_weather(tmp_path: Path, seed: int) -> None:
    """With a fifth of all calls failing, eight threads run eight jobs: each is made once, ends, and keeps its lines."""
    place = Place(tmp_path, seed)
    for kind in [*BEFORE, *AFTER]:
        place.faults.on("*", kind, probability=0.025)
    done: list[tuple[str, list[str]]] = []

    def one() -> None:
        job = place.run(wait=True)
        done.append((job.status, [event.message for event in job.logs()]))

    threads = [threading.Thread(target=one) for _ in range(8)]
    random.Random(seed).shuffle(threads)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [("Completed", ["one two three"])] * 8
    assert len(place.jobs()) == 8

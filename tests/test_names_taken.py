"""Runs with a name of the user's: names that are taken, or that the caller may not look up; requests sent twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import NameTakenError, Processor, ScriptProcessor, Session, SubmissionError, submit_all
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws

if TYPE_CHECKING:
    from pathlib import Path

ROLE = "arn:aws:iam::111122223333:role/r"
IMAGE = "111122223333.dkr.ecr.us-east-1.amazonaws.com/a:1"


class World:
    """A simulated AWS, a processor without code and one with a script."""

    def __init__(self, folder: Path) -> None:
        self.aws = SimulatedAws(VirtualClock())
        self.session: Session = self.aws.session(default_bucket="bucket")
        self.session.client("s3").create_bucket(Bucket="bucket")
        self.processor = Processor(ROLE, IMAGE, 1, "ml.m5.large", ["x"], sagemaker_session=self.session)
        self.script = folder / "a.py"
        self.script.write_text("print(1)")
        self.data = folder / "data.csv"
        self.data.write_text("1")
        self.scripts = ScriptProcessor(ROLE, IMAGE, ["python3"], 1, "ml.m5.large", sagemaker_session=self.session)

    def names(self) -> list[str]:
        return [job.job_name for job in processing.jobs(session=self.session)]

    def deny(self, *operations: str) -> None:
        for operation in operations:
            self.aws.faults.on(operation, "denied", times=99)

    def objects(self) -> list[str]:
        listed = self.session.client("s3").list_objects_v2(Bucket="bucket", Prefix="mine/")
        return [entry["Key"] for entry in listed.get("Contents", ())]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world of the test's own."""
    return World(tmp_path)


@pytest.mark.parametrize("name", [None, "mine"])
@pytest.mark.parametrize("if_exists", ["fail", "suffix", "attach"])
def test_a_run_that_is_sent_twice_makes_one_job(world: World, name: str | None, if_exists: Any) -> None:
    """The second answer is ResourceInUse; the job is the run's own, under a generated or a given name."""
    world.aws.faults.on("CreateProcessingJob", "double")
    job = world.scripts.run(str(world.script), job_name=name, if_exists=if_exists, wait=False)
    assert world.names() == [job.job_name]
    assert name in {None, job.job_name}


def test_a_fleet_whose_requests_are_sent_twice(world: World) -> None:
    """Each run of a fleet makes one job."""
    world.aws.faults.on("CreateProcessingJob", "double", times=3)
    fleet = submit_all(world.processor, [{}] * 3, name="night")
    assert sorted(world.names()) == sorted(fleet.job_names) == ["night-0", "night-1", "night-2"]


def test_threads_that_race_for_one_name(world: World) -> None:
    """With `suffix` each of the equal runs has a job of its own; with `fail` one run has it."""

    def run(_: int) -> str:
        return world.processor.run(job_name="mine", if_exists="suffix", wait=False).job_name

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(run, range(6)))) == 6
    assert len(world.names()) == 6


def test_a_name_works_without_the_permission_to_look(world: World) -> None:
    """A caller who may only create jobs gives a name, as with sagemaker 2.x."""
    world.deny("DescribeProcessingJob", "ListProcessingJobs")
    data = processing.ProcessingInput(str(world.data), "/opt/ml/processing/input/data", "data")
    job = world.scripts.run(str(world.script), inputs=[data], job_name="mine", wait=False)
    assert job.arn.endswith("processing-job/mine")
    assert world.objects() == ["mine/input/data/data.csv"]


def test_a_taken_name_without_the_permission_to_look(world: World) -> None:
    """The job that has the name keeps its files, and `if_exists` decides as ever."""
    data = processing.ProcessingInput(str(world.data), "/opt/ml/processing/input/data", "data")
    world.scripts.run(str(world.script), inputs=[data], job_name="mine", wait=False)
    world.deny("DescribeProcessingJob", "ListProcessingJobs")
    world.data.write_text("2")
    with pytest.raises(NameTakenError, match=r"job_name: a job named 'mine' exists"):
        world.scripts.run(str(world.script), inputs=[data], job_name="mine", wait=False)
    job = world.scripts.run(str(world.script), inputs=[data], job_name="mine", if_exists="suffix", wait=False)
    assert job.job_name == "mine-2"
    with pytest.raises(SubmissionError, match=r"if_exists='attach' needs the permission sagemaker:Describe"):
        world.processor.run(job_name="mine", if_exists="attach", wait=False)
    assert world.session.read_s3_file("bucket", "mine/input/data/data.csv") == "1"


def test_a_refused_run_leaves_no_files_without_the_permission_to_look(world: World) -> None:
    """The files of a job that was not created do not block the next run of that name."""
    world.deny("DescribeProcessingJob", "ListProcessingJobs")
    world.aws.faults.on("CreateProcessingJob", "denied")
    data = processing.ProcessingInput(str(world.data), "/opt/ml/processing/input/data", "data")
    with pytest.raises(SubmissionError, match="job mine was not created"):
        world.scripts.run(str(world.script), inputs=[data], job_name="mine", wait=False)
    assert world.objects() == []
    assert world.scripts.run(str(world.script), inputs=[data], job_name="mine", wait=False).job_name == "mine"


def test_a_look_that_fails_is_no_raw_error(world: World) -> None:
    """Without a network the run ends with the package's error, before anything is uploaded."""
    world.aws.faults.on("DescribeProcessingJob", "unreachable", times=99)
    with pytest.raises(SubmissionError, match=r"^job mine was not created: the name could not be looked up"):
        world.scripts.run(str(world.script), job_name="mine", wait=False)
    assert world.aws.calls["CreateProcessingJob"] == 0


def test_if_exists_holds_where_looking_is_allowed(world: World) -> None:
    """`fail`, `attach` and `suffix` are as documented, also for equal runs of one moment."""
    first = world.processor.run(job_name="mine", wait=False)
    with pytest.raises(NameTakenError):
        world.processor.run(job_name="mine", wait=False)
    assert world.processor.run(job_name="mine", if_exists="attach", wait=False).arn == first.arn
    assert world.processor.run(job_name="mine", if_exists="suffix", wait=False).job_name == "mine-2"

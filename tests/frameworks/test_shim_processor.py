"""`ShimProcessor` on the engine: tasks from Python, split over hosts, and their results."""

from __future__ import annotations

import datetime as dt
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError, LocalSession, Session, ShimProcessor, StagingError

if TYPE_CHECKING:
    from pathlib import Path

COUNT = """
import json, os, pathlib, sys
here = pathlib.Path("/opt/ml/processing/shim")
host = json.loads(pathlib.Path("/opt/ml/config/resourceconfig.json").read_text())["current_host"]
for path in (here / "input").iterdir():
    text = path.read_text()
    if text == "bad":
        sys.exit("cannot count")
    (here / "output" / path.name).write_text(host + " " + str(len(text)))
"""


@pytest.fixture
def client(local_session: LocalSession) -> Any:
    made = local_session.boto_session.client("s3")
    made.create_bucket(Bucket="data")
    return made


def _processor(session: LocalSession, hosts: int = 1, **options: Any) -> ShimProcessor:
    command = [sys.executable, "-c", COUNT]
    return ShimProcessor(
        command=command, instance_type="local", instance_count=hosts, sagemaker_session=session, **options
    )


def _tasks(client: Any, *texts: str) -> list[dict[str, Any]]:
    tasks = []
    for number, text in enumerate(texts):
        client.put_object(Bucket="data", Key=f"in/{number}", Body=text.encode())
        source = {"relative_path": "text", "bucket_name": "data", "bucket_key": f"in/{number}"}
        tasks.append(
            {"pk": f"t{number}", "inputs": [source], "output_bucket_name": "data", "output_prefix": f"out/{number}"}
        )
    return tasks


def test_tasks_are_split_over_hosts(local_session: LocalSession, client: Any) -> None:
    """Host i of n runs every n-th task; the results are in the order of the tasks."""
    processor = _processor(local_session, hosts=2)
    run = processor.run_tasks(_tasks(client, "a", "bb", "ccc", "dddd", "eeeee"), quiet=True)
    results = run.results()
    assert [(result.pk, result.return_code) for result in results] == [(f"t{number}", 0) for number in range(5)]
    bodies = [client.get_object(Bucket="data", Key=f"out/{number}/text")["Body"].read().decode() for number in range(5)]
    assert bodies == ["algo-1 1", "algo-2 2", "algo-1 3", "algo-2 4", "algo-1 5"]
    assert results[1].outputs[0]["bucket_key"] == "out/1/text"
    assert run.job.status == "Completed"
    assert processor.latest_job is run.job
    assert processor.entrypoint is None  # the caller's processor is as it was


def test_a_failed_task_has_a_result(local_session: LocalSession, client: Any) -> None:
    """The other tasks run; the job fails, and the results tell which failed."""
    tasks = _tasks(client, "a", "bad", "c")
    tasks[2]["inputs"][0]["bucket_key"] = "absent"
    run = _processor(local_session).run_tasks(tasks, quiet=True)
    first, second, third = run.results()
    assert first.succeeded
    assert (second.return_code, second.failed_phase, second.stderr) == (1, "run", ("cannot count\n",))
    assert (third.return_code, third.failed_phase, third.succeeded) == (1, "download", False)
    assert "absent" in third.message
    assert run.job.status == "Failed"


def test_a_task_after_a_failure_is_not_run(local_session: LocalSession, client: Any) -> None:
    """With keep_going=False the first failure of a host ends its tasks."""
    results = _processor(local_session).run_tasks(_tasks(client, "bad", "b"), keep_going=False, quiet=True).results()
    assert results[1].message == "Not run, because the task t0 failed"


def test_one_task_needs_no_list(local_session: LocalSession, client: Any) -> None:
    """A task alone, without waiting; its time limit may be a timedelta."""
    task = {**_tasks(client, "a")[0], "timeout": dt.timedelta(minutes=5)}
    run = _processor(local_session, hosts=3).run_tasks(task, wait=False, quiet=True)
    assert [result.return_code for result in run.results(timeout=120)] == [0]
    assert run.pks == ("t0",)


def test_a_result_of_an_earlier_job_does_not_count(local_session: LocalSession, client: Any) -> None:
    """A host that fails before its tasks leaves no result, and the reason is that of the job."""
    key = "out/0/.sagemaker_shim/inference_result.json"
    client.put_object(Bucket="data", Key=key, Body=b'{"return_code": 0}')
    processor = _processor(local_session, entrypoint=["/bin/false"])
    run = processor.run_tasks(_tasks(client, "a"), quiet=True)
    (result,) = run.results()
    assert result.return_code is None
    assert result.message.startswith(f"There is no result: the job {run.job.name} failed: AlgorithmError")


def test_a_signature_is_verified(local_session: LocalSession, client: Any) -> None:
    """With a key in the environment a result that another wrote is refused."""
    processor = _processor(local_session, env={"PROCESSING_SHIM_SIGNING_KEY_HEX": "c0ffee"})
    run = processor.run_tasks(_tasks(client, "a"), quiet=True)
    assert run.results()[0].succeeded
    key = "out/0/.sagemaker_shim/inference_result.json"
    forged = {"processing_job_name": run.job.name}
    client.put_object(Bucket="data", Key=key, Body=b'{"return_code": 0}', Metadata=forged)
    with pytest.raises(StagingError, match="the signature of the result is wrong"):
        run.results()


def test_a_thousand_tasks_are_one_job(local_session: LocalSession) -> None:
    """Any number of tasks travels as a file, not in the request."""
    task = {"inputs": [], "output_bucket_name": "data"}
    tasks = ({"pk": str(number), "output_prefix": str(number), **task} for number in range(2000))
    processor = _processor(local_session)
    local_session.boto_session.client("s3").create_bucket(Bucket="data")
    run = processor.run_tasks(tasks, wait=False, quiet=True)
    run.job.stop()
    results = run.results()
    assert len(results) == 2000
    assert {result.pk for result in results} == set(map(str, range(2000)))


def test_the_request_uses_the_entrypoint_of_the_image(tmp_path: Path) -> None:
    """On AWS the shim is the image's own entrypoint, and the command follows its arguments."""
    session = Session(region_name="us-east-1", default_bucket="data")
    role, image = "arn:aws:iam::123456789012:role/r", "123456789012.dkr.ecr.us-east-1.amazonaws.com/p:1"
    processor = ShimProcessor(image, role, 2, "ml.m5.large", ["python", "count.py"], sagemaker_session=session)
    assert processor._arguments(keep_going=True) == [
        *("invoke", "-f", "/opt/ml/processing/input/shim-tasks/tasks.json"),
        *("--hosts", "/opt/ml/config/resourceconfig.json", "--keep-going", "--", "python", "count.py"),
    ]
    assert processor._with_shim().entrypoint is None


BAD_TASKS: dict[str, tuple[Any, str]] = {
    "no task": ([], r"^tasks: has no task"),
    "text": ("x", r"^tasks: must be an iterable"),
    "a number in a list": ([1], r"^tasks\[0\]: must be a dictionary"),
    "no field": ([{"pk": "a"}], r"^tasks\[0\]\.inputs: is missing"),
    "a wrong type": ([{"pk": 1, "inputs": []}], r"^tasks\[0\]\.pk: must be a string"),
    "a path that leaves": (
        {"pk": "a", "inputs": [{"relative_path": "../x", "bucket_name": "b", "bucket_key": "k"}]},
        r"^tasks\[0\]\.",
    ),
    "no JSON": ([{"pk": object()}], r"^tasks: cannot be written as JSON"),
    "two at one place": (
        [
            {"pk": each, "inputs": [], "output_bucket_name": "b", "output_prefix": p}
            for each, p in (("a", "x"), ("b", "x/"))
        ],
        r"^tasks\[1\]\.output_prefix: the same place as that of tasks\[0\]",
    ),
}


@pytest.mark.parametrize("case", BAD_TASKS)
def test_a_bad_task_starts_nothing(case: str, local_session: LocalSession) -> None:
    """The error names the task and its field, before an upload."""
    tasks, message = BAD_TASKS[case]
    processor = _processor(local_session)
    with pytest.raises(ConfigurationError, match=message):
        processor.run_tasks(tasks)
    assert processor.latest_job is None


def test_the_engine_needs_a_command(local_session: LocalSession) -> None:
    """Without the image there is no program of its own."""
    processor = ShimProcessor("image", instance_type="local", instance_count=1, sagemaker_session=local_session)
    task = {"pk": "a", "inputs": [], "output_bucket_name": "data", "output_prefix": "p"}
    with pytest.raises(ConfigurationError, match=r"^command: missing; the embedded engine does not run the image"):
        processor.run_tasks(task)
    assert json.loads(json.dumps(task)) == task  # the caller's task is as it was

"""The lines in a job's error: those of the host that failed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import JobFailedError, ProcessingOutput, ScriptProcessor
from processing.job.outcome import TAIL, failed_hosts
from processing.watching.events import LogEvent
from processing.watching.logs.batch import LogBatch

if TYPE_CHECKING:
    from pathlib import Path

    from processing import LocalSession, ProcessingJob

LOUD = """
import json, os, signal, sys, time
me = json.load(open('/opt/ml/config/resourceconfig.json'))['current_host']
shared = '/opt/ml/processing/shared/'

def leave(*_):
    for number in range(40):
        print('shutting down', number)
    sys.exit(0)

signal.signal(signal.SIGTERM, leave)
open(shared + me, 'w').close()
while len(os.listdir(shared)) < 3:
    time.sleep(0.005)
if me == 'algo-2':
    sys.exit('THE REASON')
time.sleep(600)
"""
"""The program of three hosts: the second fails, and the others write forty lines each when they are stopped."""


def _loud_job(session: LocalSession, folder: Path) -> ProcessingJob:
    (folder / "loud.py").write_text(LOUD)
    processor = ScriptProcessor(command=["python3"], instance_count=3, instance_type="local", sagemaker_session=session)
    shared = ProcessingOutput("/opt/ml/processing/shared", (folder / "shared").as_uri(), output_name="shared")
    return processor.run(str(folder / "loud.py"), outputs=[shared], wait=False)


@pytest.mark.parametrize("logs", [True, False])
def test_an_error_shows_the_lines_of_the_host_that_its_reason_names(
    local_session: LocalSession, tmp_path: Path, logs: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the lines were followed or are read for the error: the other hosts' lines drive none of them out."""
    job = _loud_job(local_session, tmp_path)
    with pytest.raises(JobFailedError) as raised:
        job.wait(logs=logs)
    assert raised.value.log_tail == ("[algo-2] THE REASON",)
    assert str(raised.value.failure_reason).endswith("host: algo-2")
    assert capsys.readouterr().out.count("shutting down") == (80 if logs else 0)


def test_a_wait_for_many_jobs_shows_the_lines_of_the_host_too(local_session: LocalSession, tmp_path: Path) -> None:
    """`processing.wait` and `exception` read the lines of the named host."""
    job = _loud_job(local_session, tmp_path)
    done = processing.wait([job]).done
    error = job.exception()
    assert done == {job}
    assert isinstance(error, JobFailedError)
    assert "THE REASON" in error.log_tail[-1]


@pytest.mark.parametrize(
    ("reason", "hosts"),
    [
        (None, []),
        ("AlgorithmError: See job logs, exit code: 1", []),
        ("AlgorithmError: no answer from algo-1, exit code: 1, host: algo-12", ["algo-12"]),
        ("AlgorithmError: exit code 1 on algo-3 and algo-2", ["algo-2", "algo-3"]),
        ("ClientError: s3://my-algo-1/algo-1x/ has no objects", []),
    ],
)
def test_a_reason_names_its_hosts(reason: str | None, hosts: list[str]) -> None:
    """The engine's form is preferred; AWS's reasons may name hosts anywhere."""
    description: dict[str, Any] = {} if reason is None else {"FailureReason": reason}
    assert failed_hosts(description) == hosts


def test_a_batch_has_the_last_lines_of_each_host() -> None:
    """A host with many lines hides no other one of the same job."""
    records, origins = [], {}
    for number, host in enumerate(["algo-1"] * 3 + ["algo-2"] * 50):
        stream = f"job/{host}-1"
        records.append({"logStreamName": stream, "timestamp": number, "message": str(number), "eventId": str(number)})
        event = LogEvent("job", host, stream, number, number, "", "", late=False)
        origins[stream] = LogBatch.of(event).origins[stream]
    last = list(LogBatch(records, origins).last(TAIL))
    assert [line.message for line in last] == [*map(str, range(3)), *map(str, range(33, 53))]
    assert json.dumps([line.host for line in last]).count("algo-2") == TAIL

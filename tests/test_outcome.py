"""The lines in a job's error: those of the host that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import JobFailedError, ProcessingOutput, Processor, ScriptProcessor, Session
from processing.job.outcome import TAIL, failed_hosts, job_error
from processing.job.outputs import JobOutput
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
    """Lines of other hosts never displace it, whether lines were followed or are read for the error."""
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
    last = LogBatch(records, origins).last(TAIL)
    assert [line.event("job").message for line in last["job"]] == [*map(str, range(3)), *map(str, range(33, 53))]
    assert [line.host for line in last["job"]].count("algo-2") == TAIL


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (137, "killed (SIGKILL), mostly because memory ran out"),
        (-9, "killed (SIGKILL), mostly because memory ran out"),
        (139, "SIGSEGV"),
        (-11, "SIGSEGV"),
        (143, "SIGTERM"),
        (-15, "SIGTERM"),
        (134, "SIGABRT"),
        (135, "/dev/shm"),
        (126, "not executable"),
        (127, "not found"),
    ],
)
def test_exit_codes_that_are_not_the_program_s_own_are_explained(code: int, words: str) -> None:
    """In the error of a job on AWS and on the engine; of several hosts, too."""
    for host in ("", ", host: algo-2"):
        reason = f"AlgorithmError: See job logs for more information, exit code: {code}{host}"
        error = job_error("job", {"ProcessingJobStatus": "Failed", "FailureReason": reason}, ["last line"])
        first, second, third, _ = str(error).splitlines()
        assert (first, third) == (f"processing job job: Failed: {reason}", "last log lines:")
        assert second.startswith(f"exit code {code}: the program")
        assert words in second
        assert error.failure_reason == reason


@pytest.mark.parametrize(
    "reason",
    [
        None,
        "AlgorithmError: See job logs for more information, exit code: 3",
        "AlgorithmError: exit code: 128",
        "AlgorithmError: exit code: 255",
        "AlgorithmError: the entrypoint 'x' was not found on the PATH, exit code: 127",
        "ClientError: no such bucket 137",
    ],
)
def test_other_reasons_stand_alone(reason: str | None) -> None:
    """A program's own code has no meaning that anybody else knows."""
    description = {"ProcessingJobStatus": "Failed"} | ({"FailureReason": reason} if reason else {})
    assert len(str(job_error("job", description, [])).splitlines()) == 1


def test_a_killed_program_is_explained(local_session: LocalSession) -> None:
    """The engine's jobs end with the exit codes of AWS."""
    entrypoint = ["python3", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    processor = Processor("r", "i", 1, "local", entrypoint, sagemaker_session=local_session)
    with pytest.raises(JobFailedError, match=r"exit code 137: the program was killed .* memory ran out"):
        processor.run(logs=False)


WRITE_SOME = "from pathlib import Path\nfor name in 'ab':\n    Path('/opt/ml/processing', name, 'd').mkdir()\n"


def _run_with_outputs(session: LocalSession, folder: Path, *, wait: bool = True) -> ProcessingJob:
    script = folder / "some.py"
    script.write_text(f"{WRITE_SOME}Path('/opt/ml/processing/c/f').touch()\nPath('/opt/ml/processing/d/f').touch()\n")
    processor = ScriptProcessor(command=["python3"], instance_count=1, instance_type="local", sagemaker_session=session)
    outputs = [
        ProcessingOutput("/opt/ml/processing/a", "s3://results/a", output_name="first"),
        ProcessingOutput("/opt/ml/processing/b", (folder / "b").as_uri(), output_name="second"),
        ProcessingOutput("/opt/ml/processing/c", "s3://results/a_more", output_name="third"),
        ProcessingOutput("/opt/ml/processing/d", (folder / "d").as_uri(), output_name="fourth"),
    ]
    return processor.run(str(script), outputs=outputs, wait=wait, logs=False)


def test_one_warning_names_the_empty_outputs(
    local_session: LocalSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for a completed job, with S3 and folders. Files of an older job and of a like prefix do not count."""
    s3 = local_session.boto_session.client("s3")
    s3.create_bucket(Bucket="results")
    s3.put_object(Bucket="results", Key="a/older", Body=b"")
    job = _run_with_outputs(local_session, tmp_path)
    job.wait(logs=False)
    said = [record.getMessage() for record in caplog.records if "empty" in record.getMessage()]
    assert said == [f"processing job {job.job_name}: the outputs first, second are empty: the job wrote no file there"]


def test_a_wait_for_many_jobs_warns_of_empty_outputs(
    local_session: LocalSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each completed job has its own warning, and later waits repeat none."""
    local_session.boto_session.client("s3").create_bucket(Bucket="results")
    job = _run_with_outputs(local_session, tmp_path, wait=False)
    processing.wait([job])
    processing.wait([job])
    job.wait(logs=False)
    assert caplog.text.count("the outputs first, second are empty") == 1


def test_a_failed_job_has_no_warning_of_empty_outputs(
    local_session: LocalSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is what counts."""
    processor = Processor("r", "i", 1, "local", ["false"], sagemaker_session=local_session)
    with pytest.raises(JobFailedError):
        processor.run(outputs=["/opt/ml/processing/o"], logs=False)
    assert "empty" not in caplog.text


def test_a_download_of_nothing_is_a_warning(
    local_session: LocalSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On AWS the download is the first call that knows."""
    local_session.boto_session.client("s3").create_bucket(Bucket="results")
    session = Session(local_session.boto_session)
    output = ProcessingOutput("/opt/ml/processing/o", "s3://results/o", output_name="rows")
    assert JobOutput.from_output(output, session).download(tmp_path / "to") == []
    assert "the output rows is empty: there is no object below s3://results/o" in caplog.text

"""Jobs, end to end: a processor's run on the embedded engine, where the job really runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from processing import (
    CapacityError,
    ConfigurationError,
    JobFailedError,
    JobOutput,
    JobStoppedError,
    LocalSession,
    ProcessingInput,
    ProcessingJob,
    ProcessingOutput,
    Processor,
    Progress,
    ScriptProcessor,
    SubmissionError,
    UnexpectedStatusException,
    WaitTimeoutError,
    attach,
)
from processing.job.launch import Launch
from processing.job.outcome import job_error
from processing.job.submit import Submitted, submit
from processing.staging.transfers import upload_all
from processing.watching.events import LogEvent

if TYPE_CHECKING:
    import pathlib


@pytest.fixture
def write(tmp_path: pathlib.Path) -> Any:
    """Write a script and return its path."""

    def write(text: str, name: str = "script.py") -> pathlib.Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def processor(local_session: LocalSession) -> ScriptProcessor:
    return ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=local_session
    )


COPY = """
    import pathlib, sys
    source, target = map(pathlib.Path, sys.argv[1:])
    for path in sorted(source.rglob("*")):
        if path.is_file():
            print("copying", path.name)
            (target / path.name).write_text(path.read_text().upper())
"""
COPY_ARGUMENTS = ["/opt/ml/processing/input/raw", "/opt/ml/processing/output"]


def test_run_to_download(
    processor: ScriptProcessor, write: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script reads its input, writes its output, and its lines and files arrive."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("abc")
    job = processor.run(
        write(COPY),
        inputs=[ProcessingInput(tmp_path / "data", "/opt/ml/processing/input/raw")],
        outputs=[ProcessingOutput("/opt/ml/processing/output", output_name="clean")],
        arguments=COPY_ARGUMENTS,
    )
    files = job.outputs["clean"].download(tmp_path / "out")
    assert [(path.name, path.read_text()) for path in files] == [("a.txt", "ABC")]
    assert "copying a.txt" in capsys.readouterr().out
    assert (job.status, processor.latest_job, list(processor.jobs)) == ("Completed", job, [job])
    assert [event.message for event in job.logs()] == ["copying a.txt"]


def test_progress_is_reported(processor: ScriptProcessor, write: Any, tmp_path: pathlib.Path) -> None:
    """A run reports the progress of its uploads, including the script's, and a download reports its own."""
    (tmp_path / "data").mkdir()
    for number in range(3):
        (tmp_path / "data" / f"{number}.txt").write_text("abc")
    script = write(COPY)
    up: list[Progress] = []
    job = processor.run(
        script,
        inputs=[ProcessingInput(tmp_path / "data", "/opt/ml/processing/input/raw")],
        outputs=[ProcessingOutput("/opt/ml/processing/output")],
        arguments=COPY_ARGUMENTS,
        logs=False,
        progress=up.append,
    )
    size = script.stat().st_size + 9
    assert (up[-1].files, up[-1].total_files, up[-1].bytes, up[-1].total_bytes) == (4, 4, size, size)
    down: list[Progress] = []
    job.outputs[0].download(tmp_path / "out", progress=down.append)
    assert [value.bytes for value in down] == [3, 6, 9]


def test_outputs_are_a_sequence_that_knows_names(processor: ScriptProcessor, write: Any) -> None:
    """Outputs are found by position, by name and by slice; an unknown name lists those there are."""
    job = processor.run(write("pass"), outputs=["/opt/ml/processing/a", "/opt/ml/processing/b"], logs=False)
    assert [output.output_name for output in job.outputs] == ["output-1", "output-2"]
    assert job.outputs[1] is job.outputs["output-2"]
    assert len(job.outputs[:1]) == 1
    with pytest.raises(KeyError, match="output-1, output-2"):
        job.outputs["clean"]


def test_file_sources_and_destinations_are_used_in_place(
    processor: ScriptProcessor, write: Any, tmp_path: pathlib.Path, local_session: LocalSession
) -> None:
    """A file:// input and output need no copy through S3: nothing is put there but the script."""
    (tmp_path / "data").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "data" / "a.txt").write_text("abc")
    job = processor.run(
        write(COPY),
        inputs=[ProcessingInput((tmp_path / "data").as_uri(), "/opt/ml/processing/input/raw")],
        outputs=[ProcessingOutput("/opt/ml/processing/output", (tmp_path / "out").as_uri(), "clean")],
        arguments=COPY_ARGUMENTS,
        logs=False,
    )
    assert (tmp_path / "out" / "a.txt").read_text() == "ABC"
    assert [path.name for path in job.outputs["clean"].download(tmp_path / "copy")] == ["a.txt"]
    listed = local_session.client("s3").list_objects_v2(Bucket=local_session.default_bucket())
    assert [item["Key"].rsplit("/", 1)[-1] for item in listed["Contents"]] == ["script.py"]


def test_a_percent_sign_in_a_uri_is_a_letter(
    processor: ScriptProcessor, write: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Script, input, output and download use the very directory of a `file://` URI, as in 2.x, relative ones too."""
    monkeypatch.chdir(tmp_path)
    for name in ("a%20b", "a b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    (tmp_path / "a%20b" / "s%20.py").write_text(textwrap.dedent(COPY))
    job = processor.run(
        f"file://{tmp_path}/a%20b/s%20.py",
        inputs=[ProcessingInput("file://a%20b", "/opt/ml/processing/input/raw")],
        outputs=[ProcessingOutput("/opt/ml/processing/output", "file://o%20ut", "clean")],
        arguments=COPY_ARGUMENTS,
        logs=False,
    )
    assert (tmp_path / "o%20ut" / "a.txt").read_text() == "A%20B"
    assert not (tmp_path / "o ut").exists()
    job.outputs["clean"].download(f"file://{tmp_path}/co%20py")
    assert (tmp_path / "co%20py" / "a.txt").read_text() == "A%20B"


def test_a_script_s_uri_may_be_encoded(processor: ScriptProcessor, write: Any) -> None:
    """The URI that pathlib writes finds a script that exists under its decoded name alone."""
    script = write("print('hello')", "my script é%20.py")
    job = processor.run(script.as_uri(), logs=False)
    assert [event.message for event in job.logs()] == ["hello"]


def test_logs_are_those_of_this_job(processor: ScriptProcessor, write: Any, local_session: LocalSession) -> None:
    """A job that is deleted leaves its lines behind; they are not those of the next one of its name."""
    processor.run(write("print('first')"), logs=False, job_name="again")
    local_session.client("sagemaker").delete_processing_job(ProcessingJobName="again")
    job = processor.run(write("print('second')"), logs=False, job_name="again")
    assert [event.message for event in job.logs()] == ["second"]
    assert [event.message for event in job.logs(tail=5)] == ["second"]


def test_run_sends_the_request(write: Any, local_session: LocalSession) -> None:
    """On the engine too, `request` has the bucket and the role that `run` uses, also for another account's role."""
    for role in ("arn:aws:iam::123456789012:role/Mine", "Mine"):
        processor = ScriptProcessor(
            role, command=["python3"], instance_type="local", instance_count=1, sagemaker_session=local_session
        )
        outputs = ["/opt/ml/processing/o"]
        request = processor.request(write("pass"), outputs=outputs)
        described = processor.run(write("pass"), outputs=outputs, wait=False).describe()
        request = request.with_name(described["ProcessingJobName"])
        assert request.role_arn == described["RoleArn"]
        bucket = described["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"].split("/")[2]
        assert str(request.outputs[0].destination).split("/")[2] == bucket


@attrs.define(slots=False)
class TaggedOutput(ProcessingOutput):
    """An output with a field more."""

    owner: str = "nobody"


class FolderInput(ProcessingInput):
    """An input with an initialiser of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder, f"/opt/ml/processing/input/{folder.name}")


def test_subclasses_of_inputs_and_outputs(processor: ScriptProcessor, write: Any, tmp_path: pathlib.Path) -> None:
    """Inputs and outputs of the user's own subclasses work, and are not changed."""
    write("a", "a.txt")
    given = (FolderInput(tmp_path), TaggedOutput("/opt/ml/processing/o", owner="me"))
    job = processor.run(write("pass"), inputs=[given[0]], outputs=[given[1]], logs=False)
    assert (job.inputs[0].input_name, job.outputs[0].output_name) == ("input-1", "output-1")
    assert (given[0].input_name, given[1].output_name, given[1].destination) == (None, None, None)


def test_failure_has_the_reason(processor: ScriptProcessor, write: Any) -> None:
    """A failed job raises with the reason, the exit message and the last log lines."""
    script = write(
        """
        import sys
        open("/opt/ml/output/message", "w").write("no rows left")
        print("before")
        sys.exit(3)
        """
    )
    with pytest.raises(JobFailedError) as caught:
        processor.run(script, logs=False)
    error = caught.value
    assert isinstance(error, (ValueError, UnexpectedStatusException))
    assert (error.status, error.actual_status, error.allowed_statuses) == ("Failed", "Failed", ("Completed",))
    assert error.exit_message == "no rows left"
    assert error.failure_reason is not None
    assert "exit code: 3" in error.failure_reason
    assert error.log_tail == ("before",)
    for part in (error.failure_reason, "no rows left", "\n  before", error.job_name):
        assert part in str(error)
    assert processor.latest_job is not None
    assert processor.latest_job.job_name == error.job_name


SLEEP = """
    import time
    print("started", flush=True)
    time.sleep(600)
"""


def wait_for_line(job: ProcessingJob) -> None:
    """Return when the job has written its first line."""
    next(event for event in job.logs(follow=True))


def test_stop(processor: ScriptProcessor, write: Any) -> None:
    """A stopped job raises an error of its own, unless `on_stop` is `return`; stopping it again is not an error."""
    job = processor.run(write(SLEEP), wait=False)
    wait_for_line(job)
    job.stop()
    with pytest.raises(JobStoppedError):
        job.wait(logs=False)
    assert job.wait(logs=False, on_stop="return") is job
    job.stop()
    assert job.status == "Stopped"


def test_exception_is_the_error_of_the_end(processor: ScriptProcessor, write: Any, capsys: Any) -> None:
    """It waits silently, answers None for a job that completed, and asks once."""
    good = processor.run(write("print('fine')"), wait=False)
    bad = processor.run(write("print('no rows'); raise SystemExit(4)", "bad.py"), wait=False)
    assert good.exception() is None
    error = bad.exception()
    assert isinstance(error, JobFailedError)
    assert error.log_tail == ("no rows",)
    processor.sagemaker_session.client("sagemaker").delete_processing_job(ProcessingJobName=bad.name)
    assert isinstance(bad.exception(), JobFailedError)
    assert capsys.readouterr().out == ""
    slow = processor.run(write(SLEEP, "slow.py"), wait=False)
    with pytest.raises(WaitTimeoutError):
        slow.exception(timeout=0.05)
    slow.stop()
    assert isinstance(slow.exception(), JobStoppedError)


def test_another_process_goes_on_with_the_events(processor: ScriptProcessor, write: Any) -> None:
    """A checkpoint, or its text, is where another stream goes on."""
    job = processor.run(write("for n in range(30): print(n)"), logs=False)
    with job.events() as events:
        first = [next(events) for _ in range(12)]
        checkpoint = events.checkpoint()
    for given in (checkpoint, checkpoint.to_json()):
        rest = list(job.events(checkpoint=given))
        lines = [event.message for event in [*first, *rest] if isinstance(event, LogEvent)]
        assert lines == [str(n) for n in range(30)]
    with pytest.raises(ConfigurationError, match="checkpoint: "):
        job.events(checkpoint="{}")


def test_lines_of_a_job_that_has_ended_name_their_host(
    local_session: LocalSession, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines have their host from the first one on, also after `attach`."""
    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=2, sagemaker_session=local_session
    )
    job = processor.run(write("print('here')"), logs=False)
    attach(job.job_name, session=local_session).wait()
    assert sorted(capsys.readouterr().out.splitlines()) == ["[algo-1] here", "[algo-2] here"]


def test_wait_has_a_deadline(processor: ScriptProcessor, write: Any) -> None:
    """A timeout ends the wait, not the job."""
    job = processor.run(write(SLEEP), wait=False)
    with pytest.raises(WaitTimeoutError) as caught:
        job.wait(logs=False, timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert job.status == "InProgress"
    job.stop()


def test_logs_follow_a_running_job(processor: ScriptProcessor, write: Any) -> None:
    """logs(follow=True) yields lines as they come, up to the last one."""
    job = processor.run(write("for n in range(50): print('line', n, flush=True)"), wait=False)
    assert [event.message for event in job.logs(follow=True)] == [f"line {n}" for n in range(50)]
    assert [event.message for event in job.logs(tail=2)] == ["line 48", "line 49"]
    assert [event.message for event in job.logs(follow=True, tail=2)] == ["line 48", "line 49"]


def test_attach(processor: ScriptProcessor, write: Any, tmp_path: pathlib.Path, local_session: LocalSession) -> None:
    """By name or ARN another program finds the job, its logs and its outputs."""
    script = write("open('/opt/ml/processing/o/x', 'w').write('1'); print('done')")
    job = processor.run(script, outputs=[ProcessingOutput("/opt/ml/processing/o", output_name="o")], logs=False)
    fresh = LocalSession(local_session.home)
    for found in (
        attach(job.job_name, fresh),
        attach(job.arn, session=fresh),
        ProcessingJob.from_processing_name(fresh, job.job_name),
        ProcessingJob.from_processing_arn(fresh, job.arn),
    ):
        found.wait(logs=False)
        assert [event.message for event in found.logs()] == ["done"]
        assert [path.name for path in found.outputs["o"].download(tmp_path / "out")] == ["x"]
        assert [entry.input_name for entry in found.inputs] == ["code"]


def test_attach_to_nothing(local_session: LocalSession) -> None:
    """An unknown name or a wrong ARN raises an error that names the mistake."""
    with pytest.raises(ConfigurationError, match=r"^name: no processing job 'nothing'"):
        attach("nothing", local_session)
    for name in ("", "a b/c", "a" * 64):
        with pytest.raises(ConfigurationError, match="name: must be a job's name or ARN"):
            attach(name, local_session)
        with pytest.raises(ConfigurationError, match=r"^processing_job_name: must be a (job's name|string that)"):
            ProcessingJob.from_processing_name(local_session, name)
    with pytest.raises(ConfigurationError, match=r"^name: .* is not the ARN of a processing job"):
        attach("arn:aws:s3:::bucket", local_session)
    with pytest.raises(ConfigurationError, match=r"^session: "):
        attach("nothing", 3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="eu-west-3"):
        attach("arn:aws:sagemaker:eu-west-3:000000000000:processing-job/x", local_session)


def test_if_exists(processor: ScriptProcessor, write: Any, tmp_path: pathlib.Path) -> None:
    """A name that is taken fails, attaches or gets a suffix; the job that has it keeps its input files."""
    (tmp_path / "in").write_text("first")
    inputs = [ProcessingInput(tmp_path / "in", "/opt/ml/processing/in")]
    script = write("print(open('/opt/ml/processing/in/in').read())")
    first = processor.run(script, inputs=inputs, job_name="nightly", logs=False)
    (tmp_path / "in").write_text("second")
    with pytest.raises(SubmissionError, match="a job named 'nightly' exists") as caught:
        processor.run(script, inputs=inputs, job_name="nightly")
    assert caught.value.code == "ResourceInUse"
    same = processor.run(script, inputs=inputs, job_name="nightly", if_exists="attach", logs=False)
    assert same.arn == first.arn
    other = processor.run(script, inputs=inputs, job_name="nightly", if_exists="suffix", logs=False)
    assert other.job_name == "nightly-2"
    assert [event.message for event in other.logs()] == ["second"]
    s3 = processor.sagemaker_session.client("s3")
    bucket, key = str(first.inputs[0].source).removeprefix("s3://").split("/", 1)
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"first"


def test_a_taken_generated_name_is_generated_anew(
    processor: ScriptProcessor, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collision of generated names costs another name, not an error."""
    names = iter(["same", "same", "another"])
    monkeypatch.setattr(processor, "_generate_current_job_name", lambda job_name=None: job_name or next(names))
    jobs = [processor.run(write("pass"), wait=False) for _ in range(2)]
    assert [job.job_name for job in jobs] == ["same", "another"]


def test_two_runs_of_one_generated_name_keep_their_files_apart(
    processor: ScriptProcessor, write: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If two machines generate the same name, the loser's uploads do not replace the winner's, and are removed."""
    script = write(
        """
        import pathlib
        print(sorted((path.name, path.read_text()) for path in pathlib.Path("/opt/ml/processing/in").iterdir()))
        """
    )
    for run, own in (("winner", "w.txt"), ("loser", "l.txt")):
        (tmp_path / run).mkdir()
        for name in (own, "same.txt"):
            (tmp_path / run / name).write_text(run)

    def start(run: str) -> ProcessingJob:
        inputs = [ProcessingInput(tmp_path / run, "/opt/ml/processing/in")]
        return processor.run(script, inputs=inputs, wait=False)

    names = iter(["same", "same", "another"])
    monkeypatch.setattr(processor, "_generate_current_job_name", lambda job_name=None: job_name or next(names))
    winner_started: list[ProcessingJob] = []
    create = Launch.submit

    def staged_then_overtaken(launch: Launch) -> Submitted:
        # The loser comes in when the winner has uploaded, and has not created its job yet.
        launch.session.default_bucket()
        upload_all(launch.session.api, launch.staging.uploads, expected_owner=launch.session.expected_owner)
        monkeypatch.setattr(Launch, "submit", create)
        winner_started.append(start("loser"))
        return submit(launch.session.api, launch.request)

    monkeypatch.setattr(Launch, "submit", staged_then_overtaken)
    winner, loser = start("winner"), winner_started[0]
    assert (winner.job_name, loser.job_name) == ("same", "another")
    for job, files in (
        (winner, [("same.txt", "winner"), ("w.txt", "winner")]),
        (loser, [("l.txt", "loser"), ("same.txt", "loser")]),
    ):
        job.wait(logs=False)
        assert [event.message for event in job.logs()] == [str(files)]


def test_a_name_that_is_always_the_same_is_used_as_it_is(
    processor: ScriptProcessor, write: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subclass's own name is accepted although a killed run has left files under it."""
    (tmp_path / "in").write_text("fresh")
    s3, bucket = processor.sagemaker_session.client("s3"), processor.sagemaker_session.default_bucket()
    s3.put_object(Bucket=bucket, Key="fixed/input/input-1/in", Body=b"left over")
    monkeypatch.setattr(processor, "_generate_current_job_name", lambda job_name=None: job_name or "fixed")
    inputs = [ProcessingInput(tmp_path / "in", "/opt/ml/processing/in")]
    job = processor.run(write("print(open('/opt/ml/processing/in/in').read())"), inputs=inputs, logs=False)
    assert job.job_name == "fixed"
    assert [event.message for event in job.logs()] == ["fresh"]


def test_processor_with_an_entrypoint(local_session: LocalSession) -> None:
    """A Processor runs its entrypoint with its arguments and its environment."""
    processor = Processor(
        instance_count=1,
        instance_type="local",
        entrypoint=["python3", "-c", "import os, sys; print(sys.argv[1:], os.environ['GREETING'])"],
        env={"GREETING": "hello"},
        sagemaker_session=local_session,
    )
    job = processor.run(arguments=["a", "b"], logs=False)
    assert [event.message for event in job.logs()] == ["['a', 'b'] hello"]


def test_ctrl_c_detaches(tmp_path: pathlib.Path, write: Any, local_session: LocalSession) -> None:
    """Ctrl-C during a wait leaves the job running, and shows how to attach to it and how to stop it."""
    client = write(
        f"""
        from processing import LocalSession, ScriptProcessor
        session = LocalSession({str(local_session.home)!r}, tick=0.02, grace=1)
        ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session).run(
            {str(write(SLEEP))!r}, job_name="long"
        )
        """,
        "client.py",
    )
    process = subprocess.Popen([sys.executable, client], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "started" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode != 0
    assert f"processing.attach('long', session=processing.LocalSession({str(local_session.home)!r})).stop()" in stderr
    job = attach("long", local_session)
    assert job.status == "InProgress"
    job.stop()
    job.wait(logs=False, on_stop="return")


def test_jobs_outlive_the_caller(tmp_path: pathlib.Path, write: Any, local_session: LocalSession) -> None:
    """kill -9 of the client: from another process, the status, the logs and the outputs are all there."""
    gate = tmp_path / "gate"
    job_script = write(
        f"""
        import os, time
        print("started", flush=True)
        while not os.path.exists({str(gate)!r}):
            time.sleep(0.01)
        print("finished")
        open("/opt/ml/processing/o/x", "w").write("1")
        """
    )
    client = write(
        f"""
        from processing import LocalSession, ScriptProcessor
        session = LocalSession({str(local_session.home)!r}, tick=0.02, grace=1)
        ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session).run(
            {str(job_script)!r}, outputs=["/opt/ml/processing/o"], job_name="survivor"
        )
        """,
        "client.py",
    )
    process = subprocess.Popen([sys.executable, client], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "started" not in process.stdout.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    gate.touch()
    job = attach("survivor", local_session)
    job.wait(logs=False, timeout=30)
    assert [event.message for event in job.logs()] == ["started", "finished"]
    assert [path.name for path in job.outputs[0].download(tmp_path / "out")] == ["x"]


def test_runs_side_by_side(processor: ScriptProcessor, write: Any) -> None:
    """One processor, several threads: each run has its own job."""
    script = write("import sys; print(sys.argv[1])")
    said: dict[int, list[str]] = {}

    def run(number: int) -> None:
        job = processor.run(script, arguments=[str(number)], logs=False)
        said[number] = [event.message for event in job.logs()]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {number: [str(number)] for number in range(4)}
    assert len({job.job_name for job in processor.jobs}) == 4


def test_lines_and_status_are_left_out_on_request(
    processor: ScriptProcessor, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """logs=False shows the status alone, and quiet=True nothing."""
    script = write("print('secret')")
    job = processor.run(script, logs=False)
    out, err = capsys.readouterr()
    assert (out, job.job_name in err, "secret" in err) == ("", True, False)
    processor.run(script, quiet=True)
    processor.run(script, quiet=True, logs=True)
    job.wait(quiet=True)
    assert capsys.readouterr() == ("", "")


def test_names_of_the_same_instant_differ(processor: ScriptProcessor, write: Any) -> None:
    """Names are unique even within a millisecond."""
    script = write("pass")
    names = {processor.request(script).job_name for _ in range(20)}
    assert len(names) == 20


def test_a_job_without_capacity_has_advice() -> None:
    """A job for which AWS has no instance raises a CapacityError with advice."""
    cluster = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2}
    description = {
        "ProcessingJobStatus": "Failed",
        "FailureReason": "CapacityError: Unable to provision requested ML compute capacity.",
        "ProcessingResources": {"ClusterConfig": cluster},
    }
    error = job_error("job", description, [])
    assert isinstance(error, CapacityError)
    assert error.failure_reason == description["FailureReason"]
    assert "instance_preferences=['ml.m5.xlarge', 'ml.m6i.xlarge'" in str(error)


def test_an_output_as_an_input(tmp_path: pathlib.Path) -> None:
    """An output becomes the next job's input without the files of outputs whose names begin with its name."""
    session = LocalSession(tmp_path / "engine")
    program = "echo 1 > /opt/ml/processing/t/a; echo 1 > /opt/ml/processing/s/b"
    first = Processor(
        entrypoint=["sh", "-c", program], instance_type="local", instance_count=1, sagemaker_session=session
    )
    outputs = [
        ProcessingOutput("/opt/ml/processing/t", output_name="test"),
        ProcessingOutput("/opt/ml/processing/s", output_name="test_small"),
        ProcessingOutput("/opt/ml/processing/d", str((tmp_path / "d").as_uri()), "disk"),
    ]
    job = first.run(outputs=outputs, logs=False)
    second = Processor(
        entrypoint=["ls", "/opt/ml/processing/in"], instance_type="local", instance_count=1, sagemaker_session=session
    )
    given = job.outputs["test"].as_input("/opt/ml/processing/in")
    assert given.source == f"{job.outputs['test'].destination}/"
    assert [line.message for line in second.run([given], logs=False).logs()] == ["a"]
    assert job.outputs["disk"].as_input("/opt/ml/processing/in", "x").source == (tmp_path / "d").as_uri()
    with pytest.raises(ConfigurationError, match=r"^outputs\['f'\]\.destination: has no files for an input"):
        JobOutput(output_name="f").as_input("/opt/ml/processing/in")

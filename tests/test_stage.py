"""`stage` uploads the files of a run and returns its request, from which any client creates the job."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from processing import (
    ConfigurationError,
    FrameworkProcessor,
    NameTakenError,
    ProcessingInput,
    Processor,
    ScriptProcessor,
    SKLearnProcessor,
    attach,
)
from processing.spark import PySparkProcessor, SparkJarProcessor
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws

if TYPE_CHECKING:
    from processing import LocalSession, ProcessingRequest
    from processing.session.session import Session

ROLE = "arn:aws:iam::111122223333:role/x"
SPARK: dict[str, Any] = {"role": ROLE, "framework_version": "3.5", "instance_count": 1, "instance_type": "ml.m5.xlarge"}
CODE = pathlib.Path("clean.py")
STAGED = {
    "Processor": lambda session: Processor(ROLE, "i:1", 1, "ml.m5.large", ["x"], sagemaker_session=session).stage(
        [ProcessingInput(CODE, "/opt/ml/processing/in")], job_name="clean"
    ),
    "ScriptProcessor": lambda session: ScriptProcessor(
        ROLE, "i:1", ["python3"], 1, "ml.m5.large", sagemaker_session=session
    ).stage(CODE, job_name="clean"),
    "with a bundle": lambda session: ScriptProcessor(
        ROLE, "i:1", ["python3"], 1, "ml.m5.large", sagemaker_session=session
    ).stage(CODE, source_dir=".", job_name="clean"),
    "FrameworkProcessor": lambda session: FrameworkProcessor(
        "i:1", ROLE, 1, "ml.m5.large", sagemaker_session=session
    ).stage(CODE, ".", job_name="clean"),
    "SKLearnProcessor": lambda session: SKLearnProcessor(
        "1.2-1", ROLE, 1, "ml.m5.large", sagemaker_session=session
    ).stage(CODE, job_name="clean"),
    "PySparkProcessor": lambda session: PySparkProcessor(**SPARK, sagemaker_session=session).stage(
        str(CODE), [CODE], job_name="clean"
    ),
    "SparkJarProcessor": lambda session: SparkJarProcessor(**SPARK, sagemaker_session=session).stage(
        "app.jar", "Main", job_name="clean"
    ),
}


@pytest.fixture
def session(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session of the simulated AWS, in a folder with code."""
    monkeypatch.chdir(tmp_path)
    CODE.write_text("print('hello')\n")
    pathlib.Path("app.jar").write_bytes(b"jar")
    session = SimulatedAws(VirtualClock()).session(default_bucket="bucket")
    session.client("s3").create_bucket(Bucket="bucket")
    return session


@pytest.mark.parametrize("staged", STAGED.values(), ids=STAGED)
def test_every_local_source_is_uploaded(staged: Any, session: Session) -> None:
    """Each input of the request has its objects, no job exists, and boto3 can create one."""
    request: ProcessingRequest = staged(session)
    s3, sagemaker = session.client("s3"), session.client("sagemaker")
    uris = [str(entry.source) for entry in request.inputs]
    assert uris
    for uri in uris:
        assert s3.list_objects_v2(Bucket="bucket", Prefix=uri.removeprefix("s3://bucket/"))["KeyCount"], uri
    assert sagemaker.list_processing_jobs()["ProcessingJobSummaries"] == []
    sagemaker.create_processing_job(**request.to_boto())
    assert attach("clean", session).status == "InProgress"


@pytest.mark.parametrize("job_name", ["by-hand", None])
def test_the_job_of_a_staged_request_runs(
    job_name: str | None, local_session: LocalSession, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """boto3's create_processing_job makes the same job as `run`."""
    (tmp_path / "clean.py").write_text("print('hello from clean.py')\n")
    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=local_session
    )
    request = processor.stage(tmp_path / "clean.py", job_name=job_name)
    assert processor.latest_job is None
    local_session.client("sagemaker").create_processing_job(**request.to_boto())
    attach(request.job_name, session=local_session).wait()
    out, err = capsys.readouterr()
    assert out == "hello from clean.py\n"
    assert f"{request.job_name}: uploaded 1 file" in err


def test_the_files_of_an_existing_job_are_not_replaced(session: Session) -> None:
    """A name that is taken is an error before any upload; wrong arguments are named."""
    processor = ScriptProcessor(ROLE, "i:1", ["python3"], 1, "ml.m5.large", sagemaker_session=session)
    processor.run(CODE, job_name="clean", wait=False)
    inputs = [ProcessingInput(CODE, "/opt/ml/processing/in")]
    with pytest.raises(NameTakenError, match=r"'clean' exists; give another name$"):
        processor.stage(CODE, inputs, job_name="clean")
    with pytest.raises(ConfigurationError, match="quiet: must be True or False, not str"):
        processor.stage(CODE, quiet="yes")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="progress: must be a function"):
        processor.stage(CODE, progress="yes")  # type: ignore[arg-type]


def test_ctrl_c_during_an_upload_takes_back_its_files(session: Session) -> None:
    """Files that only this run can use are removed again; no job exists."""
    processor = ScriptProcessor(ROLE, "i:1", ["python3"], 1, "ml.m5.large", sagemaker_session=session)
    inputs = [ProcessingInput(CODE, "/opt/ml/processing/in")]

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processor.run(CODE, inputs, progress=interrupt)
    keys = [entry["Key"] for entry in session.client("s3").list_objects_v2(Bucket="bucket").get("Contents", ())]
    assert [key for key in keys if not key.startswith("code/")] == []
    assert session.client("sagemaker").list_processing_jobs()["ProcessingJobSummaries"] == []


def test_ctrl_c_asks_only_for_files_that_were_begun(session: Session) -> None:
    """Of a thousand files, those of the first requests are removed."""
    folder = pathlib.Path("data")
    folder.mkdir()
    for number in range(1000):
        (folder / str(number)).write_bytes(b"x")
    asked: list[str] = []
    s3 = session.client("s3")
    s3.meta.events.register("before-call.s3.HeadObject", lambda params, **_: asked.append(params["url_path"]))

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    processor = Processor(ROLE, "i:1", 1, "ml.m5.large", ["x"], sagemaker_session=session)
    with pytest.raises(KeyboardInterrupt):
        processor.run([ProcessingInput(folder, "/opt/ml/processing/in")], progress=interrupt)
    assert 0 < len(asked) < 500
    assert s3.list_objects_v2(Bucket="bucket")["KeyCount"] == 0

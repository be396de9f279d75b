"""Path rewriting: code with paths below /opt/ml is refused, whichever client creates the job."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from processing import EngineError, FrameworkProcessor, LocalSession, ScriptProcessor
from processing.container.bootstrap import Payload, bootstrap
from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BAD = b"import os\nopen('/opt/ml/processing/out/f', 'w')\n"
GOOD = b"import sys\nopen(sys.argv[1] + '/f', 'w').close()\n"
INPUT = "/opt/ml/processing/input"


@pytest.fixture
def jobs(make_jobs: Callable[..., Any]) -> Any:
    """An engine without a sandbox."""
    return make_jobs(sandbox="rewriting")


def _archive(members: Mapping[str, bytes], kind: str = "tar.gz") -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as zipped:
            for name, body in members.items():
                zipped.writestr(name, body)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return buffer.getvalue()


def _create(jobs: Any, files: Mapping[str, bytes], *entrypoint: str, **options: Any) -> str:
    for key, body in files.items():
        jobs.objects.put("data", f"c/{key}", body)
    folders = sorted({key.partition("/")[0] for key in files})
    inputs = {f"input/{folder}": f"s3://data/c/{folder}" for folder in folders}
    name: str = jobs.create(entrypoint=entrypoint, inputs=inputs, outputs={"out": "s3://data/out"}, **options)
    return name


START = bootstrap(["python3"], Payload("main.py")).encode()
CASES: dict[str, tuple[dict[str, bytes], list[str], str]] = {
    "a script": ({"code/w.py": BAD}, ["python3", f"{INPUT}/code/w.py"], "code/w.py:2"),
    "a shell script": ({"code/w": b"echo 1 > /opt/ml/x\n"}, ["sh", f"{INPUT}/code/w"], "code/w:1"),
    "a module": (
        {"code/main.py": b"import helpers.paths\n", "code/helpers/paths.py": BAD},
        ["python3", f"{INPUT}/code/main.py"],
        "code/helpers/paths.py:2",
    ),
    "a package": (
        {"code/pack/__main__.py": BAD},
        ["sh", "-c", f"cd {INPUT}/code; python3 -m pack"],
        "code/pack/__main__.py:2",
    ),
    "a second program": (
        {"code/run.sh": b'sh "$(dirname "$0")/second.sh"\n', "code/second.sh": b"touch /opt/ml/x\n"},
        ["sh", f"{INPUT}/code/run.sh"],
        "code/second.sh:1",
    ),
    "a bundle": (
        {
            "code/sourcedir.tar.gz": _archive({"main.py": b"import other\n", "./other.py": BAD}),
            "entrypoint/runproc.sh": START,
        },
        ["/bin/sh", f"{INPUT}/entrypoint/runproc.sh"],
        "code/other.py:2",
    ),
    "a zip": (
        {
            "code/code.zip": _archive({"main.py": BAD}, "zip"),
            "entrypoint/runproc.sh": bootstrap(["python3"], Payload("main.py", "code.zip")).encode(),
        },
        ["/bin/sh", f"{INPUT}/entrypoint/runproc.sh"],
        "code/main.py:2",
    ),
    "an argument": ({"code/w.py": BAD}, ["python3", "-u", f"{INPUT}/code/w.py", "x"], "code/w.py:2"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_engine_refuses_code_in_its_own_s3(jobs: Any, case: str) -> None:
    """Scripts, the files that these name, and members of archives; the message has file, line and remedy."""
    files, entrypoint, place = CASES[case]
    with pytest.raises(ApiError) as refused:
        _create(jobs, files, *entrypoint)
    assert refused.value.code == "ValidationException"
    assert f"{INPUT}/{place}: `" in refused.value.message
    assert "install bubblewrap" in refused.value.message
    assert not (jobs.home / "jobs").exists()


@pytest.mark.parametrize("case", CASES)
def test_code_that_is_not_seen_at_the_creation_fails_the_job(jobs: Any, case: str) -> None:
    """A manifest's files are known when the job starts: it fails before its program runs."""
    files, entrypoint, place = CASES[case]
    inputs = {}
    for folder in sorted({key.partition("/")[0] for key in files}):
        names = [key.partition("/")[2] for key in files if key.startswith(f"{folder}/")]
        manifest = json.dumps([{"prefix": f"s3://data/c/{folder}/"}, *names])
        jobs.objects.put("data", f"manifest-{folder}", manifest.encode())
        inputs[f"input/{folder}"] = {"S3Uri": f"s3://data/manifest-{folder}", "S3DataType": "ManifestFile"}
    for key, body in files.items():
        jobs.objects.put("data", f"c/{key}", body)
    described = jobs.run(entrypoint=entrypoint, inputs=inputs)
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"].startswith(f"ClientError: {INPUT}/{place}: `")
    assert not Path("/opt/ml/x").exists()


def test_other_files_are_no_code(jobs: Any) -> None:
    """Data with such paths, and modules that nothing names, keep no job from running."""
    files = {
        "code/main.py": b"import json\n" + GOOD,
        "code/unused_example.py": BAD,
        "code/readme.md": BAD,
        "data/settings.json": b'["/opt/ml/processing/input"]',
        "data/rows.csv": b"/opt/ml/processing/input\n",
        "data/old.tar.gz": _archive({"main.py": BAD}),
    }
    name = _create(
        jobs, files, "python3", f"{INPUT}/code/main.py", "/opt/ml/processing/out", f"{INPUT}/data/settings.json"
    )
    assert jobs.wait(name)["ProcessingJobStatus"] == "Completed", jobs.lines(name)
    assert jobs.keys("out/") == ["out/f"]


def test_a_folder_of_this_machine_is_searched(jobs: Any, tmp_path: Path) -> None:
    """Code that is used in place counts, too."""
    (tmp_path / "w.py").write_bytes(BAD)
    with pytest.raises(ApiError, match=rf"^ValidationException: {INPUT}/here/w\.py:2: "):
        jobs.create(entrypoint=["python3", f"{INPUT}/here/w.py"], inputs={"input/here": f"file://{tmp_path}"})


def test_boto3_is_answered_with_a_validation_error(tmp_path: Path) -> None:
    """Any client of the engine is, not this package's alone."""
    session = LocalSession(tmp_path / "engine", sandbox="rewriting")
    s3 = session.boto_session.client("s3")
    s3.create_bucket(Bucket="code-bucket")
    s3.put_object(Bucket="code-bucket", Key="w.py", Body=BAD)
    processor = ScriptProcessor(
        "r", "i", ["python3"], instance_count=1, instance_type="local", sagemaker_session=session
    )
    (tmp_path / "w.py").write_bytes(GOOD)
    request = processor.request(str(tmp_path / "w.py"), job_name="job").to_boto()
    request["ProcessingInputs"][0]["S3Input"]["S3Uri"] = "s3://code-bucket/w.py"
    with pytest.raises(ClientError, match="ValidationException") as refused:
        session.boto_session.client("sagemaker").create_processing_job(**request)
    assert "w.py:2" in str(refused.value)


def test_a_local_session_refuses_before_any_upload(tmp_path: Path) -> None:
    """Code in S3, and a module in a bundle, with an EngineError. The bucket stays empty."""
    session = LocalSession(tmp_path / "engine", sandbox="rewriting")
    s3 = session.boto_session.client("s3")
    s3.create_bucket(Bucket="code-bucket")
    s3.put_object(Bucket="code-bucket", Key="w.py", Body=BAD)
    options: dict[str, Any] = {"instance_count": 1, "instance_type": "local", "sagemaker_session": session}
    with pytest.raises(EngineError, match=r"code/w\.py:2: "):
        ScriptProcessor(command=["python3"], **options).run("s3://code-bucket/w.py")
    source = tmp_path / "source"
    source.mkdir()
    (source / "main.py").write_text("import helper\n")
    (source / "helper.py").write_bytes(BAD)
    processor = FrameworkProcessor(**options)
    with pytest.raises(EngineError, match=r"code/helper\.py:2: "):
        processor.run("main.py", str(source))
    assert any("helper.py:2" in problem for problem in processor.plan("main.py", str(source)).problems)
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["code-bucket"]

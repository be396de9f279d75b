"""A remote S3 in place of the engine's own: SeaweedFS for the session, the job's data, and the job's own boto3."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from processing import EngineError, LocalSession, ProcessingInput, ProcessingOutput, ScriptProcessor
from processing.local.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "elsewhere"
SCRIPT = """
import pathlib, sys, boto3
text = pathlib.Path(sys.argv[1], "a.csv").read_text()
pathlib.Path(sys.argv[2], "b.csv").write_text(text.upper())
pathlib.Path(sys.argv[3], "c.csv").write_text(text)
s3 = boto3.client("s3")
body = s3.get_object(Bucket="elsewhere", Key="in/a.csv")["Body"].read()
s3.put_object(Bucket="elsewhere", Key="by-the-job", Body=body)
print(*__import__("os").environ.values())
"""


@pytest.fixture
def other_s3(seaweedfs: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the other S3, whose keys are those of this machine."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.secret_key)
    client = seaweedfs.client()
    yield client
    client.close()


def test_a_job_lives_on_another_s3(
    other_s3: Any, seaweedfs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code, inputs, outputs and the job's own boto3 use it. The job has no key of it, and the engine no object."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", seaweedfs.url)
    session = LocalSession(tmp_path / "engine", tick=0.01, default_bucket=BUCKET, python=sys.executable)
    session.ensure_bucket(BUCKET)
    other_s3.put_object(Bucket=BUCKET, Key="in/a.csv", Body=b"hello")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    processor = ScriptProcessor(
        role="role",
        image_uri="image",
        command=["python3"],
        instance_count=1,
        instance_type="ml.m5.large",
        sagemaker_session=session,
    )
    job = processor.run(
        str(script),
        inputs=[ProcessingInput(source=f"s3://{BUCKET}/in/", destination="/opt/ml/processing/in")],
        outputs=[
            ProcessingOutput(source="/opt/ml/processing/out", destination=f"s3://{BUCKET}/out"),
            ProcessingOutput(source="/opt/ml/processing/here", destination=f"file://{tmp_path}/here"),
        ],
        arguments=[f"/opt/ml/processing/{name}" for name in ("in", "out", "here")],
        logs=False,
    )
    assert job.describe()["ProcessingJobStatus"] == "Completed"
    assert other_s3.get_object(Bucket=BUCKET, Key="out/b.csv")["Body"].read() == b"HELLO"
    assert other_s3.get_object(Bucket=BUCKET, Key="by-the-job")["Body"].read() == b"hello"
    assert (tmp_path / "here" / "c.csv").read_text() == "hello"
    assert not list((tmp_path / "engine").glob("objects/*/*"))
    assert seaweedfs.secret_key not in "".join(event.message for event in job.logs())


def test_every_kind_of_call_goes_there(other_s3: Any, seaweedfs: Any, tmp_path: Path) -> None:
    """Large bodies in parts, ranges, listings with odd names, copies, deletions, and errors with their codes."""
    session = LocalSession(tmp_path / "engine", s3_endpoint=seaweedfs.url, default_bucket=BUCKET)
    session.ensure_bucket(BUCKET)
    session.ensure_bucket(BUCKET)
    config = Config(request_checksum_calculation="when_supported", response_checksum_validation="when_supported")
    s3 = session.boto_session.client("s3", config=config)
    body = bytes(range(256)) * 40_000
    s3.upload_fileobj(io.BytesIO(body), BUCKET, "large")
    target = io.BytesIO()
    s3.download_fileobj(BUCKET, "large", target)
    assert target.getvalue() == body
    assert other_s3.head_object(Bucket=BUCKET, Key="large")["ContentLength"] == len(body)
    s3.copy_object(Bucket=BUCKET, Key="ü +%", CopySource={"Bucket": BUCKET, "Key": "large"}, MetadataDirective="COPY")
    got = s3.get_object(Bucket=BUCKET, Key="ü +%", Range="bytes=1-3")
    assert (got["Body"].read(), got["ResponseMetadata"]["HTTPStatusCode"]) == (b"\x01\x02\x03", 206)
    assert "ü +%" in [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "ü +%"}, {"Key": "large"}]})
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=BUCKET, Key="large")
    assert caught.value.response["Error"]["Code"] == "NoSuchKey"
    with pytest.raises(ClientError) as caught:
        s3.head_object(Bucket=BUCKET, Key="large")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_an_s3_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The error names the settings."""
    session = LocalSession(tmp_path / "engine", s3_endpoint="http://127.0.0.1:9", default_bucket=BUCKET)
    with pytest.raises(EngineError, match="s3_endpoint= or the environment's AWS_ENDPOINT_URL_S3"):
        session.ensure_bucket(BUCKET)


@pytest.mark.parametrize("value", ["localhost:9000", "ftp://host", "http://"])
def test_what_is_no_url_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the setting."""
    with pytest.raises(EngineError, match="s3_endpoint: "):
        assert EngineSettings(s3_endpoint=value).remote_s3_endpoint
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", value)
    with pytest.raises(EngineError, match="AWS_ENDPOINT_URL_S3: "):
        assert EngineSettings().remote_s3_endpoint

"""Tests of `spark_config`: the request of a function on Spark, and its run with a stand-in for `smspark-submit`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processing import ConfigurationError, EngineError, LocalSession, Session
from processing.container.remote import launch, packing
from processing.container.remote.boot import MANIFEST_DIGEST, Places
from processing.remote_function import SparkConfig, remote
from processing.remote_function.bundle import job_bundle, make_manifest
from processing.remote_function.spark_call import spark_launcher, spark_members
from processing.staging.bundles import keep_chunks

ROLE = "arn:aws:iam::000000000000:role/processing"
CONFIGURATION = {"Classification": "spark-defaults", "Properties": {"spark.executor.cores": "2"}}


@pytest.fixture
def config(tmp_path: Path) -> SparkConfig:
    """A configuration with files of each kind."""
    (tmp_path / "tables.py").write_text("NAME = 'orders'\n")
    (tmp_path / "decoder.jar").write_bytes(b"jar")
    return SparkConfig(
        submit_py_files=[str(tmp_path / "tables.py")],
        submit_jars=["s3://data/driver.jar", str(tmp_path / "decoder.jar")],
        configuration=CONFIGURATION,
        spark_event_logs_uri="s3://data/events",
    )


def count() -> int:
    """A function."""
    return 1


def test_the_request_of_a_function_on_spark(config: SparkConfig) -> None:
    """The plan has several hosts and the output for events, and the loader verifies what `smspark-submit` gets."""
    session = Session(default_bucket="data", region_name="eu-central-1")
    options: dict[str, Any] = {"role": ROLE, "instance_type": "ml.m5.xlarge", "instance_count": 2}
    function = remote(count, spark_config=config, image_uri="mine:1", sagemaker_session=session, **options)
    plan = function.plan()
    assert plan.problems == ()
    assert plan.request is not None
    assert plan.request.entrypoint is not None
    assert plan.request.entrypoint[:2] == ("python3", "-c")
    outputs = plan.request.to_boto()["ProcessingOutputConfig"]["Outputs"]
    assert outputs[-1]["S3Output"] == {
        "S3Uri": "s3://data/events",
        "LocalPath": "/opt/ml/processing/spark-events/",
        "S3UploadMode": "Continuous",
    }
    with pytest.raises(ConfigurationError, match="image_uri: missing; spark_config needs"):
        function.options(image_uri=None).plan()
    with pytest.raises(ConfigurationError, match=r"submit_files\[0\]"):
        function.options(spark_config=SparkConfig(submit_files=["no.csv"])).plan()
    with pytest.raises(ConfigurationError, match=r"configuration.Classification: missing"):
        function.options(spark_config=SparkConfig(configuration={"Properties": {}})).plan()


def test_an_engine_without_spark_refuses(
    config: SparkConfig, local_session: LocalSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A call on the embedded engine is refused before an upload, and its plan says so."""
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    function = remote(count, spark_config=config, instance_type="local", sagemaker_session=local_session)
    (problem,) = function.plan().problems
    assert problem.startswith("Spark needs pyspark and Java on this machine")
    with pytest.raises(EngineError, match="no java in JAVA_HOME"):
        function()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"submit_jars": "one.jar"}, "^submit_jars: must be a list of paths or S3 URIs, not 'one.jar'"),
        ({"submit_py_files": ["tables.py", 5]}, r"^submit_py_files\[1\]: must be a path or an S3 URI, not 5"),
        ({"submit_files": [""]}, r"^submit_files\[0\]: must be a path or an S3 URI, not ''"),
        ({"configuration": "spark-defaults"}, "^configuration: must be a dictionary or a list of them"),
        ({"spark_event_logs_uri": "s3://"}, "^spark_event_logs_uri: 's3://' names no bucket"),
        ({"spark_event_logs_uri": "/logs"}, "^spark_event_logs_uri: '/logs' is not an S3 URI"),
    ],
)
def test_a_wrong_value_is_named_at_once(values: dict[str, Any], message: str) -> None:
    """The error names the field of the configuration, and the position in its list."""
    with pytest.raises(ConfigurationError, match=message):
        SparkConfig(**values)


def test_paths_of_pathlib_are_files(tmp_path: Path) -> None:
    """They name files as texts do."""
    (tmp_path / "tables.py").touch()
    members = spark_members(SparkConfig(submit_py_files=(tmp_path / "tables.py",)))
    assert [member.name for member in members] == ["spark/py-files/tables.py"]


def test_the_command_names_files_in_the_bundle(config: SparkConfig) -> None:
    """A directory stands for local files alone; beside URIs each file is named. The configuration is a member."""
    assert launch.spark_submit(spark_launcher(config), "/f") == [
        *("smspark-submit", "--py-files", "/f/spark/py-files"),
        *("--jars", "s3://data/driver.jar,/f/spark/jars/decoder.jar"),
        *("--local-spark-event-logs-dir", "/opt/ml/processing/spark-events/"),
    ]
    names = [member.name for member in spark_members(config)]
    assert names == ["spark/py-files/tables.py", "spark/jars/decoder.jar", "spark/conf/configuration.json"]
    assert launch.spark_submit(spark_launcher(SparkConfig()), "/f") == ["smspark-submit"]


SUBMIT = """#!{python}
import subprocess, sys
words = sys.argv[1:]
start = next(number for number, word in enumerate(words) if word.endswith("remote_function_call.py"))
code = subprocess.run([sys.executable, *words[start:]]).returncode
if code:
    open({message!r}, "w").write("AlgorithmError: the text of the container")
sys.exit(code)
"""
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from _processing_remote import boot, launch; import os;"
    "places = boot.Places(*sys.argv[1:-1]);"
    "launch.main(places, boot.read_manifest(places.call, os.environ[boot.MANIFEST_DIGEST]), sys.argv[-1])"
)


@pytest.mark.parametrize(("divisor", "slot", "code"), [(2, "result", 0), (0, "exception", 1)])
def test_the_application_s_message_is_that_of_the_job(tmp_path: Path, divisor: int, slot: str, code: int) -> None:
    """The digest of the result or the exception survives the text that the container writes after a failure."""

    def divide(number: int) -> float:
        return 1 / number

    places = Places(*(str(tmp_path / name) for name in Places._fields))
    Path(places.resources).write_text('{"current_host": "algo-1", "hosts": ["algo-1"]}')
    with job_bundle((), "include_local_workdir").view() as bundle:
        Path(places.bundle).write_bytes(bundle)
    packed = packing.pack((divide, (divisor,), {})).to_bytes()
    settings = {"format": "pickle", "values": False, "launcher": spark_launcher(SparkConfig())}
    line, digests = make_manifest({"call": keep_chunks([packed], len(packed))}, settings)
    Path(places.call).write_bytes(line + packed)
    submit = tmp_path / "bin/smspark-submit"
    submit.parent.mkdir()
    submit.write_text(SUBMIT.format(python=sys.executable, message=places.message))
    submit.chmod(0o755)
    (tmp_path / "folder").mkdir()
    environment = {**os.environ, "PATH": f"{submit.parent}:/usr/bin:/bin", MANIFEST_DIGEST: digests[MANIFEST_DIGEST]}
    command = [sys.executable, "-c", PROGRAM, *places, str(tmp_path / "folder")]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert ended.returncode == code, ended.stderr
    assert json.loads(Path(places.message).read_text())["slot"] == slot
    assert (Path(getattr(places, slot)) / slot).is_file()

"""`sagemaker` 2.x: its Spark processors have the same signatures and send the same requests."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import processing
from processing import spark

if TYPE_CHECKING:
    import pytest

    from tests.foreign.conftest import Client

CLIENT = "sagemaker-2"
COMMON = {"role": "arn:aws:iam::123456789012:role/any", "instance_count": 2, "instance_type": "ml.m5.xlarge"}
VERSION = {**COMMON, "framework_version": "3.3"}
EXACT = {**COMMON, "framework_version": "3.5", "py_version": "py312", "container_version": "1.0"}
DEFAULTS = {"Classification": "spark-defaults", "Properties": {"spark.executor.cores": "2"}}
EVENTS = {"spark_event_logs_s3_uri": "s3://logs/events"}
FILES = ("app.py", "app.jar", "one.py", "one.jar", "one.txt")
# The processor, the arguments of its constructor, and those of run. Local directories and mixtures are left out: 2.x
# sends requests for them that its container cannot run.
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("PySparkProcessor", VERSION, {"submit_app": "app.py", "arguments": ["--day", "1"]}),
    (
        "PySparkProcessor",
        {**EXACT, "dependency_location": "s3://deps/a/", "configuration_location": "s3://deps/b"},
        {
            "submit_app": "app.py",
            "submit_py_files": ["one.py"],
            "submit_jars": ["s3://lib/a.jar", "s3a://lib/b.jar"],
            "submit_files": ["one.txt", "one.jar"],
            "configuration": [DEFAULTS],
            **EVENTS,
        },
    ),
    (
        "SparkJarProcessor",
        {**COMMON, "image_uri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1", "env": {"A": "b"}},
        {"submit_app": "app.jar", "submit_class": "a.Main", "submit_jars": ["one.jar"], "configuration": DEFAULTS},
    ),
]
SCRIPT = """
import inspect, json, pathlib
import boto3, sagemaker
from sagemaker.spark.processing import PySparkProcessor, SparkJarProcessor

class Sent(Exception):
    pass

def stop(params, **_):
    raise Sent(json.dumps(params))

s3 = boto3.client("s3", region_name="us-east-1")
for bucket in ("spark-data", "deps"):
    s3.create_bucket(Bucket=bucket)
for name in FILES:
    pathlib.Path(name).write_text("x")
for name, constructed, given in CASES:
    session = sagemaker.Session(boto3.Session(region_name="us-east-1"), default_bucket="spark-data")
    session.sagemaker_client.meta.events.register("provide-client-params.sagemaker.CreateProcessingJob", stop)
    kind = globals()[name]
    parameters = [
        [[each.name, str(each.default)] for each in inspect.signature(method).parameters.values()]
        for method in (kind, kind.run, kind.get_run_args)
    ]
    try:
        kind(sagemaker_session=session, **constructed).run(job_name="the-job", **given)
    except Sent as sent:
        print("RESULT" + json.dumps([parameters, json.loads(str(sent))]))
"""


def test_spark_processors_send_the_same_requests(foreign: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and places of all parameters are those of 2.x, and so is each request, to the last key."""
    printed = foreign.script(f"CASES = {CASES!r}\nFILES = {FILES!r}\n{SCRIPT}").splitlines()
    answers = [json.loads(line.removeprefix("RESULT")) for line in printed if line.startswith("RESULT")]
    monkeypatch.chdir(foreign.folder)
    for (name, constructed, given), (parameters, request) in zip(CASES, answers, strict=True):
        session = processing.Session(region_name="us-east-1", default_bucket="spark-data", code_layout="job")
        kind = getattr(spark, name)
        ours = kind(sagemaker_session=session, **constructed).request(job_name="the-job", **given).to_boto()
        # 2.x sends an empty Environment, which means the same as none.
        assert ours == {field: value for field, value in request.items() if value != {}}
        for method, theirs in zip((kind, kind.run, kind.get_run_args), parameters, strict=True):
            own = [each for each in inspect.signature(method).parameters.values() if each.kind is not each.KEYWORD_ONLY]
            # `logs=None` follows `wait`, which 2.x's True needs.
            assert [[each.name, "True" if each.name == "logs" else str(each.default)] for each in own] == theirs

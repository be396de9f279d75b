"""The fixtures in a user's tests: a separate pytest, with nothing else installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import processing

CONFTEST = """
import sys
from importlib.machinery import PathFinder

pytest_plugins = ["processing.testing.plugin"]
ABSENT = {"flask", "hypothesis", "moto", "obstore", "platformdirs", "xdist", "yaml"}


class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in ABSENT else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""

TESTS = """
import os
import subprocess
import sys

import pytest

import processing
from processing import ScriptProcessor
from processing.testing.simulation import SimulatedLine


def make(session):
    return ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)


def test_engine(processing_session, processing_faults, tmp_path):
    (tmp_path / "script.py").write_text("print('ran')")
    processing_faults.on("CreateProcessingJob", "reset_after")
    job = make(processing_session).run(str(tmp_path / "script.py"))
    assert [event.message for event in job.logs()] == ["ran"]
    assert processing_faults.count()["CreateProcessingJob"] == 2


def test_left_running(processing_session, tmp_path, request):
    (tmp_path / "script.py").write_text("import time; time.sleep(600)")
    request.config.left = make(processing_session).run(str(tmp_path / "script.py"), wait=False)


def test_what_was_left_running_is_stopped(request):
    assert request.config.left.status in {"Stopping", "Stopped"}


@pytest.fixture
def processing_programs():
    return {"mine:*": "served"}


def test_endpoints(processing_session, processing_endpoints, processing_faults):
    name = processing_endpoints("mine", image="mine:1", model={"greeting.txt": b"hello "})
    runtime = processing_session.client("sagemaker-runtime")
    processing_faults.on("InvokeEndpoint", "throttle").on("InvokeEndpoint", "reset_after")
    for code in ("ThrottlingException", "ConnectionClosedError"):
        with pytest.raises(Exception, match=code if code[0] == "T" else "Connection was closed"):
            runtime.invoke_endpoint(EndpointName=name, Body=b"lost")
    answer = runtime.invoke_endpoint(EndpointName=name, Body=b"you")
    assert answer["Body"].read() == b"hello you"


def test_training_jobs(processing_session, processing_training_jobs, processing_faults):
    processing_faults.on("DescribeTrainingJob", "throttle")
    described = processing_training_jobs(
        "trained", image="mine:1", channels={"train": {"a": b"1"}}, hyperparameters={"greeting": "hello "}
    )
    assert described["TrainingJobStatus"] == "Completed"
    assert processing_training_jobs.model("trained") == {"greeting.txt": b"hello 1"}
    failed = processing_training_jobs("failed", image="mine:1", environment={"BROKEN": "1"})
    assert (failed["TrainingJobStatus"], failed["FailureReason"][-12:]) == ("Failed", "exit code: 9")
    with pytest.raises(Exception, match="ThrottlingException"):
        processing_session.client("sagemaker").describe_training_job(TrainingJobName="trained")


def test_a_program_that_cannot_serve(processing_endpoints):
    with pytest.raises(processing.exceptions.ConfigurationError, match="endpoint broken failed.*exit code 9"):
        processing_endpoints("broken", image="mine:1", environment={"BROKEN": "1"})


def test_simulation(processing_aws, processing_clock, processing_faults):
    processing_aws.add_job("clean", ends=3600, lines=[SimulatedLine(10, "hello")])
    processing_faults.on("*", "hang", skip=1)
    job = processing.attach("clean", session=processing_aws.session())
    job.wait()
    assert processing_clock.monotonic() >= 3600
    assert processing_faults.injected
    assert [event.message for event in job.logs()] == ["hello"]


def test_proxy(processing_fault_proxy, processing_faults):
    processing_faults.on("ListBuckets", "throttle")
    program = "import boto3; boto3.client('s3').list_buckets(); print('listed')"
    environment = {**os.environ, **processing_fault_proxy.environment}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "listed"
    assert processing_faults.count()["ListBuckets"] == 2
    assert processing_fault_proxy.url == processing_fault_proxy.environment["AWS_ENDPOINT_URL"]
"""


SERVED = """
import json
import os
import pathlib
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        greeting = pathlib.Path("/opt/ml/model/greeting.txt").read_bytes()
        self.wfile.write(greeting + self.rfile.read(int(self.headers["Content-Length"])))


if "BROKEN" in os.environ:
    sys.exit(9)
if sys.argv[1] == "train":
    folder = pathlib.Path("/opt/ml")
    greeting = json.loads((folder / "input/config/hyperparameters.json").read_text())["greeting"]
    (folder / "model/greeting.txt").write_text(greeting + (folder / "input/data/train/a").read_text())
    sys.exit()
HTTPServer(("", 8080), Handler).serve_forever()
"""


def test_the_fixtures_work_in_tests_of_others(tmp_path: Path) -> None:
    """Each fixture works without the packages of any extra."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_mine.py").write_text(TESTS)
    (tmp_path / "served.py").write_text(SERVED)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(processing.__file__).parent.parent),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", ".", "."]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "8 passed" in done.stdout, done.stdout + done.stderr

"""The container shim before programs that know nothing of SageMaker: endpoints, transform and training jobs."""

from __future__ import annotations

import io
import json
import shlex
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

# The sandbox's root folder is this machine's, and read-only; each host has a /tmp of its own.
FOLDERS = {f"PROCESSING_SHIM_{name}_PATH": f"/tmp/{name.lower()}" for name in ("INPUT", "OUTPUT")}
COUNT = """
import os, sys
for folder, _, names in sorted(os.walk("/tmp/input", followlinks=True)):
    for name in names:
        lines = open(os.path.join(folder, name)).read().split()
        open("/tmp/output/" + name, "w").write("%d %s" % (len(lines), sys.argv[1:]))
        print("counted", name)
        if "fail" in lines: sys.exit(5)
"""
CHAT = """
import os, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
go = threading.Event()
class Chat(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"die": os._exit(3)
        if body == b"go": go.set()
        self.send_response(200)
        name = "X-Amzn-SageMaker-Custom-Attributes"
        self.send_header(name, self.headers.get(name, ""))
        self.end_headers()
        if self.path == "/v1/stream":
            self.wfile.write(b"data: 1\\n\\n")
            go.wait(60)
            self.wfile.write(b"data: 2\\n\\n")
        self.wfile.write(b"%s %s" % (os.environ["NAME"].encode(), self.path.encode()))
        self.wfile.write(body if len(body) < 100 else b" %d" % len(body))
ThreadingHTTPServer(("127.0.0.1", 9000), Chat).serve_forever()
"""


def variables(source: str, **others: str) -> dict[str, str]:
    """The variables of a container whose program is a Python program."""
    return {**FOLDERS, "PROCESSING_SHIM_PROGRAM": shlex.join([sys.executable, "-c", source]), **others}


def proxy(name: str) -> dict[str, str]:
    return variables(
        CHAT,
        NAME=name,
        PROCESSING_SHIM_PROXY_PORT="9000",
        PROCESSING_SHIM_PROXY_PING="/health",
        PROCESSING_SHIM_PROXY_ROUTES="/v1/chat",
    )


def again(shim_hosting: Any, name: str) -> bytes | None:
    """The answer; None while the shim ends after its program, and may answer 502, 503 or nothing."""
    try:
        answer: bytes = shim_hosting.invoke(name, b"!")
    except shim_hosting.runtime.exceptions.ModelError:
        return None
    return answer


def task(pk: str, key: str) -> dict[str, Any]:
    source = {"relative_path": pk, "bucket_name": "data", "bucket_key": key}
    return {"pk": pk, "inputs": [source], "output_bucket_name": "data", "output_prefix": f"out/{pk}"}


def test_an_endpoint_of_tasks(shim_hosting: Any) -> None:
    """An invocation is a task: its program finds the input, its outputs and its result are in S3."""
    shim_hosting.deploy("tasks", **variables(COUNT))
    result = json.loads(shim_hosting.invoke("tasks", json.dumps(task("one", "in/a"))))
    assert result["return_code"] == 0, result
    assert result["outputs"][0]["bucket_key"] == "out/one/one"
    assert shim_hosting.keys("out/one/")["one"] == b"3 []"
    assert json.loads(shim_hosting.invoke("tasks", json.dumps(task("two", "in/b"))))["return_code"] == 5
    with pytest.raises(shim_hosting.runtime.exceptions.ModelError, match="400"):
        shim_hosting.invoke("tasks", "{}")


def test_two_endpoints_of_web_servers(shim_hosting: Any) -> None:
    """Two endpoints at once, each with a proxy and a program; one whose program dies starts again."""
    for name in ("first", "second"):
        shim_hosting.deploy(name, **proxy(name))
    assert [shim_hosting.invoke(name, b"?") for name in ("first", "second")] == [
        b"first /v1/chat?",
        b"second /v1/chat?",
    ]
    answer = shim_hosting.runtime.invoke_endpoint(EndpointName="first", Body=b"x" * (6 << 20), CustomAttributes="a=b")
    assert answer["Body"].read() == b"first /v1/chat %d" % (6 << 20)
    assert answer["CustomAttributes"] == "a=b"
    with pytest.raises(shim_hosting.runtime.exceptions.ModelError, match=r"\((500|502|503)\)"):
        shim_hosting.invoke("first", b"die")
    shim_hosting.until(lambda: again(shim_hosting, "first") == b"first /v1/chat!")


def test_a_stream_of_one_of_several_routes(shim_hosting: Any) -> None:
    """Custom attributes choose the route, and the pieces of an answer arrive as they are sent."""
    chosen = {"PROCESSING_SHIM_PROXY_ROUTES": "/v1/chat /v1/stream"}
    shim_hosting.deploy("s", **{**proxy("s"), **chosen})
    answer = shim_hosting.runtime.invoke_endpoint_with_response_stream(
        EndpointName="s", Body=b"?", CustomAttributes="route=/v1/stream"
    )
    pieces = (event["PayloadPart"]["Bytes"] for event in answer["Body"])
    assert next(pieces) == b"data: 1\n\n"
    assert shim_hosting.invoke("s", b"go") == b"s /v1/chatgo"
    assert b"".join(pieces) == b"data: 2\n\ns /v1/stream?"
    assert shim_hosting.invoke("s", b"?") == b"s /v1/chat?"


def test_an_endpoint_whose_program_does_not_start(shim_hosting: Any) -> None:
    """The endpoint fails, and its reason has the shim's last line."""
    shim_hosting.config("c", shim_hosting.model("m", **{**proxy("x"), "PROCESSING_SHIM_PROGRAM": "no-such-program"}))
    shim_hosting.sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
    described = shim_hosting.settled("e")
    assert described["EndpointStatus"] == "Failed"
    assert "no-such-program" in described["FailureReason"]


def test_a_transform_job_of_tasks(shim_hosting: Any) -> None:
    """Each line of an object is a task, and the job's output has the results."""
    lines = "\n".join(json.dumps(task(name, f"in/{name}")) for name in "ab")
    shim_hosting.s3.put_object(Bucket="data", Key="tasks/all.jsonl", Body=lines.encode())
    shim_hosting.model("m", **variables(COUNT))
    shim_hosting.sagemaker.create_transform_job(
        TransformJobName="t",
        ModelName="m",
        BatchStrategy="SingleRecord",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/tasks/"}},
            "SplitType": "Line",
            "ContentType": "application/json",
        },
        TransformOutput={"S3OutputPath": "s3://data/results", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    shim_hosting.until(
        lambda: (
            shim_hosting.sagemaker.describe_transform_job(TransformJobName="t")["TransformJobStatus"] != "InProgress"
        )
    )
    results = [json.loads(line) for line in shim_hosting.keys("results/")["all.jsonl.out"].splitlines()]
    assert [(each["pk"], each["return_code"]) for each in results] == [("a", 0), ("b", 5)]


def train(shim_hosting: Any, name: str, channel: str, prefix: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://data/{prefix}"}}
    shim_hosting.sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File"},
        InputDataConfig=[{"ChannelName": channel, "DataSource": source}],
        OutputDataConfig={"S3OutputPath": "s3://data/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        RoleArn="arn:aws:iam::000000000000:role/r",
        HyperParameters=dict(parameters),
        Environment=variables(COUNT),
    )
    shim_hosting.until(
        lambda: shim_hosting.sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] != "InProgress"
    )
    described: dict[str, Any] = shim_hosting.sagemaker.describe_training_job(TrainingJobName=name)
    return described


def test_training_jobs(shim_hosting: Any) -> None:
    """The outputs of the program are the model; the FailureReason has its last lines; tasks come from a channel."""
    assert train(shim_hosting, "good", "numbers", "in/a", {"depth": "3"})["TrainingJobStatus"] == "Completed"
    with tarfile.open(fileobj=io.BytesIO(shim_hosting.keys("models/good/output/")["model.tar.gz"])) as model:
        content = model.extractfile("a")
        assert content is not None
        assert content.read() == b"3 ['--depth', '3']"
    failed = train(shim_hosting, "bad", "numbers", "in/b", {})
    assert failed["TrainingJobStatus"] == "Failed"
    assert "exit code 5" in failed["FailureReason"]
    shim_hosting.s3.put_object(Bucket="data", Key="tasks/1.json", Body=json.dumps([task("one", "in/a")]).encode())
    assert train(shim_hosting, "tasks", "tasks", "tasks/", {})["TrainingJobStatus"] == "Completed"
    assert shim_hosting.keys("out/one/")["one"] == b"3 []"

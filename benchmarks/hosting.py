"""Invocations of an endpoint, its creation, and a transform job, each beside the same program without the engine.

The program answers at once, or takes 15 µs for each line on an idle machine, as a small model does. An invocation may
take 1.5 times the time of the program, plus the time of one Describe call. The kinds alternate. The figures are lower
quartiles, which other work of the machine disturbs less than medians; the time of a creation is a median.

A transform job is measured twice: as a whole, beside the program from its start to its answer, and from its first
request to its end, beside the answer alone.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from figures import Figure, finish, scaled

from processing import LocalSession
from processing.local.transports.server import Server

ROUNDS = scaled(400, 20)
CREATIONS = scaled(10, 2)
TRANSFORMS = scaled(9, 2)
LINES = scaled(10_000, 500)
ROLE = "arn:aws:iam::000000000000:role/benchmark"
BODY = b"0.5,1.5,2.5,3.5\n"
PROGRAM = """
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one write, as real servers do

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Type"] == "text/csv":
            body = b"".join(b"%f\\n" % predicted(line) for line in body.splitlines())
        self.answer(body)

    def log_message(self, *_):
        pass


def predicted(line):
    columns = [float(each) for each in line.split(b",")]
    return sum(column * weight for weight in range(100) for column in columns)


ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
"""


@contextlib.contextmanager
def direct_program(folder: Path) -> Iterator[http.client.HTTPConnection]:
    """Run the program without the engine, and give a kept-alive connection to it."""
    port = 18080 + os.getpid() % 10_000
    environment = {**os.environ, "PORT": str(port)}
    with subprocess.Popen([sys.executable, folder / "benchmark_program.py"], env=environment) as program:
        try:
            yield connected(port)
        finally:
            program.kill()


def connected(port: int) -> http.client.HTTPConnection:
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("GET", "/ping")
            connection.getresponse().read()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return connection


def ask(connection: http.client.HTTPConnection, body: bytes, kind: str = "text/plain") -> bytes:
    connection.request("POST", "/invocations", body, {"Content-Type": kind})
    return connection.getresponse().read()


def seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def settled(sagemaker: Any, name: str) -> None:
    while (status := sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]) == "Creating":
        time.sleep(0.005)
    assert status == "InService"


def delete(sagemaker: Any, name: str) -> None:
    sagemaker.delete_endpoint(EndpointName=name)
    while sagemaker.list_endpoints(NameContains=name)["Endpoints"]:
        time.sleep(0.005)


def invocations(sagemaker: Any, runtime: Any, connection: http.client.HTTPConnection) -> dict[str, float]:
    """Return the times of an invocation, of the program asked directly, and of a Describe call: lower quartiles."""

    def invoke() -> bytes:
        answer: bytes = runtime.invoke_endpoint(EndpointName="e", Body=BODY)["Body"].read()
        return answer

    kinds: dict[str, Callable[[], object]] = {
        "invoke": invoke,
        "direct": lambda: ask(connection, BODY),
        "describe": lambda: sagemaker.describe_endpoint(EndpointName="e"),
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, call in kinds.items():
            times[kind].append(seconds_of(call))
    return {kind: statistics.quantiles(values, n=4)[0] for kind, values in times.items()}


def creations(sagemaker: Any) -> float:
    """Return the median time from CreateEndpoint to InService."""

    def create(name: str) -> None:
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="c")
        settled(sagemaker, name)

    times = []
    for number in range(CREATIONS):
        times.append(seconds_of(lambda name=f"e{number}": create(name)))  # type: ignore[misc]
        delete(sagemaker, f"e{number}")
    return statistics.median(times)


def transforms(sagemaker: Any, s3: Any, logs: Any, folder: Path) -> dict[str, float]:
    """Return the times of a transform job and of its feed, and of the program without the engine: lower quartiles."""
    content = BODY * LINES
    s3.put_object(Bucket="data", Key="in/rows.csv", Body=content)
    times: dict[str, list[float]] = {"job": [], "feed": [], "started": [], "fed": []}
    for number in range(TRANSFORMS):
        times["job"].append(seconds_of(lambda name=f"t{number}": transform(sagemaker, name)))  # type: ignore[misc]
        times["feed"].append(seconds_of_feed(sagemaker, logs, f"t{number}"))
        answer = s3.get_object(Bucket="data", Key=f"out/t{number}/rows.csv.out")["Body"].read()
        begin = time.perf_counter()
        with direct_program(folder) as connection:
            healthy = time.perf_counter()
            fed = ask(connection, content, "text/csv")
            (folder / "rows.csv.out").write_bytes(fed)
            end = time.perf_counter()
        times["started"].append(end - begin)
        times["fed"].append(end - healthy)
        assert fed == answer
    return {kind: statistics.quantiles(values, n=4)[0] for kind, values in times.items()}


def seconds_of_feed(sagemaker: Any, logs: Any, name: str) -> float:
    """Return the time from the line about a job's settings, which precedes its first request, to its end."""
    lines = logs.filter_log_events(logGroupName="/aws/sagemaker/TransformJobs", logStreamNamePrefix=f"{name}/")[
        "events"
    ]
    began: float = next(line["timestamp"] for line in lines if "MaxConcurrentTransforms" in line["message"]) / 1000
    ended: float = sagemaker.describe_transform_job(TransformJobName=name)["TransformEndTime"].timestamp()
    return ended - began


def transform(sagemaker: Any, name: str) -> None:
    sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName="m",
        BatchStrategy="MultiRecord",
        MaxConcurrentTransforms=1,
        MaxPayloadInMB=6,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": f"s3://data/out/{name}", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    while sagemaker.describe_transform_job(TransformJobName=name)["TransformJobStatus"] == "InProgress":
        time.sleep(0.005)


@contextlib.contextmanager
def http_clients(session: LocalSession) -> Iterator[tuple[Any, Any]]:
    """Give clients of SageMaker and of its runtime over HTTP."""
    with Server(session.engine) as server:
        keys = server.environment()
        options: dict[str, Any] = {
            "endpoint_url": server.endpoint,
            "region_name": keys["AWS_REGION"],
            "aws_access_key_id": keys["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": keys["AWS_SECRET_ACCESS_KEY"],
        }
        yield boto3.client("sagemaker", **options), boto3.client("sagemaker-runtime", **options)


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # the engine may write until the end
        folder = Path(name)
        (folder / "benchmark_program.py").write_text(PROGRAM)
        sys.path.append(name)
        session = LocalSession(folder / "engine", programs={"*": "benchmark_program"})
        sagemaker, runtime, s3, logs = (
            session.boto_session.client(service) for service in ("sagemaker", "sagemaker-runtime", "s3", "logs")
        )
        s3.create_bucket(Bucket="data")
        sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": "image"}, ExecutionRoleArn=ROLE)
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
        settled(sagemaker, "e")
        with direct_program(folder) as connection:
            inside = invocations(sagemaker, runtime, connection)
            with http_clients(session) as (http_sagemaker, http_runtime):
                outside = invocations(http_sagemaker, http_runtime, connection)
        created = creations(sagemaker)
        transformed = transforms(sagemaker, s3, logs, folder)
        delete(sagemaker, "e")
    figures = []
    for place, found in (("in process", inside), ("over HTTP", outside)):
        ratio = found["invoke"] / (1.5 * found["direct"] + found["describe"])
        note = ", ".join(f"{kind} {value * 1e3:.2f} ms" for kind, value in found.items())
        figures.append(Figure(f"InvokeEndpoint {place} / (1.5 direct + Describe)", ratio, 1, "", note))
    figures.append(Figure("CreateEndpoint to InService", created, 1.0, "s", f"median of {CREATIONS}"))
    for ours, peer, limit in (("feed", "fed", 1.5), ("job", "started", 1.5)):
        note = f"{transformed[ours]:.2f} s and {transformed[peer]:.2f} s for {LINES} lines"
        name = f"transform job: {ours} / program {peer} directly"
        figures.append(Figure(name, transformed[ours] / transformed[peer], limit, "", note))
    finish(figures)


if __name__ == "__main__":
    main()

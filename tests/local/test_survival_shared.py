"""One engine folder with many processes, and with a full disk: no data is lost, and every error has its reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processing.local.engine import Engine
from processing.local.stores.metrics import Metric, MetricStore

ROOT = Path(__file__).parents[2]
GROUP = "/aws/sagemaker/ProcessingJobs"

MIXED = r"""
import pathlib, random, sys, time
from processing.local.engine import Engine
from processing.local.errors import ApiError
from processing.local.settings import EngineSettings

home, me = pathlib.Path(sys.argv[1]), int(sys.argv[2])
random.seed(me)
engine = Engine(home, EngineSettings(tick=0.01, sandbox="rewriting"))

def call(service, operation, **params):
    return engine.handle(service, operation, params)

def job(name):
    call("sagemaker", "CreateProcessingJob", ProcessingJobName=name, RoleArn="arn:aws:iam::000000000000:role/x",
         AppSpecification={"ImageUri": "i", "ContainerEntrypoint": ["/bin/sh", "-c", "echo ran"]},
         ProcessingResources={"ClusterConfig": {"InstanceCount": 1, "InstanceType": "local", "VolumeSizeInGB": 1}})

queue = call("sqs", "CreateQueue", QueueName="shared")["QueueUrl"]
won = 0
for turn in range(30):
    call("s3", "PutObject", Bucket="data", Key=f"{me}/{turn}", Body=b"x" * 3000)
    call("s3", "PutObject", Bucket="data", Key="everybody", Body=bytes([me]) * 5000)
    call("logs", "PutLogEvents", logGroupName="all", logStreamName=str(me),
         logEvents=[{"timestamp": int(time.time() * 1000), "message": f"{me}/{turn}"}])
    call("cloudwatch", "PutMetricData", Namespace="all", MetricData=[{"MetricName": "turns", "Value": 1.0}])
    call("sqs", "SendMessage", QueueUrl=queue, MessageBody=f"{me}/{turn}")
    body = call("s3", "GetObject", Bucket="data", Key="everybody")["Body"]
    content = body.read()
    body.close()
    assert len(content) == 5000 and len(set(content)) == 1, "two writers in one object"
    if turn % 10 == 0:
        job(f"mine-{me}-{turn}")
        try:
            job(f"shared-{turn}")
            won += 1
        except ApiError as error:
            assert error.code == "ResourceInUse", error
    if turn % 15 == 7:
        call("sagemaker", "ListProcessingJobs", MaxResults=100)
        engine.clean(older_than="1h")
print(won)
"""


def test_eight_processes_share_a_folder(tmp_path: Path) -> None:
    """All services at once, and cleaning between them: each process's data exists, and shared names had one winner."""
    engine = Engine(tmp_path / "engine")
    engine.objects.create_bucket("data")
    for number in range(8):
        engine.logs.append("all", str(number), [])
    command = [sys.executable, "-c", MIXED, str(engine.home)]
    processes = [subprocess.Popen([*command, str(n)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for n in range(8)]
    answers = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert sum(map(int, answers)) == 3
    keys = {record.key for record in engine.objects.iter_prefix("data")}
    assert keys == {"everybody"} | {f"{number}/{turn}" for number in range(8) for turn in range(30)}
    for number in range(8):
        said = [event.message for event in engine.logs.read("all", str(number), from_head=True).events]
        assert said == [f"{number}/{turn}" for turn in range(30)]
    jobs = engine.handle("sagemaker", "ListProcessingJobs", {"MaxResults": 100})["ProcessingJobSummaries"]
    assert len(jobs) == 8 * 3 + 3
    (turns,) = MetricStore(engine.home).summarize(Metric("all", "turns"), 0, 1e10, 10**11)
    assert (turns.number, turns.sum) == (240, 240)
    queue = {"QueueUrl": engine.handle("sqs", "GetQueueUrl", {"QueueName": "shared"})["QueueUrl"]}
    names = {"AttributeNames": ["ApproximateNumberOfMessages"]}
    attributes = engine.handle("sqs", "GetQueueAttributes", queue | names)["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == "240"


FULL = r"""
import os, pathlib, sys
import processing

home = pathlib.Path(sys.argv[1]) / "engine"
session = processing.LocalSession(home)
engine = session.engine
engine.check()
engine.objects.create_bucket("data")
for number in range(20):
    engine.objects.put("data", f"kept/{number}", b"k" * 10_000)
engine.logs.append("g", "s", [(number, "line") for number in range(100)])

def fill():
    with (pathlib.Path(sys.argv[1]) / "ballast").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

fill()
client = session.boto_session.client("s3")
said = set()
for attempt in (
    lambda: engine.objects.put("data", "large", b"x" * 300_000),
    lambda: [engine.objects.put("data", f"more/{n}", b"") for n in range(3000)],
    lambda: [engine.logs.append("g", "s", [(1000, "y" * 100_000)]) for _ in range(100)],
    lambda: client.put_object(Bucket="data", Key="large", Body=b"x" * 300_000),
):
    try:
        attempt()
    except Exception as error:
        said.add(getattr(error, "code", None) or error.response["Error"]["Code"])
        text = str(error)
        assert "no space left on the disk" in text, text
assert said == {"InsufficientStorage"}, said

# Everything that was there still is, and reading goes on.
for number in range(20):
    assert client.get_object(Bucket="data", Key=f"kept/{number}")["Body"].read() == b"k" * 10_000
assert len(engine.logs.filter("g")[0]) >= 100

# Another session reads, too: the files that SQLite works with exist while this one has the folder open.
other = processing.LocalSession(home).engine
other.check()
assert other.objects.get("data", "kept/0").size == 10_000

# Cleaning works on a full disk, and makes room.
os.truncate(pathlib.Path(sys.argv[1]) / "ballast", os.stat(pathlib.Path(sys.argv[1]) / "ballast").st_size - 200_000)
fill_again = session.clean(older_than=0)
assert fill_again.objects >= 20, fill_again
engine.objects.put("data", "again", b"x" * 100_000)
assert engine.objects.get("data", "again").size == 100_000
left = [name for name in os.listdir(home / "incoming")]
assert left == [], left
print("fine")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a small file system of its own")
def test_a_full_disk_loses_nothing_and_is_an_error(tmp_path: Path) -> None:
    """Writes are refused with that reason, existing data can be read, and cleaning frees space."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    unshare = [shutil.which("unshare") or "unshare", *user, "-m"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives nobody a file system of its own")
    mount = 'mount -t tmpfs -o size=4m none "$1" && exec "$2" -c "$3" "$1"'
    command = [*unshare, "sh", "-c", mount, "sh", str(tmp_path), sys.executable, FULL]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert done.stdout == "fine\n", done.stderr


def test_a_folder_that_becomes_read_only_is_said(tmp_path: Path) -> None:
    """Reading goes on where it can; a write is an EngineError that names the folder."""
    code = (
        "import pathlib, subprocess, sys, processing\n"
        "home = sys.argv[1]\n"
        "session = processing.LocalSession(home)\n"
        "session.engine.objects.create_bucket('data')\n"
        "session.engine.objects.put('data', 'k', b'x')\n"
        "session.engine.check()\n"
        "subprocess.run(['mount', '--bind', home, home], check=True)\n"
        "subprocess.run(['mount', '-o', 'remount,bind,ro', home], check=True)\n"
        "def told(attempt):\n"
        "    try:\n"
        "        attempt()\n"
        "    except processing.EngineError as error:\n"
        "        print(error)\n"
        "fresh = processing.local.engine.ObjectStore(pathlib.Path(home), now=lambda: 4e9)\n"
        "assert fresh.touch('data', 'k').size == 1\n"
        "told(lambda: fresh.create_bucket('more'))\n"
        "told(lambda: processing.LocalSession(home))\n"
    )
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    unshare = [shutil.which("unshare") or "unshare", *user, "-m"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives nobody a file system of its own")
    command = [*unshare, sys.executable, "-c", code, str(tmp_path / "engine")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert f"in its folder {tmp_path / 'engine'}: it cannot be written to (attempt to write a readonly" in first
    assert "its file system is mounted read-only" in second

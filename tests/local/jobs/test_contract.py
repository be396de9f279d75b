"""The container contract beyond one program and its files: several hosts, the flow of logs, and ends."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from processing.local.stores.jobs import HostEnd, JobStore

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "import json\nhost = json.load(open('/opt/ml/config/resourceconfig.json'))['current_host']\n"

TALK = """
import json, socket, sys, threading, time
resources = json.load(open('/opt/ml/config/resourceconfig.json'))
me, port = resources['current_host'], int(sys.argv[1])
others = [host for host in resources['hosts'] if host != me]
server = socket.create_server((me, port))

def answer():
    for _ in others:
        peer, _ = server.accept()
        with peer:
            peer.sendall(me.encode() + b' to ' + peer.recv(100))

answering = threading.Thread(target=answer)
answering.start()
for other in others:
    while True:
        try:
            talk = socket.create_connection((other, port))
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    talk.sendall(me.encode())
    print(talk.recv(100).decode(), flush=True)
answering.join()
print(socket.gethostname(), socket.gethostbyname(me), flush=True)
"""


def _free_port(hosts: int) -> int:
    """A port that is free at the addresses of so many hosts."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(socket.create_server(("127.0.1.1", 0)))
        port: int = first.getsockname()[1]
        for number in range(2, hosts + 1):
            stack.enter_context(socket.create_server((f"127.0.1.{number}", port)))
        return port


@pytest.mark.parametrize("sandbox", ["bubblewrap", "namespaces"])
def test_hosts_talk_to_each_other_by_name(make_jobs: Callable[..., Any], sandbox: str) -> None:
    """Every host listens at the same port of its own name, and each reaches all others there."""
    jobs = make_jobs(sandbox=sandbox)
    described = jobs.run(TALK, name="talk", hosts=3, arguments=[str(_free_port(3))])
    assert described["ProcessingJobStatus"] == "Completed", jobs.lines("talk")
    assert jobs.lines("talk", host=2) == ["algo-1 to algo-2", "algo-3 to algo-2", "algo-2 127.0.1.2"]


@pytest.mark.parametrize("sandbox", ["bubblewrap", "namespaces"])
def test_an_isolated_host_reaches_nobody(make_jobs: Callable[..., Any], sandbox: str) -> None:
    """With network isolation there is neither this machine's loopback nor any route; its own loopback works."""
    jobs = make_jobs(sandbox=sandbox)
    with socket.create_server(("127.0.0.1", 0)) as outside:
        script = (
            "import socket, sys\n"
            "for address in (('127.0.0.1', int(sys.argv[1])), ('192.0.2.1', 80)):\n"
            "    try:\n"
            "        socket.create_connection(address, 5)\n"
            "        print('reached')\n"
            "    except OSError as error:\n"
            "        print(type(error).__name__, error.errno)\n"
            "server = socket.create_server(('127.0.0.1', 0))\n"
            "socket.create_connection(server.getsockname())\n"
            "print(*sorted(name for _, name in socket.if_nameindex() if name.startswith(('lo', 'e', 'w'))))\n"
        )
        described = jobs.run(
            script,
            name="isolated",
            arguments=[str(outside.getsockname()[1])],
            NetworkConfig={"EnableNetworkIsolation": True},
        )
    assert described["ProcessingJobStatus"] == "Completed", jobs.lines("isolated")
    assert jobs.lines("isolated") == ["ConnectionRefusedError 111", "OSError 101", "lo"]


def test_isolation_that_cannot_be_had_is_a_warning(
    make_jobs: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Under rewriting the job runs with the network, and a warning is logged."""
    jobs = make_jobs(sandbox="rewriting")
    described = jobs.run("pass", NetworkConfig={"EnableNetworkIsolation": True})
    assert described["ProcessingJobStatus"] == "Completed"
    assert "The rewriting sandbox cannot keep a job from the network." in caplog.text


def test_the_configuration_is_the_request_with_nulls(jobs: Any) -> None:
    """processingjobconfig.json has every member of the request, null where it was not given."""
    script = "print(open('/opt/ml/config/processingjobconfig.json').read())\n"
    request = jobs.request(script, name="config", arguments=["x"], outputs={"out": "s3://data/out"})
    jobs.call("CreateProcessingJob", **request)
    assert jobs.wait("config")["ProcessingJobStatus"] == "Completed"
    (line,) = jobs.lines("config")
    assert json.loads(line) == {
        "ProcessingJobArn": "arn:aws:sagemaker:us-east-1:000000000000:processing-job/config",
        "ProcessingJobName": "config",
        "AppSpecification": {
            "ImageUri": "image",
            "ContainerEntrypoint": ["python3", "/opt/ml/processing/code/script.py"],
            "ContainerArguments": ["x"],
        },
        "Environment": None,
        "ProcessingInputs": [
            {
                "InputName": "code",
                "AppManaged": False,
                "S3Input": {
                    "LocalPath": "/opt/ml/processing/code",
                    "S3Uri": "s3://data/code/config/script.py",
                    "S3DataDistributionType": "FullyReplicated",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                    "S3CompressionType": "None",
                    "S3DownloadMode": "StartOfJob",
                },
                "DatasetDefinition": None,
            }
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "out-out",
                    "AppManaged": False,
                    "S3Output": {
                        "LocalPath": "/opt/ml/processing/out",
                        "S3Uri": "s3://data/out",
                        "S3UploadMode": "EndOfJob",
                    },
                    "FeatureStoreOutput": None,
                }
            ],
            "KmsKeyId": None,
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": "ml.m5.large",
                "VolumeSizeInGB": 30,
                "VolumeKmsKeyId": None,
            }
        },
        "NetworkConfig": None,
        "RoleArn": "arn:aws:iam::000000000000:role/local",
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "ExperimentConfig": None,
    }


def test_the_reason_names_the_host_that_failed_first(jobs: Any) -> None:
    """A host that fails later, because it was stopped, does not replace the first one."""
    script = HOST + (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "print('up', flush=True)\n"
        "if host == 'algo-3':\n"
        "    sys.exit(3)\n"
        "time.sleep(600)\n"
    )
    described = jobs.run(script, hosts=3)
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"] == (
        "AlgorithmError: See job logs for more information, exit code: 3, host: algo-3"
    )


def test_a_host_that_failed_first_is_named_although_it_ends_last(jobs: Any) -> None:
    """The time of the program's failure counts, not the time of its upload."""
    store = JobStore(jobs.home)
    request = jobs.request("pass", name="order")
    record = store.create(request, arn="arn", folder="jobs/order", plan={}, hosts=2, tags={}, now=1.0)
    store.record_host_end(record.id, 2, HostEnd("failed", 2, "second", ended=20.0), 21.0)
    store.record_host_end(record.id, 1, HostEnd("failed", 1, "first", ended=10.0), 30.0)
    described = jobs.describe("order")
    assert described["FailureReason"] == "first, host: algo-1"
    assert described["ProcessingEndTime"].timestamp() == 30.0


def test_a_host_that_has_ended_well_does_not_hide_one_that_fails(jobs: Any, tmp_path: Any) -> None:
    """The job fails although its first host was done long before."""
    script = HOST + (
        "import os, sys, time\n"
        "if host == 'algo-2':\n"
        "    while not os.path.exists(sys.argv[1]):\n"
        "        time.sleep(0.005)\n"
        "    sys.exit(5)\n"
    )
    gate = tmp_path / "gate"
    name = jobs.create(script, hosts=2, arguments=[str(gate)])
    store = JobStore(jobs.home)
    job = store.get(name).id
    jobs.until(lambda: store.hosts(job)[0].outcome == "completed")
    assert jobs.describe(name)["ProcessingJobStatus"] == "InProgress"
    gate.touch()
    assert jobs.wait(name)["FailureReason"].endswith("exit code: 5, host: algo-2")


def test_a_long_reason_still_names_the_host(jobs: Any, tmp_path: Any) -> None:
    """FailureReason has 1,024 characters at most; it is the reason that is cut, not the host's name."""
    source = "file:///" + "/".join(["d" * 200] * 4)
    missing = {"S3Uri": source + "/é" * 80, "S3DataType": "S3Prefix"}
    described = jobs.run("pass", hosts=2, inputs={"in": missing})
    assert len(described["FailureReason"]) <= 1024
    assert described["FailureReason"].startswith("ClientError: there is no file or directory /ddd")
    assert described["FailureReason"].endswith((", host: algo-1", ", host: algo-2"))


def test_an_exit_message_is_cut_between_characters(jobs: Any) -> None:
    """Of a longer message the first kilobyte is kept, without the half of a character."""
    described = jobs.run("open('/opt/ml/output/message', 'w').write('é' * 300 + 'x' + 'é' * 600)\n")
    assert described["ExitMessage"] == "é" * 300 + "x" + "é" * 211


def test_continuous_files_arrive_whatever_way_they_were_written(jobs: Any) -> None:
    """Renamed into place, replaced by one of the same size and time, in new directories: each arrives as it is."""
    script = (
        "import os, sys, time\n"
        "root, gate = sys.argv[1:]\n"
        "def write(name, text):\n"
        "    with open(root + '/.part', 'w') as file:\n"
        "        file.write(text)\n"
        "    os.utime(root + '/.part', (1, 1))\n"
        "    os.makedirs(os.path.dirname(root + '/' + name), exist_ok=True)\n"
        "    os.rename(root + '/.part', root + '/' + name)\n"
        "write('replaced', 'one')\n"
        "write('deep/er/new', 'new')\n"
        "open(root + '/gone', 'w').write('gone')\n"
        "print('up', flush=True)\n"
        "while not os.path.exists(gate):\n"
        "    time.sleep(0.005)\n"
        "write('replaced', 'two')\n"
        "os.remove(root + '/gone')\n"
        "print('again', flush=True)\n"
        "time.sleep(600)\n"
    )
    name = jobs.create(
        script,
        arguments=["/opt/ml/processing/out", "/opt/ml/processing/out/gate"],
        outputs={"out": "s3://data/flow"},
        upload="Continuous",
    )
    jobs.until(lambda: jobs.keys("flow/") == ["flow/deep/er/new", "flow/gone", "flow/replaced"])
    assert jobs.text("flow/replaced") == "one"
    (out,) = jobs.home.glob("jobs/*/algo-1/ml/processing/out")
    (out / "gate").touch()
    jobs.until(lambda: jobs.text("flow/replaced") == "two")
    jobs.stop(name)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"
    assert jobs.text("flow/gone") == "gone"


def test_hundreds_of_continuous_files_arrive(jobs: Any) -> None:
    """All of them, once each, and the job ends as it should."""
    script = (
        "import os\n"
        "for number in range(500):\n"
        "    os.makedirs(f'/opt/ml/processing/out/{number % 20}', exist_ok=True)\n"
        "    open(f'/opt/ml/processing/out/{number % 20}/{number}', 'w').write(str(number))\n"
    )
    described = jobs.run(script, outputs={"out": "s3://data/many"}, upload="Continuous")
    assert described["ProcessingJobStatus"] == "Completed", described
    assert len(jobs.keys("many/")) == 500


@pytest.mark.parametrize("kind", ["local", "local_gpu"])
def test_this_machine_is_an_instance_type(jobs: Any, kind: str) -> None:
    """`local` and `local_gpu` are taken; a job sees the devices that there are."""
    cluster = {"InstanceCount": 1, "InstanceType": kind, "VolumeSizeInGB": 1}
    script = "import glob\nprint(sorted(glob.glob('/dev/nvidia*')))\n"
    name = jobs.create(script, ProcessingResources={"ClusterConfig": cluster})
    described = jobs.wait(name)
    assert described["ProcessingJobStatus"] == "Completed", described
    assert described["ProcessingResources"]["ClusterConfig"]["InstanceType"] == kind
    assert jobs.lines(name) == [str(sorted(map(str, Path("/dev").glob("nvidia*"))))]

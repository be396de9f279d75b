"""A job's own boto3, and any other client, reaches the engine without a setting."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from processing.local.jobs import host_processes as hosts
from processing.local.jobs.gateway import Gateway
from processing.local.jobs.host_services import HostServices
from processing.local.limits import ResourceLimits

if TYPE_CHECKING:
    import pytest

WHO = "import boto3\nprint(boto3.client('sts').get_caller_identity()['Arn'])\n"
CONNECT = (
    "import os, socket, time\n"
    "from urllib.parse import urlsplit\n"
    "where = urlsplit(os.environ['AWS_ENDPOINT_URL'])\n"
    "connection = socket.create_connection((where.hostname, where.port))\n"
    "connection.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
    "print(where.port, connection.recv(12).decode(), flush=True)\n"
)


def _serves(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_boto3_in_a_job_is_the_role_on_this_engine(own_programs: Any) -> None:
    """Without any setting it reads and writes the engine's objects, as the job's role."""
    jobs = own_programs
    jobs.objects.put("data", "before", b"from outside")
    script = WHO + (
        "s3 = boto3.client('s3')\n"
        "print(s3.get_object(Bucket='data', Key='before')['Body'].read().decode())\n"
        "s3.put_object(Bucket='data', Key='made', Body=b'from inside')\n"
    )
    described = jobs.run(script, name="inside", RoleArn="arn:aws:iam::000000000000:role/team/etl")
    assert described["ProcessingJobStatus"] == "Completed", jobs.lines("inside")
    assert jobs.lines("inside") == ["arn:aws:sts::000000000000:assumed-role/etl/SageMaker", "from outside"]
    assert jobs.text("made") == "from inside"


def test_every_host_has_its_own_gateway(jobs: Any) -> None:
    """Hosts of one job use the same engine through ports of their own."""
    script = (
        "import boto3, json, os\n"
        "host = json.load(open('/opt/ml/config/resourceconfig.json'))['current_host']\n"
        "boto3.client('s3').put_object(Bucket='data', Key='hosts/' + host, Body=os.environ['AWS_ENDPOINT_URL'])\n"
    )
    described = jobs.run(script, hosts=2)
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.keys("hosts/") == ["hosts/algo-1", "hosts/algo-2"]
    assert jobs.text("hosts/algo-1") != jobs.text("hosts/algo-2")


def test_a_job_creates_a_job(own_programs: Any) -> None:
    """A job that was created from within a job runs like any other, outlives it, and has a gateway, too."""
    jobs = own_programs
    inner = jobs.request(WHO + "boto3.client('s3').put_object(Bucket='data', Key='inner', Body=b'x')\n", name="inner")
    script = (
        "import boto3, json, sys\nboto3.client('sagemaker').create_processing_job(**json.load(open(sys.argv[1])))\n"
    )
    jobs.objects.put("data", "requests/inner.json", json.dumps(inner).encode())
    described = jobs.run(
        script,
        name="outer",
        inputs={"requests": "s3://data/requests/"},
        arguments=["/opt/ml/processing/requests/inner.json"],
    )
    assert described["ProcessingJobStatus"] == "Completed", jobs.lines("outer")
    assert jobs.wait("inner")["ProcessingJobStatus"] == "Completed", jobs.lines("inner")
    assert jobs.keys("inner") == ["inner"]


def test_the_package_itself_works_in_a_job(jobs: Any) -> None:
    """Its Session goes to AWS_ENDPOINT_URL like any other client of boto3."""
    root = Path(__file__).parents[3]
    script = (
        f"import sys\nsys.path.append({str(root)!r})\nimport processing\nprint(processing.Session().account_id())\n"
    )
    described = jobs.run(script, name="session")
    assert described["ProcessingJobStatus"] == "Completed", jobs.lines("session")
    assert jobs.lines("session") == ["000000000000"]


def test_a_job_without_network_has_no_gateway(every_sandbox: Any) -> None:
    """With network isolation there are neither keys nor an endpoint."""
    jobs = every_sandbox
    script = "import os\nprint(sorted(name for name in os.environ if 'ENDPOINT_URL' in name or 'KEY' in name))\n"
    described = jobs.run(script, name="alone", NetworkConfig={"EnableNetworkIsolation": True})
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("alone") == ["[]"]


def test_the_requests_own_variables_win(jobs: Any) -> None:
    """The variables of the request's Environment win; its own keys get no part of the role's."""
    script = (
        "import os\n"
        "print(os.environ['AWS_ENDPOINT_URL'], os.environ['AWS_ACCESS_KEY_ID'], 'AWS_SESSION_TOKEN' in os.environ)\n"
    )
    name = jobs.create(script, Environment={"AWS_ENDPOINT_URL": "http://elsewhere", "AWS_ACCESS_KEY_ID": "mine"})
    jobs.wait(name)
    assert jobs.lines(name) == ["http://elsewhere mine False"]


def test_nothing_is_started_for_a_job_that_does_not_connect(jobs: Any) -> None:
    """The port is there, but no process behind it."""
    name = jobs.create("import time\nprint('up')\ntime.sleep(600)\n")
    jobs.until(lambda: jobs.lines(name) == ["up"])
    assert _servers(hosts._children[-1].pid) == []
    jobs.stop(name)
    jobs.wait(name)


def test_the_gateway_is_gone_with_the_job(every_sandbox: Any) -> None:
    """It answers while the job runs, refuses requests without a key, and its port is closed afterwards."""
    jobs = every_sandbox
    name = jobs.create(CONNECT)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Completed", jobs.lines(name)
    port, answer = jobs.lines(name)[0].split(" ", 1)
    assert answer == "HTTP/1.1 403"
    assert not _serves(int(port))


def test_the_gateway_dies_with_a_killed_supervisor(jobs: Any) -> None:
    """kill -9 of the supervisor leaves no process behind that serves."""
    name = jobs.create(CONNECT + "time.sleep(600)\n")
    jobs.until(lambda: len(jobs.lines(name)) == 1)
    port = int(jobs.lines(name)[0].split()[0])
    assert _serves(port)
    supervisor = hosts._children[-1]
    (server,) = _servers(supervisor.pid)
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    jobs.until(lambda: not _serves(port))
    jobs.until(lambda: not _runs(server))
    assert jobs.wait(name)["ProcessingJobStatus"] == "Failed"


def test_a_server_that_cannot_start_says_why_in_the_log_of_the_job(
    jobs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its last words and its end are lines of the job's log; the job's connection is ended, and does not wait."""
    broken = tmp_path / "broken" / "attrs"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('this attrs is broken')\n")
    monkeypatch.syspath_prepend(str(broken.parent))
    name = jobs.create(CONNECT)
    jobs.wait(name)
    lines = jobs.lines(name)
    assert "ImportError: this attrs is broken" in lines
    assert "The local engine cannot be reached from this job any more: its server ended with exit code 1" in lines


def test_a_killed_server_is_replaced(jobs: Any) -> None:
    """The next connection starts another one; the job's log records the kill."""
    again = "while not os.path.exists(sys.argv[1]):\n    time.sleep(0.005)\n"
    connect = CONNECT.partition("connection = ")[1] + CONNECT.partition("connection = ")[2]
    name = jobs.create(
        f"import sys\n{CONNECT}{again}{connect}",
        arguments=["/opt/ml/processing/out/gate"],
        outputs={"out": "s3://data/out"},
    )
    jobs.until(lambda: len(jobs.lines(name)) == 1)
    (server,) = _servers(hosts._children[-1].pid)
    os.kill(server, signal.SIGKILL)
    killed = "The local engine's server for this job was killed (signal 9): the next connection starts another one"
    jobs.until(lambda: killed in jobs.lines(name))
    (out,) = jobs.home.glob("jobs/*/algo-1/ml/processing/out")
    (out / "gate").touch()
    assert jobs.wait(name)["ProcessingJobStatus"] == "Completed", jobs.lines(name)
    first, _, second = jobs.lines(name)
    assert first == second


def _runs(pid: int) -> bool:
    """Return whether a process has not ended; that of a zombie has."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def _servers(supervisor: int) -> list[int]:
    """Return the children of a supervisor that are gateways' servers."""
    tasks = Path(f"/proc/{supervisor}/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return [child for child in children if b"gateway import serve" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_lines_are_taken_while_the_gateway_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that restarts a program may close the gateway at any moment of the look for its lines."""
    found: list[Any] = []
    gone_after_a_look = property(lambda _: found.pop() if found else None, lambda _, value: found.append(value))
    monkeypatch.setattr(HostServices, "_gateway", gone_after_a_look, raising=False)
    plan: Any = SimpleNamespace(limits=ResourceLimits(), memory=None, sample=60.0, gateway=None)
    services = HostServices(tmp_path, tmp_path, {}, 0, plan, 1, "namespace")
    options: Any = None  # it serves no connection
    gateway = services._gateway = Gateway(tmp_path, options)
    assert services.take_lines() == []
    gateway.close()

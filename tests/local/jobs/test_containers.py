"""Images that really run: the image's part, the job's part, and the removal of every container.

Podman runs here. The same code makes docker's command line, which is only compared.
"""

from __future__ import annotations

import io
import os
import shlex
import signal
import socket
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from processing import LocalSession, Processor
from processing.exceptions import ConfigurationError, EngineError
from processing.local import processes, sandboxes
from processing.local.limits import OUT_OF_MEMORY
from processing.local.sandboxes import container
from processing.local.sandboxes.base import Bind, HostSpec, container_key
from processing.local.sandboxes.container import Container
from processing.local.settings import CONTAINER_OPTIONS_VARIABLE, EngineSettings
from processing.local.stores.jobs import HostEnd, JobStore
from processing.local.stores.metrics import Metric, MetricStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAY_AND_SLEEP = "echo up; while true; do sleep 1; done"


@pytest.fixture
def jobs(make_jobs: Callable[..., Any], containers: Any) -> Iterator[Any]:
    """An engine whose jobs run in containers; at the end no container is left."""
    engine = make_jobs(
        sandbox="container", container_program=containers.program, container_options=containers.options, grace=0.5
    )
    yield engine
    engine.until(lambda: not containers.names())


def _create(jobs: Any, image: str = "busybox:1", **options: Any) -> str:
    request = jobs.request(**options)
    request["AppSpecification"]["ImageUri"] = image
    jobs.call("CreateProcessingJob", **request)
    return str(request["ProcessingJobName"])


def _lines(jobs: Any, **options: Any) -> list[str]:
    """Run a job that has to complete, and return its log lines."""
    name = _create(jobs, **options)
    described = jobs.wait(name)
    assert described["ProcessingJobStatus"] == "Completed", described
    lines: list[str] = jobs.lines(name)
    return lines


def _failure(jobs: Any, **options: Any) -> str:
    described = jobs.wait(_create(jobs, **options))
    assert described["ProcessingJobStatus"] == "Failed"
    return str(described["FailureReason"])


def _shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


# --- what runs


@pytest.mark.parametrize(
    ("entrypoint", "arguments", "expected"),
    [
        (None, [], "entry command"),
        (None, ["one", "two words"], "entry one two words"),
        (["/bin/echo"], [], ""),
        (["/bin/echo", "own"], [], "own"),
        (["/bin/echo", "own"], ["[1]"], "own [1]"),
    ],
)
def test_entrypoint_and_arguments_follow_dockers_rules(
    jobs: Any, entrypoint: list[str] | None, arguments: list[str], expected: str
) -> None:
    """Arguments replace the image's command; an entrypoint replaces the image's, and clears its command."""
    assert _lines(jobs, entrypoint=entrypoint, arguments=arguments) == [expected or " "]


def test_user_directory_and_variables_are_the_images(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine comes in between: neither its PATH nor its variables."""
    monkeypatch.setenv("MACHINE_SECRET", "hidden")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hidden@127.0.0.1:1")
    lines = _lines(jobs, entrypoint=_shell("id -u; id -g; pwd; hostname; env"))
    assert lines[:4] == ["1234", "1234", "/work", "algo-1"]
    assert "GREETING=hello" in lines
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in lines
    assert "hidden" not in "\n".join(lines)
    assert not [line for line in lines if line.startswith(("PYTHON", "VIRTUAL_ENV", "TMPDIR"))]


@pytest.mark.parametrize("name", ["TOKEN", "PATH", "CONTAINERS_CONF", "https_proxy"])
def test_a_jobs_variable_arrives_whatever_its_name_and_value(jobs: Any, name: str) -> None:
    """Also one that would have meant something to podman, and one with line breaks; it wins over the image's."""
    value = "/bin a=\"b'c\n# $HOME \\ *"
    lines = _lines(jobs, entrypoint=["/bin/sh", "-c", f'echo "${name}"'], Environment={name: value, "GREETING": ""})
    assert lines == value.split("\n")


def test_a_user_of_the_image_reads_inputs_and_writes_outputs(jobs: Any, tmp_path: Path) -> None:
    """Copied and in place, with message and configuration. The job's files are removed, with any owner."""
    jobs.objects.put("data", "in/a.csv", b"1")
    place = tmp_path / "odd, place: here"
    place.mkdir()
    (place / "b").write_text("2")
    script = (
        "cat /opt/ml/processing/in/a.csv /opt/ml/processing/place/b > /opt/ml/processing/out/sum;"
        "mkdir -m 700 /opt/ml/processing/out/own; echo private > /opt/ml/processing/out/own/file;"
        "echo said > /opt/ml/output/message; touch /opt/ml/processing/place/c; echo $?; cat /opt/ml/config/*.json"
    )
    name = _create(
        jobs,
        entrypoint=_shell(script),
        inputs={"in": "s3://data/in", "place": f"file://{place}"},
        outputs={"out": "s3://data/out"},
    )
    described = jobs.wait(name)
    assert described["ProcessingJobStatus"] == "Completed", described
    assert described["ExitMessage"] == "said\n"
    assert jobs.text("out/sum") == "12"
    assert jobs.text("out/own/file") == "private\n"
    lines = jobs.lines(name)
    assert any("Read-only" in line for line in lines)
    assert '"current_host": "algo-1"' in "".join(lines)
    assert [path.name for path in place.iterdir()] == ["b"]
    jobs.check_nothing_left()


def test_an_image_trains_with_its_own_command(jobs: Any) -> None:
    """It gets the word `train`. With an entrypoint of the request it does not; the model of its user is in S3."""
    entrypoint = _shell("mkdir -m 700 /opt/ml/model/own; echo 1 > /opt/ml/model/own/file; cat /opt/ml/input/data/in/a")
    jobs.objects.put("data", "in/a", b"1")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}}
    lines = []
    for name, words in (("image", {}), ("own", {"ContainerEntrypoint": entrypoint})):
        jobs.call(
            "CreateTrainingJob",
            TrainingJobName=name,
            RoleArn="arn:aws:iam::000000000000:role/local",
            AlgorithmSpecification={"TrainingImage": "busybox:1", "TrainingInputMode": "File", **words},
            InputDataConfig=[{"ChannelName": "in", "DataSource": source}],
            OutputDataConfig={"S3OutputPath": "s3://data/out"},
            ResourceConfig={"InstanceType": "local", "InstanceCount": 1, "VolumeSizeInGB": 1},
        )
        jobs.until(lambda name=name: _trained(jobs, name) not in {"InProgress", "Stopping"})
        assert _trained(jobs, name) == "Completed"
        events, _ = jobs.logs.filter("/aws/sagemaker/TrainingJobs", prefix=f"{name}/")
        lines += [event.message for event in events]
    assert lines == ["entry train", "1"]
    with tarfile.open(fileobj=io.BytesIO(_body(jobs, "out/own/output/model.tar.gz"))) as tar:
        assert "own/file" in tar.getnames()


def _trained(jobs: Any, name: str) -> str:
    return str(jobs.call("DescribeTrainingJob", TrainingJobName=name)["TrainingJobStatus"])


def _body(jobs: Any, key: str) -> bytes:
    with os.fdopen(jobs.objects.open("data", key)[1], "rb") as file:
        return bytes(file.read())


# --- how it ends


@pytest.mark.parametrize("code", [3, 125, 126, 127, 137])
def test_the_exit_code_is_the_programs(jobs: Any, code: int) -> None:
    """Also where podman would exit with it for reasons of its own."""
    reason = _failure(jobs, entrypoint=_shell(f"exit {code}"))
    assert reason == f"AlgorithmError: See job logs for more information, exit code: {code}"


@pytest.mark.parametrize(("entrypoint", "code"), [("/no/such", 127), ("/etc", 126)])
def test_an_entrypoint_that_the_image_lacks_is_named(jobs: Any, entrypoint: str, code: int) -> None:
    """The reason is podman's message, not a failed program."""
    reason = _failure(jobs, entrypoint=[entrypoint])
    assert reason.startswith("AlgorithmError: the entrypoint cannot be started: ")
    assert entrypoint in reason
    assert reason.endswith(f"exit code: {code}")


def test_an_image_that_cannot_be_had_is_named(jobs: Any) -> None:
    """It is not here and its registry cannot be reached: no program's fault, and no exit code."""
    reason = _failure(jobs, image="127.0.0.1:1/no-such:1")
    assert reason.startswith("ClientError: the image 127.0.0.1:1/no-such:1 is not on this machine, and podman could ")
    assert "exit code" not in reason


_PULLING = """#!/bin/sh
case "$1" in
    --version) echo podman version 4 ;;
    info) echo false ;;
    image) exit 1 ;;
    pull) (exec sleep 600) & echo $! > "$0.pid.new"; mv "$0.pid.new" "$0.pid"; wait ;;
esac
"""


def test_a_stop_ends_the_pull_of_an_image(make_jobs: Callable[..., Any], tmp_path: Path) -> None:
    """The job stops at once, with all processes that pull."""
    program = tmp_path / "podman"
    program.write_text(_PULLING)
    program.chmod(0o755)
    jobs = make_jobs(sandbox="container", container_program=str(program))
    name = jobs.create()
    jobs.until((tmp_path / "podman.pid").exists)
    puller = int((tmp_path / "podman.pid").read_text())
    jobs.stop(name)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"
    jobs.until(lambda: puller not in processes.command_lines_with("600"))
    jobs.check_nothing_left()


def test_an_option_that_podman_does_not_know_is_named(make_jobs: Callable[..., Any], containers: Any) -> None:
    """The container cannot be made: the reason repeats podman's."""
    jobs = make_jobs(sandbox="container", container_program=containers.program, container_options=["--no-such"])
    assert _failure(jobs) == "ClientError: podman cannot make the container: Error: unknown flag: --no-such"


def test_process_one_gets_the_sigterm(jobs: Any) -> None:
    """Its last outputs are uploaded, and the job has stopped long before the grace is over."""
    script = "trap 'echo late > /opt/ml/processing/out/late; exit 0' TERM; " + SAY_AND_SLEEP
    jobs.settings = attrs.evolve(jobs.settings, grace=600)
    name = _create(jobs, entrypoint=_shell(script), outputs={"out": "s3://data/out"})
    jobs.until(lambda: jobs.lines(name) == ["up"])
    jobs.stop(name)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"
    assert jobs.text("out/late") == "late\n"


def test_a_program_that_ignores_the_sigterm_is_killed_after_the_grace(jobs: Any, containers: Any) -> None:
    """A process 1 without a handler is such a program; the container goes with it."""
    name = _create(jobs, entrypoint=_shell(SAY_AND_SLEEP))
    jobs.until(lambda: jobs.lines(name) == ["up"])
    assert len(containers.names()) == 1
    jobs.stop(name)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"
    assert not containers.names()


def test_the_time_limit_ends_the_container(jobs: Any, containers: Any) -> None:
    """As a stop does, with a reason."""
    name = _create(jobs, entrypoint=_shell(SAY_AND_SLEEP), StoppingCondition={"MaxRuntimeInSeconds": 1})
    described = jobs.wait(name)
    assert described["ProcessingJobStatus"] == "Stopped"
    assert described["FailureReason"].startswith("MaxRuntimeExceeded")
    assert not containers.names()


@pytest.mark.parametrize("also_the_client", [False, True], ids=["alone", "and-client"])
@pytest.mark.parametrize("while_it_starts", [False, True], ids=["running", "starting"])
def test_a_killed_supervisor_leaves_no_container(
    jobs: Any, containers: Any, while_it_starts: bool, also_the_client: bool
) -> None:
    """The next request for the job fails it, and removes the container, podman's processes for it, and its files."""
    name = _create(jobs, entrypoint=_shell(SAY_AND_SLEEP))
    key = container_key(JobStore(jobs.home).get(name).folder, 1)
    jobs.until(lambda: processes.command_lines_with(key) if while_it_starts else jobs.lines(name) == ["up"])
    client = next(pid for pid, line in processes.command_lines_with(key).items() if "run" in line)
    supervisor = int(Path(f"/proc/{client}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    if also_the_client:
        os.killpg(client, signal.SIGKILL)
    described = jobs.wait(name)
    assert described["FailureReason"].startswith("InternalServerError: the supervisor of the job's host is gone")
    assert not containers.names()
    jobs.until(lambda: not processes.command_lines_with(key))
    jobs.check_nothing_left()


def test_a_killed_client_fails_the_job_and_leaves_no_container(jobs: Any, containers: Any) -> None:
    """The program that podman can no longer watch is ended with it."""
    name = _create(jobs, entrypoint=_shell(SAY_AND_SLEEP))
    jobs.until(lambda: jobs.lines(name) == ["up"])
    os.killpg(JobStore(jobs.home).hosts(1)[0].process_group or 0, signal.SIGKILL)
    described = jobs.wait(name)
    assert described["ProcessingJobStatus"] == "Failed"
    assert not containers.names()


def test_what_a_container_uses_is_sampled(make_jobs: Callable[..., Any], containers: Any) -> None:
    """The program in it, not the client, which does next to nothing once it has made the container."""
    jobs = make_jobs(
        sandbox="container", container_program=containers.program, container_options=containers.options, sample=0.05
    )
    name = _create(jobs, entrypoint=_shell("echo up; while true; do :; done"))
    store = MetricStore(jobs.home)
    metric = Metric.of("/aws/sagemaker/ProcessingJobs", "CPUUtilization", {"Host": f"{name}/algo-1"})

    def busy_samples() -> int:
        periods = store.values_by_period(metric, 0, 1e11, 86_400).values()
        return sum(int(number) for values in periods for value, number in values if value > 10)

    jobs.until(lambda: busy_samples() > 10)
    jobs.stop(name)
    jobs.wait(name)


# --- network


HOSTS = """
import json, socket, sys, time
here = json.load(open('/opt/ml/config/resourceconfig.json'))['current_host']
there = 'algo-2' if here == 'algo-1' else 'algo-1'
server = socket.create_server((here, int(sys.argv[1])))
while True:
    try:
        client = socket.create_connection((there, int(sys.argv[1])))
        break
    except ConnectionRefusedError:
        time.sleep(0.01)
server.accept()[0].sendall(here.encode())
print(socket.gethostname(), 'reached', client.recv(99).decode())
"""


def _with_python(make_jobs: Callable[..., Any], containers: Any) -> Any:
    options = (*containers.options, "--volume", "/usr:/usr:ro")
    return make_jobs(sandbox="container", container_program=containers.program, container_options=options)


def test_hosts_reach_each_other_by_name(make_jobs: Callable[..., Any], containers: Any) -> None:
    """Both listen on the same port, each at its own address."""
    jobs = _with_python(make_jobs, containers)
    with socket.create_server(("127.0.1.1", 0)) as free:
        port = free.getsockname()[1]
    name = jobs.create(HOSTS, hosts=2, arguments=[str(port)])
    assert jobs.wait(name)["ProcessingJobStatus"] == "Completed"
    assert sorted(jobs.lines(name)) == ["algo-1 reached algo-2", "algo-2 reached algo-1"]


def test_an_isolated_job_has_no_network(make_jobs: Callable[..., Any], containers: Any) -> None:
    """It sees no interface but its own loopback, and cannot reach the ports of this machine."""
    jobs = _with_python(make_jobs, containers)
    script = (
        "import socket\n"
        "print([name for _, name in socket.if_nameindex()], flush=True)\n"
        "socket.create_connection(('127.0.0.1', {}))\n"
    )
    isolated = {"EnableNetworkIsolation": True}
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = jobs.create(script.format(server.getsockname()[1]), NetworkConfig=isolated)
        assert jobs.wait(name)["ProcessingJobStatus"] == "Failed"
    assert jobs.lines(name)[0] == "['lo']"
    assert "ConnectionRefusedError" in jobs.lines(name)[-1]


# --- through a session, and settings


def test_a_processor_without_entrypoint_runs_the_images_own(containers: Any, tmp_path: Path) -> None:
    """No interpreter of this machine is looked for."""
    settings = EngineSettings(
        sandbox="container",
        container_program=containers.program,
        container_options=containers.options,
        python="/no/such/python",
    )
    processor = Processor(
        image_uri=containers.BUSYBOX,
        instance_type="local",
        instance_count=1,
        sagemaker_session=LocalSession(tmp_path / "engine", settings=settings),
    )
    job = processor.run(arguments=["it", "runs"], logs=False)
    assert [line.message for line in job.logs()] == ["entry it runs"]


def test_limits_are_the_containers(make_jobs: Callable[..., Any], containers: Any) -> None:
    """Podman enforces them and kills a program that needs more memory; otherwise the log or the reason has an error."""
    options = (*containers.options, "--cpus", "1", "--memory", "64m")
    probe = containers.call("run", "--rm", "--network", "host", *options, containers.BUSYBOX)
    jobs = make_jobs(
        sandbox="container",
        container_program=containers.program,
        container_options=containers.options,
        cpus=1,
        memory_gb=1 / 16,
    )
    name = _create(jobs, entrypoint=_shell("cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"))
    described = jobs.wait(name)
    if probe.returncode:
        assert described["FailureReason"].startswith(("ClientError: podman cannot make", "AlgorithmError: the entry"))
    elif "not supported" in probe.stderr:
        assert "not supported" in "".join(jobs.lines(name))
    else:
        assert str(64 << 20) in jobs.lines(name)
        assert _failure(jobs, entrypoint=["/bin/tail", "/dev/zero"]) in {
            OUT_OF_MEMORY,
            "AlgorithmError: See job logs for more information, exit code: 137",  # podman does not always know why
        }


def test_options_come_from_the_environment_unless_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written as in a shell; quotes that do not match are named."""
    monkeypatch.setenv(CONTAINER_OPTIONS_VARIABLE, "--runtime runc --label 'a b'")
    assert EngineSettings().resolved_container_options() == ("--runtime", "runc", "--label", "a b")
    assert EngineSettings(container_options=["--init"]).resolved_container_options() == ("--init",)
    monkeypatch.setenv(CONTAINER_OPTIONS_VARIABLE, "--label 'a b")
    with pytest.raises(ConfigurationError, match=f"^{CONTAINER_OPTIONS_VARIABLE}: No closing quotation"):
        EngineSettings().resolved_container_options()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("container_program", " "),
        ("container_options", "--runtime runc"),
        ("container_options", ["--cpus", 2]),
        ("container_options", ["runc"]),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name: str, value: Any) -> None:
    """The message names the setting."""
    with pytest.raises((TypeError, ValueError), match=name):
        EngineSettings(**{name: value})


# --- which program


def _program(folder: Path, name: str, script: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


DOCKER = """case "$*" in
--version) echo "Docker version 28.2.2, build e6534b4" ;;
version*) {answer} ;;
*OOMKilled*) echo true ;;
inspect*) echo image-id ;;
*) echo "$*" >> {log} ;;
esac"""


def test_a_docker_without_its_daemon_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has every attempt, its problem, and the remedy."""
    answer = "echo Cannot connect to the Docker daemon >&2; exit 1"
    _program(tmp_path, "docker", DOCKER.format(answer=answer, log="/dev/null"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError) as caught:
        sandboxes.sandbox_for(EngineSettings(sandbox="container", container_options=["--label", str(tmp_path)]))
    message = str(caught.value)
    assert "podman is not installed; docker does not work: Cannot connect to the Docker daemon" in message
    assert "container_program" in message


def test_a_program_that_is_not_there_is_named() -> None:
    """A missing program is not replaced by another one."""
    with pytest.raises(EngineError, match="/no/such/podman is not installed"):
        sandboxes.sandbox_for(EngineSettings(sandbox="container", container_program="/no/such/podman"))


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """A sandbox of a docker that only notes how it is called."""
    program = _program(
        tmp_path, "docker", DOCKER.format(answer="echo 28.2.2", log=shlex.quote(str(tmp_path / "calls")))
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found, reason = Container.probe(program, ["--init"], 2, 1.5)
    assert found is not None, reason
    return found


def test_the_command_line_for_docker(docker: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret value is in the client's environment, and not on a command line that every user can list."""
    monkeypatch.setattr(container, "_SELINUX", Path("/"))
    binds = [Bind('/a,"b', "/opt/ml/processing/in", read_only=True)]
    host = HostSpec("/w/ml", binds, "algo-2", network=False, hosts=2, key="job-1", image="image", gpus=True)
    env = {"TOKEN": "secret", "DOCKER_HOST": "mine"}
    launch = docker.command(["[x]", "y"], host, env=env, cwd="/w", report_fd=None)
    assert shlex.join(launch.argv[1:]) == (
        "run --name job-1 --cpus 2 --memory 1536m --gpus all --network none --hostname algo-2"
        " --add-host algo-1:127.0.1.1 --add-host algo-2:127.0.1.2 --log-driver none"
        " --mount type=bind,source=/w/ml,destination=/opt/ml"
        """ --mount 'type=bind,"source=/a,""b",destination=/opt/ml/processing/in,readonly'"""
        " --security-opt label=disable --env TOKEN --env DOCKER_HOST=mine --entrypoint '[x]' --init image y"
    )
    assert launch.env["TOKEN"] == "secret"
    assert launch.env.get("DOCKER_HOST") != "mine"
    assert "/w/ml" in launch.env.values()  # so that it is found where its supervisor died before it noted its group


def test_out_of_memory_is_the_reason_if_it_is_known(docker: Container) -> None:
    """Docker is asked about the container's end only if the exit code fits."""
    host = HostSpec("/w/ml", key="job-1")
    assert docker.problem(host, 137, []) == HostEnd("failed", 137, OUT_OF_MEMORY)
    assert docker.problem(host, 1, []) is None


def test_files_of_dockers_root_are_given_back_by_a_container(
    docker: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the daemon is root and the engine is not, only a container can change their owner."""
    (tmp_path / "ml").mkdir()
    docker.remove("job-1", str(tmp_path / "ml"))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    (tmp_path / "ml/file").touch()
    docker.remove("job-1", str(tmp_path / "ml"))
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [
        "rm --force --volumes job-1",
        "rm --force --volumes job-1",
        (
            "run --rm --name job-1-chown --user 0:0 --network none --entrypoint chown"
            f" --mount type=bind,source={tmp_path}/ml,destination=/opt/ml --init image-id"
            f" -hR {os.getuid()}:{os.getgid()} /opt/ml"
        ),
    ]

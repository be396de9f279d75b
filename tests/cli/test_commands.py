"""The commands that read, repeat and remove jobs: text for people, JSON with a version for programs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

import processing
from processing import ScriptProcessor, remote
from processing.cli import job_file, main
from processing.cli.app import COMMANDS

if TYPE_CHECKING:
    from processing import LocalSession

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalSession:
    """The engine that the commands use."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "engine"))
    monkeypatch.setenv("PROCESSING_TARGET", "local")
    return processing.LocalSession()


@pytest.fixture
def processor(session: LocalSession) -> ScriptProcessor:
    """A processor with a script that writes a file, or fails."""
    Path("clean.py").write_text(
        "import sys\nprint('line one')\nprint('line', *sys.argv[1:])\n"
        "open('/opt/ml/processing/output/clean/a.csv', 'w').write('a')\nsys.exit(len(sys.argv) > 2)\n"
    )
    return ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, tags={"team": "etl"}, sagemaker_session=session
    )


def completed(processor: ScriptProcessor, name: str, *arguments: str) -> processing.ProcessingJob:
    """A job that has ended."""
    output = processing.ProcessingOutput("/opt/ml/processing/output/clean", output_name="clean")
    job = processor.run("clean.py", outputs=[output], arguments=list(arguments), job_name=name, wait=False, quiet=True)
    job.exception()
    return job


class Shell:
    """The command in this process.

    Args:
        capsys: captures its output.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run the command, check its exit code and that the other output is empty, and return its standard output."""
        self._capsys.readouterr()
        ended = main(list(words))
        out, err = self._capsys.readouterr()
        assert ended == code, err
        return out if code == 0 else err or out

    def json(self, *words: str, code: int = 0) -> Any:
        """Return the JSON of a command, which has version 1."""
        found = json.loads(self(*words, "-o", "json", code=code))
        assert found["version"] == 1
        return found


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    """Runs the command in this process."""
    return Shell(capsys)


def test_ls(processor: ScriptProcessor, shell: Shell) -> None:
    """Jobs are found by status, name, tag and age; the reason of a failure is in the list."""
    completed(processor, "etl-1")
    completed(processor, "etl-2", "a", "b")
    completed(processor, "other")
    header, *rows = shell("ls", "--name", "etl-").splitlines()
    assert header.split() == ["NAME", "STATUS", "CREATED", "REASON"]
    assert [row.split()[:2] for row in rows] == [["etl-1", "Completed"], ["etl-2", "Failed"]]
    assert [each["name"] for each in shell.json("ls", "--status", "failed")["jobs"]] == ["etl-2"]
    assert len(shell.json("ls", "--tag", "team=etl", "--since", "1h")["jobs"]) == 3
    assert shell.json("ls", "--tag", "team=", "--since", "2100-01-01")["jobs"] == []
    assert len(shell.json("ls", "--limit", "1")["jobs"]) == 1
    assert "neither an age" in shell("ls", "--since", "soon", code=2)
    assert len(shell("local", "ls", "--name", "etl-").splitlines()) == 3


def test_describe(processor: ScriptProcessor, shell: Shell) -> None:
    """The text has what a person asks for, the JSON all of AWS's answer."""
    completed(processor, "etl-1", "x")
    text = shell("describe", "etl-1")
    assert "name       etl-1\n" in text
    assert "command    python3 /opt/ml/processing/input/code/clean.py x\n" in text
    assert "outputs\n  clean: s3://" in text
    assert shell.json("describe", "etl-1")["job"]["ProcessingJobStatus"] == "Completed"
    assert "no processing job 'absent' in the embedded engine" in shell("describe", "absent", code=2)
    assert "must be a job's name or ARN" in shell("describe", "--", "-x", code=2)


def test_logs(processor: ScriptProcessor, shell: Shell) -> None:
    """Lines are selected as in Python; JSON is one object a line."""
    completed(processor, "etl-1", "two")
    assert shell("logs", "etl-1") == "line one\nline two\n"
    assert shell("logs", "etl-1", "-f", "--tail", "1") == "line two\n"
    assert shell("logs", "etl-1", "--grep", "tw.$", "--host", "1", "--since", "1h") == "line two\n"
    (stamped, _) = shell("logs", "etl-1", "--timestamps").splitlines()
    assert stamped.endswith("+00:00 line one")
    lines = [json.loads(line) for line in shell("logs", "etl-1", "-o", "json").splitlines()]
    assert [(line["version"], line["host"], line["message"]) for line in lines] == [
        *((1, "algo-1", "line one"), (1, "algo-1", "line two"))
    ]
    assert "pattern" in shell("logs", "etl-1", "--grep", "(", code=2)


def test_wait_and_attach(processor: ScriptProcessor, shell: Shell) -> None:
    """The exit code is that of the worst job; attach shows the lines."""
    completed(processor, "etl-1")
    completed(processor, "etl-2", "a", "b")
    assert [row.split()[1] for row in shell("wait", "etl-1").splitlines()] == ["STATUS", "Completed"]
    assert [each["status"] for each in shell.json("wait", "etl-1", "etl-2", "-q", code=1)["jobs"]] == [
        "Completed",
        "Failed",
    ]
    assert "2 jobs: 1 Completed, 1 Failed after " in shell("wait", "etl-1", "etl-2", code=1)
    assert shell("attach", "etl-1") == "line one\nline\n"
    assert "processing job etl-2: Failed" in shell("attach", "etl-2", code=1)


def test_a_wait_that_ends_before_the_job(processor: ScriptProcessor, shell: Shell) -> None:
    """The code is 4 if a job has not ended in time, and 3 once it was stopped."""
    Path("slow.py").write_text("import time\ntime.sleep(600)\n")
    job = processor.run("slow.py", job_name="slow", wait=False, quiet=True)
    assert shell.json("wait", "slow", "--timeout", "0.1", "-q", code=4)["jobs"][0]["status"] == "InProgress"
    assert "has not ended in time" in shell("attach", "slow", "--timeout", "0.1", code=4)
    assert "processing: error: " in shell("rm", "slow", code=1)
    assert job.status == "InProgress"
    shell("stop", "slow")
    assert shell.json("wait", "slow", "-q", code=3)["jobs"][0]["status"] == "Stopped"
    shell("stop", "slow")
    shell("rm", "slow")
    assert "no processing job" in shell("describe", "slow", code=2)


def test_outputs(processor: ScriptProcessor, shell: Shell) -> None:
    """They are listed, or downloaded to a folder each."""
    completed(processor, "etl-1")
    assert shell("outputs", "etl-1").splitlines()[1].startswith("clean  s3://")
    (file,) = shell("outputs", "etl-1", "--download", "got").splitlines()
    assert file.endswith("got/clean/a.csv")
    assert Path(file).read_text() == "a"
    (row,) = shell.json("outputs", "etl-1")["outputs"]
    assert row["name"] == "clean"


def test_rerun_and_diff(processor: ScriptProcessor, session: LocalSession, shell: Shell) -> None:
    """A job runs again with its code, tags and changes, under outputs of its own; diff shows the changes."""
    completed(processor, "etl-1", "x")
    changes = ("--set", "max_runtime_in_seconds=60", "--set", 'arguments=["y"]', "--set", "env.A=1")
    assert shell("rerun", "etl-1", "--name", "etl-2", *changes) == "line one\nline y\n"
    again = processing.attach("etl-2", session)
    assert "/etl-2/output/clean" in str(again.outputs["clean"].destination)
    assert session.client("sagemaker").list_tags(ResourceArn=again.arn)["Tags"] == [{"Key": "team", "Value": "etl"}]
    differences = {
        each["setting"]: (each["a"], each["b"]) for each in shell.json("diff", "etl-1", "etl-2")["differences"]
    }
    assert differences["AppSpecification.ContainerArguments"] == (["x"], ["y"])
    assert differences["StoppingCondition.MaxRuntimeInSeconds"] == (86400, 60)
    assert differences["Environment.A"] == (None, "1")
    assert '  - ["x"]\n  + ["y"]\n' in shell("diff", "etl-1", "etl-2")
    name = shell("rerun", "etl-1", "--detach").strip()
    assert name.startswith("etl-1-2")
    assert "did you mean 'instance_type'?" in shell("rerun", "etl-1", "--set", "instance_typ=x", code=2)
    assert "--set env: must be a dictionary" in shell("rerun", "etl-1", "--set", "env=x", code=2)
    processing.attach(name, session).exception()


def test_top_and_cost(processor: ScriptProcessor, shell: Shell) -> None:
    """In a pipe the present state is shown once."""
    completed(processor, "etl-1")
    assert shell("top", "etl-1").splitlines()[0] == "etl-1  Completed"
    assert set(shell.json("top", "etl-1")["hosts"]) <= {"algo-1"}
    assert shell("cost", "etl-1") == "0.0000 USD: it runs on this machine\n"
    assert shell.json("cost", "etl-1")["actual"] == 0


def test_fleet(processor: ScriptProcessor, shell: Shell) -> None:
    """Failed jobs are listed, and run again under the name of the next attempt."""
    runs: dict[str, dict[str, Any]] = {
        "good": {"code": "clean.py"},
        "bad": {"code": "clean.py", "arguments": ["a", "b"]},
    }
    for run in runs.values():
        run["outputs"] = ["/opt/ml/processing/output/clean"]
    processing.submit_all(processor, runs, name="days").wait()
    assert shell.json("fleet", "days")["statuses"] == {"Completed": 1, "Failed": 1}
    assert shell("fleet", "days", "failures", code=1).splitlines()[1].startswith("bad  Failed")
    assert shell("fleet", "days", "retry") == "days-bad-retry2\n"
    processing.wait(processing.Fleet.attach("days"))
    assert [each["key"] for each in shell.json("fleet", "days", "failures", code=1)["failures"]] == ["bad"]
    assert shell("fleet", "days", "retry") == "days-bad-retry3\n"
    shell("fleet", "days", "stop")
    assert "there is no job of a fleet named 'absent'" in shell("fleet", "absent", code=2)
    processing.wait(processing.Fleet.attach("days"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ls", "--name", "no job"], "--name: 'no job' cannot begin a job's name"),
        (["logs", "etl", "--grep", "("], "--grep: "),
        (["logs", "etl", "--host", "other"], "--host: "),
        (["rerun", "etl", "--set", "instance_count=0"], "--set instance_count: must be at least 1, not 0"),
        (["rerun", "etl", "--set", "instance_typ=x"], "--set instance_typ: is not a parameter"),
        (["rerun", "etl", "--name", "-"], "--name: must be a job's name"),
        (["describe", "absent"], "NAME: no processing job 'absent'"),
        (["images", "skleam"], "FRAMEWORK: "),
        (["fleet", "no fleet"], "NAME: "),
        (["fleet", "absent"], "NAME: there is no job of a fleet named 'absent' in the embedded engine; --untagged "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_named_as_it_was_typed(
    words: list[str], message: str, processor: ScriptProcessor, shell: Shell
) -> None:
    """The parameters of Python are unknown to the user of the command."""
    completed(processor, "etl")
    assert shell(*words, code=2).startswith(f"processing: error: {message}")


def test_replay(session: LocalSession, shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """The call of a remote function is made again in this process."""

    @remote(instance_type="local", sagemaker_session=session, job_name_prefix="twice")
    def twice(value: int) -> int:
        return 2 * value

    assert twice(21) == 42
    (job,) = processing.jobs("twice", session=session)
    assert shell("replay", job.job_name) == "42\n"


def test_tools(shell: Shell, session: LocalSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, defaults, the engine's folder, completion and the version."""
    assert "sklearn" in shell("images").splitlines()
    assert "1.2-1" in shell.json("images", "sklearn")["versions"]
    assert "did you mean 'sklearn'?" in shell("images", "skleam", code=2)
    config = tmp_path / "config.yaml"
    config.write_text("SchemaVersion: '1.0'\nSageMaker:\n  ProcessingJob:\n    Environment: {A_TOKEN: x, B: y}\n")
    monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(config))
    assert shell("config", "show").splitlines() == [
        "SageMaker.ProcessingJob.Environment.A_TOKEN = ***",
        "SageMaker.ProcessingJob.Environment.B = 'y'",
    ]
    assert f"({config})" in shell("config", "show", "--origin")
    assert shell.json("config", "show")["settings"][1]["origin"] == str(config)
    assert shell("local", "path") == f"{session.home}\n"
    assert "nothing" in shell("local", "clean", "--older-than", "1d")
    assert "processing local" in shell("local", "clean", "--older-than", "soon", code=2)
    for name in ("bash", "zsh", "fish"):
        assert "_PROCESSING_COMPLETE" in shell("completion", name)
    assert shell("--version") == f"sm-processing {processing.__version__}\n"
    assert {each["severity"] for each in shell.json("doctor")["findings"]} <= {"ok", "warning"}


def test_the_shells_get_completions() -> None:
    """A shell that asks gets commands and options."""
    environment = {"_PROCESSING_COMPLETE": "bash_complete", "COMP_WORDS": "processing ru", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys, processing.cli; sys.exit(processing.cli.main([]))"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "plain,run\n"


def test_aws_is_the_default_target(shell: Shell, session: LocalSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """--local and a region contradict each other; without credentials the error says so."""
    monkeypatch.delenv("PROCESSING_TARGET")
    assert "--region: is for AWS" in shell("ls", "--local", "--region", "eu-west-1", code=2)
    assert "redentials" in shell("ls", "--region", "eu-west-1", code=1)


def test_each_command_has_a_module_and_is_in_the_reference() -> None:
    """The list of commands and their modules agree, and the reference has the help of each."""
    modules = {path.stem for path in (ROOT / "processing/cli/commands").glob("*.py")} - {"__init__"}
    assert {entry.module for entry in COMMANDS.values()} == modules
    spec = importlib.util.spec_from_file_location("command_reference", ROOT / "scripts" / "command_reference.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    # Releases of click wrap lines in their own ways.
    written = script.PAGE.read_text(encoding="utf-8").split()
    assert written == script.page().split(), "run scripts/command_reference.py"


def test_the_published_schema_is_that_of_the_code(shell: Shell) -> None:
    """docs/reference/job.schema.json is the schema of this version, and `config schema` prints it."""
    published = json.loads((ROOT / "docs/reference/job.schema.json").read_text(encoding="utf-8"))
    assert published == job_file.schema() == json.loads(shell("config", "schema"))
    check = jsonschema.Draft202012Validator(published)
    check.check_schema(published)
    good = {
        "processor": "FrameworkProcessor",
        "code": "clean.py",
        "image_uri": "1/i:1",
        "inputs": [{"source": "data", "destination": "/opt/ml/processing/input/raw"}],
        "outputs": ["/opt/ml/processing/output", {"source": "/opt/ml/processing/x", "destination": "s3://b/k"}],
        "env": {"N": 5},
        "network_config": {"subnets": ["subnet-1"], "security_group_ids": ["sg-1"]},
    }
    assert check.is_valid(good)
    for name, value in {
        "instance_typ": "x",
        "outputs": [5],
        "inputs": [{}],
        "processor": "X",
        "instance_count": 0,
    }.items():
        assert not check.is_valid({**good, name: value})


@pytest.mark.parametrize("name", job_file.PROCESSORS)
def test_a_job_file_can_name_each_class(name: str) -> None:
    """Each parameter of each class is in the schema, and only `extra` is one of `run` too."""
    made, run = job_file.parameters(name)
    assert made | run <= set(job_file.schema()["properties"])
    assert made & run <= {"extra"}


def test_without_the_extra(tmp_path: Path) -> None:
    """Without click, `doctor` works, the help is shown, and every other command says what to install."""
    (tmp_path / "click.py").write_text("raise ImportError('no click')\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "processing", *words],
            env={"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path), "PROCESSING_LOCAL_HOME": str(tmp_path / "engine")},
            capture_output=True,
            text=True,
            check=False,
        )

    assert "versions" in run("doctor", str(tmp_path)).stdout
    assert (run("--help").returncode, "sm-processing[cli]" in run("--help").stdout) == (0, True)
    assert run("--version").stdout == f"sm-processing {processing.__version__}\n"
    done = run("ls")
    assert done.returncode == 2
    assert done.stderr == (
        "processing: error: ls needs click and rich, which are not installed; pip install 'sm-processing[cli]'\n"
    )

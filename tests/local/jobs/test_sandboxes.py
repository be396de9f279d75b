"""Sandboxes: the choice, the limits of rewriting, and the Python that jobs run on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from processing import LocalSession, Processor
from processing.exceptions import ConfigurationError, EngineError
from processing.images.tags import python_of_image
from processing.local import sandboxes
from processing.local.errors import ApiError
from processing.local.import_path import PACKAGE_ROOT
from processing.local.interpreter import Interpreter
from processing.local.jobs import execution_planner
from processing.local.sandboxes import rewriting
from processing.local.sandboxes.bubblewrap import Bubblewrap
from processing.local.sandboxes.namespaces import Namespaces
from processing.local.settings import EngineSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _fresh_choice() -> Any:
    """Let each test choose anew."""
    sandboxes.choose.cache_clear()
    yield
    sandboxes.choose.cache_clear()


@pytest.mark.parametrize(
    ("broken", "expected"),
    [((), "bubblewrap"), ((Bubblewrap,), "namespaces"), ((Bubblewrap, Namespaces), "rewriting")],
)
def test_the_first_that_works_is_chosen(
    monkeypatch: pytest.MonkeyPatch, broken: tuple[type, ...], expected: str
) -> None:
    """Bubblewrap before namespaces before rewriting."""
    for kind in broken:
        monkeypatch.setattr(kind, "probe", lambda: (None, "broken"))
    assert sandboxes.choose("auto").name == expected


def test_a_sandbox_that_does_not_work_is_an_error_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the reason."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(EngineError, match="bwrap is not installed"):
        sandboxes.choose("bubblewrap")


@pytest.mark.parametrize("name", ["bubblewrap", "namespaces", "rewriting"])
def test_a_sandbox_is_restored_from_its_state(name: str) -> None:
    """Supervisors get the very sandbox that was chosen."""
    chosen = sandboxes.choose(name)
    assert sandboxes.restore(json.loads(json.dumps(chosen.state()))).state() == chosen.state()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/opt/ml/processing/in", "/w/ml/processing/in"),
        ("--in=/opt/ml/processing/in,/opt/ml", "--in=/w/ml/processing/in,/w/ml"),
        ("s3://opt/ml/x /opt/mlflow /opt/ml-x /opt/ml.bak", "s3://opt/ml/x /opt/mlflow /opt/ml-x /opt/ml.bak"),
    ],
)
def test_paths_are_rewritten_wherever_they_stand(text: str, expected: str) -> None:
    """Also within an argument; a longer name with the same beginning is left alone."""
    assert rewriting.rewrite(text, "/w/ml") == expected


def test_literal_paths_are_found_in_code_but_not_in_remarks(tmp_path: Path) -> None:
    """Comments and docstrings do not matter; strings do."""
    script = tmp_path / "x.py"
    script.write_text(
        '"""Reads /opt/ml/processing/in."""\n'
        "# /opt/ml/processing/in\n"
        "a = 1  # /opt/ml\n"
        "b = '/opt/ml/processing/in'\n"
        "c = '''\n/opt/ml/x\n'''\n"
        "d = f'/opt/ml/{b}'\n"
        "e = '/opt/mlflow'\n"
    )
    assert rewriting.literal_paths(script) == [
        (4, "b = '/opt/ml/processing/in'"),
        (6, "/opt/ml/x"),
        (8, "d = f'/opt/ml/{b}'"),
    ]
    shell = tmp_path / "x.sh"
    shell.write_text("# /opt/ml\ncat /opt/ml/processing/in/x\n")
    assert rewriting.literal_paths(shell) == [(2, "cat /opt/ml/processing/in/x")]
    shell.write_bytes(b"\xff/opt/ml")
    assert rewriting.literal_paths(shell) == []
    assert rewriting.literal_paths(tmp_path / "absent") == []
    script.write_text("def f(:\n  x = '/opt/ml/a'\n")
    assert rewriting.literal_paths(script) == [(2, "x = '/opt/ml/a'")]


def test_a_forked_child_does_not_keep_the_locks_of_hosts(tmp_path: Path) -> None:
    """A process that forks while it creates a job must not make the job's dead supervisors look alive."""
    code = (
        "import fcntl, os, pathlib, sys\n"
        "sys.path.append(sys.argv[1])\n"
        "from processing.local.jobs.host_processes import HostLocks\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "locks = HostLocks(folder, 2)\n"
        "read, write = os.pipe()\n"
        "ready, running = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.close(write)\n"
        "    os.write(running, b'x')\n"
        "    os.read(read, 1)\n"
        "    os._exit(0)\n"
        "os.read(ready, 1)\n"
        "locks.close()\n"
        "for lock in sorted(folder.iterdir()):\n"
        "    fcntl.flock(os.open(lock, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "    print(lock.name)\n"
        "os.close(write)\n"
        "os.wait()\n"
    )
    command = [sys.executable, "-c", code, PACKAGE_ROOT, str(tmp_path / "job")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["algo-1.lock", "algo-2.lock"], done.stderr


def test_arguments_and_variables_of_the_greatest_size_arrive(own_programs: Any) -> None:
    """A hundred of each, of 256 characters: no sandbox puts them into one argument, which the kernel limits."""
    script = (
        "import os, sys\nprint(len(sys.argv), len(set(sys.argv[1:])), len([n for n in os.environ if n[:2] == 'V_']))\n"
    )
    name = own_programs.create(
        script,
        arguments=["\u20ac\U0001f600" * 128] * 100,
        Environment={f"V_{number}": "\u20ac\U0001f600" * 128 for number in range(99)},
    )
    assert own_programs.wait(name)["ProcessingJobStatus"] == "Completed"
    assert own_programs.lines(name) == ["101 1 99"]


@pytest.mark.parametrize(
    "sandbox",
    [
        Bubblewrap(shutil.which("bwrap") or "bwrap", processes=False),
        Bubblewrap(shutil.which("bwrap") or "bwrap", modes=False),
        Namespaces(sys.executable, users=True, processes=True),
        Namespaces(sys.executable, users=True, processes=False),
    ],
    ids=["bubblewrap", "bubblewrap-without-modes", "user-and-process", "user"],
)
def test_lesser_variants_run_and_stop_jobs_too(
    jobs: Any, monkeypatch: pytest.MonkeyPatch, sandbox: sandboxes.Sandbox
) -> None:
    """With fewer rights: with a user namespace, without one for processes; the user keeps its id."""
    monkeypatch.setattr(sandboxes, "choose", lambda _: sandbox)
    script = (
        "import os, sys, time\nprint(os.getuid(), os.path.isdir('/opt/ml/config'))\ntime.sleep(float(sys.argv[1]))\n"
    )
    name = jobs.create(script, arguments=["0"])
    assert jobs.wait(name)["ProcessingJobStatus"] == "Completed"
    assert jobs.lines(name) == [f"{os.getuid()} True"]
    name = jobs.create(script, arguments=["600"])
    jobs.until(lambda: len(jobs.lines(name)) == 1)
    jobs.stop(name)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"


def test_settings_survive_json_and_are_checked() -> None:
    """Supervisors read the same settings that were set; invalid ones are refused at once."""
    settings = EngineSettings(tick=1, grace=0, sandbox="rewriting", python="/x", images={"image": "/y"})
    assert EngineSettings.from_json(settings.to_json()) == settings
    assert settings.images == (("image", "/y"),)
    for wrong in ({"tick": 0}, {"grace": -1}, {"sandbox": "docker"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            EngineSettings(**wrong)


def test_the_interpreter_is_the_images_or_the_settings_or_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image's own Python comes first, then the setting, the environment variable, and the running one."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").touch()
    (venv / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.delenv("PROCESSING_LOCAL_PYTHON", raising=False)
    found = Interpreter(str(venv / "bin" / "python"), str(venv))
    assert EngineSettings(images=(("image", str(venv)),)).interpreter("image") == found
    assert EngineSettings(images=(("image", str(venv)),)).interpreter("other").executable == sys.executable
    assert EngineSettings(python=str(venv)).interpreter("image") == found
    monkeypatch.setenv("PROCESSING_LOCAL_PYTHON", str(venv / "bin" / "python"))
    assert EngineSettings().interpreter("image") == found
    with pytest.raises(ConfigurationError, match=r"^python: .* is neither"):
        EngineSettings(python=str(tmp_path)).interpreter("image")


def test_a_job_runs_in_the_virtual_environment(make_jobs: Any, tmp_path: Path) -> None:
    """`python3` is that of the environment, which is named to the job as an activated one is."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    jobs = make_jobs(python=str(venv))
    name = jobs.create("import os, sys\nprint(sys.prefix, os.environ['VIRTUAL_ENV'])\n")
    assert jobs.wait(name)["ProcessingJobStatus"] == "Completed"
    assert jobs.lines(name) == [f"{venv} {venv}"]


def test_a_setting_that_names_no_python_refuses_the_job(make_jobs: Any, tmp_path: Path) -> None:
    """The client hears of it at once, not from a failed job."""
    jobs = make_jobs(python=str(tmp_path))
    with pytest.raises(ApiError, match="neither a Python interpreter"):
        jobs.create("pass")


def test_the_first_job_says_what_it_runs_on(jobs: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Interpreter and sandbox are logged once in a process, at INFO."""
    execution_planner._announced.clear()
    with caplog.at_level("INFO", logger="processing"):
        for _ in range(2):
            jobs.wait(jobs.create("pass"))
    said = [record.getMessage() for record in caplog.records if "their images are not used" in record.getMessage()]
    assert len(said) == 1
    assert sys.executable in said[0]


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.0.0-cpu-py310-ubuntu20.04-ec2", "3.10"),
        ("763104351884.dkr.ecr.us-east-1.amazonaws.com/mxnet-training:1.9.0-cpu-py38", "3.8"),
        ("683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3", None),
        ("host:5000/mine", None),
        ("host:5000/mine:py39@sha256:0", "3.9"),
        ("python:3.12-slim", "3.12"),
        ("my-python:3.12", None),
        ("470317259841.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-base-python-310:1.0", "3.10"),
        ("image", None),
    ],
)
def test_the_python_of_an_image(image: str, version: str | None) -> None:
    """Framework images and Docker's official ones name it in the tag."""
    assert python_of_image(image) == version


def test_another_python_than_the_image_s_is_a_warning(make_jobs: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Once in a process for each image; the same version is none."""
    jobs = make_jobs()
    same = f"frame:1.0-py{sys.version_info[0]}{sys.version_info[1]}"
    for image in ("frame:1.0-cpu-py27", "frame:1.0-cpu-py27", same):
        app = {"ImageUri": image, "ContainerEntrypoint": ["true"]}
        jobs.wait(jobs.create(AppSpecification=app))
    warnings = [record.getMessage() for record in caplog.records if "has Python" in record.getMessage()]
    assert len(warnings) == 1
    assert warnings[0].startswith("image_uri: frame:1.0-cpu-py27 has Python 2.7, and the local engine runs the job on")
    assert "LocalSession(images=" in warnings[0]


def test_the_version_of_an_interpreter_is_known_without_a_start(tmp_path: Path) -> None:
    """From the settings of a virtual environment, or the real name of the program."""
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.2\n")
    assert Interpreter(str(tmp_path / "bin/python"), str(tmp_path)).version() == "3.9"
    (tmp_path / "python3.8").touch()
    (tmp_path / "python3").symlink_to("python3.8")
    assert Interpreter(str(tmp_path / "python3")).version() == "3.8"
    assert Interpreter(str(tmp_path / "other")).version() is None
    assert Interpreter(sys.executable).version() == f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_a_plan_shows_the_other_python(tmp_path: Path) -> None:
    """`plan` has each warning that `run` logs."""
    processor = Processor(
        "r", "frame:1.0-py27", 1, "local", ["true"], sagemaker_session=LocalSession(tmp_path / "engine")
    )
    (warning,) = (text for text in processor.plan().warnings if "has Python" in text)
    assert "frame:1.0-py27 has Python 2.7" in warning

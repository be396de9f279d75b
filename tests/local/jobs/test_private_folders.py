"""The folders that each host has to itself, /tmp and /dev/shm, and the paths in them that stay visible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from processing.local.interpreter import Interpreter
from processing.local.jobs.project_paths import needed_paths, remember_sources
from processing.local.jobs.workload import Workload
from processing.local.sandboxes.private_folders import kept_paths, visible_masks
from processing.local.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SANDBOXES = pytest.mark.parametrize("sandbox", ["bubblewrap", "namespaces"])


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder below /tmp, wherever the tests' own are."""
    path = Path(tempfile.mkdtemp(dir="/tmp")).resolve()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder below /dev/shm."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["bubblewrap", "namespaces", "container"])
def private(request: pytest.FixtureRequest, make_jobs: Callable[..., Any]) -> Any:
    """The sandboxes in which a host has folders of its own."""
    if request.param != "container":
        return make_jobs(sandbox=request.param)
    containers = request.getfixturevalue("containers")
    options = (*containers.options, "--volume", "/usr:/usr:ro")
    return make_jobs(sandbox="container", container_program=containers.program, container_options=options)


def test_each_host_has_a_tmp_and_shared_memory_of_its_own(private: Any) -> None:
    """Two hosts and the next job take the same names, and this machine's folders get none of them."""
    name = f"taken-by-a-host-{os.getpid()}"
    script = (
        "import os, sys, time\n"
        "for folder in ('/tmp', '/dev/shm'):\n"
        "    os.mkdir(f'{folder}/{sys.argv[1]}')\n"
        "    print(folder, oct(os.stat(folder).st_mode & 0o777))\n"
        "time.sleep(0.3)\n"
    )
    for _ in range(2):
        job = private.create(script, arguments=[name], hosts=2)
        assert private.wait(job)["ProcessingJobStatus"] == "Completed", private.lines(job)
        assert sorted(private.lines(job)) == sorted(["/tmp 0o777", "/dev/shm 0o777"] * 2)
    assert not Path("/tmp", name).exists()
    assert not Path("/dev/shm", name).exists()
    private.check_nothing_left()


@SANDBOXES
def test_what_programs_do_with_a_tmp_works(make_jobs: Callable[..., Any], sandbox: str) -> None:
    """Shared memory, sockets, files that run, and files larger than memory allows in a file system of its own."""
    jobs = make_jobs(sandbox=sandbox)
    script = (
        "import os, socket, subprocess\n"
        "from multiprocessing import shared_memory\n"
        "block = shared_memory.SharedMemory('control', create=True, size=1 << 20)\n"
        "block.unlink()\n"
        "socket.socket(socket.AF_UNIX).bind('/tmp/socket')\n"
        "open('/tmp/program', 'w').write('#!/bin/sh\\necho ran\\n')\n"
        "os.chmod('/tmp/program', 0o700)\n"
        "print(subprocess.check_output(['/tmp/program'], text=True), end='')\n"
        "disk = [os.statvfs(path).f_blocks for path in ('/tmp', '/opt/ml')]\n"
        "print(disk[0] == disk[1], os.environ['TMPDIR'])\n"
    )
    name = jobs.create(script)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Completed", jobs.lines(name)
    assert jobs.lines(name) == ["ran", "True /opt/ml/tmp"]


@SANDBOXES
def test_files_in_tmp_count_for_the_volume(make_jobs: Callable[..., Any], sandbox: str) -> None:
    """They are on the host's disk, so a job cannot fill this machine's with them."""
    jobs = make_jobs(sandbox=sandbox, sample=0.05)
    cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
    script = "import os, time\nos.posix_fallocate(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 0, (1 << 30) + 1)\n"
    described = jobs.run(f"{script}time.sleep(60)\n", ProcessingResources={"ClusterConfig": cluster})
    assert "Insufficient disk space" in described["FailureReason"]


@SANDBOXES
def test_this_machine_s_own_files_in_tmp_are_hidden(make_jobs: Callable[..., Any], folder: Path, sandbox: str) -> None:
    """Save the folders of paths that the command line names."""
    jobs = make_jobs(sandbox=sandbox)
    for name in ("hidden/x", "named/x", "assigned/x"):
        (folder / name).parent.mkdir()
        (folder / name).touch()
    script = (
        "import os, sys\n"
        "print([os.path.exists(f'{sys.argv[1][3:]}/{name}/x') for name in ('hidden', 'named', 'assigned')])\n"
    )
    arguments = [f"at:{folder}", f"{folder}/named/later", f"--to={folder}/assigned/x"]
    name = jobs.create(script, arguments=arguments)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Completed"
    assert jobs.lines(name) == ["[False, True, True]"]


@SANDBOXES
def test_a_python_and_an_engine_below_the_private_folders(folder: Path, in_memory: Path, sandbox: str) -> None:
    """A virtual environment, a project, a home with credentials, and the engine's folder work where they are."""
    venv, home, project = folder / "venv", folder / "home", folder / "project"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (project / "mine").mkdir(parents=True)
    (project / "mine" / "__init__.py").write_text("NAME = 'found'\n")
    (next(venv.glob("lib/python3*/site-packages")) / "mine.pth").write_text(f"{project}\n")
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "credentials").write_text("secret")
    (home / "notes").touch()
    program = (
        "import pathlib, sys\n"
        "sys.path += sys.argv[4:]\n"
        "from processing import LocalSession, ProcessingInput, ScriptProcessor\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "session = LocalSession(sys.argv[2], sandbox=sys.argv[3], python=folder / 'venv')\n"
        "processor = ScriptProcessor('r', 'i', ['python3'], 1, 'local', sagemaker_session=session)\n"
        "(folder / 'lent').mkdir()\n"
        "(folder / 'lent' / 'real').write_text('row')\n"
        "(folder / 'lent' / 'link').symlink_to(folder / 'lent' / 'real')\n"
        "source = ProcessingInput((folder / 'lent').as_uri(), '/opt/ml/processing/lent')\n"
        "job = processor.run(str(folder / 'script.py'), inputs=[source], arguments=[], logs=False)\n"
        "print(*[line.message for line in job.logs()], sep='\\n')\n"
    )
    (folder / "script.py").write_text(
        "import mine, os, sys\n"
        "print(sys.prefix, mine.NAME, os.listdir(os.getcwd()), open('/opt/ml/processing/lent/link').read())\n"
        f"print(sorted(os.listdir({str(home)!r})), os.listdir({str(home / '.aws')!r}))\n"
    )
    command = [sys.executable, "-c", program, str(folder), str(in_memory / "engine"), sandbox, *sys.path[1:]]
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{venv} found [] row", "['.aws', 'notes'] []"]


def test_the_paths_that_are_kept(folder: Path) -> None:
    """Existing paths below a private folder, behind links too, each once; never the private folder itself."""
    (folder / "a" / "inner").mkdir(parents=True)
    (folder / "b").symlink_to("a")
    given = ["/tmp", "/", "/usr", "relative", f"{folder}/a/inner", f"{folder}/b/inner", f"{folder}/none", "/dev/shm"]
    assert kept_paths(given) == [f"{folder}/a/inner", f"{folder}/b/inner"]
    assert kept_paths([*given, f"{folder}/a/../a/"]) == [f"{folder}/a", f"{folder}/b/inner"]


def test_masks_that_a_private_folder_hides_already(folder: Path) -> None:
    """A mask needs a place to be mounted at, which a hidden path is not."""
    masks = [("/root/.aws", True), (f"{folder}/home/.aws", True), (f"{folder}/keys", False)]
    assert visible_masks(masks, [f"{folder}/home"]) == masks[:2]


def test_the_paths_that_a_job_needs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The creator's search paths, working directory and home, its projects, and the data that is used in place."""
    for name in ("bin", "tool/bin", "work", "home", "project", "in", "code", "engines", "sources"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{folder}/tool/bin:/usr/bin")
    monkeypatch.setenv("HOME", f"{folder}/home")
    monkeypatch.chdir(folder / "work")
    monkeypatch.setattr(sys, "path", [str(folder / "project"), "", "/tmp"])
    words = ["python3", f"{folder}/code/run.py", "/tmp/absent", "/tmp"]
    workload = Workload(
        "job",
        "image",
        "arn:aws:iam::000000000000:role/x",
        "ml.m5.large",
        60,
        isolated=False,
        words=words,
        places=[f"{folder}/in"],
    )
    remember_sources("job", [folder / "sources/x.py", Path("relative.py")])
    needed = needed_paths(folder / "engines" / "engine", EngineSettings().interpreter("image"), workload)
    ours = [path.removeprefix(f"{folder}/") for path in needed if path.startswith(f"{folder}/")]
    assert ours == ["code", "engines", "home", "in", "project", "sources", "tool", "work"]
    other = needed_paths(Path("/home/engine"), Interpreter("/usr/bin/python3"), workload)
    assert f"{folder}/project" not in other

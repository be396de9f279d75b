"""The shim on the oldest interpreters of this machine: those of images are often older than those of users."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import processing.container
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from processing import LocalSession

IMPORT_ALL = """
import importlib, pkgutil, processing.container.shim as shim
for each in pkgutil.iter_modules(shim.__path__):
    if each.name not in {"__main__", "zip_main", "static_main"}:
        importlib.import_module(shim.__name__ + "." + each.name)
"""


def old_interpreters() -> list[str]:
    """Python 3.8 and 3.9 on the PATH or of pyenv; without them the interpreter of the tests."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = []
    for version in ("3.8", "3.9"):
        of_pyenv = sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
        installed = str(of_pyenv[-1]) if of_pyenv else shutil.which(f"python{version}")
        found += [] if installed is None else [installed]
    return found or [sys.executable]


@pytest.fixture(params=old_interpreters())
def shim_command(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of the shim on an old interpreter, which finds `processing.container` alone."""
    (tmp_path / "path/processing").mkdir(parents=True)
    (tmp_path / "path/processing/__init__.py").touch()
    (tmp_path / "path/processing/container").symlink_to(Path(processing.container.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    python: str = request.param
    assert subprocess.run([python, "-W", "error", "-c", IMPORT_ALL], check=False).returncode == 0
    return [python, "-m", "processing.container.shim"]


def test_a_proxy_and_a_check(shim_command: list[str]) -> None:
    """The check accepts the proxy, and a server behind it."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(str(free.getsockname()[1]))
    behind = [*shim_command, "serve", "--port", ports[0], "--proxy", ports[1], "--ping", "tcp", "--"]
    behind += [sys.executable, "-m", "http.server", ports[1]]
    done = subprocess.run(
        [*shim_command, "check", "--serve", "--port", ports[0], "--", *behind],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert f"0.0.0.0:{ports[0]} (" in done.stdout


def test_a_training_job(shim_command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's outputs are the model."""
    monkeypatch.setenv("PROCESSING_SHIM_ML_ROOT", str(tmp_path / "ml"))
    for name in ("INPUT", "OUTPUT"):
        monkeypatch.setenv(f"PROCESSING_SHIM_{name}_PATH", str(tmp_path / name))
    (tmp_path / "ml/input/data/channel").mkdir(parents=True)
    (tmp_path / "ml/input/data/channel/a").write_text("content")
    words = ["sh", "-c", f"cp {tmp_path}/INPUT/channel/a {tmp_path}/OUTPUT/; echo é; printf '\\377\\n'"]
    done = subprocess.run([*shim_command, "train", "--", *words], capture_output=True, check=False)
    assert done.returncode == 0, done
    assert (tmp_path / "ml/model/a").read_text() == "content"


def test_a_task_with_s3(
    shim_command: list[str], local_session: LocalSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task with an archive reaches S3 without the boto3 that such an image may lack."""
    client = local_session.boto_session.client("s3")
    client.create_bucket(Bucket="data")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a", "content")
    client.put_object(Bucket="data", Key="a.zip", Body=packed.getvalue())
    for name in ("input", "output"):
        monkeypatch.setenv(f"PROCESSING_SHIM_{name.upper()}_PATH", str(tmp_path / name))
    source = {"relative_path": "a.zip", "bucket_name": "data", "bucket_key": "a.zip", "decompress": True}
    task = {"pk": "one", "inputs": [source], "output_bucket_name": "data", "output_prefix": "out"}
    copy = ["/bin/cp", str(tmp_path / "input/a"), str(tmp_path / "output/b")]
    with Server(local_session.engine) as server:
        environment = {**os.environ, **server.environment()}
        words = [*shim_command, "invoke", "-t", json.dumps(task), "--", *copy]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert client.get_object(Bucket="data", Key="out/b")["Body"].read() == b"content"

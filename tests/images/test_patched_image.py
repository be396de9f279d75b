"""A patched image with the distribution's Python, loaded and run by podman."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from image_archives import docker_archive, layer, oci_archive, python_layer
from processing import LocalSession, ShimProcessor
from processing.cli.shim import main
from processing.images import patch_image
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from podman_storage import Podman

pytestmark = pytest.mark.complete("podman runs a large image")

PROGRAM = b"""#!/usr/bin/python3
import os, pathlib, shutil, sys
for path in pathlib.Path("/input").iterdir():
    shutil.copy(path, "/output")
pathlib.Path("/output/arguments").write_text(" ".join([*sys.argv[1:], str(os.getuid())]))
"""


@pytest.mark.parametrize("form", [docker_archive, oci_archive])
def test_a_patched_image_runs_its_program_for_a_task(
    form: Callable[..., Path], podman: Podman, tmp_path: Path, local_session: LocalSession
) -> None:
    """The image's own command runs for a task, as the image's user, with the carried botocore."""
    client: Any = local_session.boto_session.client("s3")
    client.create_bucket(Bucket="data")
    client.put_object(Bucket="data", Key="a", Body=b"content")
    hidden = {"processing.py": b"raise SystemExit('hidden')", "program": PROGRAM}
    source = form(
        tmp_path / "image.tar",
        [python_layer(), layer(hidden)],
        Entrypoint=["/program"],
        Cmd=["one"],
        Env=["PATH=/usr/bin", "PYTHONPATH=/", "PYTHONDONTWRITEBYTECODE=1"],
        User="1234:5678",
    )
    assert main(["patch", str(source), "--output", str(tmp_path / "new.tar")]) == 0
    podman.load(tmp_path / "new.tar")
    task = {
        "pk": "one",
        "inputs": [{"relative_path": "a", "bucket_name": "data", "bucket_key": "a"}],
        "output_bucket_name": "data",
        "output_prefix": "out",
    }
    with Server(local_session.engine) as server:
        podman.run("prog:1-shim", "invoke", "-t", json.dumps(task), variables=dict(server.environment()))
    assert client.get_object(Bucket="data", Key="out/a")["Body"].read() == b"content"
    assert client.get_object(Bucket="data", Key="out/arguments")["Body"].read() == b"one 1234"


def test_a_patched_image_runs_tasks_from_python(podman: Podman, tmp_path: Path) -> None:
    """`ShimProcessor` needs no command for it: the engine runs the image on two hosts, and each has its tasks."""
    source = docker_archive(
        tmp_path / "image.tar", [python_layer(), layer({"program": PROGRAM})], Cmd=["/program"], Env=["PATH=/usr/bin"]
    )
    patch_image(source, tmp_path / "new.tar", tag="tasks:1")
    podman.load(tmp_path / "new.tar")
    podman.run("tasks:1", "-h")
    session = LocalSession(
        tmp_path / "engine",
        sandbox="container",
        container_program=str(podman.program),
        container_options=podman.options,
    )
    client: Any = session.boto_session.client("s3")
    client.create_bucket(Bucket="data")
    client.put_object(Bucket="data", Key="a", Body=b"content")
    source_of = {"relative_path": "a", "bucket_name": "data", "bucket_key": "a"}
    tasks = [
        {"pk": each, "inputs": [source_of], "output_bucket_name": "data", "output_prefix": f"out/{each}"}
        for each in ("x", "y", "z")
    ]
    processor = ShimProcessor("tasks:1", instance_type="local", instance_count=2, sagemaker_session=session)
    results = processor.run_tasks(tasks, quiet=True).results()
    assert [(result.pk, result.return_code, result.message) for result in results] == [(e, 0, "") for e in "xyz"]
    assert client.get_object(Bucket="data", Key="out/y/a")["Body"].read() == b"content"

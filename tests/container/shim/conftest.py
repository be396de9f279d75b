"""The shim with real programs, and the engine's S3."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from container_fixtures import containers  # noqa: F401 - a fixture of several folders
from processing.container.shim.commands import main
from processing.container.shim.logs import Log
from processing.container.shim.program import ShimProgram
from processing.container.shim.settings import read_settings
from processing.container.shim.storage import S3Store
from processing.container.shim.task_runner import TaskRunner

if TYPE_CHECKING:
    from pathlib import Path

    from processing import LocalSession

BUCKET = "shim"


class Shim:
    """The shim, its folders below a folder of the test's, and its bucket."""

    def __init__(self, client: Any, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.client = client
        self.store = S3Store(client)
        self.folder = folder
        self.input = folder / "input"
        self.output = folder / "output"
        self._patch = patch
        for name in ("input", "output"):
            patch.setenv(f"PROCESSING_SHIM_{name.upper()}_PATH", str(folder / name))
        client.create_bucket(Bucket=BUCKET)

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)

    def task(self, pk: str = "one", inputs: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        """Return a task. `inputs` maps relative paths to keys."""
        listed = [
            {"relative_path": path, "bucket_name": BUCKET, "bucket_key": key} for path, key in (inputs or {}).items()
        ]
        task = {"pk": pk, "inputs": listed, "output_bucket_name": BUCKET, "output_prefix": f"out/{pk}"}
        return {**task, **fields}

    def invoke(self, source: str, *tasks: dict[str, Any], options: tuple[str, ...] = ()) -> int:
        """Run a Python program for tasks, and return the exit code."""
        text = json.dumps(list(tasks) or [self.task()])
        return main(["invoke", "-t", text, *options, "--", sys.executable, "-c", source], self.store)

    def runner(self, source: str, log: Log | None = None, **variables: str) -> TaskRunner:
        """Return a runner of a Python program."""
        environment = {**os.environ, **{f"PROCESSING_SHIM_{name}": value for name, value in variables.items()}}
        settings = read_settings(environment)
        log = log or Log(stdout=io.StringIO(), stderr=io.StringIO())
        program = ShimProgram([sys.executable, "-c", source], settings, environment, log)
        return TaskRunner(program, settings, self.store, log)

    def result(self, pk: str = "one") -> dict[str, Any]:
        """Return a task's result."""
        answer = self.client.get_object(Bucket=BUCKET, Key=f"out/{pk}/.sagemaker_shim/inference_result.json")
        result: dict[str, Any] = json.loads(answer["Body"].read())
        return result

    def body(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str = "out/") -> list[str]:
        """Return the keys below a prefix, without those of results."""
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [each["Key"] for each in listed if ".sagemaker_shim/" not in each["Key"]]


@pytest.fixture
def shim(local_session: LocalSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shim:
    """The shim with the engine's S3."""
    monkeypatch.chdir(tmp_path)
    return Shim(local_session.boto_session.client("s3"), tmp_path, monkeypatch)

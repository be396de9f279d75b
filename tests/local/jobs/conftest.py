"""Jobs that really run: the SageMaker handler and the stores over a folder of the test's own."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from processing.local.handlers.sagemaker import SageMakerHandler
from processing.local.settings import EngineSettings
from processing.local.stores.jobs import JobStore
from processing.local.stores.logs import LogStore
from processing.local.stores.metrics import MetricStore
from processing.local.stores.objects import ObjectStore
from processing.local.stores.queues import QueueStore
from sandbox_machine import skip_without_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from container_fixtures import Containers

GROUP = "/aws/sagemaker/ProcessingJobs"
PATIENCE = 60.0
_numbers = itertools.count(1)


class Jobs:
    """An engine without the services that jobs do not need, and short ways to create and watch jobs."""

    account = "000000000000"
    region = "us-east-1"
    chosen_region: str | None = None

    def __init__(self, home: Path, settings: EngineSettings) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.settings = settings
        self.objects = ObjectStore(home)
        self.jobs = JobStore(home)
        self.logs = LogStore(home)
        self.metrics = MetricStore(home)
        self.queues = QueueStore(home)
        self.handler = SageMakerHandler(self)
        self.objects.create_bucket("data")

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        return self.handler.operations[operation](params)

    def request(
        self,
        script: str | None = None,
        *,
        name: str | None = None,
        entrypoint: Sequence[str] | None = None,
        arguments: Sequence[str] = (),
        inputs: Mapping[str, str | Mapping[str, Any]] | None = None,
        outputs: Mapping[str, str] | None = None,
        upload: str = "EndOfJob",
        hosts: int = 1,
        **others: Any,
    ) -> dict[str, Any]:
        """Build CreateProcessingJob's params; inputs and outputs are named by their path below /opt/ml/processing/."""
        name = name or f"job-{next(_numbers)}"
        sources: dict[str, str | Mapping[str, Any]] = dict(inputs or {})
        app: dict[str, Any] = {"ImageUri": "image"}
        if script is not None:
            self.objects.put("data", f"code/{name}/script.py", script.encode())
            sources["code"] = f"s3://data/code/{name}/script.py"
            app["ContainerEntrypoint"] = ["python3", "/opt/ml/processing/code/script.py"]
        if entrypoint is not None:
            app["ContainerEntrypoint"] = list(entrypoint)
        if arguments:
            app["ContainerArguments"] = list(arguments)
        request = {
            "ProcessingJobName": name,
            "RoleArn": "arn:aws:iam::000000000000:role/local",
            "AppSpecification": app,
            "ProcessingResources": {
                "ClusterConfig": {"InstanceCount": hosts, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 30}
            },
            "ProcessingInputs": [_input(path, source) for path, source in sources.items()],
            "ProcessingOutputConfig": {
                "Outputs": [
                    {
                        "OutputName": f"out-{path.replace('/', '-')}",
                        "S3Output": {
                            "S3Uri": uri,
                            "LocalPath": f"/opt/ml/processing/{path}",
                            "S3UploadMode": upload,
                        },
                    }
                    for path, uri in (outputs or {}).items()
                ]
            },
        }
        return {**request, **others}

    def create(self, script: str | None = None, **options: Any) -> str:
        request = self.request(script, **options)
        self.call("CreateProcessingJob", **request)
        return str(request["ProcessingJobName"])

    def describe(self, name: str) -> dict[str, Any]:
        return self.call("DescribeProcessingJob", ProcessingJobName=name)

    def wait(self, name: str) -> dict[str, Any]:
        self.until(lambda: self.describe(name)["ProcessingJobStatus"] in {"Completed", "Failed", "Stopped"})
        return self.describe(name)

    def run(self, script: str | None = None, **options: Any) -> dict[str, Any]:
        return self.wait(self.create(script, **options))

    def stop(self, name: str) -> None:
        self.call("StopProcessingJob", ProcessingJobName=name)

    def lines(self, name: str, host: int | None = None) -> list[str]:
        prefix = f"{name}/" if host is None else f"{name}/algo-{host}-"
        try:
            events, token = self.logs.filter(GROUP, prefix=prefix)
        except Exception:  # noqa: BLE001 - there is no log group before the first line
            return []
        while token:
            more, token = self.logs.filter(GROUP, prefix=prefix, token=token)
            events += more
        return [event.message for event in events]

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.005)

    def check_nothing_left(self) -> None:
        """Hold that no folder of a job stays; a supervisor removes the last one just after the job has ended."""
        self.until(lambda: not list((self.home / "jobs").iterdir()))

    def keys(self, prefix: str = "") -> list[str]:
        return [record.key for record in self.objects.iter_prefix("data", prefix)]

    def text(self, key: str) -> str:
        _, body = self.objects.open("data", key)  # open, it outlives that the object is replaced
        with open(body, encoding="utf-8") as file:  # noqa: PTH123 - a path as text
            return file.read()


def _input(path: str, source: str | Mapping[str, Any]) -> dict[str, Any]:
    given = {"S3Uri": source} if isinstance(source, str) else dict(source)
    s3_input = {"LocalPath": f"/opt/ml/processing/{path}", "S3DataType": "S3Prefix", **given}
    return {"InputName": path.replace("/", "-"), "S3Input": s3_input}


@pytest.fixture
def make_jobs(tmp_path: Path) -> Callable[..., Jobs]:
    """Return a factory of engines in the test's folder, with a short tick and grace."""

    def make(**settings: Any) -> Jobs:
        return Jobs(tmp_path / "engine", EngineSettings(**{"tick": 0.01, "grace": 0.3, **settings}))

    return make


# The sandbox that a test needs, by a part of the test's name.
_NEEDED = {"bubblewrap": "bubblewrap", "namespaces": "namespaces", "user": "namespaces"}


@pytest.fixture(autouse=True)
def _on_a_machine_that_can(request: pytest.FixtureRequest) -> None:
    """Skip the tests of a sandbox where it does not work."""
    for part in request.node.name.partition("[")[2].rstrip("]").split("-"):
        if part in _NEEDED:
            skip_without_sandbox(_NEEDED[part])


@pytest.fixture
def jobs(make_jobs: Callable[..., Jobs]) -> Jobs:
    return make_jobs()


@pytest.fixture(params=["bubblewrap", "namespaces", "rewriting"])
def own_programs(request: pytest.FixtureRequest, make_jobs: Callable[..., Jobs]) -> Jobs:
    """Every sandbox that runs this machine's programs."""
    return make_jobs(sandbox=request.param)


@pytest.fixture(params=["bubblewrap", "namespaces", "rewriting", "container"])
def every_sandbox(request: pytest.FixtureRequest, make_jobs: Callable[..., Jobs]) -> Jobs:
    """Every sandbox; the image of the container is that of `Containers.PYTHON`."""
    if request.param != "container":
        return make_jobs(sandbox=request.param)
    containers: Containers = request.getfixturevalue("containers")
    options = (*containers.options, "--volume", "/usr:/usr:ro")
    return make_jobs(sandbox="container", container_program=containers.program, container_options=options)

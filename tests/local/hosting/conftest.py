"""Endpoints and transform jobs that really run, on engines of the tests' own."""

from __future__ import annotations

import contextlib
import io
import tarfile
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from processing import LocalSession
from processing.local.hosting.networks import port_in_use
from processing.local.sandboxes.bubblewrap import Bubblewrap
from processing.local.sandboxes.namespaces import Namespaces
from processing.local.transports.server import Server
from sandbox_machine import skip_without_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from container_fixtures import Containers

ROLE = "arn:aws:iam::000000000000:role/hosting"
PATIENCE = 60.0


class Hosting:
    """An engine, and short ways to models, endpoints and transform jobs.

    Args:
        home: its folder.
        image: the image of its models.
        settings: its settings.
    """

    def __init__(self, home: Path, image: str = "image", **settings: Any) -> None:
        options: dict[str, Any] = {"programs": {"*": "answering_program"}, "tick": 0.01, "grace": 1.0, **settings}
        self.session = LocalSession(home, **options)
        self.home = home
        self.image = image
        self.connect(self.session.boto_session.client)
        self.s3.create_bucket(Bucket="data")

    def connect(self, make: Callable[..., Any]) -> None:
        """Use the clients that a function makes."""
        self.client = make
        self.sagemaker: Any = make("sagemaker")
        self.runtime: Any = make("sagemaker-runtime")
        self.s3: Any = make("s3")

    def model(self, name: str, data: Mapping[str, bytes] | None = None, **variables: str) -> str:
        container: dict[str, Any] = {"Image": self.image, "Environment": variables}
        if data is not None:
            self.s3.put_object(Bucket="data", Key=f"{name}/model.tar.gz", Body=archive(data))
            container["ModelDataUrl"] = f"s3://data/{name}/model.tar.gz"
        self.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
        return name

    def config(self, name: str, *models: str, weights: Mapping[str, float] | None = None, **others: Any) -> str:
        variants = [
            {
                "VariantName": model,
                "ModelName": model,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
                "InitialVariantWeight": (weights or {}).get(model, 1.0),
            }
            for model in models
        ]
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **others)
        return name

    def deploy(self, name: str, data: Mapping[str, bytes] | None = None, **variables: str) -> str:
        """Create a model, a configuration and an endpoint, each with that name, and wait for the endpoint."""
        self.config(name, self.model(name, data, **variables))
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        assert self.settled(name)["EndpointStatus"] == "InService", self.describe(name)
        return name

    def describe(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
        return answer

    def settled(self, name: str) -> dict[str, Any]:
        self.until(lambda: self.describe(name)["EndpointStatus"] not in {"Creating", "Updating"})
        return self.describe(name)

    def invoke(self, name: str, body: bytes | str = b"", **others: Any) -> bytes:
        content: bytes = self.runtime.invoke_endpoint(EndpointName=name, Body=body, **others)["Body"].read()
        return content

    def delete(self, name: str) -> None:
        """Delete an endpoint and wait for its end."""
        self.sagemaker.delete_endpoint(EndpointName=name)
        self.until(lambda: not self.exists(name))

    def exists(self, name: str) -> bool:
        found = self.sagemaker.list_endpoints(NameContains=name, MaxResults=100)["Endpoints"]
        return name in {each["EndpointName"] for each in found}

    def close(self) -> None:
        """Delete every endpoint."""
        names = [each["EndpointName"] for each in self.sagemaker.list_endpoints(MaxResults=100)["Endpoints"]]
        for name in names:
            with contextlib.suppress(ClientError):
                self.settled(name)
                self.delete(name)

    def lines(self, group: str) -> list[str]:
        """The lines of a group. The first line creates it."""
        logs: Any = self.client("logs")
        with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
            return [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]]
        return []

    def keys(self, prefix: str) -> dict[str, bytes]:
        """The objects below a prefix, by the rest of their keys."""
        found = self.s3.list_objects_v2(Bucket="data", Prefix=prefix).get("Contents", [])
        return {
            each["Key"].removeprefix(prefix): self.s3.get_object(Bucket="data", Key=each["Key"])["Body"].read()
            for each in found
        }

    @staticmethod
    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, condition
            time.sleep(0.01)  # waits for other processes


def archive(files: Mapping[str, bytes]) -> bytes:
    """A model.tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def http_clients(stack: contextlib.ExitStack, server: Server) -> Callable[..., Any]:
    """A function that makes clients of a server, which the stack closes."""
    keys = server.environment()

    def make(service: str, **options: Any) -> Any:
        made: Any = boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=server.endpoint,
            region_name=keys["AWS_REGION"],
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}),
            **options,
        )
        stack.callback(made.close)
        return made

    return make


def has_networks() -> bool:
    """True if this machine gives programs networks of their own."""
    return Bubblewrap.probe()[0] is not None or Namespaces.probe()[0] is not None


@pytest.fixture
def hosting(tmp_path: Path) -> Iterator[Hosting]:
    """An engine for the test alone."""
    if not has_networks():
        pytest.skip("no sandbox with networks works on this machine")
    made = Hosting(tmp_path / "engine")
    yield made
    made.close()


@pytest.fixture(params=["in process", "http"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hosting]:
    """An engine for the test alone, through each of its transports."""
    if not has_networks():
        pytest.skip("no sandbox with networks works on this machine")
    made = Hosting(tmp_path / "engine")
    with contextlib.ExitStack() as stack:
        if request.param == "http":
            made.connect(http_clients(stack, stack.enter_context(Server(made.session.engine))))
        yield made
        made.close()


@pytest.fixture
def shim_hosting(tmp_path: Path) -> Iterator[Hosting]:
    """An engine whose images are the container shim."""
    if not has_networks():
        pytest.skip("no sandbox with networks works on this machine")
    made = Hosting(tmp_path / "engine", programs={"*": "processing.container.shim"})
    made.s3.put_object(Bucket="data", Key="in/a", Body=b"x y z")
    made.s3.put_object(Bucket="data", Key="in/b", Body=b"fail")
    yield made
    made.close()


@pytest.fixture
def with_long_grace(tmp_path: Path) -> Iterator[Hosting]:
    """An engine that waits for an hour before it kills a program that was told to end."""
    made = Hosting(tmp_path / "engine", grace=3600.0)
    yield made
    made.close()


@pytest.fixture
def machine_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Port 8080 of this machine, which tests that run side by side use one at a time."""
    import fcntl  # absent on Windows

    # The processes of one run have folders side by side.
    with (tmp_path_factory.getbasetemp().parent / "port.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def without_networks(machine_port: None, tmp_path: Path) -> Iterator[Hosting]:
    """An engine whose programs share this machine's network."""
    del machine_port
    made = Hosting(tmp_path / "engine", sandbox="rewriting")
    yield made
    made.close()


@pytest.fixture(params=["bubblewrap", "namespaces", "rewriting"])
def sandboxed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hosting]:
    """An engine for the test alone, with each sandbox that runs this machine's programs."""
    skip_without_sandbox(request.param)
    made = Hosting(tmp_path / "engine", sandbox=request.param)
    if request.param == "rewriting":
        request.getfixturevalue("machine_port")
        made.until(lambda: not port_in_use())  # by a program of this machine
    yield made
    made.close()


@pytest.fixture
def container_hosting(tmp_path: Path, containers: Containers) -> Iterator[Hosting]:
    """An engine whose image, `Containers.MODEL`, itself runs; at the end no container is left."""
    options = (*containers.options, "--volume", "/usr:/usr:ro")
    made = Hosting(
        tmp_path / "engine",
        sandbox="container",
        container_program=containers.program,
        container_options=options,
        programs={},
        image=containers.MODEL,
    )
    yield made
    made.close()
    made.until(lambda: not containers.names())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosting]:
    """An engine with the endpoint `shared`, for tests that leave it as it is."""
    if not has_networks():
        pytest.skip("no sandbox with networks works on this machine")
    made = Hosting(tmp_path_factory.mktemp("hosting") / "engine")
    made.deploy("shared", {"weights.txt": b"1", "code/inference.py": b""}, VERSION="1")
    yield made
    made.close()

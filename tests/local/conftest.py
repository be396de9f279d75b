"""The engine's services through each of its transports: the same tests, the same answers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import pytest
from botocore.config import Config

from container_fixtures import containers  # noqa: F401 - a fixture of several folders
from processing.local.transports.server import Server
from processing.request.service_model import shared_loader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processing import LocalSession


@pytest.fixture
def server(local_session: LocalSession) -> Iterator[Server]:
    """The engine over HTTP."""
    with Server(local_session.engine) as serving:
        yield serving


@pytest.fixture
def http_client(server: Server) -> Iterator[Callable[..., Any]]:
    """Makes boto3 clients that reach the engine over HTTP; they are closed at the end."""
    environment = server.environment()
    core = botocore.session.Session()
    core.register_component("data_loader", shared_loader())
    session: Any = boto3.Session(
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
        botocore_session=core,
    )
    with contextlib.ExitStack() as stack:

        def make(service: str, config: Config | None = None, **options: Any) -> Any:
            ours = Config(inject_host_prefix=False, retries={"total_max_attempts": 1, "mode": "standard"})
            merged = ours if config is None else ours.merge(config)
            made = session.client(service, endpoint_url=server.endpoint, config=merged, **options)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture(params=["in process", "http"])
def client(request: pytest.FixtureRequest, local_session: LocalSession) -> Callable[..., Any]:
    """Makes boto3 clients of one engine, through each of its transports: `client("s3")`."""
    if request.param == "http":
        made: Callable[..., Any] = request.getfixturevalue("http_client")
        return made
    make: Callable[..., Any] = local_session.boto_session.client
    return make

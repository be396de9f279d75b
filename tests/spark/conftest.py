"""An engine whose endpoints answer the sum of each row."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from botocore.exceptions import ClientError

from processing import LocalSession
from processing.local.sandboxes.bubblewrap import Bubblewrap
from processing.local.sandboxes.namespaces import Namespaces
from processing.spark.ml.creation import ENDPOINT, describe
from processing.spark.ml.hosting import Hosting
from processing.spark.ml.names import CustomNamePolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processing.testing import FaultInjector

ROLE = "arn:aws:iam::000000000000:role/summing"


@attrs.frozen
class Summing:
    """Endpoints that answer the sum of each row.

    Attributes:
        home: the engine's folder.
    """

    home: Path

    def session(self, faults: FaultInjector | None = None) -> LocalSession:
        """Return a session, with faults on its wire."""
        options: dict[str, Any] = {"programs": {"*": "summing_program"}, "tick": 0.02, "grace": 1.0}
        return LocalSession(self.home, transport=None if faults is None else faults.wrap, **options)

    def deploy(self, name: str, **environment: str) -> str:
        """Create an endpoint of that name, and wait for it."""
        hosting = Hosting(self.session(), CustomNamePolicy(name, name, name, name))
        model = {"PrimaryContainer": {"Image": "image", "Environment": environment}, "ExecutionRoleArn": ROLE}
        return hosting.ensure_endpoint(model, {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}, [])

    def delete(self, name: str) -> None:
        """Delete an endpoint."""
        session = self.session()
        if describe(session.api, ENDPOINT, name) is not None:
            with contextlib.suppress(ClientError):
                session.boto_session.client("sagemaker").delete_endpoint(EndpointName=name)


@pytest.fixture(scope="module")
def summing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Summing]:
    """An engine with the endpoint `sums`, which takes 200 bytes at most."""
    if Bubblewrap.probe()[0] is None and Namespaces.probe()[0] is None:
        pytest.skip("no sandbox with networks works on this machine")
    made = Summing(tmp_path_factory.mktemp("summing") / "engine")
    made.deploy("sums", LIMIT="200")
    yield made
    made.delete("sums")

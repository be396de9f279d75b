"""Endpoints for tests: models that programs of the test's own serve on the embedded engine."""

from __future__ import annotations

import contextlib
import io
import tarfile
import time
from typing import TYPE_CHECKING, Any

from processing._utils.validation import FLAG, NAME, instance_of, require
from processing.exceptions import ConfigurationError
from processing.local.errors import ApiError
from processing.testing.storage import PAUSE, put, require_files, require_texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.session import LocalSession

_JOBS = ("Processing", "Training", "Transform")


class EndpointMaker:
    """Makes models, configurations and endpoints of one name on an engine.

    Its calls go to the engine directly, without faults.

    Args:
        session: the session of the engine.
    """

    def __init__(self, session: LocalSession) -> None:
        from processing.local.session import LocalSession

        require("session", session, instance_of(LocalSession))
        self._session = session

    def __call__(
        self,
        name: str,
        *,
        image: str = "image",
        model: Mapping[str, bytes] | None = None,
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> str:
        """Create an endpoint with one variant, and return its name.

        Args:
            name: the name of the endpoint, of its configuration, of its model and of its variant.
            image: the image, for which the session has a program.
            model: the files of the model by their paths below /opt/ml/model; None for no files.
            environment: the variables of the program.
            wait: whether to wait until the endpoint is in service.

        Raises:
            ConfigurationError: an argument has a wrong type, or the endpoint failed; the message has its FailureReason.
            ApiError: the engine refuses the endpoint.
        """
        require("name", name, NAME)
        require("image", image, NAME)
        if model is not None:
            require_files("model", model)
        require_texts("environment", environment)
        require("wait", wait, FLAG)
        container: dict[str, Any] = {"Image": image, "Environment": dict(environment or {})}
        if model is not None:
            container["ModelDataUrl"] = self._store(name, model)
        role = f"arn:aws:iam::{self._session.engine.account}:role/processing-testing"
        variant = {"VariantName": name, "ModelName": name, "InstanceType": "local", "InitialInstanceCount": 1}
        self._call("CreateModel", ModelName=name, PrimaryContainer=container, ExecutionRoleArn=role)
        self._call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=[variant])
        self._call("CreateEndpoint", EndpointName=name, EndpointConfigName=name)
        if wait:
            self.wait(name)
        return name

    def wait(self, name: str) -> None:
        """Wait until an endpoint is in service.

        Raises:
            ConfigurationError: the name has a wrong type, or the endpoint failed; the message has its FailureReason.
            ApiError: there is no such endpoint.
        """
        require("name", name, NAME)
        while (described := self._call("DescribeEndpoint", EndpointName=name))["EndpointStatus"] != "InService":
            if described["EndpointStatus"] == "Failed":
                raise ConfigurationError(f"name: the endpoint {name} failed: {described['FailureReason']}")
            time.sleep(PAUSE)

    def _store(self, name: str, files: Mapping[str, bytes]) -> str:
        """Store the archive of a model, and return its URI."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return put(self._session, f"{name}/model.tar.gz", archive.getvalue())

    def _call(self, operation: str, **params: Any) -> Mapping[str, Any]:
        return self._session.engine.handle("sagemaker", operation, params)


def stop_all(session: LocalSession) -> None:
    """Stop the running jobs and delete the endpoints of a session. The calls go to the engine directly."""
    handle = session.engine.handle
    for kind in _JOBS:
        member = f"{kind}JobName"
        running = {"StatusEquals": "InProgress"}
        while jobs := handle("sagemaker", f"List{kind}Jobs", running)[f"{kind}JobSummaries"]:
            for job in jobs:
                with contextlib.suppress(ApiError):  # the job has ended meanwhile
                    handle("sagemaker", f"Stop{kind}Job", {member: job[member]})
    while endpoints := handle("sagemaker", "ListEndpoints", {})["Endpoints"]:
        for endpoint in endpoints:
            with contextlib.suppress(ApiError):  # it is being created, updated or deleted
                handle("sagemaker", "DeleteEndpoint", {"EndpointName": endpoint["EndpointName"]})
        time.sleep(PAUSE)

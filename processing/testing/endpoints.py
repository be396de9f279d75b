"""Endpoints for tests: models that programs of the test's own serve on the embedded engine."""

from __future__ import annotations

import contextlib
import io
import tarfile
import time
from typing import TYPE_CHECKING, Any

from processing._utils.validation import FLAG, MAPPING, NAME, TEXT, Kind, instance_of, require
from processing.exceptions import ConfigurationError
from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.session import LocalSession

_BUCKET = "processing-testing-models"
_PAUSE = 0.01
_BYTES = Kind("bytes", lambda value: isinstance(value, (bytes, bytearray)))
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
        require("model", model, MAPPING, optional=True)
        for path, content in (model or {}).items():
            require(f"model: the path {path!r}", path, NAME)
            require(f"model[{path!r}]", content, _BYTES)
        require("environment", environment, MAPPING, optional=True)
        for variable, value in (environment or {}).items():
            require(f"environment: the name {variable!r}", variable, NAME)
            require(f"environment[{variable!r}]", value, TEXT)
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
            time.sleep(_PAUSE)

    def _store(self, name: str, files: Mapping[str, bytes]) -> str:
        """Store the archive of a model, and return its URI."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        handle = self._session.engine.handle
        with contextlib.suppress(ApiError):  # it exists
            handle("s3", "CreateBucket", {"Bucket": _BUCKET})
        key = f"{name}/model.tar.gz"
        handle("s3", "PutObject", {"Bucket": _BUCKET, "Key": key, "Body": archive.getvalue()})
        return f"s3://{_BUCKET}/{key}"

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
        time.sleep(_PAUSE)

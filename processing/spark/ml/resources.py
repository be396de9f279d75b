"""The resources that a model creates on SageMaker, and their deletion."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from processing._utils.validation import NAME, Kind, require
from processing.default_sessions import session_for_attach
from processing.exceptions import ProcessingError
from processing.session.session import Session
from processing.spark.ml.creation import ENDPOINT, ENDPOINT_CONFIG, MODEL, Resource, describe, is_missing
from processing.spark.ml.values import Value, both_spellings

if TYPE_CHECKING:
    from processing.aws.retry import RetryingApi

logger = logging.getLogger(__name__)


class CreatedResources(Value):
    """The names of the resources that a model has created.

    Args:
        model_name: the model; None if none was created.
        endpoint_config_name: the endpoint configuration; None if none was created.
        endpoint_name: the endpoint; None if none was created.
    """

    @both_spellings
    def __init__(
        self,
        model_name: str | None = None,
        endpoint_config_name: str | None = None,
        endpoint_name: str | None = None,
    ) -> None:
        self.model_name = model_name
        self.endpoint_config_name = endpoint_config_name
        self.endpoint_name = endpoint_name

    @property
    def modelName(self) -> str | None:
        """The model."""
        return self.model_name

    @property
    def endpointConfigName(self) -> str | None:
        """The endpoint configuration."""
        return self.endpoint_config_name

    @property
    def endpointName(self) -> str | None:
        """The endpoint."""
        return self.endpoint_name

    def __bool__(self) -> bool:
        return any(vars(self).values())


class SageMakerResourceCleanupException(ProcessingError):  # noqa: N818 - the name of SageMaker Spark
    """Resources could not be deleted.

    Attributes:
        createdResources: those that remain.
    """

    def __init__(self, message: str, remaining: CreatedResources) -> None:
        super().__init__(message)
        self.createdResources = remaining


_RESOURCES: Final = Kind("a CreatedResources", lambda value: isinstance(value, CreatedResources))


class SageMakerResourceCleanup:
    """Deletes models, endpoint configurations and endpoints. One that does not exist counts as deleted.

    Args:
        sagemakerClient: a boto3 client of SageMaker, or a session of this package; None for the default session.
    """

    @both_spellings
    def __init__(self, sagemakerClient: Any = None) -> None:
        if hasattr(sagemakerClient, "meta"):
            region = sagemakerClient.meta.region_name
            self._session = Session(sagemaker_client=sagemakerClient, region_name=region)
        else:
            self._session = session_for_attach(sagemakerClient, "sagemakerClient")

    @both_spellings
    def deleteResources(self, created_resources: CreatedResources) -> None:
        """Delete the resources that a model has created: `model.getCreatedResources()`.

        Args:
            created_resources: the resources.

        Raises:
            ConfigurationError: the argument is of another class.
            SageMakerResourceCleanupException: some remain; all were tried.
        """
        require("created_resources", created_resources, _RESOURCES)
        failures: list[Exception] = []
        remaining = CreatedResources()
        for member, resource in (
            ("endpoint_name", ENDPOINT),
            ("endpoint_config_name", ENDPOINT_CONFIG),
            ("model_name", MODEL),
        ):
            name = getattr(created_resources, member)
            if name is None:
                continue
            try:
                delete(self._session.api, resource, name)
            except Exception as error:  # noqa: BLE001 - the others are deleted, too
                failures.append(error)
                setattr(remaining, member, name)
        if failures:
            raise SageMakerResourceCleanupException(f"{remaining} could not be deleted: {failures[0]}", remaining)

    def deleteEndpoint(self, name: str) -> None:
        """Delete an endpoint."""
        require("name", name, NAME)
        delete(self._session.api, ENDPOINT, name)

    def deleteEndpointConfig(self, name: str) -> None:
        """Delete an endpoint configuration."""
        require("name", name, NAME)
        delete(self._session.api, ENDPOINT_CONFIG, name)

    def deleteModel(self, name: str) -> None:
        """Delete a model."""
        require("name", name, NAME)
        delete(self._session.api, MODEL, name)

    delete_resources = deleteResources
    delete_endpoint = deleteEndpoint
    delete_endpoint_config = deleteEndpointConfig
    delete_model = deleteModel


_IN_PROGRESS: Final = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack"})
_DELETING: Final = "Deleting"
_PATIENCE: Final = 30 * 60.0  # seconds for an endpoint to come to rest: AWS deletes none before
_PAUSE: Final = 2.0


def delete(api: RetryingApi, resource: Resource, name: str) -> None:
    """Delete a resource. One that does not exist counts as deleted. An endpoint in progress is waited for.

    Args:
        api: the session's calls.
        resource: the kind of the resource.
        name: its name.
    """
    from botocore.exceptions import ClientError

    deadline = api.clock.monotonic() + _PATIENCE
    while True:
        status = _endpoint_status(api, resource, name)
        if status == _DELETING:
            return
        if status not in _IN_PROGRESS or api.clock.monotonic() > deadline:
            break
        api.clock.sleep(_PAUSE)
    try:
        api.call("sagemaker", f"Delete{resource.operation}", {resource.name: name})
    except ClientError as error:
        # An earlier try, whose answer was lost, may have deleted it; an endpoint is then on its way out.
        if not is_missing(error) and _endpoint_status(api, resource, name) != _DELETING:
            raise
    logger.info("%s %s was deleted", resource.noun, name)


def _endpoint_status(api: RetryingApi, resource: Resource, name: str) -> str | None:
    """Return the status of an endpoint; None for other resources, and `Deleting` for one that does not exist."""
    status: str | None = (describe(api, resource, name) or {"EndpointStatus": _DELETING}).get("EndpointStatus")
    return status

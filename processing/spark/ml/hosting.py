"""The endpoint of a model: created once, at the first need, and shared by the copies of the model."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Final

from processing._utils.forks import ForkSafeLock
from processing.exceptions import ConfigurationError, ProcessingError, WaitTimeoutError
from processing.spark.ml.creation import ENDPOINT, ENDPOINT_CONFIG, MODEL, Resource, create_once, describe
from processing.spark.ml.resources import CreatedResources, SageMakerResourceCleanup

if TYPE_CHECKING:
    from processing.session.session import Session
    from processing.spark.ml.names import NamePolicy

logger = logging.getLogger(__name__)

_PATIENCE: Final = 30 * 60.0  # seconds until an endpoint is in service, as in SageMaker Spark
_VARIANT: Final = "AllRequests"


class EndpointError(ProcessingError):
    """An endpoint did not come into service, or is not in service.

    Attributes:
        endpoint_name: the endpoint.
        status: its status; None if it does not exist.
    """

    def __init__(self, message: str, *, endpoint_name: str, status: str | None) -> None:
        super().__init__(message)
        self.endpoint_name = endpoint_name
        self.status = status


def poll_interval(session: Session) -> float:
    """Return the seconds between two looks at a job or an endpoint: 5 on AWS, less on the engine."""
    return 0.1 if session.is_local else 5.0


class Hosting:
    """A model and its endpoint on SageMaker.

    Args:
        session: the session.
        names: the names of all that is created.
        created: the resources that were created so far.
        endpoint: the endpoint in use; None before one is needed.
    """

    def __init__(
        self,
        session: Session,
        names: NamePolicy,
        created: CreatedResources | None = None,
        endpoint: str | None = None,
    ) -> None:
        self._session = session
        self._names = names
        self._lock = ForkSafeLock()
        self.created = created or CreatedResources()
        self.endpoint = endpoint

    def ensure_model(self, request: dict[str, Any], tags: list[dict[str, str]]) -> str:
        """Create the model if this has not been done, and return its name.

        Args:
            request: the parameters of CreateModel, without its name.
            tags: the tags of all resources.
        """
        with self._lock:
            name = self._names.modelName
            if self.created.model_name is None:
                self._create_once(MODEL, {"ModelName": name, **request, **_tags(tags)}, "model_name")
            return name

    def ensure_endpoint(self, model: dict[str, Any], variant: dict[str, Any], tags: list[dict[str, str]]) -> str:
        """Create the endpoint if this has not been done, wait until it is in service, and return its name.

        Args:
            model: the parameters of CreateModel, without its name.
            variant: the instances of the endpoint.
            tags: the tags of all resources.

        Raises:
            EndpointError: it did not come into service. All that was created for it is deleted.
        """
        with self._lock:
            if self.endpoint is not None:
                return self.endpoint
            try:
                name = self._create(model, variant, tags)
            except BaseException:
                self.close()
                raise
            self.endpoint = name
            return name

    def _create(self, model: dict[str, Any], variant: dict[str, Any], tags: list[dict[str, str]]) -> str:
        names = self._names
        variants = [{"VariantName": _VARIANT, "ModelName": self.ensure_model(model, tags), **variant}]
        config = {"EndpointConfigName": names.endpointConfigName, "ProductionVariants": variants, **_tags(tags)}
        if self.created.endpoint_config_name is None:
            self._create_once(ENDPOINT_CONFIG, config, "endpoint_config_name")
        if self.created.endpoint_name is None:
            endpoint = {"EndpointName": names.endpointName, "EndpointConfigName": names.endpointConfigName}
            self._create_once(ENDPOINT, {**endpoint, **_tags(tags)}, "endpoint_name")
        wait_for_endpoint(self._session, names.endpointName)
        return names.endpointName

    def _create_once(self, resource: Resource, request: dict[str, Any], member: str) -> None:
        """Create a resource, and note its name as soon as it may exist."""
        owned = functools.partial(setattr, self.created, member, request[resource.name])
        create_once(self._session.api, resource, request, owned=owned)

    def close(self) -> None:
        """Delete all that was created."""
        if self.created:
            SageMakerResourceCleanup(self._session).deleteResources(self.created)
            if self.endpoint == self.created.endpoint_name:
                self.endpoint = None
            self.created = CreatedResources()


def _tags(tags: list[dict[str, str]]) -> dict[str, Any]:
    return {"Tags": tags} if tags else {}


def wait_for_endpoint(session: Session, name: str) -> None:
    """Wait until an endpoint is in service.

    Raises:
        EndpointError: it failed.
        WaitTimeoutError: it is not in service after 30 minutes.
    """
    clock = session.clock
    deadline = clock.monotonic() + _PATIENCE
    while True:
        found = describe(session.api, ENDPOINT, name) or {}
        status = found.get("EndpointStatus")
        if status == "InService":
            return
        if status not in {"Creating", "Updating", "SystemUpdating", None}:
            raise EndpointError(
                f"endpoint {name} is {status}: {found.get('FailureReason', 'no reason was given')}",
                endpoint_name=name,
                status=status,
            )
        if clock.monotonic() > deadline:
            raise WaitTimeoutError(f"endpoint {name} is {status} after {_PATIENCE:.0f} seconds", job_name=name)
        clock.sleep(poll_interval(session))


def check_endpoint(session: Session, name: str) -> None:
    """Refuse an endpoint that is not in service.

    Raises:
        ConfigurationError: it does not exist, or has another status.
    """
    found = describe(session.api, ENDPOINT, name)
    status = None if found is None else found["EndpointStatus"]
    if status not in {"InService", "Updating", "SystemUpdating"}:  # an update keeps it in service
        problem = "does not exist" if found is None else f"is {status}"
        raise ConfigurationError(f"endpointName: the endpoint {name!r} {problem}; it must be InService")

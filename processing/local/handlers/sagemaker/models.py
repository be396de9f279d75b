"""The operations on models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.sagemaker import named_resources
from processing.local.hosting.hosts import container_of
from processing.local.jobs.description import to_datetime
from processing.local.jobs.execution_planner import remote_s3_options
from processing.local.jobs.model_data import missing_data, model_inputs
from processing.local.jobs.object_source import object_source
from processing.local.stores.resources import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

_MISSING = {
    "ModelPackageName": "a model package",
    "InferenceSpecificationName": "an inference specification",
    "MultiModelConfig": "several models in one container",
    "AdditionalModelDataSources": "further sources of model data",
}
"""The members of a container that ask for features that the engine lacks."""


class ModelOperations:
    """The operations that create, describe, list and delete models.

    A model is a record. Its data has to exist, as on AWS; its container and the archive itself are checked when an
    endpoint or a transform job uses the model. A model in use can be deleted, as on AWS: its users have copies.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._models = named_resources.resource_store(engine, MODEL)
        self.operations: dict[str, Operation] = {
            "CreateModel": self.create_model,
            "DescribeModel": self.describe_model,
            "ListModels": self.list_models,
            "DeleteModel": self.delete_model,
        }

    def create_model(self, params: dict[str, Any]) -> dict[str, Any]:
        """Record a model."""
        problems = list(_problems(params))
        if problems:
            raise ApiError("ValidationException", " ".join(problems))
        self._require_data(container_of(params))
        return {"ModelArn": named_resources.create(self._models, params).arn}

    def _require_data(self, container: Mapping[str, Any]) -> None:
        if not model_inputs(container):
            return
        remote = remote_s3_options(self._engine.settings, self._engine.region)
        objects = self._engine.objects if remote is None else object_source(self._engine.home, remote)
        problem = missing_data(container, objects)
        if problem is not None:
            raise ApiError("ValidationException", problem)

    def describe_model(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a model's request, with SageMaker's defaults."""
        model = self._models.get(params["ModelName"])
        answer = {"EnableNetworkIsolation": False, **model.request}
        for name in ("PrimaryContainer", "Containers"):
            if name in answer:
                found = answer[name]
                answer[name] = _described(found) if name == "PrimaryContainer" else [_described(each) for each in found]
        return {**answer, "ModelArn": model.arn, "CreationTime": to_datetime(model.created)}

    def list_models(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of models."""
        found, token = named_resources.page(self._models, params)
        models = [
            {"ModelName": model.name, "ModelArn": model.arn, "CreationTime": to_datetime(model.created)}
            for model in found
        ]
        return {"Models": models} if token is None else {"Models": models, "NextToken": token}

    def delete_model(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a model. Endpoints that use it go on."""
        self._models.delete(params["ModelName"])
        return {}


def _described(container: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"Mode": "SingleModel", "Environment": {}, **container}
    url = container.get("ModelDataUrl")
    if url is not None and "ModelDataSource" not in container:
        source = {"S3Uri": url, "S3DataType": "S3Object", "CompressionType": "Gzip"}
        answer["ModelDataSource"] = {"S3DataSource": source}
    return answer


def _problems(params: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of a request that the service model does not find."""
    primary, several = params.get("PrimaryContainer"), params.get("Containers")
    if not params.get("ModelName"):
        yield "ModelName must not be empty."
    if (primary is None) == (several is None):
        yield "Give either PrimaryContainer or Containers."
    if several is not None and len(several) > 1:
        yield "The local engine has no pipelines of containers: give one container."
    if several is not None and not several:
        yield "Containers must not be empty."
    if "ExecutionRoleArn" not in params:
        yield "ExecutionRoleArn is missing."
    for container in [primary] if primary is not None else several or ():
        yield from _container_problems(container)


def _container_problems(container: Mapping[str, Any]) -> Iterator[str]:
    for name, feature in _MISSING.items():
        if container.get(name):
            yield f"{name}: the local engine does not have {feature}."
    if container.get("Mode") == "MultiModel":
        yield "Mode: the local engine has no multi-model endpoints."
    if not container.get("Image") and not container.get("ModelPackageName"):
        yield "Image is missing."
    if container.get("ModelDataUrl") and container.get("ModelDataSource"):
        yield "ModelDataUrl and ModelDataSource exclude each other."

"""The operations on endpoint configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.sagemaker import named_resources
from processing.local.jobs.description import to_datetime
from processing.local.stores.resources import ENDPOINT_CONFIG, MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

_MISSING = {
    "ShadowProductionVariants": "shadow variants",
    "ExplainerConfig": "explanations",
    "CrossRegionTrafficConfig": "traffic across regions",
}
"""The members of a request that ask for features that the engine lacks."""
_MISSING_OF_VARIANT = {
    "ServerlessConfig": "serverless endpoints",
    "ManagedInstanceScaling": "automatic scaling",
    "AcceleratorType": "Elastic Inference",
    "InstancePools": "pools of instances",
}
"""The members of a variant that ask for features that the engine lacks."""


class EndpointConfigOperations:
    """The operations that create, describe, list and delete endpoint configurations.

    A configuration in use can be deleted, as on AWS: an endpoint has a copy.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._configs = named_resources.resource_store(engine, ENDPOINT_CONFIG)
        self._models = named_resources.resource_store(engine, MODEL)
        self.operations: dict[str, Operation] = {
            "CreateEndpointConfig": self.create_endpoint_config,
            "DescribeEndpointConfig": self.describe_endpoint_config,
            "ListEndpointConfigs": self.list_endpoint_configs,
            "DeleteEndpointConfig": self.delete_endpoint_config,
        }

    def create_endpoint_config(self, params: dict[str, Any]) -> dict[str, Any]:
        """Record an endpoint configuration."""
        problems = list(_problems(params))
        if problems:
            raise ApiError("ValidationException", " ".join(problems))
        for variant in params["ProductionVariants"]:
            self._models.get(variant["ModelName"])
        return {"EndpointConfigArn": named_resources.create(self._configs, params).arn}

    def describe_endpoint_config(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return an endpoint configuration's request, with SageMaker's defaults."""
        config = self._configs.get(params["EndpointConfigName"])
        variants = [{"InitialVariantWeight": 1.0, **variant} for variant in config.request["ProductionVariants"]]
        answer = {"EnableNetworkIsolation": False, **config.request, "ProductionVariants": variants}
        return {**answer, "EndpointConfigArn": config.arn, "CreationTime": to_datetime(config.created)}

    def list_endpoint_configs(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of endpoint configurations."""
        found, token = named_resources.page(self._configs, params)
        configs = [
            {
                "EndpointConfigName": config.name,
                "EndpointConfigArn": config.arn,
                "CreationTime": to_datetime(config.created),
            }
            for config in found
        ]
        return {"EndpointConfigs": configs, **({} if token is None else {"NextToken": token})}

    def delete_endpoint_config(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete an endpoint configuration. Endpoints that use it go on."""
        self._configs.delete(params["EndpointConfigName"])
        return {}


def _problems(params: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of a request that the service model does not find."""
    if not params.get("EndpointConfigName"):
        yield "EndpointConfigName must not be empty."
    for name, feature in _MISSING.items():
        if params.get(name):
            yield f"{name}: the local engine does not have {feature}."
    if (params.get("DataCaptureConfig") or {}).get("EnableCapture"):
        yield "DataCaptureConfig: the local engine does not have data capture."
    variants = params["ProductionVariants"]
    names = [variant["VariantName"] for variant in variants]
    yield from (f"The VariantName {name} is used more than once." for name in sorted({*names}) if names.count(name) > 1)
    for variant in variants:
        yield from _variant_problems(variant)


def _variant_problems(variant: Mapping[str, Any]) -> Iterator[str]:
    label = f"The variant {variant['VariantName']}"
    missing = [feature for name, feature in _MISSING_OF_VARIANT.items() if variant.get(name)]
    for feature in missing:
        yield f"{label}: the local engine does not have {feature}."
    if not variant.get("ModelName"):
        yield f"{label}: ModelName is missing; the local engine has no inference components."
    if not missing:
        for name in ("InstanceType", "InitialInstanceCount"):
            if not variant.get(name):
                yield f"{label}: {name} is missing."

"""The operations on endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.container.contract import DAY
from processing.local import sandboxes
from processing.local.errors import ApiError
from processing.local.handlers.sagemaker import named_resources
from processing.local.handlers.sagemaker.common import arn_prefix, now, tags_of
from processing.local.hosting.asynchronous.queue import AsyncQueue
from processing.local.hosting.hosts import EndpointHosts, container_of, host_request
from processing.local.hosting.networks import has_own_network, only_one_message, port_in_use
from processing.local.jobs.endpoint_description import endpoint_description, endpoint_summary
from processing.local.jobs.execution_planner import make_execution_plan
from processing.local.jobs.workload import Workload
from processing.local.stores.endpoints import EndpointStore, NewHost, Variant
from processing.local.stores.resources import ENDPOINT_CONFIG, MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation
    from processing.local.stores.resources import ResourceRecord

_KEYS_SECONDS = 3650 * DAY
"""The time for which the keys of an endpoint's programs are valid: an endpoint has no end of its own."""


class EndpointOperations:
    """The operations that create, describe, list, update and delete endpoints.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._configs = named_resources.resource_store(engine, ENDPOINT_CONFIG)
        self._models = named_resources.resource_store(engine, MODEL)
        self._store = EndpointStore(engine.home, arn_prefix(engine))
        self._hosts = EndpointHosts(engine, self._store)
        self.operations: dict[str, Operation] = {
            "CreateEndpoint": self.create_endpoint,
            "DescribeEndpoint": self.describe_endpoint,
            "ListEndpoints": self.list_endpoints,
            "UpdateEndpoint": self.update_endpoint,
            "UpdateEndpointWeightsAndCapacities": self.update_endpoint_weights_and_capacities,
            "DeleteEndpoint": self.delete_endpoint,
        }

    def create_endpoint(self, params: dict[str, Any]) -> dict[str, Any]:
        """Record an endpoint and start its hosts."""
        name = params["EndpointName"]
        _refuse([*_deployment_problems(params), *_name_problems(params)])
        self._settle(name)
        if self._store.find(name) is not None:
            raise ApiError("ValidationException", f'Cannot create already existing endpoint "{self._store.arn(name)}".')
        config = self._configs.get(params["EndpointConfigName"])
        hosts = self._new_hosts(name, config)
        request = {member: value for member, value in params.items() if member != "Tags"}
        AsyncQueue(self._engine.home, name).clear()  # of an endpoint of this name that was deleted

        def record() -> tuple[ResourceRecord, Sequence[Variant]]:
            return self._store.begin(
                request, config.name, hosts, tags=tags_of(params), now=now(), async_config=_async_config(config)
            )

        return {"EndpointArn": self._hosts.start(hosts, record).arn}

    def describe_endpoint(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return an endpoint's state."""
        name = params["EndpointName"]
        self._settle(name)
        return endpoint_description(self._store.get(name))

    def list_endpoints(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of endpoints."""
        self._hosts.settle_all()
        found, token = named_resources.page(self._store, params)
        answer: dict[str, Any] = {"Endpoints": [endpoint_summary(record) for record in found]}
        return answer if token is None else {**answer, "NextToken": token}

    def update_endpoint(self, params: dict[str, Any]) -> dict[str, Any]:
        """Start the hosts of another configuration. They take over once all of them are healthy."""
        name = params["EndpointName"]
        _refuse(_deployment_problems(params))
        self._settle(name)
        before = self._store.get(name)
        config = self._configs.get(params["EndpointConfigName"])
        hosts = self._new_hosts(name, config)
        if params.get("RetainAllVariantProperties"):
            excluded = {each["VariantPropertyType"] for each in params.get("ExcludeRetainedVariantProperties") or ()}
            hosts = [_retaining(host, self._store.variants(name), excluded) for host in hosts]

        def record() -> tuple[None, Sequence[Variant]]:
            return None, self._store.begin_update(
                name, config.name, hosts, now=now(), async_config=_async_config(config)
            )

        self._hosts.start(hosts, record)
        return {"EndpointArn": before.arn}

    def update_endpoint_weights_and_capacities(self, params: dict[str, Any]) -> dict[str, Any]:
        """Change weights and numbers of instances."""
        name = params["EndpointName"]
        self._settle(name)
        changes = {
            each["VariantName"]: (each.get("DesiredWeight"), each.get("DesiredInstanceCount"))
            for each in params["DesiredWeightsAndCapacities"]
        }
        if any(each.get("ServerlessUpdateConfig") for each in params["DesiredWeightsAndCapacities"]):
            raise ApiError("ValidationException", "The local engine does not have serverless endpoints.")
        self._store.set_weights(name, changes, now())
        self._hosts.deliver_events()
        return {"EndpointArn": self._store.arn(name)}

    def delete_endpoint(self, params: dict[str, Any]) -> dict[str, Any]:
        """Ask an endpoint's hosts to stop. The endpoint disappears with the last of them."""
        name = params["EndpointName"]
        self._settle(name)
        self._store.begin_delete(name, now())
        AsyncQueue(self._engine.home, name).clear()
        self._hosts.deliver_events()
        return {}

    def _settle(self, name: str) -> None:
        record = self._store.find(name)
        if record is not None:
            self._hosts.settled(record)

    def _new_hosts(self, endpoint: str, config: ResourceRecord) -> list[NewHost]:
        """Return a host for each variant of a configuration."""
        variants = config.request["ProductionVariants"]
        models = [self._models.get(variant["ModelName"]).request for variant in variants]
        async_config = _async_config(config)
        _refuse(_async_problems(async_config))
        hosts = []
        for variant, model in zip(variants, models, strict=True):
            workload = _workload(endpoint, variant, model)
            plan = make_execution_plan(self._engine, workload)
            hosts.append(
                NewHost(
                    variant["VariantName"],
                    self._hosts.new_folder(endpoint),
                    host_request(endpoint, variant, model, async_config),
                    plan.to_json(),
                    variant.get("InitialVariantWeight", 1.0),
                    variant["InitialInstanceCount"],
                )
            )
        self._require_networks(len(hosts))
        return hosts

    def _require_networks(self, count: int) -> None:
        """Refuse a second program if programs have no networks of their own."""
        sandbox = sandboxes.sandbox_for(self._engine.settings)
        if has_own_network(sandbox):
            return
        if count > 1:
            raise ApiError("ValidationException", only_one_message(sandbox, "another variant of this endpoint"))
        others = [record.name for record in self._store.all()]
        if others or port_in_use():
            other = f"the endpoint {others[0]}" if others else "a program of this machine"
            raise ApiError("ValidationException", only_one_message(sandbox, other))


def _workload(endpoint: str, variant: Mapping[str, Any], model: Mapping[str, Any]) -> Workload:
    container = container_of(model)
    return Workload(
        name=endpoint,
        image=container["Image"],
        role=model["ExecutionRoleArn"],
        instance_type=variant["InstanceType"],
        longest=_KEYS_SECONDS,
        isolated=bool(model.get("EnableNetworkIsolation")),
    )


def _retaining(host: NewHost, present: Sequence[Variant], excluded: set[str]) -> NewHost:
    """Return a host with the weight and the number of instances of the present variant of its name."""
    for variant in present:
        if variant.name == host.variant:
            weight = host.weight if "DesiredWeight" in excluded else variant.weight
            instances = host.instances if "DesiredInstanceCount" in excluded else variant.instances
            return host._replace(weight=weight, instances=instances)
    return host


def _async_config(config: ResourceRecord) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = config.request.get("AsyncInferenceConfig")
    return found


def _async_problems(config: Mapping[str, Any] | None) -> Iterator[str]:
    output = (config or {}).get("OutputConfig") or {}
    if output.get("NotificationConfig"):
        yield "AsyncInferenceConfig.OutputConfig.NotificationConfig: the local engine does not have SNS."
    if config is not None and not output.get("S3OutputPath"):
        yield "AsyncInferenceConfig.OutputConfig.S3OutputPath is missing."


def _name_problems(params: Mapping[str, Any]) -> Iterator[str]:
    if not params["EndpointName"]:
        yield "EndpointName must not be empty."


def _deployment_problems(params: Mapping[str, Any]) -> Iterator[str]:
    deployment = params.get("DeploymentConfig") or {}
    routing = (deployment.get("BlueGreenUpdatePolicy") or {}).get("TrafficRoutingConfiguration") or {}
    if routing.get("Type", "ALL_AT_ONCE") != "ALL_AT_ONCE":
        yield f"DeploymentConfig: the local engine shifts all traffic at once, not {routing['Type']}."
    if deployment.get("RollingUpdatePolicy"):
        yield "DeploymentConfig: the local engine does not have rolling updates."
    if (deployment.get("AutoRollbackConfiguration") or {}).get("Alarms"):
        yield "DeploymentConfig: the local engine does not have alarms."


def _refuse(problems: Sequence[str] | Iterator[str]) -> None:
    found = list(problems)
    if found:
        raise ApiError("ValidationException", " ".join(found))

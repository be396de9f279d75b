"""The descriptions of an endpoint: answers of DescribeEndpoint and ListEndpoints, and details of its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.jobs.description import to_datetime
from processing.local.stores.endpoints import UPDATING, EndpointState

if TYPE_CHECKING:
    from processing.local.stores.endpoints import Variant
    from processing.local.stores.resources import ResourceRecord


def endpoint_description(record: ResourceRecord) -> dict[str, Any]:
    """Return the answer of DescribeEndpoint."""
    state = EndpointState.of(record)
    answer: dict[str, Any] = {
        "EndpointName": record.name,
        "EndpointArn": record.arn,
        "EndpointConfigName": state.config or state.pending_config,
        "ProductionVariants": [_variant(variant, record) for variant in state.variants],
        "EndpointStatus": record.status,
        "FailureReason": state.failure,
        "CreationTime": to_datetime(record.created),
        "LastModifiedTime": to_datetime(record.modified),
        "AsyncInferenceConfig": state.async_config if state.variants else state.pending_async,
    }
    if record.status == UPDATING:
        answer["PendingDeploymentSummary"] = {
            "EndpointConfigName": state.pending_config,
            "StartTime": to_datetime(state.pending_since),
            "ProductionVariants": [
                {**_variant(variant, record), "InstanceType": variant.instance_type} for variant in state.pending
            ],
        }
    return {name: value for name, value in answer.items() if value is not None and value != []}


def endpoint_summary(record: ResourceRecord) -> dict[str, Any]:
    """Return the item of ListEndpoints."""
    return {
        "EndpointName": record.name,
        "EndpointArn": record.arn,
        "CreationTime": to_datetime(record.created),
        "LastModifiedTime": to_datetime(record.modified),
        "EndpointStatus": record.status,
    }


def _variant(variant: Variant, record: ResourceRecord) -> dict[str, Any]:
    image = {
        "SpecifiedImage": variant.image,
        "ResolvedImage": variant.image,
        "ResolutionTime": to_datetime(record.modified),
    }
    return {
        "VariantName": variant.name,
        "DeployedImages": [image],
        "CurrentWeight": variant.weight,
        "DesiredWeight": variant.weight,
        "CurrentInstanceCount": variant.instances,
        "DesiredInstanceCount": variant.instances,
    }

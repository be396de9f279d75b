"""Defaults from the configuration for the parameters that a user has left out, as in `sagemaker` 2.x.

The user's own values never change: the functions work on copies.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from processing.config.values import ENVIRONMENT, Config
from processing.models import DatasetDefinition, NetworkConfig, ProcessingInput

_JOB = "SageMaker.ProcessingJob"
_NETWORK = f"{_JOB}.NetworkConfig"

PROCESSOR_ATTRIBUTES = {
    "role": f"{_JOB}.RoleArn",
    "env": ENVIRONMENT,
    "output_kms_key": f"{_JOB}.ProcessingOutputConfig.KmsKeyId",
    "volume_kms_key": f"{_JOB}.ProcessingResources.ClusterConfig.VolumeKmsKeyId",
}
"""The attributes of a processor that the configuration fills in if they are None, each with its key."""

_NETWORK_ATTRIBUTES = {
    "subnets": f"{_NETWORK}.VpcConfig.Subnets",
    "security_group_ids": f"{_NETWORK}.VpcConfig.SecurityGroupIds",
    "enable_network_isolation": f"{_NETWORK}.EnableNetworkIsolation",
    "encrypt_inter_container_traffic": f"{_NETWORK}.EnableInterContainerTrafficEncryption",
}
_DATASETS = {
    "AthenaDatasetDefinition": "athena_dataset_definition",
    "RedshiftDatasetDefinition": "redshift_dataset_definition",
}
_DATASET_ATTRIBUTES = {"KmsKeyId": "kms_key_id", "ClusterRoleArn": "cluster_role_arn"}


def fill_network(config: Config, network: NetworkConfig | None) -> NetworkConfig | None:
    """Return the network, with attributes that are None filled in from the configuration."""
    found = {name: config.get(path) for name, path in _NETWORK_ATTRIBUTES.items()}
    missing = {name: value for name, value in found.items() if value is not None and _lacks(network, name)}
    if not missing:
        return network
    filled = NetworkConfig() if network is None else copy.copy(network)
    for name, value in missing.items():
        setattr(filled, name, value)
    return filled


def add_tags(config: Config, tags: Any) -> Any:
    """Return the tags, and the tags of the configuration with other keys."""
    added: list[dict[str, str]] = config.get(f"{_JOB}.Tags") or []
    if isinstance(tags, Mapping):
        return {**tags, **{tag["Key"]: tag["Value"] for tag in added if tag["Key"] not in tags}}
    if not isinstance(tags, (list, tuple, type(None))):
        return tags  # validation of the request reports it
    keys = {tag.get("Key") for tag in tags or () if isinstance(tag, Mapping)}
    added = [tag for tag in added if tag["Key"] not in keys]
    return [*(tags or ()), *added] if added else tags


def fill_inputs(config: Config, inputs: Sequence[ProcessingInput]) -> list[ProcessingInput]:
    """Return the inputs, with keys and roles for their queries. The first entry of the file is for the first input."""
    defaults: list[Mapping[str, Any]] = config.get(f"{_JOB}.ProcessingInputs") or []
    count = len(defaults)
    return [*map(_with_defaults, inputs[:count], defaults), *inputs[count:]]


def _lacks(network: NetworkConfig | None, name: str) -> bool:
    return network is None or getattr(network, name, "") is None


def _with_defaults(entry: ProcessingInput, defaults: Mapping[str, Any]) -> ProcessingInput:
    definition = entry.dataset_definition
    if not isinstance(definition, DatasetDefinition):
        return entry
    added = {_DATASETS[kind]: values for kind, values in defaults.get("DatasetDefinition", {}).items() if values}
    present = {name for name in _DATASETS.values() if getattr(definition, name) is not None}
    # A query is for Athena or for Redshift. Defaults for the other one do not apply.
    if set(added) != present:
        return entry
    changed = copy.copy(entry)
    changed.dataset_definition = attrs.evolve(
        definition, **{name: _filled(getattr(definition, name), values) for name, values in added.items()}
    )
    return changed


def _filled(query: Any, values: Mapping[str, str]) -> Any:
    named = {_DATASET_ATTRIBUTES[key]: value for key, value in values.items()}
    return attrs.evolve(query, **{name: value for name, value in named.items() if getattr(query, name) is None})

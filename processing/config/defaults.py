"""What the configuration adds to a job, as `sagemaker` 2.x does: only where nothing was given.

Nothing that was given is changed: what the configuration adds to is copied first.
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
"""The attributes of a processor that the configuration fills in where they are None, each with its key."""

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


def fill_network(config: Config, given: NetworkConfig | None) -> NetworkConfig | None:
    """Return the network with what the configuration says of the attributes that are None."""
    found = {name: config.get(path) for name, path in _NETWORK_ATTRIBUTES.items()}
    missing = {name: value for name, value in found.items() if value is not None and _lacks(given, name)}
    if not missing:
        return given
    filled = NetworkConfig() if given is None else copy.copy(given)
    for name, value in missing.items():
        setattr(filled, name, value)
    return filled


def add_tags(config: Config, given: Any) -> Any:
    """Return the tags, and those of the configuration whose keys are not among them."""
    added: list[dict[str, str]] = config.get(f"{_JOB}.Tags") or []
    if isinstance(given, Mapping):
        return {**given, **{tag["Key"]: tag["Value"] for tag in added if tag["Key"] not in given}}
    if not isinstance(given, (list, tuple, type(None))):
        return given  # the checks name it
    keys = {tag.get("Key") for tag in given or () if isinstance(tag, Mapping)}
    added = [tag for tag in added if tag["Key"] not in keys]
    return [*(given or ()), *added] if added else given


def fill_inputs(config: Config, given: Sequence[ProcessingInput]) -> list[ProcessingInput]:
    """Return the inputs with keys and roles for their queries; those at the first place are for the first input."""
    defaults: list[Mapping[str, Any]] = config.get(f"{_JOB}.ProcessingInputs") or []
    count = len(defaults)
    return [*map(_with_defaults, given[:count], defaults), *given[count:]]


def _lacks(given: NetworkConfig | None, name: str) -> bool:
    return given is None or getattr(given, name, "") is None


def _with_defaults(entry: ProcessingInput, defaults: Mapping[str, Any]) -> ProcessingInput:
    definition = entry.dataset_definition
    if not isinstance(definition, DatasetDefinition):
        return entry
    added = {_DATASETS[kind]: values for kind, values in defaults.get("DatasetDefinition", {}).items() if values}
    given = {name for name in _DATASETS.values() if getattr(definition, name) is not None}
    if set(added) != given:  # a query is of one kind: what is for the other has no place in it
        return entry
    changed = copy.copy(entry)
    changed.dataset_definition = attrs.evolve(
        definition, **{name: _filled(getattr(definition, name), values) for name, values in added.items()}
    )
    return changed


def _filled(query: Any, values: Mapping[str, str]) -> Any:
    named = {_DATASET_ATTRIBUTES[key]: value for key, value in values.items()}
    return attrs.evolve(query, **{name: value for name, value in named.items() if getattr(query, name) is None})

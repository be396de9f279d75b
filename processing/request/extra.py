"""Settings of CreateProcessingJob that no parameter has: `extra={...}`, in the service's own spelling.

`extra` is merged into the request that the parameters produce, structure by structure, and validated with it. A member
that a parameter sets can only be set there, so that each setting has one place. Inputs, outputs and instance
preferences are matched by name: `{"ProcessingInputs": [{"InputName": "data", "S3Input": {...}}]}` extends the input of
that name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from processing._utils.validation import nesting_problem
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from processing.request.service_model import Path

# Lists with named elements, and the member that holds the name.
_NAMED = {"ProcessingInputs": "InputName", "Outputs": "OutputName", "InstancePreferences": "InstanceType"}

# The members that parameters set: None for a whole member, otherwise its inner members (in a list, those of each
# element).
_S3_INPUT = dict.fromkeys(
    ("S3Uri", "LocalPath", "S3DataType", "S3InputMode", "S3DataDistributionType", "S3CompressionType")
)
_QUERY = ("QueryString", "OutputS3Uri", "KmsKeyId", "OutputFormat", "OutputCompression", "Database")
_DATASET = {
    **dict.fromkeys(("LocalPath", "DataDistributionType", "InputMode")),
    "AthenaDatasetDefinition": dict.fromkeys((*_QUERY, "Catalog", "WorkGroup")),
    "RedshiftDatasetDefinition": dict.fromkeys((*_QUERY, "ClusterId", "DbUser", "ClusterRoleArn")),
}
_PARAMETERS: Mapping[str, Any] = {
    "ProcessingJobName": None,
    "RoleArn": None,
    "AppSpecification": dict.fromkeys(("ImageUri", "ContainerEntrypoint", "ContainerArguments")),
    "Environment": None,
    "ProcessingInputs": {"AppManaged": None, "S3Input": _S3_INPUT, "DatasetDefinition": _DATASET},
    "ProcessingOutputConfig": {
        "KmsKeyId": None,
        "Outputs": {
            "AppManaged": None,
            "S3Output": dict.fromkeys(("S3Uri", "LocalPath", "S3UploadMode")),
            "FeatureStoreOutput": {"FeatureGroupName": None},
        },
    },
    "ProcessingResources": {
        "ClusterConfig": {
            **dict.fromkeys(("InstanceCount", "InstanceType", "VolumeSizeInGB", "VolumeKmsKeyId")),
            "InstancePreferences": {"InstanceCount": None},
        }
    },
    "StoppingCondition": {"MaxRuntimeInSeconds": None},
    "NetworkConfig": {
        "EnableNetworkIsolation": None,
        "EnableInterContainerTrafficEncryption": None,
        "VpcConfig": dict.fromkeys(("SecurityGroupIds", "Subnets")),
    },
    "Tags": None,
    "ExperimentConfig": None,
}


def merge_extra(base: Mapping[str, Any] | None, over: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return one `extra` merged over another, as `run`'s over the processor's; None if both are None.

    Neither is changed.

    Raises:
        ConfigurationError: one of the two is not a dictionary, contains itself, or is nested too deeply.
    """
    for extra in (base, over):
        if extra is not None and not isinstance(extra, Mapping):
            raise ConfigurationError(f"extra: must be a dictionary, not {type(extra).__name__}")
        if problem := nesting_problem(extra):
            raise ConfigurationError(f"extra: {problem}")
    if base is None and over is None:
        return None
    return _merge(base or {}, over or {})


def apply_extra(request: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request for boto3 with `extra` merged over it. Neither is changed.

    Named elements that the request does not have are left out: `find_problems` reports them.
    """
    return _merge(request, extra, adding=False)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], *, adding: bool = True) -> dict[str, Any]:
    result = dict(base)
    for name, value in over.items():
        below = result.get(name)
        if isinstance(value, Mapping):
            result[name] = _merge(below if isinstance(below, Mapping) else {}, value, adding=adding)
        elif name in _NAMED and _are_named(value, _NAMED[name]) and isinstance(below or [], list):
            result[name] = _merge_named(below or [], value, _NAMED[name], adding=adding)
        else:
            result[name] = copy.deepcopy(value)
    return result


def _merge_named(base: list[Any], over: list[Any], key: str, *, adding: bool) -> list[Any]:
    result = list(base)
    names = [element.get(key) for element in base]
    for element in over:
        if element[key] in names:
            at = names.index(element[key])
            result[at] = _merge(result[at], element, adding=adding)
        elif adding:
            result.append(copy.deepcopy(element))
    return result


def _are_named(elements: Any, key: str) -> bool:
    return isinstance(elements, list) and all(isinstance(element, Mapping) and key in element for element in elements)


def find_problems(extra: Mapping[str, Any], request: Mapping[str, Any]) -> Iterator[tuple[Path, Path, str]]:
    """Yield the members that `extra` must not set.

    Each finding is a path in `extra`, the path in the request, and `SET_BY_PARAMETER` or a description of the problem.

    Args:
        extra: the user's value.
        request: the result of the parameters alone, for boto3.
    """
    return _find_problems(extra, request, _PARAMETERS, (), ())


def _find_problems(
    extra: Mapping[str, Any], request: Any, parameters: Mapping[str, Any], place: Path, target: Path
) -> Iterator[tuple[Path, Path, str]]:
    request = request if isinstance(request, Mapping) else {}
    for name, value in extra.items():
        here, there = (*place, name), (*target, name)
        if name not in parameters:
            continue
        inner = parameters[name]
        if inner is None:
            yield here, there, SET_BY_PARAMETER
        elif name in _NAMED:
            yield from _find_named_problems(value, request.get(name) or [], inner, here, there)
        elif isinstance(value, Mapping):
            yield from _find_problems(value, request.get(name), inner, here, there)
        else:
            yield here, there, f"must be a dictionary, not {type(value).__name__}"


SET_BY_PARAMETER = "parameter"
"""The finding of `find_problems` for a member that a parameter sets."""


def _find_named_problems(
    elements: Any, present: list[Any], parameters: Mapping[str, Any], place: Path, target: Path
) -> Iterator[tuple[Path, Path, str]]:
    key = _NAMED[str(place[-1])]
    if not _are_named(elements, key):
        yield place, target, f"must be a list of dictionaries, each with its {key}"
        return
    names = [element.get(key) for element in present]
    for index, element in enumerate(elements):
        if element[key] not in names:
            known = ", ".join(map(str, names)) or "none"
            yield (*place, index, key), target, f"{element[key]!r} is not in the request, which has: {known}"
            continue
        at = names.index(element[key])
        yield from _find_problems(element, present[at], parameters, (*place, index), (*target, at))


def place_in_extra(path: Path, extra: Mapping[str, Any], request: Mapping[str, Any]) -> Path | None:
    """Return the path in `extra` that a value of the request comes from; None if it comes from a parameter.

    Args:
        path: the value's path in the request.
        extra: the user's value.
        request: the request for boto3, including `extra`.
    """
    place: list[str | int] = []
    here: Any = extra
    there: Any = request
    for depth, part in enumerate(path):
        at: str | int = part
        if isinstance(part, int) and place and place[-1] in _NAMED and _are_named(here, _NAMED[str(place[-1])]):
            key = _NAMED[str(place[-1])]
            names = [element[key] for element in here]
            name = there[part].get(key)
            if name not in names:
                return None
            at = names.index(name)
        if isinstance(here, Mapping) and at not in here:  # a missing member of a structure from `extra`
            return (*place, at) if depth == len(path) - 1 and not _has_parameter(path) else None
        if not isinstance(here, (Mapping, list)):
            return None
        here, there = _below(here, at), _below(there, part)
        place.append(at)
    return tuple(place)


def _has_parameter(path: Path) -> bool:
    here: Any = _PARAMETERS
    for part in path:
        if isinstance(part, int):
            continue
        if here is None:
            return True
        if part not in here:
            return False
        here = here[part]
    return True


def _below(value: Any, part: str | int) -> Any:
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def remaining_settings(described: Any, covered: Any, shape: Any, *, name: str | None = None) -> Any:
    """Return the part of a description that the parameters do not cover, in the form of `extra`; None if there is none.

    Args:
        described: a member of the response of DescribeProcessingJob, or the whole response.
        covered: the same member of the request that the parameters produce.
        shape: the member's shape in CreateProcessingJob. Members that it does not have are left out.
        name: the member's name.
    """
    if shape.type_name == "structure" and isinstance(described, Mapping):
        covered = covered if isinstance(covered, Mapping) else {}
        found = {
            member: remaining_settings(value, covered.get(member), shape.members[member], name=member)
            for member, value in described.items()
            if member in shape.members and member not in RESPONSE_ONLY
        }
        return {member: value for member, value in found.items() if value is not None} or None
    if name in _NAMED and covered:
        key = _NAMED[str(name)]
        pairs = zip(described, covered, strict=True)
        remaining = [(element.get(key), remaining_settings(element, other, shape.member)) for element, other in pairs]
        return [{key: of, **left} for of, left in remaining if left] or None
    return None if covered is not None else copy.deepcopy(described)


RESPONSE_ONLY = frozenset({"SelectedInstanceCount", "SelectedInstanceType"})
"""Members that AWS fills in: the instance preference that it chose."""

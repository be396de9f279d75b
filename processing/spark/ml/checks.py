"""Checks of requests against the service's model, before anything is uploaded. Messages name the setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from processing.exceptions import ConfigurationError
from processing.request.service_model import service_model, violations
from processing.request.validate import describe_violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.request.service_model import Path, Violation

_TRAINING_SETTINGS: Final = {
    "TrainingJobName": "namePolicyFactory",
    "RoleArn": "sagemakerRole",
    "HyperParameters": "hyperParameters",
    "Tags": "tags",
    "StoppingCondition": "trainingMaxRuntimeInSeconds",
    "AlgorithmSpecification.TrainingImage": "trainingImage",
    "AlgorithmSpecification.TrainingInputMode": "trainingInputMode",
    "InputDataConfig.0.ChannelName": "trainingChannelName",
    "InputDataConfig.0.ContentType": "trainingContentType",
    "OutputDataConfig.KmsKeyId": "trainingKmsKeyId",
    "ResourceConfig.InstanceType": "trainingInstanceType",
    "ResourceConfig.InstanceCount": "trainingInstanceCount",
    "ResourceConfig.VolumeSizeInGB": "trainingInstanceVolumeSizeInGB",
    "VpcConfig.Subnets": "subnets",
    "VpcConfig.SecurityGroupIds": "securityGroupIds",
}
"""The settings of an estimator by their place in CreateTrainingJob."""


def check_training_job(request: Mapping[str, Any]) -> None:
    """Refuse a request that the service's model does not allow.

    Args:
        request: the parameters of CreateTrainingJob.

    Raises:
        ConfigurationError: a value is wrong or missing; the message names its setting.
    """
    shape: Any = service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    for violation in _found(shape, request):
        _refuse(_setting(violation.path), violation)


def check_hosting(image: str, values: Mapping[str, Any]) -> None:
    """Refuse settings of a model's container and endpoint that the service's model does not allow.

    Args:
        image: the image that serves the model.
        values: the settings.

    Raises:
        ConfigurationError: a value is wrong; the message names its setting.
    """
    sagemaker = service_model("sagemaker")
    container: Any = sagemaker.shape_for("ContainerDefinition")
    variant: Any = sagemaker.shape_for("ProductionVariant")
    environment = {name: str(value) for name, value in values["modelEnvironmentVariables"].items()}
    for setting, shape, member, value in (
        ("modelImage", container, "Image", image),
        ("modelEnvironmentVariables", container, "Environment", environment),
        ("endpointInstanceType", variant, "InstanceType", values["endpointInstanceType"]),
        ("endpointInitialInstanceCount", variant, "InitialInstanceCount", values["endpointInitialInstanceCount"]),
    ):
        for violation in () if value is None else _found(shape.members[member], value, (member,)):
            _refuse(_at(setting, violation.path[1:]), violation)


def check_extra(extra: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse further parameters that their operation does not have, long before its turn.

    Args:
        extra: the parameters, by operation.

    Raises:
        ConfigurationError: a parameter does not exist, or has a wrong value; the message names it.
    """
    for operation, members in extra.items():
        service = service_model("sagemaker-runtime" if operation == "InvokeEndpoint" else "sagemaker")
        of_operation = operation in service.operation_names
        shape: Any = service.operation_model(operation).input_shape if of_operation else service.shape_for(operation)
        for violation in _found(shape, members):
            if violation.kind != "required" or len(violation.path) > 1:  # the others are in the request already
                _refuse(_at(f"extra[{operation}]", violation.path), violation)


def _found(shape: Any, value: Any, path: Path = ()) -> Iterator[Violation]:
    for violation in violations(shape, value, path):
        # AWS offers new types of instances before botocore knows them.
        new_type = violation.path[-1:] == ("InstanceType",) and str(violation.value).startswith("ml.")
        if not (new_type and violation.kind == "enum"):
            yield violation


def _setting(path: Path) -> str:
    """Return the name of a setting, or of its part, for a place in CreateTrainingJob."""
    for length in range(len(path), 0, -1):
        known = _TRAINING_SETTINGS.get(".".join(map(str, path[:length])))
        if known is not None:
            return known if known == "trainingMaxRuntimeInSeconds" else _at(known, path[length:])
    return _at("extra[CreateTrainingJob]", path)


def _at(name: str, path: Path) -> str:
    """Return the name of a part: of the user's keys and positions in brackets, of the service's members after dots."""
    keyed = name in {"hyperParameters", "modelEnvironmentVariables"}
    return name + "".join(f"[{part}]" if keyed or isinstance(part, int) else f".{part}" for part in path)


def _refuse(name: str, violation: Violation) -> None:
    if violation.path[-1:] == ("InstanceType",) and violation.kind == "enum":
        raise ConfigurationError(f"{name}: {violation.value!r} is no instance type; one is such as 'ml.m5.xlarge'")
    raise ConfigurationError(f"{name}: {describe_violation(violation)}")

"""Names of training jobs, models, endpoint configurations and endpoints."""

from __future__ import annotations

import re
import secrets
import time

from processing._utils.validation import NAME, TEXT, Kind, checked
from processing.exceptions import ConfigurationError
from processing.spark.ml.values import Value, both_spellings

_VALID = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")  # of all four kinds in SageMaker's API

ENDPOINT_NAME = Kind(
    "the name of an endpoint, of 1 to 63 letters, digits or hyphens between them",
    lambda value: isinstance(value, str) and _VALID.fullmatch(value) is not None,
)
"""The kind of names of endpoints that exist."""

KINDS = ("trainingJobName", "modelName", "endpointConfigName", "endpointName")
"""The names of a policy."""


def check_names(parameter: str, policy: NamePolicy) -> None:
    """Refuse names that SageMaker does not take.

    Args:
        parameter: the parameter that the policy comes from.
        policy: the policy.

    Raises:
        ConfigurationError: a name has other characters than letters, digits and hyphens, or more than 63.
    """
    for kind in KINDS:
        name = getattr(policy, kind, None)
        if not (isinstance(name, str) and _VALID.fullmatch(name)):
            raise ConfigurationError(
                f"{parameter}: the {kind} {name!r} must have 1 to 63 letters, digits or hyphens between them"
            )


class NamePolicy(Value):
    """The names of what one fit, or one model, creates.

    Attributes:
        trainingJobName: the name of the training job.
        modelName: the name of the model.
        endpointConfigName: the name of the endpoint configuration.
        endpointName: the name of the endpoint.
    """

    trainingJobName: str
    modelName: str
    endpointConfigName: str
    endpointName: str


class NamePolicyFactory(Value):
    """Makes a policy for each fit. Override `createNamePolicy`."""

    def createNamePolicy(self) -> NamePolicy:
        """Return the names of one fit."""
        raise NotImplementedError(f"{type(self).__name__} has no createNamePolicy()")

    def create_name_policy(self) -> NamePolicy:
        """Return the names of one fit."""
        return self.createNamePolicy()


def _time_stamp() -> str:
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(seconds)) + f"-{int(seconds * 1000) % 1000:03d}"


class RandomNamePolicy(NamePolicy):
    """Random names: `<prefix>trainingJob-<12 hexadecimal digits>-<UTC>`, and so on.

    Args:
        prefix: the beginning of each name; at most 6 letters, digits and hyphens.
    """

    def __init__(self, prefix: str = "") -> None:
        identity, moment = secrets.token_hex(6), _time_stamp()
        self.prefix = checked("prefix", prefix, TEXT)
        self.trainingJobName = f"{prefix}trainingJob-{identity}-{moment}"
        self.modelName = f"{prefix}model-{identity}-{moment}"
        self.endpointConfigName = f"{prefix}endpointConfig-{identity}-{moment}"
        self.endpointName = f"{prefix}endpoint-{identity}-{moment}"


class RandomNamePolicyFactory(NamePolicyFactory):
    """Random names for each fit.

    Args:
        prefix: the beginning of each name.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = checked("prefix", prefix, TEXT)

    def createNamePolicy(self) -> NamePolicy:
        """Return the names of one fit."""
        return RandomNamePolicy(self.prefix)


class CustomNamePolicy(NamePolicy):
    """Names of your own.

    Args:
        trainingJobName: the name of the training job.
        modelName: the name of the model.
        endpointConfigName: the name of the endpoint configuration.
        endpointName: the name of the endpoint.
    """

    @both_spellings
    def __init__(self, trainingJobName: str, modelName: str, endpointConfigName: str, endpointName: str) -> None:
        self.trainingJobName = checked("trainingJobName", trainingJobName, NAME)
        self.modelName = checked("modelName", modelName, NAME)
        self.endpointConfigName = checked("endpointConfigName", endpointConfigName, NAME)
        self.endpointName = checked("endpointName", endpointName, NAME)


class CustomNamePolicyWithTimeStampSuffix(CustomNamePolicy):
    """Names of your own, each followed by the time in UTC.

    Args:
        trainingJobName: the beginning of the training job's name.
        modelName: the beginning of the model's name.
        endpointConfigName: the beginning of the endpoint configuration's name.
        endpointName: the beginning of the endpoint's name.
    """

    @both_spellings
    def __init__(self, trainingJobName: str, modelName: str, endpointConfigName: str, endpointName: str) -> None:
        moment = _time_stamp()
        given = (trainingJobName, modelName, endpointConfigName, endpointName)
        super().__init__(*(f"{checked(kind, name, NAME)}-{moment}" for kind, name in zip(KINDS, given, strict=True)))


class CustomNamePolicyFactory(NamePolicyFactory):
    """The same names of your own for each fit: a second fit is refused while the first one's job exists.

    Args:
        trainingJobName: the name of the training job.
        modelName: the name of the model.
        endpointConfigName: the name of the endpoint configuration.
        endpointName: the name of the endpoint.
    """

    _policy: type[CustomNamePolicy] = CustomNamePolicy

    @both_spellings
    def __init__(self, trainingJobName: str, modelName: str, endpointConfigName: str, endpointName: str) -> None:
        self.trainingJobName = checked("trainingJobName", trainingJobName, NAME)
        self.modelName = checked("modelName", modelName, NAME)
        self.endpointConfigName = checked("endpointConfigName", endpointConfigName, NAME)
        self.endpointName = checked("endpointName", endpointName, NAME)

    def createNamePolicy(self) -> NamePolicy:
        """Return the names of one fit."""
        return self._policy(self.trainingJobName, self.modelName, self.endpointConfigName, self.endpointName)


class CustomNamePolicyWithTimeStampSuffixFactory(CustomNamePolicyFactory):
    """Names of your own for each fit, each followed by the time in UTC.

    Args:
        trainingJobName: the beginning of the training job's name.
        modelName: the beginning of the model's name.
        endpointConfigName: the beginning of the endpoint configuration's name.
        endpointName: the beginning of the endpoint's name.
    """

    _policy = CustomNamePolicyWithTimeStampSuffix

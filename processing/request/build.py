"""Request for one processing job as a frozen value. It is built once from the user's values and does not change.

`ProcessingRequest.to_boto` writes it in the form of boto3's `create_processing_job`, exactly as `sagemaker` 2.x does.
Optional members that the user left out are absent, and `AppManaged` is always present.
"""

from __future__ import annotations

import copy
import datetime as dt
import enum
import numbers
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import attrs

from processing._utils import is_empty, type_name
from processing.exceptions import ConfigurationError
from processing.models import (
    AthenaDatasetDefinition,
    DatasetDefinition,
    FeatureStoreOutput,
    NetworkConfig,
    ProcessingInput,
    ProcessingOutput,
    RedshiftDatasetDefinition,
    api_name,
    input_to_boto,
    network_to_boto,
    output_to_boto,
)
from processing.request.bucket_names import SCHEME, is_s3
from processing.request.exports import RequestExports
from processing.request.extra import apply_extra, merge_extra, remaining_settings

Entry = TypeVar("Entry", ProcessingInput, ProcessingOutput)
Pairs = tuple[tuple[str, Any], ...]
# The values that become text in a tag. None and containers are mistakes.
_PLAIN = (numbers.Number, dt.date, dt.time, uuid.UUID, os.PathLike, enum.Enum)


@attrs.frozen
class InstancePreference:
    """One of the instance types that a job may run on (the service's ProcessingInstancePreference).

    Args:
        instance_type: the instance type, such as `ml.m5.xlarge`.
        instance_count: the number of instances of that type; None if one `instance_count` applies to all types.
    """

    instance_type: str
    instance_count: int | None = None


def _deep_copy(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except TypeError:  # a generator or a view of a dictionary, which check_request reports
        return value


def _copies(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(copy.copy(value) for value in values)


@attrs.frozen
class ProcessingRequest(RequestExports):
    """A request for one processing job.

    It cannot be changed: mutable values are returned as copies. Mappings are kept as tuples of pairs in their original
    order, lists as tuples.

    Args:
        job_name: the job's name.
        role_arn: the ARN of the role that the job runs as.
        image_uri: the container image.
        instance_count: the number of instances; None if `instance_preferences` has it.
        instance_type: the type of the instances; None with `instance_preferences`.
        entrypoint: the command that the container runs; None for the image's own.
        arguments: the arguments of the command.
        environment: the environment variables of the container.
        inputs: the inputs, with names and URIs.
        outputs: the outputs, with names and URIs.
        volume_size_in_gb: the size of each instance's volume.
        volume_kms_key: the KMS key that encrypts the volumes.
        output_kms_key: the KMS key that encrypts the outputs in S3.
        max_runtime_in_seconds: the seconds after which AWS stops the job; None for AWS's default, a day.
        tags: the job's tags.
        network_config: the network of the containers.
        experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
        instance_preferences: instance types in order of priority, instead of `instance_type`.
        extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.
    """

    job_name: str
    role_arn: str
    image_uri: str
    instance_count: int | None
    instance_type: str | None = None
    entrypoint: tuple[str, ...] | None = None
    arguments: tuple[str, ...] | None = None
    environment: Pairs | None = None
    _inputs: tuple[ProcessingInput, ...] = attrs.field(default=(), converter=_copies, hash=False)
    _outputs: tuple[ProcessingOutput, ...] = attrs.field(default=(), converter=_copies, hash=False)
    volume_size_in_gb: int = 30
    volume_kms_key: str | None = None
    output_kms_key: str | None = None
    max_runtime_in_seconds: int | None = None
    tags: Pairs | None = None
    _network_config: NetworkConfig | None = attrs.field(default=None, converter=_deep_copy, hash=False)
    experiment_config: Pairs | None = None
    instance_preferences: tuple[InstancePreference, ...] | None = None
    _extra: Mapping[str, Any] | None = attrs.field(default=None, converter=_deep_copy, hash=False)

    @property
    def inputs(self) -> tuple[ProcessingInput, ...]:
        """The inputs, as copies: changing one does not change the request."""
        return _copies(self._inputs)

    @property
    def outputs(self) -> tuple[ProcessingOutput, ...]:
        """The outputs, as copies."""
        return _copies(self._outputs)

    @property
    def network_config(self) -> NetworkConfig | None:
        """The network configuration, as a copy."""
        return copy.deepcopy(self._network_config)

    @property
    def extra(self) -> dict[str, Any] | None:
        """The settings that no parameter has, in the service's spelling, as a copy."""
        return None if self._extra is None else dict(copy.deepcopy(self._extra))

    def with_name(self, job_name: str) -> ProcessingRequest:
        """Return the same request under another job name. URIs that contain the old name keep it."""
        return attrs.evolve(self, job_name=job_name)

    def to_boto(self) -> dict[str, Any]:
        """Return the parameters of boto3's `create_processing_job`: a new dictionary each time."""
        request = self.without_extra()
        return request if self._extra is None else apply_extra(request, self._extra)

    def without_extra(self) -> dict[str, Any]:
        """Return the result of `to_boto` without the settings in `extra`."""
        request: dict[str, Any] = {
            "ProcessingJobName": self.job_name,
            "ProcessingResources": {"ClusterConfig": self._cluster()},
            "AppSpecification": _without_none(
                ImageUri=self.image_uri,
                ContainerArguments=_as_list(self.arguments),
                ContainerEntrypoint=_as_list(self.entrypoint),
            ),
            "RoleArn": self.role_arn,
        }
        if self._inputs:
            request["ProcessingInputs"] = [input_to_boto(entry) for entry in self._inputs]
        if self._outputs:
            outputs = [_output_to_boto(entry) for entry in self._outputs]
            request["ProcessingOutputConfig"] = _without_none(Outputs=outputs, KmsKeyId=self.output_kms_key)
        if self.environment is not None:
            request["Environment"] = dict(self.environment)
        if self._network_config is not None:
            request["NetworkConfig"] = network_to_boto(self._network_config)
        if self.max_runtime_in_seconds is not None:
            request["StoppingCondition"] = {"MaxRuntimeInSeconds": self.max_runtime_in_seconds}
        if self.tags is not None:
            request["Tags"] = [{"Key": key, "Value": value} for key, value in self.tags]
        if self.experiment_config:
            request["ExperimentConfig"] = dict(self.experiment_config)
        return request

    def _cluster(self) -> dict[str, Any]:
        preferences = None
        if self.instance_preferences is not None:
            preferences = [
                _without_none(InstanceType=preference.instance_type, InstanceCount=preference.instance_count)
                for preference in self.instance_preferences
            ]
        return _without_none(
            InstanceType=self.instance_type,
            InstanceCount=self.instance_count,
            InstancePreferences=preferences,
            VolumeSizeInGB=self.volume_size_in_gb,
            VolumeKmsKeyId=self.volume_kms_key,
        )


def build_request(
    *,
    job_name: str,
    role_arn: str,
    image_uri: str,
    instance_count: int | None,
    instance_type: str | None = None,
    entrypoint: Sequence[str] | None = None,
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    inputs: Sequence[ProcessingInput] = (),
    outputs: Sequence[ProcessingOutput] = (),
    volume_size_in_gb: int = 30,
    volume_kms_key: str | None = None,
    output_kms_key: str | None = None,
    max_runtime_in_seconds: int | None = None,
    tags: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    network_config: NetworkConfig | None = None,
    experiment_config: Mapping[str, str] | None = None,
    instance_preferences: Sequence[str | Mapping[str, Any]] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> ProcessingRequest:
    """Return the frozen request for a user's values. Later changes of the arguments do not affect it.

    Values are not validated here: `check_request` reports all invalid values at once.

    The parameters are those of `Processor`. Inputs and outputs must have their names and URIs already. Tags are a
    dictionary or a list of `{"Key": ..., "Value": ...}`. Instance preferences are instance types, or `{"InstanceType":
    ..., "InstanceCount": ...}`, in order of priority. `extra` holds settings that no parameter has, in the service's
    spelling.

    Raises:
        ConfigurationError: an argument that must be a dictionary is not one, or a tag, a preference, a query or the
            network has the wrong form.
    """
    _check_models(inputs, outputs)
    return ProcessingRequest(
        job_name=job_name,
        role_arn=role_arn,
        image_uri=image_uri,
        instance_count=instance_count,
        instance_type=instance_type,
        entrypoint=_string_tuple(entrypoint),
        arguments=_string_tuple(arguments),
        environment=_pairs(environment, "env"),
        inputs=tuple(_with_plain_scheme(entry, "source") for entry in inputs),
        outputs=tuple(_with_plain_scheme(entry, "destination") for entry in outputs),
        volume_size_in_gb=volume_size_in_gb,
        volume_kms_key=volume_kms_key,
        output_kms_key=output_kms_key,
        max_runtime_in_seconds=max_runtime_in_seconds,
        tags=_tags(tags),
        network_config=_checked_network(network_config),
        experiment_config=_pairs(experiment_config, "experiment_config"),
        instance_preferences=parse_preferences(instance_preferences),
        extra=merge_extra(extra, None),
    )


def _checked_network(value: NetworkConfig | None) -> NetworkConfig | None:
    """Return the configuration. An object of `sagemaker.network` is accepted, because it has the same attributes."""
    if value is not None and not all(hasattr(value, field.name) for field in attrs.fields(NetworkConfig)):
        raise ConfigurationError(f"network_config: must be a processing.NetworkConfig, not {type_name(value)}")
    return value


def _check_models(inputs: Sequence[ProcessingInput], outputs: Sequence[ProcessingOutput]) -> None:
    """Refuse objects of foreign types, such as the class of `sagemaker` with the same name."""
    for index, entry in enumerate(inputs):
        definition, field = entry.dataset_definition, f"inputs[{index}].dataset_definition"
        _check_model(definition, DatasetDefinition, field)
        if definition is not None:
            athena, redshift = definition.athena_dataset_definition, definition.redshift_dataset_definition
            _check_model(athena, AthenaDatasetDefinition, f"{field}.athena_dataset_definition")
            _check_model(redshift, RedshiftDatasetDefinition, f"{field}.redshift_dataset_definition")
    for index, output in enumerate(outputs):
        _check_model(output.feature_store_output, FeatureStoreOutput, f"outputs[{index}].feature_store_output")


def _with_plain_scheme(entry: Entry, attribute: str) -> Entry:
    """Return the entry with `s3://` in small letters, as AWS requires it."""
    uri = getattr(entry, attribute)
    if is_s3(uri) and not uri.startswith(SCHEME):
        entry = copy.copy(entry)
        setattr(entry, attribute, SCHEME + uri[len(SCHEME) :])
    return entry


def _check_model(value: object, model: type[Any], field: str) -> None:
    if not isinstance(value, (model, type(None))):
        raise ConfigurationError(f"{field}: must be a processing.{model.__name__}, not {type_name(value)}")


def _string_tuple(values: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return a list as a tuple, with paths as text. An empty list becomes None; a string is not a list."""
    if is_empty(values):
        return None
    if not isinstance(values, (list, tuple)):
        return cast("tuple[str, ...]", values)  # check_request reports it
    return tuple(os.fspath(value) if isinstance(value, os.PathLike) else value for value in values)


def _pairs(values: Mapping[str, Any] | None, field: str) -> Pairs | None:
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{field}: must be a dictionary, not {type(values).__name__}")
    return tuple(values.items())


def _tags(tags: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> Pairs | None:
    if tags is None:
        return None
    if isinstance(tags, Mapping):
        return tuple((_tag_text(key), _tag_text(value)) for key, value in tags.items())
    if not isinstance(tags, (list, tuple)):
        raise ConfigurationError(f"tags: must be a dictionary or a list, not {type(tags).__name__}")
    for index, tag in enumerate(tags):
        if not isinstance(tag, Mapping) or set(tag) != {"Key", "Value"}:
            raise ConfigurationError(f'tags[{index}]: must be {{"Key": ..., "Value": ...}}, not {tag!r}')
    return tuple((_tag_text(tag["Key"]), _tag_text(tag["Value"])) for tag in tags)


def _tag_text(value: Any) -> Any:
    """Return a plain value as text, as `sagemaker` 2.x does. `check_request` reports all other values."""
    return str(value) if isinstance(value, _PLAIN) else value


def parse_preferences(values: Sequence[str | Mapping[str, Any]] | None) -> tuple[InstancePreference, ...] | None:
    """Return the user's instance preferences as values; None if there are none.

    Raises:
        ConfigurationError: the value is not a list, or one of its entries has the wrong form.
    """
    if values is None:
        return None
    if not isinstance(values, (list, tuple)):
        raise ConfigurationError(f"instance_preferences: must be a list of instance types, not {values!r}")
    preferences = []
    for index, value in enumerate(values):
        if isinstance(value, Mapping) and {"InstanceType"} <= set(value) <= {"InstanceType", "InstanceCount"}:
            preferences.append(InstancePreference(value["InstanceType"], value.get("InstanceCount")))
        elif isinstance(value, str):
            preferences.append(InstancePreference(value))
        else:
            raise ConfigurationError(
                f"instance_preferences[{index}]: must be an instance type, "
                f'or {{"InstanceType": ..., "InstanceCount": ...}}, not {value!r}'
            )
    return tuple(preferences)


def _without_none(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _as_list(values: tuple[str, ...] | None) -> Any:
    return list(values) if isinstance(values, tuple) else values


def _from_boto(model: type[Any], members: Mapping[str, Any] | None) -> Any:
    """Return the members as a model. Absent members become None, even if the model has another default."""
    if members is None:
        return None
    return model(**{attribute.name: members.get(api_name(attribute.name)) for attribute in attrs.fields(model)})


def _output_to_boto(entry: ProcessingOutput) -> dict[str, Any]:
    boto = output_to_boto(entry)
    if "S3Output" in boto:
        boto["S3Output"] = _without_none(**boto["S3Output"])
    return boto


def request_from_describe(described: Mapping[str, Any], *, service_model: Any = None) -> ProcessingRequest:
    """Return the request that created a job, from the response of DescribeProcessingJob.

    The response does not contain tags, so they are None. Otherwise `to_boto` returns the job's original parameters.
    Members that no parameter covers are in `extra`. Texts that the response lacks are empty.

    Args:
        described: the response.
        service_model: botocore's model of SageMaker; by default the installed one.
    """
    from processing.request.service_model import processing_model

    cluster = described.get("ProcessingResources", {}).get("ClusterConfig", {})
    application = described.get("AppSpecification", {})
    output_config = described.get("ProcessingOutputConfig", {})
    network = described.get("NetworkConfig")
    request = build_request(
        job_name=described.get("ProcessingJobName", ""),
        role_arn=described.get("RoleArn", ""),
        image_uri=application.get("ImageUri", ""),
        instance_count=cluster.get("InstanceCount"),
        instance_type=cluster.get("InstanceType"),
        instance_preferences=cluster.get("InstancePreferences"),
        entrypoint=application.get("ContainerEntrypoint"),
        arguments=application.get("ContainerArguments"),
        environment=described.get("Environment"),
        inputs=[_input_from_boto(entry) for entry in described.get("ProcessingInputs", ())],
        outputs=[_output_from_boto(entry) for entry in output_config.get("Outputs", ())],
        volume_size_in_gb=cluster.get("VolumeSizeInGB", 30),
        volume_kms_key=cluster.get("VolumeKmsKeyId"),
        output_kms_key=output_config.get("KmsKeyId"),
        max_runtime_in_seconds=described.get("StoppingCondition", {}).get("MaxRuntimeInSeconds"),
        network_config=_network_from_boto(network) if network is not None else None,
        experiment_config=described.get("ExperimentConfig"),
    )
    model = service_model or processing_model()
    shape: Any = model.operation_model("CreateProcessingJob").input_shape
    return attrs.evolve(request, extra=remaining_settings(described, request.to_boto(), shape))


def _input_from_boto(entry: Mapping[str, Any]) -> ProcessingInput:
    s3_input = entry.get("S3Input", {})
    return ProcessingInput(
        source=s3_input.get("S3Uri"),
        destination=s3_input.get("LocalPath"),
        input_name=entry.get("InputName"),
        s3_data_type=s3_input.get("S3DataType"),
        s3_input_mode=s3_input.get("S3InputMode"),
        s3_data_distribution_type=s3_input.get("S3DataDistributionType"),
        s3_compression_type=s3_input.get("S3CompressionType"),
        dataset_definition=_dataset_from_boto(entry.get("DatasetDefinition")),
        app_managed=entry.get("AppManaged", False),
    )


def _dataset_from_boto(members: Mapping[str, Any] | None) -> DatasetDefinition | None:
    if members is None:
        return None
    definition: DatasetDefinition = _from_boto(DatasetDefinition, members)
    return attrs.evolve(
        definition,
        athena_dataset_definition=_from_boto(AthenaDatasetDefinition, members.get("AthenaDatasetDefinition")),
        redshift_dataset_definition=_from_boto(RedshiftDatasetDefinition, members.get("RedshiftDatasetDefinition")),
    )


def _output_from_boto(entry: Mapping[str, Any]) -> ProcessingOutput:
    s3_output = entry.get("S3Output", {})
    return ProcessingOutput(
        source=s3_output.get("LocalPath"),
        destination=s3_output.get("S3Uri"),
        output_name=entry.get("OutputName"),
        s3_upload_mode=s3_output.get("S3UploadMode"),
        app_managed=entry.get("AppManaged", False),
        feature_store_output=_from_boto(FeatureStoreOutput, entry.get("FeatureStoreOutput")),
    )


def _network_from_boto(members: Mapping[str, Any]) -> NetworkConfig:
    vpc = members.get("VpcConfig", {})
    return NetworkConfig(
        enable_network_isolation=members.get("EnableNetworkIsolation", False),
        security_group_ids=vpc.get("SecurityGroupIds"),
        subnets=vpc.get("Subnets"),
        encrypt_inter_container_traffic=members.get("EnableInterContainerTrafficEncryption"),
    )

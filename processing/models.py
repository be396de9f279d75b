"""The values that users pass to a processor: inputs, outputs, network and arguments.

Names, order and defaults are those of `sagemaker.processing` 2.x. Attributes with a name of the service
(`s3_data_type`, `S3UploadMode`) are documented at
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateProcessingJob.html.

The attributes of inputs and outputs may be assigned to, as in 2.x. The package itself never changes a user's value. It
works on shallow copies (`copy.copy`), so the same list can be run twice.
"""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any

import attrs

from processing._utils import StrPath, is_empty, type_name
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _as_posix(value: StrPath | None) -> str | None:
    """Return a container path as text. `pathlib` paths get forward slashes on every machine."""
    if isinstance(value, os.PathLike):
        return value.as_posix() if isinstance(value, pathlib.PurePath) else os.fspath(value).replace(os.sep, "/")
    return value


class _ServiceModel:
    """The conversions of `sagemaker` 2.x between a model and the service's spelling."""

    __slots__ = ()

    @classmethod
    def to_boto(cls, obj: Any) -> dict[str, Any]:
        """Return a model in the service's spelling, without the members that are None."""
        del cls
        return to_boto(obj)

    @classmethod
    def from_boto(cls, boto_dict: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        """Return the model for members in the service's spelling, or None for None.

        Args:
            boto_dict: the members; those that the model lacks are left out.
            kwargs: attributes that replace the members.
        """
        if boto_dict is None:
            return None
        return cls(**{**_attributes_from_boto(cls, boto_dict), **kwargs})


@attrs.frozen
class S3Input(_ServiceModel):
    """The S3 source of an input and its transfer to the container (the service's ProcessingS3Input).

    Args:
        s3_uri: the URI of an S3 prefix, object or manifest.
        local_path: the directory in the container, under /opt/ml/processing/.
        s3_data_type: `S3Prefix` or `ManifestFile`.
        s3_input_mode: `File` (copied before the start) or `Pipe` (streamed).
        s3_data_distribution_type: `FullyReplicated`, or `ShardedByS3Key`, which gives each instance a share of the
            objects.
        s3_compression_type: `None` or `Gzip`; Gzip requires the mode `Pipe`.
    """

    s3_uri: str | None = None
    local_path: str | None = None
    s3_data_type: str = "S3Prefix"
    s3_input_mode: str = "File"
    s3_data_distribution_type: str = "FullyReplicated"
    s3_compression_type: str | None = None


@attrs.frozen
class RedshiftDatasetDefinition(_ServiceModel):
    """A query against Amazon Redshift whose result is the input (the service's RedshiftDatasetDefinition).

    Args:
        cluster_id: the Redshift cluster.
        database: the database that the query runs in.
        db_user: the database user that runs the query.
        query_string: the SQL query.
        cluster_role_arn: the ARN of the IAM role that the cluster assumes to write the result.
        output_s3_uri: the S3 prefix of the result.
        kms_key_id: the KMS key that encrypts the result.
        output_format: `CSV` or `PARQUET`.
        output_compression: `None`, `GZIP`, `BZIP2`, `ZSTD` or `SNAPPY`.
    """

    cluster_id: str | None = None
    database: str | None = None
    db_user: str | None = None
    query_string: str | None = None
    cluster_role_arn: str | None = None
    output_s3_uri: str | None = None
    kms_key_id: str | None = None
    output_format: str | None = None
    output_compression: str | None = None


@attrs.frozen
class AthenaDatasetDefinition(_ServiceModel):
    """A query against Amazon Athena whose result is the input (the service's AthenaDatasetDefinition).

    Args:
        catalog: the data catalog.
        database: the database that the query runs in.
        query_string: the SQL query.
        output_s3_uri: the S3 prefix of the result.
        work_group: the workgroup that the query runs in.
        kms_key_id: the KMS key that encrypts the result.
        output_format: `PARQUET`, `ORC`, `AVRO`, `JSON` or `TEXTFILE`.
        output_compression: `GZIP`, `SNAPPY` or `ZLIB`.
    """

    catalog: str | None = None
    database: str | None = None
    query_string: str | None = None
    output_s3_uri: str | None = None
    work_group: str | None = None
    kms_key_id: str | None = None
    output_format: str | None = None
    output_compression: str | None = None


@attrs.frozen
class DatasetDefinition(_ServiceModel):
    """An input that AWS creates with a query, defined by exactly one of the two definitions.

    Args:
        data_distribution_type: `FullyReplicated`, or `ShardedByS3Key`, which gives each instance a share of the
            objects.
        input_mode: `File` (copied before the start) or `Pipe` (streamed).
        local_path: the directory in the container, under /opt/ml/processing/.
        redshift_dataset_definition: a query against Amazon Redshift.
        athena_dataset_definition: a query against Amazon Athena.
    """

    data_distribution_type: str = "ShardedByS3Key"
    input_mode: str = "File"
    local_path: str | None = None
    redshift_dataset_definition: RedshiftDatasetDefinition | None = None
    athena_dataset_definition: AthenaDatasetDefinition | None = None


@attrs.define(slots=False, init=False)
class ProcessingInput:
    """Data that a job reads.

    Args:
        source: a local file or directory (a string, a `pathlib.Path` or a `file://` URI), or an `s3://` URI. A
            local source is uploaded when the job is run.
        destination: the directory in the container, under /opt/ml/processing/.
        input_name: the input's name; by default `input-N`, with its position.
        s3_data_type: `S3Prefix` or `ManifestFile`.
        s3_input_mode: `File` (copied before the start) or `Pipe` (streamed).
        s3_data_distribution_type: `FullyReplicated`, or `ShardedByS3Key`, which gives each instance a share of the
            objects.
        s3_compression_type: `None` or `Gzip`; Gzip requires the mode `Pipe`.
        s3_input: the settings of source, destination and S3 as one `S3Input`, instead of six parameters.
        dataset_definition: an Athena or Redshift query, instead of a source.
        app_managed: True if the container itself fetches the input.
        reuse: True to upload local data under a prefix that names its content. Data from an earlier run is not sent
            again, and stays in S3 for later runs. By default each job gets its own copy.
    """

    source: StrPath | None
    destination: str | None
    input_name: str | None
    s3_data_type: str
    s3_input_mode: str
    s3_data_distribution_type: str
    s3_compression_type: str | None
    dataset_definition: DatasetDefinition | None
    app_managed: bool
    reuse: bool

    def __init__(
        self,
        source: StrPath | None = None,
        destination: StrPath | None = None,
        input_name: str | None = None,
        s3_data_type: str = "S3Prefix",
        s3_input_mode: str = "File",
        s3_data_distribution_type: str = "FullyReplicated",
        s3_compression_type: str | None = "None",
        s3_input: S3Input | None = None,
        dataset_definition: DatasetDefinition | None = None,
        app_managed: bool = False,
        *,
        reuse: bool = False,
    ) -> None:
        self.source = source
        self.destination = _as_posix(destination)
        self.input_name = input_name
        self.s3_data_type = s3_data_type
        self.s3_input_mode = s3_input_mode
        self.s3_data_distribution_type = s3_data_distribution_type
        self.s3_compression_type = s3_compression_type
        self.dataset_definition = dataset_definition
        self.app_managed = app_managed
        self.reuse = reuse
        if s3_input is not None:
            if not all(
                hasattr(s3_input, field.name) for field in attrs.fields(S3Input)
            ):  # sagemaker's own S3Input has them too
                raise ConfigurationError(f"s3_input: must be a processing.S3Input, not {type_name(s3_input)}")
            self.s3_input = s3_input

    @property
    def s3_input(self) -> S3Input | None:
        """The S3 settings as one value. None if the input has no source. Assign a new `S3Input` to change them."""
        if self.source is None:
            return None
        return S3Input(
            os.fspath(self.source),
            self.destination,
            self.s3_data_type,
            self.s3_input_mode,
            self.s3_data_distribution_type,
            self.s3_compression_type,
        )

    @s3_input.setter
    def s3_input(self, value: S3Input) -> None:
        self.source = value.s3_uri
        self.destination = value.local_path
        self.s3_data_type = value.s3_data_type
        self.s3_input_mode = value.s3_input_mode
        self.s3_data_distribution_type = value.s3_data_distribution_type
        self.s3_compression_type = value.s3_compression_type

    def _to_request_dict(self) -> dict[str, Any]:
        """Return the member of ProcessingInputs for boto3's `create_processing_job`, as `sagemaker` 2.x does."""
        if self.s3_input is not None and self.s3_compression_type == "Gzip" and self.s3_input_mode != "Pipe":
            raise ConfigurationError("s3_compression_type: Data can only be gzipped when the input mode is Pipe.")
        return input_to_boto(self)


@attrs.frozen
class FeatureStoreOutput(_ServiceModel):
    """A feature group that receives an output instead of S3.

    Args:
        feature_group_name: the name of the feature group.
    """

    feature_group_name: str | None = None


@attrs.define(slots=False)
class ProcessingOutput:
    """Data that a job writes.

    Args:
        source: the directory in the container, under /opt/ml/processing/.
        destination: the S3 prefix of the output; by default `<bucket>/<job name>/output/<output name>`.
        output_name: the output's name; by default `output-N`, with its position.
        s3_upload_mode: `EndOfJob` or `Continuous`.
        app_managed: True if the container itself uploads the output.
        feature_store_output: a feature group, instead of S3.
    """

    source: str | None = attrs.field(default=None, converter=_as_posix)
    destination: str | None = None
    output_name: str | None = None
    s3_upload_mode: str = "EndOfJob"
    app_managed: bool = False
    feature_store_output: FeatureStoreOutput | None = None

    def _to_request_dict(self) -> dict[str, Any]:
        """Return the member of Outputs for boto3's `create_processing_job`, as `sagemaker` 2.x does."""
        return output_to_boto(self)


@attrs.define(slots=False)
class NetworkConfig:
    """The network of a job's containers.

    Args:
        enable_network_isolation: True to cut the containers off from every network, including AWS; None for the value
            of the config file, else False.
        security_group_ids: the VPC's security groups (`sg-...`), at most 5; requires `subnets`.
        subnets: the VPC's subnets, at most 16; requires `security_group_ids`.
        encrypt_inter_container_traffic: True to encrypt the traffic between instances; None for AWS's default.
    """

    enable_network_isolation: bool | None = None
    security_group_ids: list[str] | None = None
    subnets: list[str] | None = None
    encrypt_inter_container_traffic: bool | None = None

    def _to_request_dict(self) -> dict[str, Any]:
        """Return the NetworkConfig for boto3's `create_processing_job`, as `sagemaker` 2.x does."""
        return network_to_boto(self)


@attrs.define(slots=False)
class RunArgs:
    """The normalised arguments of `run`, as `ScriptProcessor.get_run_args` returns them.

    Args:
        code: the script, or the URI of the uploaded code.
        inputs: the data that the job reads.
        outputs: the data that the job writes; a string is a container path.
        arguments: the program's arguments.
    """

    code: StrPath | None = None
    inputs: list[ProcessingInput] | None = None
    outputs: Sequence[ProcessingOutput | str] | None = None
    arguments: list[str] | None = None


def to_boto(model: Any) -> dict[str, Any]:
    """Return a model in the service's spelling, without the members that are None."""
    members = {}
    for attribute in attrs.fields(type(model)):
        value = getattr(model, attribute.name)
        if value is not None:
            members[api_name(attribute.name)] = to_boto(value) if attrs.has(type(value)) else value
    return members


def input_to_boto(entry: ProcessingInput) -> dict[str, Any]:
    """Return an input in the service's spelling."""
    boto: dict[str, Any] = {"InputName": entry.input_name, "AppManaged": entry.app_managed}
    s3_input = entry.s3_input
    if s3_input is not None:
        boto["S3Input"] = to_boto(s3_input)
    if entry.dataset_definition is not None:
        boto["DatasetDefinition"] = to_boto(entry.dataset_definition)
    return boto


def output_to_boto(entry: ProcessingOutput) -> dict[str, Any]:
    """Return an output in the service's spelling. A missing destination is None, as in `sagemaker` 2.x."""
    boto: dict[str, Any] = {"OutputName": entry.output_name, "AppManaged": entry.app_managed}
    if entry.source is not None:
        boto["S3Output"] = {
            "S3Uri": entry.destination,
            "LocalPath": entry.source,
            "S3UploadMode": entry.s3_upload_mode,
        }
    if entry.feature_store_output is not None:
        boto["FeatureStoreOutput"] = to_boto(entry.feature_store_output)
    return boto


def network_to_boto(network: NetworkConfig) -> dict[str, Any]:
    """Return a network in the service's spelling; the isolation is always in it. Lists are copied."""
    isolation = network.enable_network_isolation
    boto: dict[str, Any] = {"EnableNetworkIsolation": False if is_empty(isolation) else isolation}
    if network.encrypt_inter_container_traffic is not None:
        boto["EnableInterContainerTrafficEncryption"] = network.encrypt_inter_container_traffic
    vpc: dict[str, Any] = {"SecurityGroupIds": network.security_group_ids, "Subnets": network.subnets}
    copied = {
        name: list(values) if isinstance(values, (list, tuple)) else values
        for name, values in vpc.items()
        if values is not None
    }
    return {**boto, "VpcConfig": copied} if copied else boto


def _attributes_from_boto(model: type[Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a model that the members have."""
    attributes = {}
    for attribute in attrs.fields(model):
        name = api_name(attribute.name)
        if name in members:
            inner, value = _INNER_MODELS.get(attribute.name), members[name]
            attributes[attribute.name] = value if inner is None else inner.from_boto(value)
    return attributes


def api_name(attribute: str) -> str:
    """Return the service's spelling of a model's attribute: `kms_key_id` is `KmsKeyId`."""
    return "".join(word.capitalize() for word in attribute.split("_"))


# The attributes whose values are models themselves.
_INNER_MODELS: dict[str, type[_ServiceModel]] = {
    "athena_dataset_definition": AthenaDatasetDefinition,
    "redshift_dataset_definition": RedshiftDatasetDefinition,
}

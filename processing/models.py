"""The values that users hand to a processor: inputs, outputs, network and arguments.

Names, order and defaults are those of `sagemaker.processing` 2.x. What carries a name of the service's
(`s3_data_type`, `S3UploadMode`) is documented at
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateProcessingJob.html.

Inputs and outputs may be assigned to, as in 2.x. The package itself never changes one: it works on copies
(`attrs.evolve`), so the same list can be run twice.
"""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

import attrs

from processing._utils import StrPath, type_name
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence


def _posix(value: StrPath | None) -> str | None:
    """Return a container path as text: `pathlib` paths are written with forward slashes on every machine."""
    if isinstance(value, os.PathLike):
        return value.as_posix() if isinstance(value, pathlib.PurePath) else os.fspath(value).replace(os.sep, "/")
    return value


@attrs.frozen
class S3Input:
    """Where an input comes from, and how it reaches the container (the service's ProcessingS3Input).

    Args:
        s3_uri: an S3 prefix, object or manifest.
        local_path: the directory in the container, under /opt/ml/processing/.
        s3_data_type: `S3Prefix` or `ManifestFile`.
        s3_input_mode: `File` (copied before the start) or `Pipe` (streamed).
        s3_data_distribution_type: `FullyReplicated`, or `ShardedByS3Key`: each instance gets a share of the objects.
        s3_compression_type: `None` or `Gzip`; Gzip needs the Pipe mode.
    """

    s3_uri: str | None = None
    local_path: str | None = None
    s3_data_type: str = "S3Prefix"
    s3_input_mode: str = "File"
    s3_data_distribution_type: str = "FullyReplicated"
    s3_compression_type: str | None = None


@attrs.frozen
class RedshiftDatasetDefinition:
    """A query against Amazon Redshift whose result is the input (the service's RedshiftDatasetDefinition)."""

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
class AthenaDatasetDefinition:
    """A query against Amazon Athena whose result is the input (the service's AthenaDatasetDefinition)."""

    catalog: str | None = None
    database: str | None = None
    query_string: str | None = None
    output_s3_uri: str | None = None
    work_group: str | None = None
    kms_key_id: str | None = None
    output_format: str | None = None
    output_compression: str | None = None


@attrs.frozen
class DatasetDefinition:
    """An input that AWS makes by a query; exactly one of the two definitions is given."""

    data_distribution_type: str = "ShardedByS3Key"
    input_mode: str = "File"
    local_path: str | None = None
    redshift_dataset_definition: RedshiftDatasetDefinition | None = None
    athena_dataset_definition: AthenaDatasetDefinition | None = None


@attrs.define(slots=False, init=False)
class ProcessingInput:
    """Data that a job reads.

    Args:
        source: a local file or directory (a string, a `pathlib.Path` or a `file://` URI), or an `s3://` URI. What is
            local is uploaded when the job is run.
        destination: the directory in the container, under /opt/ml/processing/.
        input_name: the input's name; `input-N` by position where none is given.
        s3_data_type: `S3Prefix` or `ManifestFile`.
        s3_input_mode: `File` or `Pipe`.
        s3_data_distribution_type: `FullyReplicated` or `ShardedByS3Key`.
        s3_compression_type: `None` or `Gzip`; Gzip needs the Pipe mode.
        s3_input: the same six settings as one `S3Input`, instead of the above.
        dataset_definition: an Athena or Redshift query, instead of a source.
        app_managed: True where the container itself fetches the input.
        reuse: True to upload local data under a prefix that names its content: what is in S3 from an earlier run is not
            sent again. It stays there, for later runs; by default each job gets a copy of its own.
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
        self.destination = _posix(destination)
        self.input_name = input_name
        self.s3_data_type = s3_data_type
        self.s3_input_mode = s3_input_mode
        self.s3_data_distribution_type = s3_data_distribution_type
        self.s3_compression_type = s3_compression_type
        self.dataset_definition = dataset_definition
        self.app_managed = app_managed
        self.reuse = reuse
        if s3_input is not None:
            if not all(hasattr(s3_input, field.name) for field in attrs.fields(S3Input)):  # v2's own has them too
                raise ConfigurationError(f"s3_input: must be a processing.S3Input, not {type_name(s3_input)}")
            self.s3_input = s3_input

    @property
    def s3_input(self) -> S3Input | None:
        """The S3 settings as one value; None for an input without a source. Assign a new `S3Input` to change them."""
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


@attrs.frozen
class FeatureStoreOutput:
    """An output that goes to a feature group instead of S3."""

    feature_group_name: str | None = None


@attrs.define(slots=False)
class ProcessingOutput:
    """Data that a job writes.

    Args:
        source: the directory in the container, under /opt/ml/processing/.
        destination: the S3 prefix that it goes to; `<bucket>/<job name>/output/<output name>` where none is given.
        output_name: the output's name; `output-N` by position where none is given.
        s3_upload_mode: `EndOfJob` or `Continuous`.
        app_managed: True where the container itself uploads the output.
        feature_store_output: a feature group, instead of S3.
    """

    source: str | None = attrs.field(default=None, converter=_posix)
    destination: str | None = None
    output_name: str | None = None
    s3_upload_mode: str = "EndOfJob"
    app_managed: bool = False
    feature_store_output: FeatureStoreOutput | None = None


@attrs.define(slots=False)
class NetworkConfig:
    """The network that a job's containers see.

    Args:
        enable_network_isolation: True for no network at all, AWS included; None means what the config file says, else
            False.
        security_group_ids: the VPC's security groups (`sg-...`), at most 5; goes with `subnets`.
        subnets: the VPC's subnets, at most 16.
        encrypt_inter_container_traffic: whether instances talk to each other encrypted; None leaves it to AWS.
    """

    enable_network_isolation: bool | None = None
    security_group_ids: list[str] | None = None
    subnets: list[str] | None = None
    encrypt_inter_container_traffic: bool | None = None


@attrs.define(slots=False)
class RunArgs:
    """What `ScriptProcessor.get_run_args` returns: the normalised arguments of `run`."""

    code: StrPath | None = None
    inputs: list[ProcessingInput] | None = None
    outputs: Sequence[ProcessingOutput | str] | None = None
    arguments: list[str] | None = None

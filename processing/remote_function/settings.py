"""Settings of a remote function: the parameters of `@remote` and `RemoteExecutor`, checked and frozen.

A parameter that is not given is None. It gets its value at the call: from the config file, else the default. Decoration
thus makes no call to AWS and reads no file.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypedDict

import attrs

from processing._utils import StrPath, did_you_mean
from processing._utils.validation import (
    FLAG,
    FUNCTION,
    ITERABLE,
    MAPPING,
    NAME,
    PATH,
    Kind,
    instance_of,
    integer,
    one_of,
    require_all,
)
from processing.exceptions import ConfigurationError
from processing.models import NetworkConfig
from processing.remote_function.config_keys import TAGS, configured_values
from processing.remote_function.spark_config import SparkConfig

if TYPE_CHECKING:
    from processing.config.values import Config
    from processing.default_sessions import SessionLike
    from processing.job.start import IfExists
    from processing.processors.base import Preferences, Tags
    from processing.remote_function.custom_file_filter import CustomFileFilter

LONGEST_RUNTIME: Final = 777_600
"""The most seconds that a processing job may run, nine days."""

RESULT_FORMATS: Final = ("pickle", "json", "arrow")


class RemoteOptions(TypedDict, total=False):
    """The keyword arguments of `remote`, `RemoteExecutor` and `options`. `RemoteSettings` describes them."""

    dependencies: StrPath | None
    pre_execution_commands: Sequence[str] | None
    pre_execution_script: StrPath | None
    environment_variables: Mapping[str, str] | None
    image_uri: str | None
    include_local_workdir: bool | None
    custom_file_filter: Callable[[str, list[str]], list[str]] | CustomFileFilter | None
    instance_count: int | None
    instance_type: str | None
    job_conda_env: str | None
    job_name_prefix: str | None
    keep_alive_period_in_seconds: int | None
    max_retry_attempts: int | None
    max_runtime_in_seconds: int | None
    role: str | None
    s3_kms_key: str | None
    s3_root_uri: str | None
    sagemaker_session: SessionLike | None
    security_group_ids: Sequence[str] | None
    subnets: Sequence[str] | None
    tags: Tags | Sequence[tuple[str, str]] | None
    volume_kms_key: str | None
    volume_size: int | None
    encrypt_inter_container_traffic: bool | None
    spark_config: Any
    use_spot_instances: bool | None
    max_wait_time_in_seconds: int | None
    disable_output_compression: bool | None
    use_torchrun: bool | None
    use_mpirun: bool | None
    nproc_per_node: int | None
    network_config: NetworkConfig | None
    instance_preferences: Preferences | None
    experiment_config: Mapping[str, str] | None
    extra: Mapping[str, Any] | None
    job_name: str | None
    if_exists: IfExists | None
    by_reference: bool | None
    result_format: str | None


_TEXTS = Kind(
    "a list of strings", lambda value: isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
)
_VARIABLES = Kind(
    "a dictionary of strings",
    lambda value: isinstance(value, Mapping) and all(isinstance(each, str) for pair in value.items() for each in pair),
)
_S3_URI = Kind("an s3:// URI", lambda value: NAME.accepts(value) and value.startswith("s3://"))
_FILTER = FUNCTION | Kind("a CustomFileFilter", lambda value: hasattr(value, "ignore_name_patterns"))
_PAIRS = ITERABLE | MAPPING

_KINDS: Final = {
    "dependencies": PATH,
    "pre_execution_commands": _TEXTS,
    "pre_execution_script": PATH,
    "environment_variables": _VARIABLES,
    "image_uri": NAME,
    "include_local_workdir": FLAG,
    "custom_file_filter": _FILTER,
    "instance_count": integer(at_least=1),
    "instance_type": NAME,
    "job_conda_env": NAME,
    "job_name_prefix": NAME,
    "max_retry_attempts": integer(at_most=30)._replace(description="an integer from 0 to 30"),
    "max_runtime_in_seconds": integer(at_least=1, at_most=LONGEST_RUNTIME)._replace(
        description=f"seconds, from 1 to {LONGEST_RUNTIME}"
    ),
    "role": NAME,
    "s3_kms_key": NAME,
    "s3_root_uri": _S3_URI,
    "security_group_ids": _TEXTS,
    "subnets": _TEXTS,
    "tags": _PAIRS,
    "volume_kms_key": NAME,
    "volume_size": integer(at_least=1),
    "encrypt_inter_container_traffic": FLAG,
    "use_torchrun": FLAG,
    "use_mpirun": FLAG,
    "nproc_per_node": integer(at_least=1),
    "network_config": instance_of(NetworkConfig),
    "experiment_config": MAPPING,
    "extra": MAPPING,
    "job_name": NAME,
    "if_exists": one_of("fail", "attach", "suffix"),
    "by_reference": FLAG,
    "result_format": one_of(*RESULT_FORMATS),
    "spark_config": instance_of(SparkConfig, name="a processing.remote_function.SparkConfig"),
}

# Parameters of training jobs that processing jobs do not have, with the alternative.
_TRAINING_ONLY: Final = {
    "keep_alive_period_in_seconds": "a processing job has no warm pool; RemotePool keeps one job for many calls",
    "use_spot_instances": "processing jobs have no spot instances; instance_preferences names cheaper instance types",
    "max_wait_time_in_seconds": "it belongs to spot instances; max_runtime_in_seconds limits the time of a job",
    "disable_output_compression": "results are never compressed",
}


@attrs.frozen(kw_only=True)
class RemoteSettings:
    """The settings of a remote function. None means that a parameter is not given.

    Args:
        dependencies: the path of a `requirements.txt`, a `pyproject.toml`, a conda environment file or a folder of
            wheels, which the job installs; `auto_capture` for the packages of this Python.
        pre_execution_commands: shell commands that run in the job before the dependencies are installed.
        pre_execution_script: the path of a shell script in their place.
        environment_variables: environment variables of the job, of any length.
        image_uri: the container image, with Python 3.8 or later; by default one with the caller's Python.
        include_local_workdir: True to send the files of the working directory, without those that ignore files name.
        custom_file_filter: the files that are left out of it: a `CustomFileFilter`, or a function from a directory and
            the names in it to the names to leave out.
        instance_count: the number of instances, 1 by default; more are for `map` and launchers.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine.
        job_conda_env: the conda environment of the image that runs the function.
        job_name_prefix: the beginning of job names; by default the function's name.
        keep_alive_period_in_seconds: not available for processing jobs.
        max_retry_attempts: how often a job is started again that AWS could not run, 0 to 30; 1 by default.
        max_runtime_in_seconds: the seconds after which AWS stops the job, at most 777600; a day by default.
        role: the IAM role of the job; by default that of the caller or the notebook.
        s3_kms_key: the KMS key that encrypts everything in S3.
        s3_root_uri: the S3 prefix for code, calls and results; by default the session's default bucket and prefix.
        sagemaker_session: the session; by default one made from the environment.
        security_group_ids: the security groups of the job's VPC.
        subnets: the subnets of the job's VPC.
        tags: the job's tags: a dictionary, pairs of key and value, or the service's form.
        volume_kms_key: the KMS key of the instances' storage.
        volume_size: the storage of each instance in GB, 30 by default.
        encrypt_inter_container_traffic: True to encrypt the traffic between instances.
        spark_config: the configuration of Spark, which runs the function as its application. It needs an `image_uri`
            with Spark.
        use_spot_instances: not available for processing jobs.
        max_wait_time_in_seconds: not available for processing jobs.
        disable_output_compression: not available for processing jobs, whose results are never compressed.
        use_torchrun: True to run the function under `torchrun`, on each instance. The result is that of rank 0.
        use_mpirun: True to run the function under Open MPI's `mpirun`, on all instances, without an SSH server. The
            result is that of rank 0.
        nproc_per_node: the processes on each instance, for both; by default one for each GPU, else for each CPU.
        network_config: the network of the job, in place of `subnets`, `security_group_ids` and
            `encrypt_inter_container_traffic`.
        instance_preferences: instance types in order of priority, in place of `instance_type`.
        experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
        extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.
        job_name: the job's name; by default generated.
        if_exists: the action if a job named `job_name` exists: `fail`, `attach` or `suffix`.
        by_reference: True to send the function's module and name in place of its code: the job imports it.
        result_format: `pickle`; or `json` or `arrow` for values that any Python can read, and that cannot run code.

    Raises:
        ConfigurationError: a value cannot work, or a processing job has no such setting.
    """

    dependencies: StrPath | None = None
    pre_execution_commands: Sequence[str] | None = None
    pre_execution_script: StrPath | None = None
    environment_variables: Mapping[str, str] | None = attrs.field(default=None, repr=False)  # may hold secrets
    image_uri: str | None = None
    include_local_workdir: bool | None = None
    custom_file_filter: Any = None
    instance_count: int | None = None
    instance_type: str | None = None
    job_conda_env: str | None = None
    job_name_prefix: str | None = None
    keep_alive_period_in_seconds: int | None = None
    max_retry_attempts: int | None = None
    max_runtime_in_seconds: int | None = None
    role: str | None = None
    s3_kms_key: str | None = None
    s3_root_uri: str | None = None
    sagemaker_session: Any = attrs.field(default=None, repr=False)
    security_group_ids: Sequence[str] | None = None
    subnets: Sequence[str] | None = None
    tags: Any = None
    volume_kms_key: str | None = None
    volume_size: int | None = None
    encrypt_inter_container_traffic: bool | None = None
    spark_config: Any = None
    use_spot_instances: bool | None = None
    max_wait_time_in_seconds: int | None = None
    disable_output_compression: bool | None = None
    use_torchrun: bool | None = None
    use_mpirun: bool | None = None
    nproc_per_node: int | None = None
    network_config: NetworkConfig | None = None
    instance_preferences: Any = None
    experiment_config: Mapping[str, str] | None = None
    extra: Mapping[str, Any] | None = None
    job_name: str | None = None
    if_exists: IfExists | None = None
    by_reference: bool | None = None
    result_format: str | None = None

    def __attrs_post_init__(self) -> None:
        require_all(_KINDS, attrs.asdict(self, recurse=False))
        _all_tags(self.tags, [])
        for name, reason in _TRAINING_ONLY.items():
            if getattr(self, name):  # the defaults of @remote in sagemaker are 0, False and None
                raise ConfigurationError(f"{name}: {reason}")
        for name, *others in _EXCLUSIVE:
            given = [other for other in others if getattr(self, other)]
            if getattr(self, name) and given:
                raise ConfigurationError(f"{name}: cannot be given together with {given[0]}")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> RemoteSettings:
        """Return the settings of keyword arguments.

        Raises:
            ConfigurationError: there is no such parameter, or a value cannot work.
        """
        return cls().evolve(options)

    def evolve(self, options: Mapping[str, Any]) -> RemoteSettings:
        """Return the settings with other values. Copies of the caller's collections are kept.

        Raises:
            ConfigurationError: there is no such parameter, or a value cannot work.
        """
        known = [each.name for each in attrs.fields(type(self))]
        for name in options:
            if name not in known:
                raise ConfigurationError(f"{name}: there is no such parameter{did_you_mean(name, known)}")
        return attrs.evolve(self, **{name: _own(value) for name, value in options.items()})

    def complete(self, config: Config) -> RemoteSettings:
        """Return the settings with the values of the config file, and the defaults, for all that are not given."""
        found = configured_values(config)
        tags: list[dict[str, str]] = found.pop(TAGS, [])
        given = {each.name for each in attrs.fields(type(self)) if getattr(self, each.name) is not None}
        # What the caller gives also takes the place of parameters that exclude it.
        given |= {name for group in _EXCLUSIVE if given.intersection(group[:1]) for name in group}
        given |= {group[0] for group in _EXCLUSIVE if given.intersection(group[1:])}
        missing = {name: value for name, value in {**_DEFAULTS, **found}.items() if name not in given}
        return attrs.evolve(self, **missing, tags=_all_tags(self.tags, tags))


_EXCLUSIVE: Final = (
    ("pre_execution_commands", "pre_execution_script"),
    ("use_torchrun", "use_mpirun"),
    # Spark runs in the image's own Python.
    ("spark_config", "use_torchrun", "use_mpirun", "dependencies", "job_conda_env"),
    ("instance_preferences", "instance_type"),
    ("network_config", "subnets", "security_group_ids", "encrypt_inter_container_traffic"),
)

_DEFAULTS: Final[Mapping[str, Any]] = {
    "instance_count": 1,
    "volume_size": 30,
    "max_retry_attempts": 1,
    "max_runtime_in_seconds": 86_400,
    "if_exists": "fail",
    "by_reference": False,
    "result_format": "pickle",
    "include_local_workdir": False,
}


def _own(value: Any) -> Any:
    """Return a copy of a value that the caller may change later."""
    return copy.deepcopy(value) if isinstance(value, (Mapping, list, tuple, NetworkConfig)) else value


def _all_tags(given: Any, configured: list[dict[str, str]]) -> Any:
    """Return the tags in the service's form, with those of the config file under other keys."""
    if isinstance(given, Mapping):
        tags = [{"Key": key, "Value": value} for key, value in given.items()]
    else:
        tags = [dict(each) if isinstance(each, Mapping) else _tag_of(each) for each in given or ()]
    keys = {tag.get("Key") for tag in tags}
    return [*tags, *(tag for tag in configured if tag["Key"] not in keys)] or None


def _tag_of(pair: Any) -> dict[str, Any]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise ConfigurationError(f"tags: must be pairs of key and value, not {pair!r}")
    return {"Key": pair[0], "Value": pair[1]}

"""Settings of a remote function: the parameters of `@remote` and `RemoteExecutor`, checked and frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from processing._utils import did_you_mean
from processing.exceptions import ConfigurationError


@attrs.frozen(kw_only=True)
class RemoteSettings:
    """The parameters of a remote function, as the user gave them. None means: not given."""

    dependencies: Any = None
    pre_execution_commands: Any = None
    pre_execution_script: Any = None
    environment_variables: Mapping[str, str] | None = None
    image_uri: str | None = None
    include_local_workdir: bool | None = None
    custom_file_filter: Any = None
    instance_count: int = 1
    instance_type: str | None = None
    job_conda_env: str | None = None
    job_name_prefix: str | None = None
    keep_alive_period_in_seconds: int | None = None
    max_retry_attempts: int | None = None
    max_runtime_in_seconds: int | None = None
    role: str | None = None
    s3_kms_key: str | None = None
    s3_root_uri: str | None = None
    sagemaker_session: Any = None
    security_group_ids: list[str] | None = None
    subnets: list[str] | None = None
    tags: Any = None
    volume_kms_key: str | None = None
    volume_size: int = 30
    encrypt_inter_container_traffic: bool | None = None
    spark_config: Any = None
    use_spot_instances: bool | None = None
    max_wait_time_in_seconds: int | None = None
    disable_output_compression: bool | None = None
    use_torchrun: bool = False
    use_mpirun: bool = False
    nproc_per_node: int | None = None
    network_config: Any = None
    instance_preferences: Any = None
    experiment_config: dict[str, str] | None = None
    extra: Mapping[str, Any] | None = None
    if_exists: str = "fail"
    job_name: str | None = None
    by_reference: bool = False
    result_format: str = "pickle"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> RemoteSettings:
        """Return the settings of keyword arguments.

        Raises:
            ConfigurationError: there is no such parameter.
        """
        return cls().evolve(options)

    def evolve(self, options: Mapping[str, Any]) -> RemoteSettings:
        """Return the settings with other values.

        Raises:
            ConfigurationError: there is no such parameter.
        """
        known = [field.name for field in attrs.fields(type(self))]
        for name in options:
            if name not in known:
                raise ConfigurationError(f"{name}: @remote has no such parameter{did_you_mean(name, known)}")
        return attrs.evolve(self, **{name: _own(value) for name, value in options.items()})


def _own(value: Any) -> Any:
    """Return a copy of a value that the caller may change later."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, (list, tuple)) else value


Function = Callable[..., Any]

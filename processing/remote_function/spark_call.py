"""The parts of a call that `spark_config` adds: files in the verified bundle, and the options of spark-submit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.container.remote.launch import SPARK_CONFIGURATION, SPARK_FILES
from processing.spark.base import EVENTS_DIRECTORY
from processing.spark.configuration import configuration_body
from processing.spark.submit_files import SubmitFiles, collect_files
from processing.staging.bundles import Member

if TYPE_CHECKING:
    from processing.remote_function.spark_config import SparkConfig

_OPTIONS: Final = {"submit_py_files": "py-files", "submit_jars": "jars", "submit_files": "files"}


def spark_launcher(config: SparkConfig) -> dict[str, Any]:
    """Return the launcher of a call on Spark, for the manifest.

    Raises:
        ConfigurationError: a file does not exist, or its name is impossible.
    """
    files = {
        option: [list(found.uris), [member.name for member in found.members]]
        for option, found in _files(config).items()
    }
    events = None if config.spark_event_logs_uri is None else EVENTS_DIRECTORY
    return {"kind": "spark", "files": files, "events": events}


def spark_members(config: SparkConfig) -> tuple[Member, ...]:
    """Return the local files for Spark as members of the bundle, which the job verifies.

    Raises:
        ConfigurationError: a file does not exist, its name is impossible, or the configuration cannot be applied.
    """
    members = [
        attrs.evolve(member, name=f"{SPARK_FILES}/{option}/{member.name}")
        for option, found in _files(config).items()
        for member in found.members
    ]
    if config.configuration:
        body = configuration_body(config.configuration)
        members.append(Member(Path(SPARK_CONFIGURATION), f"{SPARK_FILES}/conf/{SPARK_CONFIGURATION}", body))
    return tuple(members)


def _files(config: SparkConfig) -> dict[str, SubmitFiles]:
    """Return the files of each option that has any."""
    return {
        option: collect_files(parameter, getattr(config, parameter), packages=parameter == "submit_py_files")
        for parameter, option in _OPTIONS.items()
        if getattr(config, parameter)
    }

"""The parameters of a job's gateway to the engine, decided when the job is created."""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import TYPE_CHECKING

import attrs

from processing.container.contract import DAY
from processing.local.credentials import job_credentials
from processing.local.endpoint import client_environment
from processing.local.errors import disk_full
from processing.local.import_path import search_path
from processing.local.jobs.execution_plan import GatewayOptions
from processing.local.settings import PYTHON_VARIABLE, EngineSettings

if TYPE_CHECKING:
    from pathlib import Path

    from processing.local.jobs.workload import Workload

MASKS_VARIABLE = "PROCESSING_LOCAL_MASKS"
"""The environment variable of a gateway's server with the masks of its job, a list in JSON."""
_SLACK_SECONDS = DAY
"""The time that a job's keys stay valid beyond its longest runtime. A day covers its inputs, its outputs, and changes
of the clock."""


def gateway_options(
    home: Path, region: str, settings: EngineSettings, workload: Workload, masks: list[str]
) -> GatewayOptions:
    """Return the parameters of a job's gateway.

    Args:
        home: the engine's folder.
        region: the engine's region.
        settings: the engine's settings, which also hold for jobs that this job creates.
        workload: the job.
        masks: the files that such jobs see as empty, too.

    Raises:
        ApiError: the disk is full.
    """
    try:
        keys = job_credentials(home, _role_session_arn(workload.role), time.time() + workload.longest + _SLACK_SECONDS)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise disk_full(home) from error
        raise
    python = settings.python or os.environ.get(PYTHON_VARIABLE) or sys.executable
    return GatewayOptions(
        region=region,
        settings=attrs.evolve(settings, python=python).to_json(),
        masks=masks,
        path=search_path(),
        environment=client_environment("", keys, region),
    )


def _role_session_arn(role: str) -> str:
    """Return the ARN that GetCallerIdentity answers in a job with that role, on AWS as well."""
    prefix, _, name = role.partition(":role/")
    return f"{prefix.replace(':iam:', ':sts:', 1)}:assumed-role/{name.rpartition('/')[2]}/SageMaker"

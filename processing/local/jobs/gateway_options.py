"""How a job will reach the engine: decided when it is created, and stored with it."""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from attrs import evolve

from processing.container.contract import DAY
from processing.local.credentials import job_credentials
from processing.local.endpoint import client_environment
from processing.local.errors import disk_full
from processing.local.import_path import search_path
from processing.local.settings import PYTHON_VARIABLE, EngineSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MASKS_VARIABLE = "PROCESSING_LOCAL_MASKS"
"""Tells the process what the creator of its job keeps from jobs: a list in JSON."""
_SLACK_SECONDS = DAY
"""For how long a job's keys hold beyond its longest runtime: for its inputs, its outputs, and clocks that are set."""


def plan(
    home: Path, region: str, settings: EngineSettings, request: Mapping[str, Any], masks: list[str]
) -> dict[str, Any]:
    """Decide how a job reaches the engine.

    Args:
        home: the engine's folder.
        region: the engine's region.
        settings: the engine's settings, which also hold for jobs that this job creates.
        request: the job's request.
        masks: the files that such jobs shall not see either.

    Returns:
        what `Gateway` needs, in JSON's types.

    Raises:
        ApiError: the disk is full.
    """
    longest = request["StoppingCondition"]["MaxRuntimeInSeconds"]
    try:
        keys = job_credentials(home, _session_of(request["RoleArn"]), time.time() + longest + _SLACK_SECONDS)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise disk_full(home) from error
        raise
    python = settings.python or os.environ.get(PYTHON_VARIABLE) or sys.executable
    return {
        "region": region,
        "settings": evolve(settings, python=python).to_json(),
        "masks": masks,
        "path": search_path(),
        "environment": client_environment("", keys, region),
    }


def _session_of(role: str) -> str:
    """Return who a job with that role is: what GetCallerIdentity answers in a job on AWS."""
    prefix, _, name = role.partition(":role/")
    return f"{prefix.replace(':iam:', ':sts:', 1)}:assumed-role/{name.rpartition('/')[2]}/SageMaker"

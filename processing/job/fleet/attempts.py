"""The names of repeated attempts: a failed run of a fleet is run again as `<name>-<key>-retry2`, `-retry3`, ...

A job's name is unique, and a failed job keeps its name, its logs and its outputs. So each attempt is a job of its own.
The latest attempt stands for the run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from processing.exceptions import ConfigurationError
from processing.request.job_names import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

T = TypeVar("T")

_ATTEMPT = re.compile(r"(?P<key>.+)-retry(?P<number>[2-9]|[1-9]\d+)")


def latest_attempt(job_name: str, existing: Container[str]) -> str | None:
    """Return the name of a run's latest attempt among existing jobs; None if the run has no job.

    Args:
        job_name: the name of the first attempt.
        existing: the names of the existing jobs.
    """
    if job_name not in existing:
        return None
    latest, number = job_name, 2
    while (name := f"{job_name}-retry{number}") in existing:
        latest, number = name, number + 1
    return latest


def next_attempt(job_name: str, latest: str) -> str:
    """Return the name of the attempt after the latest one.

    Args:
        job_name: the name of the first attempt.
        latest: the name of the latest attempt.

    Raises:
        ConfigurationError: the name would be longer than a job's name may be.
    """
    number = 1 if latest == job_name else int(latest.removeprefix(f"{job_name}-retry"))
    name = f"{job_name}-retry{number + 1}"
    if len(name) > LONGEST_NAME:
        raise ConfigurationError(
            f"name: {job_name!r} cannot be run again: the next attempt would be named {name!r}, which has more than "
            f"{LONGEST_NAME} characters; submit the run under a shorter name or key"
        )
    return name


def latest_by_key(found: Mapping[str, T]) -> dict[str, T]:
    """Return the latest attempt for each key, in the order of the first attempts.

    Args:
        found: the jobs of a fleet, by their names without the fleet's prefix.
    """
    latest: dict[str, T] = {}
    numbers: dict[str, int] = {}
    for name, job in found.items():
        match = _ATTEMPT.fullmatch(name)
        repeated = match is not None and match["key"] in found
        key, number = (match["key"], int(match["number"])) if match and repeated else (name, 1)
        if number >= numbers.get(key, 0):
            numbers[key] = number
            latest[key] = job
    return latest

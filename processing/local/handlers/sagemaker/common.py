"""Helpers of the handlers of SageMaker's resources."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.context import EngineContext

DEFAULT_PAGE = 10
"""SageMaker's default for the items of a page."""


def arn_prefix(engine: EngineContext) -> str:
    """Return the beginning of the ARNs of an engine's resources."""
    return f"arn:aws:sagemaker:{engine.region}:{engine.account}"


def tags_of(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a request."""
    return {tag["Key"]: tag["Value"] for tag in params.get("Tags") or ()}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as the API's list."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def now() -> float:
    """Return the time in seconds since the epoch, rounded to the API's resolution of milliseconds."""
    return round(dt.datetime.now(dt.timezone.utc).timestamp(), 3)


def to_seconds(moment: Any) -> float | None:
    """Return a time of a request in seconds since the epoch. Like botocore, it treats naive times as UTC."""
    if moment is None or isinstance(moment, (int, float)):
        return moment
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)
    return float(aware.timestamp())


def time_filters(params: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the filters by time of a List operation, by their names in the stores' queries."""
    return {
        "created_after": to_seconds(params.get("CreationTimeAfter")),
        "created_before": to_seconds(params.get("CreationTimeBefore")),
        "modified_after": to_seconds(params.get("LastModifiedTimeAfter")),
        "modified_before": to_seconds(params.get("LastModifiedTimeBefore")),
    }

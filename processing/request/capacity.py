"""Advice for a lack of capacity, shown if CreateProcessingJob is refused or a job fails because AWS has no instance."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPE = re.compile(r"ml\.([a-z]+)(\d+)([a-z-]*)\.(\w+)")
_MAX_PREFERENCES = 5


def capacity_advice(request: Mapping[str, Any]) -> str:
    """Return the alternatives to try.

    Args:
        request: the parameters of CreateProcessingJob, or the response of DescribeProcessingJob.
    """
    cluster = request.get("ProcessingResources", {}).get("ClusterConfig", {})
    tried = _requested_types(cluster)
    further = [name for name in _similar_types(tried) if name not in tried]
    tries = ["the same again later"]
    if further and len(tried) < _MAX_PREFERENCES:
        preferences = [*tried, *further][:_MAX_PREFERENCES]
        instead = " in place of instance_type" if "InstanceType" in cluster else ""
        tries.append(f"instance_preferences={preferences}{instead}, of which AWS takes the first that it has")
    else:
        tries.append(f"other instance types: instance_preferences takes up to {_MAX_PREFERENCES} of them")
    if cluster.get("InstanceCount", 1) > 1:
        tries.append(f"fewer instances than {cluster['InstanceCount']}")
    subnets = request.get("NetworkConfig", {}).get("VpcConfig", {}).get("Subnets")
    if subnets:
        tries.append("subnets in further availability zones: the job can only use those of " + ", ".join(subnets))
    tries.append("another region")
    of = " or ".join(tried) or "the instance type"
    return f"AWS has not enough capacity of {of} here and now. Try\n" + "\n".join(f"  - {text}" for text in tries)


def _requested_types(cluster: Mapping[str, Any]) -> list[str]:
    preferences = [entry["InstanceType"] for entry in cluster.get("InstancePreferences") or ()]
    if preferences or "InstanceType" not in cluster:
        return preferences
    return [cluster["InstanceType"]]


def _similar_types(tried: list[str]) -> list[str]:
    """Return types of the same kind and size as the first one, the nearest generation first, newer before older."""
    from processing.request.service_model import processing_model

    first = _TYPE.fullmatch(tried[0]) if tried else None
    if first is None:
        return []
    known: Any = processing_model().shape_for("ProcessingInstanceType")
    found = [match for match in map(_TYPE.fullmatch, known.enum) if match and _are_similar(first, match)]
    found.sort(key=lambda match: (abs(int(match[2]) - int(first[2])), -int(match[2]), len(match[3]), match[0]))
    return [match[0] for match in found]


def _are_similar(one: re.Match[str], other: re.Match[str]) -> bool:
    """Return whether two types have the same letter, size and processor architecture. The image requires the latter."""
    arm = ["g" in match[3].partition("-")[0] for match in (one, other)]
    return (one[1], one[4]) == (other[1], other[4]) and arm[0] == arm[1]

"""The use of a job's hosts: CPU, memory and disk, as CloudWatch has them, and a recommendation.

SageMaker stores three metrics of each host of a processing job in percent, and CPU in percent of one CPU. The number of
CPUs comes from the size in the instance type's name.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.container.contract import LOG_GROUP
from processing.job.cost import instances_of_description

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from processing.session.session import Session

_NAMES: Final = {"cpu": "CPUUtilization", "memory": "MemoryUtilization", "disk": "DiskUtilization"}
_STATISTICS: Final = ("Sum", "SampleCount", "Maximum")
_MOST_QUERIES: Final = 500  # of one GetMetricData
_MOST_PERIODS: Final = 100  # for each query: enough to place the job's begin and end, and a page holds 55 hosts
# A host that peaks below this share of CPU and memory would fit into half of it with room to spare.
_HALF: Final = 40.0
# Above this share, memory or disk may run out with the next larger input, and CPUs are the job's limit.
_FULL: Final = 90.0


@attrs.frozen
class Utilization:
    """The use of one resource of a host, in percent.

    Args:
        mean: the mean over the job's time.
        peak: the highest sample.
    """

    mean: float
    peak: float


@attrs.frozen
class HostMetrics:
    """The use of one host. A resource without samples is None.

    Args:
        cpu: the CPU, in percent of one CPU: two busy CPUs are 200.
        memory: the memory.
        disk: the disk volume.
    """

    cpu: Utilization | None = None
    memory: Utilization | None = None
    disk: Utilization | None = None


@attrs.frozen
class JobMetrics:
    """The use of a job's hosts.

    Args:
        hosts: the metrics of each host: `algo-1`, `algo-2`, ... A host without samples is left out.
        recommendation: advice if the instance type is much too large or too small; None otherwise.
    """

    hosts: Mapping[str, HostMetrics]
    recommendation: str | None = None


def job_metrics(session: Session, job_name: str, description: Mapping[str, Any]) -> JobMetrics:
    """Return the metrics of the job with that description."""
    instances = instances_of_description(description)
    count = max((each.count for each in instances), default=1)
    begin = description.get("ProcessingStartTime") or description["CreationTime"]
    end = description.get("ProcessingEndTime") or description.get("LastModifiedTime") or begin
    if "ProcessingEndTime" not in description:
        end = max(end, _now_like(begin, session.clock.time()))
    hosts = _read(session, job_name, count, begin, end)
    kind = instances[0].instance_type if len(instances) == 1 and not session.is_local else None
    return JobMetrics(hosts, _recommendation(hosts, kind) if kind else None)


def _now_like(moment: datetime, seconds: float) -> datetime:
    return moment.fromtimestamp(seconds, moment.tzinfo)


def _read(session: Session, job_name: str, count: int, begin: datetime, end: datetime) -> dict[str, HostMetrics]:
    names = [f"algo-{number}" for number in range(1, count + 1)]
    seconds = max(60.0, (end - begin).total_seconds())
    period = 60 * math.ceil(seconds / 60 / _MOST_PERIODS)
    queries = [
        _query(job_name, host, number, kind, statistic, period) for number, host, kind, statistic in _wanted(names)
    ]
    from datetime import timedelta

    # A period that has begun before the job counts too, as does the one in which it ends.
    span = {"StartTime": begin - timedelta(seconds=period), "EndTime": end + timedelta(seconds=period)}
    values: dict[str, list[float]] = {}
    for place in range(0, len(queries), _MOST_QUERIES):
        for result in _results(session, queries[place : place + _MOST_QUERIES], span):
            values.setdefault(result["Id"], []).extend(result.get("Values") or ())
    hosts = {}
    for number, host in enumerate(names):
        usages = {kind: _usage(values, number, kind) for kind in _NAMES}
        if any(usages.values()):
            hosts[host] = HostMetrics(**usages)
    return hosts


def _wanted(names: Sequence[str]) -> Iterator[tuple[int, str, str, str]]:
    for number, host in enumerate(names):
        for kind in _NAMES:
            for statistic in _STATISTICS:
                yield number, host, kind, statistic


def _query(job_name: str, host: str, number: int, kind: str, statistic: str, period: int) -> dict[str, Any]:
    dimensions = [{"Name": "Host", "Value": f"{job_name}/{host}"}]
    metric = {"Namespace": LOG_GROUP, "MetricName": _NAMES[kind], "Dimensions": dimensions}
    return {
        "Id": _id(number, kind, statistic),
        "MetricStat": {"Metric": metric, "Period": period, "Stat": statistic},
    }


def _id(number: int, kind: str, statistic: str) -> str:
    return f"{kind}_{statistic.lower()}_{number}"


def _results(session: Session, queries: Sequence[Any], span: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    params: dict[str, Any] = {"MetricDataQueries": queries, **span}
    while True:
        answer = session.api.call("cloudwatch", "GetMetricData", params)
        yield from answer.get("MetricDataResults") or ()
        if not answer.get("NextToken"):
            return
        params["NextToken"] = answer["NextToken"]


def _usage(values: Mapping[str, Sequence[float]], number: int, kind: str) -> Utilization | None:
    total, samples, peaks = (values.get(_id(number, kind, statistic)) or () for statistic in _STATISTICS)
    if not sum(samples):
        return None
    peak = max(peaks)
    return Utilization(min(peak, sum(total) / sum(samples)), peak)  # a rounded mean may exceed the peak


def cpus_of(instance_type: str) -> int | None:
    """Return the number of an instance type's CPUs by the size in its name; None if the size is another one."""
    size = instance_type.rpartition(".")[2]
    if size in {"medium", "large"}:
        return 2
    match = re.fullmatch(r"(\d*)xlarge", size)
    return None if match is None else 4 * int(match[1] or 1)


def _recommendation(hosts: Mapping[str, HostMetrics], instance_type: str) -> str | None:
    cpus = cpus_of(instance_type)
    cpu = [each.cpu for each in hosts.values() if each.cpu]
    memory = max((each.memory.peak for each in hosts.values() if each.memory), default=None)
    disk = max((each.disk.peak for each in hosts.values() if each.disk), default=0.0)
    if cpus is None or not cpu or memory is None:
        return None
    if memory >= _FULL:
        return f"memory peaked at {memory:.0f} %: take {_scaled(instance_type, 2)}, or a family with more memory"
    if disk >= _FULL:
        return f"the disk peaked at {disk:.0f} %: raise volume_size_in_gb"
    if min(each.mean for each in cpu) / cpus >= _FULL:
        return f"the CPUs were busy all the time: {_scaled(instance_type, 2)}, or more instances, would be faster"
    busiest = max(each.peak for each in cpu) / cpus
    highest = max(busiest, memory)
    smaller = _scaled(instance_type, 0.25 if highest < _HALF / 2 else 0.5) if highest < _HALF else None
    if smaller is None:
        return None
    return f"CPU peaked at {busiest:.0f} % and memory at {memory:.0f} %: {smaller} would be enough"


def _scaled(instance_type: str, factor: float) -> str | None:
    """Return the instance type of the same family whose size is nearest to a multiple; None if there is no smaller."""
    from processing.request.service_model import processing_model

    family, _, _ = instance_type.rpartition(".")
    shape: Any = processing_model().shape_for("ProcessingInstanceType")
    sizes = {each: cpus for each in shape.enum if each.startswith(f"{family}.") and (cpus := cpus_of(each))}
    own = cpus_of(instance_type) or 0
    if factor > 1:
        return min(
            (each for each, cpus in sizes.items() if cpus >= own * factor), key=sizes.__getitem__, default="more"
        )
    return max((e for e, cpus in sizes.items() if own * factor <= cpus < own), key=lambda e: -sizes[e], default=None)

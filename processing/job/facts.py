"""The facts on the card of a job, read with at most three calls."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.container.contract import LOG_GROUP
from processing.job.cost import console_url, cost_of
from processing.report.job_card import HostUse, JobFacts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from processing.session.session import Session

_MOST_HOSTS: Final = 20  # as the card draws; two metrics each fit into one call
_POINTS: Final = 120  # of a line
_TAIL: Final = 20  # lines
_LAST_SECONDS: Final = 120  # of a failed job, whose lines are read
_METRICS: Final = {"cpu": "CPUUtilization", "memory": "MemoryUtilization"}


def read_facts(session: Session, job_name: str, description: Mapping[str, Any]) -> JobFacts:
    """Return the facts of the job with that description. Two calls at most; a refusal leaves its part out."""
    created = description.get("CreationTime")
    started, ended = description.get("ProcessingStartTime"), description.get("ProcessingEndTime")
    status = str(description["ProcessingJobStatus"])
    end = ended or (created and created.fromtimestamp(session.clock.time(), created.tzinfo))
    cluster = description.get("ProcessingResources", {}).get("ClusterConfig", {})
    kind = cluster.get("SelectedInstanceType") or cluster.get("InstanceType")
    count = int(cluster.get("InstanceCount") or 1)
    hosts: list[HostUse] = []
    if created is not None and end is not None:
        hosts = _hosts(session, job_name, min(count, _MOST_HOSTS), created, end)
    hosts += [HostUse(f"algo-{number}") for number in range(len(hosts) + 1, count + 1)]
    tail: list[str] = []
    if status == "Failed" and end is not None:
        tail = _last_lines(session, job_name, end)
    elif created is not None:
        hosts = _with_lines(session, job_name, hosts, created)
    return JobFacts(
        name=job_name,
        status=status,
        details=[
            ("instances", f"{count} x {kind}" if kind else None),
            ("image", description.get("AppSpecification", {}).get("ImageUri")),
            ("created", None if created is None else created.isoformat(" ", "seconds")),
            ("duration", None if started is None or end is None else f"{(end - started).total_seconds():,.0f} s"),
            ("price", str(cost_of(session, description))),
            ("message", description.get("ExitMessage")),
        ],
        waited=None if started is None or created is None else max((started - created).total_seconds(), 0.0),
        total=0.0 if created is None or end is None else max((end - created).total_seconds(), 0.0),
        hosts=hosts,
        reason=description.get("FailureReason"),
        tail=tail,
        console_url=console_url(session, job_name),
    )


def _hosts(session: Session, job_name: str, count: int, begin: datetime, end: datetime) -> list[HostUse]:
    names = [f"algo-{number}" for number in range(1, count + 1)]
    period = 60 * max(1, -int(-(end - begin).total_seconds() // (60 * _POINTS)))
    queries = [
        {
            "Id": f"{kind}_{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": LOG_GROUP,
                    "MetricName": metric,
                    "Dimensions": [{"Name": "Host", "Value": f"{job_name}/{host}"}],
                },
                "Period": period,
                "Stat": "Average",
            },
        }
        for number, host in enumerate(names)
        for kind, metric in _METRICS.items()
    ]
    margin = timedelta(seconds=period)
    params = {"MetricDataQueries": queries, "StartTime": begin - margin, "EndTime": end + margin}
    answer = _call(session, "cloudwatch", "GetMetricData", {**params, "ScanBy": "TimestampAscending"})
    values = {result["Id"]: list(result.get("Values") or ()) for result in answer.get("MetricDataResults") or ()}
    return [
        HostUse(name, values.get(f"cpu_{number}", ()), values.get(f"memory_{number}", ()))
        for number, name in enumerate(names)
    ]


def _with_lines(session: Session, job_name: str, hosts: list[HostUse], created: datetime) -> list[HostUse]:
    """Return the hosts with the times of their first and last lines, from which their phases are estimated."""
    params = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": f"{job_name}/"}
    spans: dict[str, tuple[float, float]] = {}
    for stream in _call(session, "logs", "DescribeLogStreams", params).get("logStreams") or ():
        first, last = stream.get("firstEventTimestamp"), stream.get("lastEventTimestamp")
        match = re.match(r"algo-\d+", stream.get("logStreamName", "").removeprefix(f"{job_name}/"))
        if match and first is not None and last is not None:
            since = created.timestamp()
            spans[match[0]] = (first / 1000 - since, last / 1000 - since)
    return [attrs.evolve(host, lines=spans.get(host.name)) for host in hosts]


def _last_lines(session: Session, job_name: str, end: datetime) -> list[str]:
    begin = int((end.timestamp() - _LAST_SECONDS) * 1000)
    params = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": f"{job_name}/", "startTime": begin}
    answer = _call(session, "logs", "FilterLogEvents", params)
    return [event.get("message", "") for event in answer.get("events") or ()][-_TAIL:]


def _call(session: Session, service: str, operation: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the answer of a call; nothing if it is refused, since a card shows what it can."""
    from botocore.exceptions import BotoCoreError, ClientError

    from processing.exceptions import ProcessingError

    try:
        answer: Mapping[str, Any] = session.api.call(service, operation, params)
    except (ProcessingError, BotoCoreError, ClientError):
        return {}
    return answer

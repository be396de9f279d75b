"""Calls for the facts on a card. A refused one leaves its part out, since a card shows what it can."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from processing.session.session import Session

_POINTS: Final = 120  # of a line
_TAIL: Final = 20  # lines
_LAST_SECONDS: Final = 120  # of a failed job, whose lines are read
_SHORT_PERIODS: Final = (1, 5, 10, 30)  # of the engine's samples; AWS has one a minute


def call(session: Session, service: str, operation: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the answer of a call; nothing if it is refused."""
    from botocore.exceptions import BotoCoreError, ClientError

    from processing.exceptions import ProcessingError

    try:
        answer: Mapping[str, Any] = session.api.call(service, operation, params)
    except (ProcessingError, BotoCoreError, ClientError):
        return {}
    return answer


def read_metrics(
    session: Session,
    metrics: Mapping[str, tuple[str, str, Mapping[str, str], str]],
    begin: datetime,
    end: datetime,
) -> dict[str, list[tuple[float, float]]]:
    """Return the points of metrics by one call: the seconds since the begin and a value, in order of time.

    A sum of a period without samples is 0.

    Args:
        session: the session.
        metrics: the namespace, the name, the dimensions and the statistic of each, by an identifier.
        begin: the begin of the time.
        end: its end.
    """
    period = _period(session, (end - begin).total_seconds())
    queries = [
        {
            "Id": identifier,
            "MetricStat": {
                "Metric": {
                    "Namespace": namespace,
                    "MetricName": name,
                    "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
                },
                "Period": period,
                "Stat": statistic,
            },
        }
        for identifier, (namespace, name, dimensions, statistic) in metrics.items()
    ]
    margin = timedelta(seconds=period)
    params = {"MetricDataQueries": queries, "StartTime": begin - margin, "EndTime": end + margin}
    answer = call(session, "cloudwatch", "GetMetricData", {**params, "ScanBy": "TimestampAscending"})
    found = {}
    for result in answer.get("MetricDataResults") or ():
        values = zip(result.get("Timestamps") or (), result.get("Values") or (), strict=False)
        points = {moment.timestamp(): value for moment, value in values}
        if points and metrics[result["Id"]][3] == "Sum":
            first = int(begin.timestamp() // period) * period
            points = {float(moment): 0.0 for moment in range(first, int(end.timestamp()), period)} | points
        found[result["Id"]] = [(moment - begin.timestamp(), points[moment]) for moment in sorted(points)]
    return found


def _period(session: Session, seconds: float) -> int:
    """Return the seconds between two points, of which a line has at most `_POINTS`."""
    short = [each for each in _SHORT_PERIODS if session.is_local and seconds <= each * _POINTS]
    return short[0] if short else 60 * max(1, -int(-seconds // (60 * _POINTS)))


def line_spans(session: Session, group: str, name: str, created: datetime) -> dict[str, tuple[float, float]]:
    """Return the seconds from a job's creation to the first and to the last line of each of its hosts.

    Args:
        session: the session.
        group: the job's log group.
        name: the job's name.
        created: its creation.
    """
    params = {"logGroupName": group, "logStreamNamePrefix": f"{name}/"}
    spans: dict[str, tuple[float, float]] = {}
    for stream in call(session, "logs", "DescribeLogStreams", params).get("logStreams") or ():
        first, last = stream.get("firstEventTimestamp"), stream.get("lastEventTimestamp")
        host = _host_of(stream.get("logStreamName", ""), name)
        if host and first is not None and last is not None:
            since = created.timestamp()
            spans[host] = (first / 1000 - since, last / 1000 - since)
    return spans


def _host_of(stream: str, name: str) -> str | None:
    match = re.match(r"algo-\d+", stream.removeprefix(f"{name}/"))
    return match and match[0]


def last_events(session: Session, group: str, prefix: str, end: datetime) -> Sequence[Mapping[str, Any]]:
    """Return the log events of the last minutes before a moment."""
    begin = int((end.timestamp() - _LAST_SECONDS) * 1000)
    params = {"logGroupName": group, "startTime": begin}
    if prefix:
        params["logStreamNamePrefix"] = prefix
    answer = call(session, "logs", "FilterLogEvents", params)
    return answer.get("events") or ()


def messages(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the last lines of log events."""
    return [event.get("message", "") for event in events[-_TAIL:]]


def last_spans(
    events: Sequence[Mapping[str, Any]], name: str, created: datetime, started: float
) -> dict[str, tuple[float, float]]:
    """Return the seconds from a job's creation to its start and to the last event of each of its hosts."""
    spans = {}
    for event in events:
        host, moment = _host_of(event.get("logStreamName", ""), name), event.get("timestamp")
        if host and moment is not None:
            spans[host] = (started, moment / 1000 - created.timestamp())
    return spans

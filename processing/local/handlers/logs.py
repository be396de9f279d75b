"""CloudWatch Logs: reading what jobs wrote, and writing, on the engine's log store.

Unlike the service, the engine keeps events of any age, and what was written can be read at once.
"""

from __future__ import annotations

import base64
import itertools
import re
from typing import TYPE_CHECKING, Any, Protocol

from processing.local.errors import ApiError
from processing.local.stores.logs import EVENT_OVERHEAD, PAGE_BYTES, PAGE_EVENTS, LogStore

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 50
_TERM = re.compile(r'([?-]?)(?:"((?:\\.|[^"\\])*)"|([^\s"]+))(?:\s+|$)')


class Surroundings(Protocol):
    """What the handler needs to know of the engine."""

    account: str
    region: str
    logs: LogStore


class LogsHandler:
    """The log operations, by their names in the API. Params and results have boto3's names and types.

    Args:
        engine: the engine that it belongs to.

    Attributes:
        operations: the function for each operation.
    """

    def __init__(self, engine: Surroundings) -> None:
        self._engine = engine
        self._store = engine.logs
        self.operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "CreateLogGroup": self.create_log_group,
            "CreateLogStream": self.create_log_stream,
            "DescribeLogGroups": self.describe_log_groups,
            "DescribeLogStreams": self.describe_log_streams,
            "FilterLogEvents": self.filter_log_events,
            "GetLogEvents": self.get_log_events,
            "PutLogEvents": self.put_log_events,
        }

    def create_log_group(self, params: dict[str, Any]) -> dict[str, Any]:
        """Make a log group."""
        self._store.create_group(params["logGroupName"])
        return {}

    def create_log_stream(self, params: dict[str, Any]) -> dict[str, Any]:
        """Make a stream in a group."""
        self._store.create_stream(params["logGroupName"], params["logStreamName"])
        return {}

    def put_log_events(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add a batch of events, in the order of their times."""
        events = [(event["timestamp"], event["message"]) for event in params["logEvents"]]
        if any(first[0] > second[0] for first, second in itertools.pairwise(events)):
            message = "Log events in a single PutLogEvents request must be in chronological order."
            raise ApiError("InvalidParameterException", message)
        size = sum(len(message.encode("utf-8", "replace")) + EVENT_OVERHEAD for _, message in events)
        if size > PAGE_BYTES:
            raise ApiError("InvalidParameterException", f"Upload too large: {size} bytes exceeds limit of {PAGE_BYTES}")
        self._store.append(params["logGroupName"], params["logStreamName"], events, create=False)
        return {"nextSequenceToken": "0" * 56}

    def get_log_events(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a page of one stream."""
        page = self._store.read(
            self._group(params),
            params["logStreamName"],
            token=params.get("nextToken"),
            start_time=params.get("startTime"),
            end_time=params.get("endTime"),
            limit=params.get("limit", PAGE_EVENTS),
            from_head=params.get("startFromHead", False),
        )
        events = [
            {"timestamp": event.timestamp, "message": event.message, "ingestionTime": event.ingestion}
            for event in page.events
        ]
        return {"events": events, "nextForwardToken": page.forward, "nextBackwardToken": page.backward}

    def filter_log_events(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a page of the events of several streams, by time."""
        streams, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix")
        if streams and prefix is not None:
            message = "Cannot specify both logStreamNames and logStreamNamePrefix"
            raise ApiError("InvalidParameterException", message)
        events, token = self._store.filter(
            self._group(params),
            streams=streams,
            prefix=prefix,
            start_time=params.get("startTime"),
            end_time=params.get("endTime"),
            matches=_matcher(params.get("filterPattern", "")),
            limit=params.get("limit", PAGE_EVENTS),
            token=params.get("nextToken"),
        )
        found = [
            {
                "logStreamName": event.stream,
                "timestamp": event.timestamp,
                "message": event.message,
                "ingestionTime": event.ingestion,
                "eventId": f"{event.id:056d}",
            }
            for event in events
        ]
        return {"events": found, "searchedLogStreams": [], **({} if token is None else {"nextToken": token})}

    def describe_log_groups(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a page of the log groups, by name."""
        offset, limit = _offset(params), params.get("limit", PAGE)
        groups, more = self._store.groups(params.get("logGroupNamePrefix", ""), limit=limit, offset=offset)
        found = [
            {
                "logGroupName": group.name,
                "creationTime": group.created,
                "metricFilterCount": 0,
                "arn": self._arn(group.name) + ":*",
                "logGroupArn": self._arn(group.name),
                "storedBytes": 0,
                "logGroupClass": "STANDARD",
            }
            for group in groups
        ]
        return {"logGroups": found, **_next(offset + limit if more else None)}

    def describe_log_streams(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a page of a group's streams, by name or by the time of the last event."""
        by_last_event = params.get("orderBy") == "LastEventTime"
        prefix = params.get("logStreamNamePrefix", "")
        if by_last_event and prefix:
            message = "Cannot order by LastEventTime with a logStreamNamePrefix."
            raise ApiError("InvalidParameterException", message)
        group, offset, limit = self._group(params), _offset(params), params.get("limit", PAGE)
        descending = params.get("descending", False)
        streams, more = self._store.streams(
            group, prefix, by_last_event=by_last_event, descending=descending, limit=limit, offset=offset
        )
        found = []
        for stream in streams:
            times = {
                "firstEventTimestamp": stream.first_event,
                "lastEventTimestamp": stream.last_event,
                "lastIngestionTime": stream.last_ingestion,
            }
            known = {name: value for name, value in times.items() if value is not None}
            arn = f"{self._arn(group)}:log-stream:{stream.name}"
            head = {"logStreamName": stream.name, "creationTime": stream.created}
            found.append({**head, **known, "uploadSequenceToken": "0" * 56, "arn": arn, "storedBytes": 0})
        return {"logStreams": found, **_next(offset + limit if more else None)}

    def _arn(self, group: str) -> str:
        return f"arn:aws:logs:{self._engine.region}:{self._engine.account}:log-group:{group}"

    @staticmethod
    def _group(params: dict[str, Any]) -> str:
        name, identifier = params.get("logGroupName"), params.get("logGroupIdentifier")
        if (name is None) == (identifier is None):
            message = "Exactly one of logGroupName and logGroupIdentifier must be specified."
            raise ApiError("InvalidParameterException", message)
        return str(name if identifier is None else identifier.rpartition(":log-group:")[2].removesuffix(":*"))


def _offset(params: dict[str, Any]) -> int:
    token = params.get("nextToken")
    if token is None:
        return 0
    try:
        return int(base64.b64decode(token, validate=True))
    except ValueError:
        raise ApiError("InvalidParameterException", "The specified nextToken is invalid.") from None


def _next(offset: int | None) -> dict[str, str]:
    return {} if offset is None else {"nextToken": base64.b64encode(str(offset).encode()).decode()}


def _matcher(pattern: str) -> Callable[[str], bool] | None:
    """Return what a filter pattern of plain terms means; None for one that lets everything through.

    `a b` wants both, `?a ?b` one of them, `-a` none of it, quotes hold words together. Case counts.
    """
    pattern = pattern.strip()
    if not pattern:
        return None
    if pattern[0] in "{[%":
        raise ApiError("NotImplemented", "The local engine filters logs by plain terms only.", 501)
    wanted: dict[str, list[str]] = {"": [], "?": [], "-": []}
    position = 0
    while position < len(pattern):
        match = _TERM.match(pattern, position)
        if match is None:
            raise ApiError("InvalidParameterException", "Invalid filter pattern")
        term = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        wanted[match[1]].append(term)
        position = match.end()

    def matches(message: str) -> bool:
        return (
            all(term in message for term in wanted[""])
            and not any(term in message for term in wanted["-"])
            and (not wanted["?"] or any(term in message for term in wanted["?"]))
        )

    return matches

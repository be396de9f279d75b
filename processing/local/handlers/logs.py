"""Handler for CloudWatch Logs on the log store: reading, writing and following logs.

Unlike in the service, events can be read immediately after they are written, and are not deleted automatically.
"""

from __future__ import annotations

import base64
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

from processing.container.contract import DAY
from processing.local import strict_json
from processing.local.errors import ApiError
from processing.local.handlers.filter_patterns import compile_pattern
from processing.local.handlers.livetail import LiveTail
from processing.local.stores.log_paging import EVENT_OVERHEAD, PAGE_EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation
    from processing.local.stores.logs import StreamRecord

PAGE = 50
"""CloudWatch's limit for the groups or streams of a page."""
BATCH_BYTES = 1 << 20
"""CloudWatch's limit for one event and for a PutLogEvents, with `EVENT_OVERHEAD` for each event."""
RETENTIONS = frozenset(
    {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
)
"""The retentions in days that CloudWatch accepts."""

_DAY = DAY * 1000  # in milliseconds
# CloudWatch's bounds for the age of a new event, in milliseconds before and after now.
_OLDEST, _NEWEST = 14 * _DAY, 2 * 3600 * 1000
_GROUP_FILTERS = ("logGroupNamePrefix", "logGroupNamePattern", "logGroupIdentifiers")
_SEQUENCE_TOKEN = "0" * 56
"""The token of PutLogEvents. CloudWatch returns one and ignores it, and so does the engine."""


class LogsHandler:
    """Handler for the operations of CloudWatch Logs. Params and results have boto3's names and types.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._store = engine.logs
        self.operations: dict[str, Operation] = {
            "CreateLogGroup": self.create_log_group,
            "CreateLogStream": self.create_log_stream,
            "DeleteLogGroup": self.delete_log_group,
            "DeleteLogStream": self.delete_log_stream,
            "DeleteRetentionPolicy": self.delete_retention_policy,
            "DescribeLogGroups": self.describe_log_groups,
            "DescribeLogStreams": self.describe_log_streams,
            "FilterLogEvents": self.filter_log_events,
            "GetLogEvents": self.get_log_events,
            "ListTagsForResource": self.list_tags_for_resource,
            "PutLogEvents": self.put_log_events,
            "PutRetentionPolicy": self.put_retention_policy,
            "StartLiveTail": self.start_live_tail,
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
        }

    def create_log_group(self, params: dict[str, Any]) -> dict[str, Any]:
        """Create a log group."""
        self._store.create_group(params["logGroupName"], params.get("tags"))
        return {}

    def delete_log_group(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a log group with its streams and events."""
        self._store.delete_group(params["logGroupName"])
        return {}

    def create_log_stream(self, params: dict[str, Any]) -> dict[str, Any]:
        """Create a stream in a group."""
        self._store.create_stream(params["logGroupName"], params["logStreamName"])
        return {}

    def delete_log_stream(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a stream with its events."""
        self._store.delete_stream(params["logGroupName"], params["logStreamName"])
        return {}

    def put_retention_policy(self, params: dict[str, Any]) -> dict[str, Any]:
        """Set the retention of a group. Older events are refused from then on, but none is deleted."""
        days = params["retentionInDays"]
        if days not in RETENTIONS:
            values = ", ".join(map(str, sorted(RETENTIONS)))
            raise ApiError(
                "InvalidParameterException",
                f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: "
                f"Member must satisfy enum value set: [{values}]",
            )
        self._store.set_retention(params["logGroupName"], days)
        return {}

    def delete_retention_policy(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove the retention limit of a group."""
        self._store.set_retention(params["logGroupName"], None)
        return {}

    def tag_resource(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add tags to a log group."""
        self._store.change_tags(_group_name(params["resourceArn"]), add=params["tags"])
        return {}

    def untag_resource(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove tags from a log group."""
        self._store.change_tags(_group_name(params["resourceArn"]), remove=params["tagKeys"])
        return {}

    def list_tags_for_resource(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the tags of a log group."""
        return {"tags": self._store.tags(_group_name(params["resourceArn"]))}

    def put_log_events(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add events in the order of their times. Events that are too old or too new are left out."""
        group, stream = params["logGroupName"], params["logStreamName"]
        events = [(event["timestamp"], event["message"]) for event in params["logEvents"]]
        if any(first[0] > second[0] for first, second in itertools.pairwise(events)):
            raise ApiError(
                "InvalidParameterException",
                "Log events in a single PutLogEvents request must be in chronological order.",
            )
        sizes = [len(message.encode("utf-8", "replace")) + EVENT_OVERHEAD for _, message in events]
        for kind, size in (("Log event", max(sizes)), ("Upload", sum(sizes))):
            if size > BATCH_BYTES:
                raise ApiError(
                    "InvalidParameterException", f"{kind} too large: {size} bytes exceeds limit of {BATCH_BYTES}"
                )
        retention = self._store.group(group).retention
        times = [timestamp for timestamp, _ in events]
        first, last, rejected = _accepted_range(times, int(time.time() * 1000), retention)
        accepted = events[first:last]
        if accepted and accepted[-1][0] - accepted[0][0] > _DAY:
            raise ApiError(
                "InvalidParameterException",
                "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
            )
        self._store.append(group, stream, accepted, create=False)
        return {"nextSequenceToken": _SEQUENCE_TOKEN, **({"rejectedLogEventsInfo": rejected} if rejected else {})}

    def get_log_events(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of one stream."""
        page = self._store.read(
            self._requested_group(params),
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
        """Return a page of the events of several streams, sorted by time."""
        streams, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix")
        if streams and prefix is not None:
            raise ApiError("InvalidParameterException", "Cannot specify both logStreamNames and logStreamNamePrefix")
        token = params.get("nextToken")
        events, token = self._store.filter(
            self._requested_group(params),
            streams=streams,
            prefix=prefix,
            start_time=params.get("startTime"),
            end_time=params.get("endTime"),
            matches=compile_pattern(params.get("filterPattern", "")),
            limit=params.get("limit", PAGE_EVENTS),
            token=None if token is None else str(_decode_token(token)),
            from_head=params.get("startFromHead", True),
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
        return {"events": found, "searchedLogStreams": [], **_next_token(token)}

    def start_live_tail(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a session that streams the events that are written from now on."""
        streams, prefixes = params.get("logStreamNames", []), params.get("logStreamNamePrefixes", [])
        if streams and prefixes:
            raise ApiError(
                "InvalidParameterException", "Only one of logStreamNames or logStreamNamePrefixes can be provided."
            )
        groups = list(dict.fromkeys(_group_name(identifier) for identifier in params["logGroupIdentifiers"]))
        if (streams or prefixes) and len(groups) > 1:
            raise ApiError(
                "InvalidParameterException",
                "logStreamNames and logStreamNamePrefixes can only be used with a single log group.",
            )
        for group in groups:
            self._store.group(group)
        matches = compile_pattern(params.get("logEventFilterPattern", ""))
        return {"responseStream": LiveTail(self._store, self._engine.account, params, groups, matches)}

    def describe_log_groups(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of the log groups, sorted by name. All of them have the class STANDARD."""
        token, identifiers = params.get("nextToken"), params.get("logGroupIdentifiers")
        names = None if identifiers is None else [_group_name(each) for each in identifiers]
        if params.get("logGroupClass", "STANDARD") != "STANDARD":
            names = []
        filters = [each for each in _GROUP_FILTERS if params.get(each)]
        if len(filters) > 1:
            raise ApiError(
                "InvalidParameterException", f"{filters[0]} and {filters[1]} are mutually exclusive parameters."
            )
        groups, more = self._store.groups(
            params.get("logGroupNamePrefix", ""),
            part=params.get("logGroupNamePattern", ""),
            names=names,
            limit=params.get("limit", PAGE),
            after="" if token is None else str(_decode_token(token)),
        )
        found = [
            {
                "logGroupName": group.name,
                "creationTime": group.created,
                "metricFilterCount": 0,
                "arn": self._arn(group.name) + ":*",
                "logGroupArn": self._arn(group.name),
                "storedBytes": 0,
                "logGroupClass": "STANDARD",
                **({} if group.retention is None else {"retentionInDays": group.retention}),
            }
            for group in groups
        ]
        return {"logGroups": found, **_next_token(groups[-1].name if more else None)}

    def describe_log_streams(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of a group's streams, sorted by name or by the time of the last event."""
        by_last_event = params.get("orderBy") == "LastEventTime"
        prefix = params.get("logStreamNamePrefix", "")
        if by_last_event and prefix:
            raise ApiError("InvalidParameterException", "Cannot order by LastEventTime with a logStreamNamePrefix.")
        group = self._requested_group(params)
        streams, more = self._store.streams(
            group,
            prefix,
            by_last_event=by_last_event,
            descending=params.get("descending", False),
            limit=params.get("limit", PAGE),
            after=_parse_stream_token(params.get("nextToken")),
        )
        found = [self._stream_entry(group, stream) for stream in streams]
        return {"logStreams": found, **_next_token(streams[-1].key if more else None)}

    def _stream_entry(self, group: str, stream: StreamRecord) -> dict[str, Any]:
        times = {
            "firstEventTimestamp": stream.first_event,
            "lastEventTimestamp": stream.last_event,
            "lastIngestionTime": stream.last_ingestion,
        }
        return {
            "logStreamName": stream.name,
            "creationTime": stream.created,
            **{name: value for name, value in times.items() if value is not None},
            "uploadSequenceToken": _SEQUENCE_TOKEN,
            "arn": f"{self._arn(group)}:log-stream:{stream.name}",
            "storedBytes": 0,
        }

    def _arn(self, group: str) -> str:
        return f"arn:aws:logs:{self._engine.region}:{self._engine.account}:log-group:{group}"

    @staticmethod
    def _requested_group(params: dict[str, Any]) -> str:
        name, identifier = params.get("logGroupName"), params.get("logGroupIdentifier")
        if (name is None) == (identifier is None):
            raise ApiError(
                "InvalidParameterException", "Exactly one of logGroupName and logGroupIdentifier must be specified."
            )
        return str(name) if identifier is None else _group_name(identifier)


def _group_name(identifier: str) -> str:
    """Return the name of a log group from its ARN or its name."""
    return identifier.rpartition(":log-group:")[2].removesuffix(":*")


def _accepted_range(times: Sequence[int], now: int, retention: int | None) -> tuple[int, int, dict[str, int]]:
    """Return the indexes of the first accepted and the first too new event, and the answer's `rejectedLogEventsInfo`.

    Args:
        times: the times of the events in milliseconds since the epoch, sorted.
        now: the time in milliseconds since the epoch.
        retention: the retention of the group in days.
    """
    too_old = sum(moment < now - _OLDEST for moment in times)
    expired = 0 if retention is None else sum(moment < now - retention * _DAY for moment in times)
    too_new = sum(moment > now + _NEWEST for moment in times)
    rejected = {}
    if too_new:
        rejected["tooNewLogEventStartIndex"] = len(times) - too_new
    if too_old:
        rejected["tooOldLogEventEndIndex"] = too_old
    if expired:
        rejected["expiredLogEventEndIndex"] = expired
    return max(too_old, expired), len(times) - too_new, rejected


def _next_token(position: Any) -> dict[str, str]:
    """Return the `nextToken` for the page after a position, or {} if there is none."""
    if position is None:
        return {}
    return {"nextToken": base64.urlsafe_b64encode(json.dumps(position).encode()).decode()}


def _decode_token(token: str) -> Any:
    try:
        return strict_json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except ValueError:
        raise _bad_token() from None


def _parse_stream_token(token: str | None) -> tuple[int, str] | None:
    if token is None:
        return None
    key = _decode_token(token)
    if not isinstance(key, list) or [type(part) for part in key] != [int, str]:
        raise _bad_token()
    return key[0], key[1]


def _bad_token() -> ApiError:
    return ApiError("InvalidParameterException", "The specified nextToken is invalid.")

"""The events of watched jobs: frozen values, delivered in the order in which they were seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen
class StatusChanged:
    """A job's status differs from the one that was seen before.

    Args:
        job_name: the job.
        status: the new status, such as `InProgress`.
        previous: the status before; None for the first one that is seen.
        description: the answer of DescribeProcessingJob with the new status. If many jobs are watched, the summary of
            ListProcessingJobs.
    """

    job_name: str
    status: str
    previous: str | None
    description: Mapping[str, Any] = attrs.field(eq=False, repr=False)


@attrs.frozen
class LogEvent:
    """One log line of a job.

    Args:
        job_name: the job.
        host: the instance that wrote the line: `algo-1`, `algo-2`, ...
        stream: the CloudWatch log stream.
        timestamp: the time at which it was written, in milliseconds since the epoch.
        ingestion_time: the time at which CloudWatch stored it, in milliseconds since the epoch.
        event_id: CloudWatch's id of the line; empty if it was read with GetLogEvents, which returns none.
        message: the whole line, as CloudWatch returned it.
        late: True if a line with a later timestamp was delivered before.
    """

    job_name: str
    host: str
    stream: str
    timestamp: int
    ingestion_time: int
    event_id: str
    message: str
    late: bool = False


Event: TypeAlias = StatusChanged | LogEvent

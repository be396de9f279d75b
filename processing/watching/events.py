"""What watching a job yields: frozen values, in the order in which they were seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen
class StatusChanged:
    """The job has another status than when it was last looked at.

    Args:
        job_name: the job.
        status: the new status, such as `InProgress`.
        previous: the status before; None at the first look.
        description: the whole answer of DescribeProcessingJob that said so.
    """

    job_name: str
    status: str
    previous: str | None
    description: Mapping[str, Any] = attrs.field(eq=False, repr=False)


@attrs.frozen
class LogEvent:
    """One line that the job wrote.

    Args:
        job_name: the job.
        host: the instance that wrote it: `algo-1`, `algo-2`, ...
        stream: the CloudWatch log stream.
        timestamp: when it was written, in milliseconds since the epoch.
        ingestion_time: when CloudWatch took it in, in milliseconds since the epoch.
        event_id: CloudWatch's id of the line; empty where it was read with GetLogEvents, which gives none.
        message: the line, whole, as CloudWatch answered it.
        late: True where a line with a later timestamp had been delivered already.
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

"""Parser for EventBridge's event "SageMaker Processing Job State Change".

Its form: https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html. `detail` has the
members of DescribeProcessingJob. An event may come twice, late, or not at all, so it does not prove a job's status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

DETAIL_TYPE: Final = "SageMaker Processing Job State Change"

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")


@attrs.frozen
class JobEvent:
    """An event about a change of a job's status.

    Args:
        job_name: the job.
        arn: its ARN.
        region: its AWS region.
        status: its status at the time of the event.
    """

    job_name: str
    arn: str
    region: str
    status: str


def read_event(event: Mapping[str, Any] | str | bytes) -> JobEvent | None:
    """Parse an event. Return None if it is not a state change of a processing job.

    Args:
        event: the event, or its JSON text.
    """
    value: Any = event
    if isinstance(event, (str, bytes)):
        try:
            value = json.loads(event)
        except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
            return None
    if not isinstance(value, Mapping) or value.get("detail-type") != DETAIL_TYPE:
        return None
    detail = value.get("detail")
    if not isinstance(detail, Mapping):
        return None
    members = ("ProcessingJobName", "ProcessingJobArn", "ProcessingJobStatus")
    name, arn, status = (detail.get(member) for member in members)
    region = value.get("region")
    if not (isinstance(name, str) and isinstance(arn, str) and isinstance(status, str) and isinstance(region, str)):
        return None
    if not _NAME.fullmatch(name):
        return None
    return JobEvent(name, arn, region, status)

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
        arn: its ARN; None if the event lacks it.
        region: its AWS region; None if the event lacks it.
    """

    job_name: str
    arn: str | None
    region: str | None


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
    # The name suffices. The status is not read: it may be one that is not known here.
    name, arn, region = detail.get("ProcessingJobName"), detail.get("ProcessingJobArn"), value.get("region")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    return JobEvent(name, arn if isinstance(arn, str) else None, region if isinstance(region, str) else None)

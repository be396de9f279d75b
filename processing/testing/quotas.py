"""Quotas as AWS enforces them: a token bucket for each operation, on the server's side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.clock import Clock

PUBLISHED_QUOTAS: Final[Mapping[str, float]] = {
    "CreateProcessingJob": 1,
    "DescribeProcessingJob": 10,
    "ListProcessingJobs": 2,
    "StopProcessingJob": 2,
    "FilterLogEvents": 5,
    "GetLogEvents": 10,
    "DescribeLogStreams": 25,
}
"""Calls per second by operation. SageMaker publishes that of CreateProcessingJob alone; List is taken to be like
ListTrainingJobs, Stop like List, and Describe's is a guess. CloudWatch Logs' are those of its small regions.

https://docs.aws.amazon.com/general/latest/gr/sagemaker.html,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
"""


class Quotas:
    """Says of each call whether it is within the quota of its operation. A bucket holds the calls of one second.

    Not safe for threads by itself.

    Args:
        rates: calls per second by operation; an operation that is not there has no quota.
        clock: the server's time.
    """

    def __init__(self, rates: Mapping[str, float], clock: Clock) -> None:
        self._rates = rates
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted

    def allows(self, operation: str) -> bool:
        """Return whether a call may be made now, and count it if so."""
        rate = self._rates.get(operation)
        if rate is None:
            return True
        now, full = self._clock.monotonic(), max(1.0, rate)
        tokens, counted = self._left.get(operation, (full, now))
        tokens = min(full, tokens + (now - counted) * rate)
        # A caller that waits exactly as long as a token takes must not miss it by a rounding error.
        allowed = tokens >= 1.0 - 1e-9
        self._left[operation] = (tokens - 1.0 if allowed else tokens, now)
        return allowed

"""Quotas as AWS enforces them: a token bucket per operation on the server's side."""

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
"""Calls per second by operation. SageMaker publishes the quota of CreateProcessingJob only. The one of List is assumed
to be ListTrainingJobs', the one of Stop to be List's, and the one of Describe is a guess. Those of CloudWatch Logs are
those of its small regions.

Sources: https://docs.aws.amazon.com/general/latest/gr/sagemaker.html,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
"""


class Quotas:
    """Token buckets by operation, each with the calls of one second. Not safe for threads by itself.

    Args:
        rates: calls per second by operation. An operation without a rate has no quota.
        clock: the server's clock.
    """

    def __init__(self, rates: Mapping[str, float], clock: Clock) -> None:
        self._rates = rates
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted

    def allows(self, operation: str) -> bool:
        """Return whether the quota allows a call now. If so, count it."""
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

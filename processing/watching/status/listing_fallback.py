"""Decision on when many jobs are described one by one, because their listing makes no progress.

A listing may fail alone: its tokens are refused, or its later pages never come. Then one Describe shows that AWS
answers otherwise. If it succeeds and the listing still fails, the jobs are described. In an outage of all calls nothing
changes: the listing ends with the outage, and is the faster way to the present statuses.
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

Step: TypeAlias = Literal["list", "probe", "describe"]

# Tries within these seconds show a failure that lasts. With the pauses of an outage, the jobs are described before a
# minute has passed.
_PROBE_AFTER: Final = 12.0
_DESCRIBE_AFTER: Final = 30.0
# An outage of hours costs few probes.
_LONGEST_PROBE_INTERVAL: Final = 300.0
# Listing is tried again after this many seconds, and after twice as many each further time.
_LIST_AGAIN: Final = 600.0


class ListingFallback:
    """The choice between listing and describing many jobs."""

    def __init__(self) -> None:
        self._list_after = -math.inf
        self._pause = _LIST_AGAIN
        self._described_at = -math.inf
        self._probed_at = -math.inf
        self._probe_interval = _PROBE_AFTER

    def may_list(self, now: float) -> bool:
        """Return whether jobs are listed at a moment."""
        return now >= self._list_after

    def record_describe(self, now: float) -> None:
        """Record that Describe was answered."""
        self._described_at = now

    def next_step(self, stuck_since: float, now: float) -> Step:
        """Return the step after a failure of a listing: list again, describe one job as a probe, or describe all.

        Args:
            stuck_since: the moment of the first failure since the listing made progress.
            now: the moment.
        """
        if self._probed_at < stuck_since:
            self._probe_interval = _PROBE_AFTER
        if now - stuck_since >= _DESCRIBE_AFTER and self._described_at > stuck_since:
            return "describe"
        if now - max(stuck_since, self._probed_at) < self._probe_interval:
            return "list"
        self._probed_at, self._probe_interval = now, min(2 * self._probe_interval, _LONGEST_PROBE_INTERVAL)
        return "probe"

    def stop_listing(self, now: float, *, forever: bool) -> None:
        """Let jobs be described from now on.

        Args:
            now: the moment.
            forever: True if listing is not tried again.
        """
        self._list_after = math.inf if forever else now + self._pause
        self._pause *= 2

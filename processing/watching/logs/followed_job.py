"""The state of a job whose log lines are read, and of the wait for its last lines."""

from __future__ import annotations

from typing import Final

import attrs

from processing.watching.logs.dedup import SeenLines
from processing.watching.logs.liveness import Liveness

# The longest wait for late lines after a job's end, in seconds. A job with later lines more likely has a wrong clock.
_MAX_LATENESS: Final = 10.0


@attrs.define
class Ending:
    """The wait for the last lines of a job that has ended.

    Args:
        ended_at: when the job ended, in seconds since the epoch by AWS's clock; None if that is not known.
        all_arrived: True if the job ended so long ago that CloudWatch has delivered all its lines.
        due: when to read next (monotonic).
        outage_deadline: until when an outage is waited out (monotonic).
        group_deadline: until when a missing log group is waited for (monotonic).
        quiet_sweeps: the number of sweeps in a row that found no new line.
        last_sweep_at: when the last sweep began, in seconds since the epoch by AWS's clock.
        deadline: when the lines count as complete even if new ones still arrive (monotonic). None until all lines have
            been read once since the end.
    """

    ended_at: float | None
    all_arrived: bool
    due: float
    outage_deadline: float
    group_deadline: float
    quiet_sweeps: int = 0
    last_sweep_at: float = 0.0
    deadline: float | None = None

    def record_sweep(self, began: float, *, quiet: bool) -> None:
        """Count a sweep after the job's end.

        Args:
            began: when it began, in seconds since the epoch by AWS's clock.
            quiet: True if nothing in it suggests that more lines are to come.
        """
        self.quiet_sweeps = self.quiet_sweeps + 1 if quiet else 0
        self.last_sweep_at = began

    def is_over(self, grace: float) -> bool:
        """Return whether all lines have arrived.

        Two quiet sweeps are enough, the later of them at least `grace` after the end. One is enough if it began twice
        that long after the end.

        Args:
            grace: how long after the end lines may arrive, in seconds; 0 if none arrives after the end.
        """
        if not grace:
            return self.quiet_sweeps >= 1
        since = self.last_sweep_at - (self.ended_at or 0.0)
        one_is_enough = self.ended_at is not None and since >= 2 * grace
        return since >= grace and self.quiet_sweeps >= (1 if one_is_enough else 2)


@attrs.define(eq=False)
class FollowedJob:
    """A job whose lines are read.

    Args:
        name: the job's name.
        since: the earliest timestamp of its lines (ms since the epoch). Earlier lines belong to an older job of that
            name.
        created: the job's creation (ms since the epoch). Earlier lines have to prove that they are the job's own, as a
            host's clock may be behind AWS's (`LogRouter`). 0 if all lines since `since` are.
        resume_at: where a sweep over all lines begins (ms since the epoch): later than `since` after such a sweep was
            interrupted.
        seen: the lines that were read.
        newest_by_stream: by stream, the newest timestamp that was read (ms since the epoch).
        source_name: the source that the lines came from; None before the first one.
        other_source_until: by stream, the newest timestamp (ms since the epoch) that another source delivered. Lines of
            two sources have different ids, so lines up to that moment cannot be recognized and are skipped.
        fully_read: True after all lines have been read once.
        line_count: the number of delivered lines.
        event_count: the number of CloudWatch events that these lines were assembled from.
        newest: the newest moment at which the job surely wrote a line, in ms since the epoch.
        max_delay: the longest time between a line's timestamp and its arrival at CloudWatch, in ms.
        liveness: how old the newest line usually is.
        ending: the wait for the last lines; None while the job runs.
        complete: True if a checkpoint shows that all lines were delivered.
        ended: the job's end (ms since the epoch); None if it is not known.
        gone: a moment at which the job did not exist any more (ms since the epoch); None if it may still exist.
    """

    name: str
    since: int
    resume_at: int
    seen: SeenLines = attrs.field(factory=SeenLines)
    newest_by_stream: dict[str, int] = attrs.field(factory=dict)
    source_name: str | None = None
    other_source_until: dict[str, int] = attrs.field(factory=dict)
    fully_read: bool = False
    line_count: int = 0
    event_count: int = 0
    newest: int | None = None
    max_delay: int = 0
    liveness: Liveness = attrs.field(factory=Liveness)
    ending: Ending | None = None
    complete: bool = False
    created: int = 0
    ended: int | None = None
    gone: int | None = None

    @property
    def lateness(self) -> float:
        """The delay of lines so far, in seconds, up to a bound: a longer delay is a wrong clock."""
        return min(max(0, self.max_delay) / 1000, _MAX_LATENESS)

    @property
    def reread_after_end(self) -> bool:
        """True if all lines have been read once since the job ended."""
        return self.ending is not None and self.ending.deadline is not None

    def is_quiet(self, began: float, grace: float) -> bool:
        """Return whether the newest line arrived longer than `grace` before a moment.

        Args:
            began: the moment, in seconds since the epoch by AWS's clock.
            grace: a length of time in seconds.
        """
        return self.newest is None or (self.newest + max(0, self.max_delay)) / 1000 <= began - grace

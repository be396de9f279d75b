"""What a job's status may be, what is known of a job before it is watched, and what news of it are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from processing.watching.events import StatusChanged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from processing.exceptions import WatchError

_STEPS: Final[Mapping[str | None, int]] = {None: 0, "InProgress": 1, "Stopping": 2}
_LAST: Final = 3


def is_step(old: str | None, new: str) -> bool:
    """Return whether a status is later in a job's life than another: AWS may answer an old one after a new one.

    Args:
        old: the status that is known; None where none is.
        new: the one that was answered.
    """
    return _STEPS.get(new, _LAST) > _STEPS.get(old, _LAST)


@attrs.frozen
class Target:
    """A job that is to be watched.

    Args:
        name: its name.
        created: its CreationTime, as AWS answered it; None where that is not known. It tells the job from another one
            that has, or had, the name.
        status: its status, where AWS has just said so. A job that is known to be InProgress takes no look of its own
            to begin with when many are watched.
        told: since when, in seconds since the epoch of AWS's time, a listing of what has changed would show another
            status. Where `created` is not known, the job is no older.
    """

    name: str
    created: datetime | None = None
    status: str | None = None
    told: float | None = None


@attrs.frozen
class Lost:
    """A job cannot be watched any longer.

    Args:
        job_name: the job.
        error: what happened.
    """

    job_name: str
    error: WatchError


News: TypeAlias = StatusChanged | Lost

"""The values of status watching: the order of statuses, the jobs to watch, and the updates about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from processing.watching.events import StatusChanged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from processing.exceptions import WatchError

_ORDER: Final[Mapping[str | None, int]] = {None: 0, "InProgress": 1, "Stopping": 2}
_LAST: Final = 3


def is_later_status(old: str | None, new: str) -> bool:
    """Return whether a status comes later in a job's life than another.

    AWS may return an old status after a new one.

    Args:
        old: the known status; None if it is not known.
        new: the status in an answer.
    """
    return _ORDER.get(new, _LAST) > _ORDER.get(old, _LAST)


@attrs.frozen
class Target:
    """A job to watch.

    Args:
        name: the job's name.
        created: its CreationTime, as AWS returned it; None if it is not known. It distinguishes the job from another
            one that has, or had, the same name.
        status: its status, if AWS has just returned it. If many jobs are watched, a job that is known to be InProgress
            needs no Describe of its own at the beginning.
        status_as_of: the moment of AWS's time, in seconds since the epoch, at which `status` was true. A listing of
            changes since then shows any other status. If `created` is not known, the job is not older than this.
    """

    name: str
    created: datetime | None = None
    status: str | None = None
    status_as_of: float | None = None


@attrs.frozen
class Lost:
    """A job that cannot be watched any longer. The job itself may go on.

    Args:
        job_name: the job.
        error: the reason.
    """

    job_name: str
    error: WatchError


StatusUpdate: TypeAlias = StatusChanged | Lost

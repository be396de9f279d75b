"""The values of status watching: the order of statuses, the jobs to watch, and the updates about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from processing.container.contract import TERMINAL
from processing.watching.events import StatusChanged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from processing.exceptions import WatchError

_ORDER: Final[Mapping[str, int]] = {"InProgress": 1, "Stopping": 2, **dict.fromkeys(TERMINAL, 3)}


def is_known(status: str) -> bool:
    """Return whether a status is known; AWS may add others."""
    return status in _ORDER


def is_news(seen: tuple[str, ...], status: str) -> bool:
    """Return whether a status in an answer is new, as AWS may return an old status after a new one.

    A known status has to come later in a job's life than those seen. AWS may add statuses. Such a status is new once,
    as long as the job has not ended, and it hides no other status.

    Args:
        seen: the statuses that were seen, in order.
        status: the status in the answer.
    """
    latest = max((_ORDER.get(each, 0) for each in seen), default=0)
    if is_known(status):
        return _ORDER[status] > latest
    return status not in seen and latest < _ORDER["Completed"]


@attrs.frozen
class WatchTarget:
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
        gone_at: a moment at which the job did not exist any more, in seconds since the epoch by AWS's clock. None if
            the job may still exist.
    """

    job_name: str
    error: WatchError
    gone_at: float | None = None


StatusUpdate: TypeAlias = StatusChanged | Lost

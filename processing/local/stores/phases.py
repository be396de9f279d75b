"""The phases of a job: the SecondaryStatus of a training job, and the times and messages of its changes.

A job's phases are part of its `state`. Each change is made in the transaction that changes the job, and recorded in the
outbox. Several hosts report the same phases, so a job only moves on, and never back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

STARTING, DOWNLOADING, RUNNING, UPLOADING = "Starting", "Downloading", "Training", "Uploading"
STOPPING, TIMED_OUT = "Stopping", "MaxRuntimeExceeded"
_ORDER = (STARTING, DOWNLOADING, RUNNING, UPLOADING, STOPPING)
MESSAGES: Mapping[str, str] = {
    STARTING: "Preparing the instances for training",
    DOWNLOADING: "Downloading input data",
    RUNNING: "Training image download completed. Training in progress.",
    UPLOADING: "Uploading generated training model",
    STOPPING: "Stopping the training job",
    "Stopped": "Training job stopped",
    TIMED_OUT: "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
}
"""AWS's message for each phase."""


class Phase(NamedTuple):
    """A phase of a job. Times are seconds since the epoch; `ended` is None for the current phase."""

    status: str
    started: float
    ended: float | None
    message: str


def phases(state: Mapping[str, Any]) -> list[Phase]:
    """Return the phases in a job's state, the oldest first."""
    return [Phase(*phase) for phase in state.get("phases", ())]


def enter(connection: sqlite3.Connection, job: int, status: str, now: float) -> bool:
    """Let a job enter a phase, in the transaction that changes the job.

    A job that is in this phase, or beyond it, stays as it is. So does a job of a kind without phases.

    Args:
        connection: the connection of that transaction.
        job: the job's number.
        status: the phase, or the terminal status of the job.
        now: the time.

    Returns:
        whether the job entered the phase.
    """
    (text,) = connection.execute("SELECT state FROM jobs WHERE id = ?", (job,)).fetchone()
    state: dict[str, Any] = json.loads(text)
    known = phases(state)
    if not (_follows(status, known[-1].status) if known else status == STARTING):
        return False
    if known:
        now = max(now, known[-1].started)
        known[-1] = known[-1]._replace(ended=now)
    known.append(Phase(status, now, None if status in _ORDER else now, MESSAGES[status]))
    connection.execute("UPDATE jobs SET state = ? WHERE id = ?", (json.dumps({**state, "phases": known}), job))
    return True


def _follows(status: str, current: str) -> bool:
    if current not in _ORDER:  # terminal
        return False
    return status not in _ORDER or _ORDER.index(status) > _ORDER.index(current)

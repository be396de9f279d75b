"""The results of a fleet: the status, the duration and the failure reason of each run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.container.contract import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.job.job import ProcessingJob

NOT_SUBMITTED: Final = "NotSubmitted"
"""The status of a run whose job could not be created."""


@attrs.frozen
class FleetResult:
    """The result of one run of a fleet.

    Attributes:
        key: the run's key.
        status: the job's status, such as `Completed`; `NotSubmitted` if the job could not be created.
        seconds: the time from the job's creation to its end; None if the job has not ended.
        reason: the failure reason of the job, its exit message if there is no reason, or the error that prevented its
            creation. None if the job has no reason and no message.
    """

    key: str
    status: str
    seconds: float | None = None
    reason: str | None = None

    @classmethod
    def of_error(cls, key: str, error: Exception) -> FleetResult:
        """Return the result of a run whose job could not be created."""
        return cls(key, NOT_SUBMITTED, None, str(error))

    @classmethod
    def of_job(cls, key: str, job: ProcessingJob, summary: Mapping[str, Any] | None) -> FleetResult:
        """Return the result of a job.

        Args:
            key: the run's key.
            job: the job.
            summary: the job's entry in a listing; None if the listing does not show it. A listing lags, so the job is
                described if it ended after the listing or is not in it.
        """
        outcome = job.watch_state.outcome
        described: Mapping[str, Any] = summary or {}
        if described.get("ProcessingJobStatus") not in TERMINAL and (outcome is not None or summary is None):
            described = outcome.description if outcome and outcome.description else job.describe()
        status = str(described["ProcessingJobStatus"])
        created, ended = described.get("CreationTime"), described.get("ProcessingEndTime")
        seconds = (ended - created).total_seconds() if status in TERMINAL and created and ended else None
        return cls(key, status, seconds, described.get("FailureReason") or described.get("ExitMessage"))

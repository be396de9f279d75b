"""The report on existing jobs that `submit_all` attaches to instead of submitting a run again.

A fleet that is submitted again under the same name runs nothing twice. Without a report, jobs of another day and of
other code look like a success of today's.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any, Final

from processing._utils.forks import ForkSafeLock
from processing.container.contract import DAY
from processing.job.submit import differences

if TYPE_CHECKING:
    import datetime as dt

    from processing.job.fleet.runs import Run
    from processing.session.session import Session

logger = logging.getLogger(__name__)

# Each comparison takes a DescribeProcessingJob. A fleet of 10,000 jobs that continues after a crash should not wait for
# as many calls. So only the first jobs are compared, and the report mentions it.
_MAX_COMPARED: Final = 100

# The report names that many keys, and counts the others.
_MAX_NAMED: Final = 10

_UNITS: Final = ((DAY, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


class AttachedJobs:
    """The existing jobs that a submission attaches to.

    Args:
        session: the session that reaches the jobs.
        processor: the processor of the runs.
    """

    def __init__(self, session: Session, processor: Any) -> None:
        self._session = session
        self._processor = processor
        self._lock = ForkSafeLock()
        self._count = self._compared = 0
        self._created: list[dt.datetime] = []
        self._changed: dict[str, list[str]] = {}
        self._failed: list[str] = []

    def record(self, run: Run, job_name: str, created: dt.datetime | None, *, failed: bool) -> None:
        """Record an existing job, and compare its request with the request that the run would send now.

        Args:
            run: the run.
            job_name: the job's name.
            created: the job's CreationTime; None if it is not known.
            failed: True if the job has failed or was stopped.
        """
        with self._lock:
            self._count += 1
            if created is not None:
                self._created.append(created)
            if failed:
                self._failed.append(run.key)
            if self._compared == _MAX_COMPARED:
                return
            self._compared += 1
        changed = self._changed_members(run, job_name)
        if changed:
            with self._lock:
                self._changed[run.key] = changed

    def _changed_members(self, run: Run, job_name: str) -> list[str]:
        arguments = {name: value for name, value in run.arguments.items() if name != "progress"}
        try:
            request = copy.copy(self._processor).request(**arguments, job_name=job_name)
            return differences(request.to_boto(), self._session.describe_processing_job(job_name))
        except Exception as error:  # noqa: BLE001 - the comparison only informs; it must not end the submission
            logger.debug("the request of %s was not compared: %s", job_name, error)
            return []

    def log(self, fleet: str) -> None:
        """Log one warning if the submission has attached to existing jobs.

        Args:
            fleet: the fleet's name.
        """
        if not self._count:
            return
        jobs = "1 job exists" if self._count == 1 else f"{self._count} jobs exist"
        sentences = [f"{fleet}: {jobs} already{self._age()}, and submit_all attaches instead of running again"]
        if self._failed:
            sentences.append(
                f"Failed or stopped: {_listed(self._failed)}; submit_all(..., retry_failed=True) runs these again"
            )
        if self._changed:
            named = [f"{key} ({', '.join(members)})" for key, members in sorted(self._changed.items())]
            of = "" if self._compared == self._count else f" (of the first {self._compared}, which were compared)"
            sentences.append(f"The request would differ now{of}: {_listed(named)}; give another name to run it")
        logger.warning("%s", ". ".join(sentences))

    def _age(self) -> str:
        if not self._created:
            return ""
        now = self._session.clock.time()
        oldest, newest = (_duration(now - moment.timestamp()) for moment in (min(self._created), max(self._created)))
        return f", created {newest} ago" if oldest == newest else f", created {newest} to {oldest} ago"


def _duration(seconds: float) -> str:
    for size, unit in _UNITS:
        count = int(max(0.0, seconds) // size)
        if count or size == 1:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    raise AssertionError


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - _MAX_NAMED} more" if len(texts) > _MAX_NAMED else ""
    return ", ".join(texts[:_MAX_NAMED]) + more

"""Checkpoints of log reading: the entry of each job, written and restored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from processing.exceptions import ConfigurationError
from processing.watching.checkpoint import Checkpoint
from processing.watching.logs.dedup import SeenLines
from processing.watching.logs.followed_job import FollowedJob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.watching.logs.batch import LogBatch
    from processing.watching.logs.reassembly import LineAssembler


class JobCheckpoints:
    """The entries of all jobs: those of an earlier checkpoint, those of complete jobs, and those of followed ones.

    Args:
        earlier: the checkpoint to continue from.
    """

    def __init__(self, earlier: Checkpoint | None) -> None:
        self._earlier = dict(earlier.jobs) if earlier else {}
        self._complete: dict[str, dict[str, Any]] = {}

    def restore(self, job_name: str, since: int) -> FollowedJob | None:
        """Return a job in the state of the earlier checkpoint.

        Return None if the checkpoint does not contain the job, or only an older job of that name.

        Args:
            job_name: the job.
            since: the earliest timestamp of its lines (ms since the epoch).

        Raises:
            ConfigurationError: the entry cannot be read.
        """
        entry = self._earlier.get(job_name)
        if entry is None or entry.get("since") != since:
            return None
        try:
            job = FollowedJob(job_name, since, entry.get("resume", since), line_count=entry["count"])
            if "seen" not in entry:
                return attrs.evolve(job, complete=True)
            job.newest, job.newest_by_stream = entry["newest"], dict(entry["streams"])
            job.seen = SeenLines.from_texts(entry["seen"])
            job.source_name, job.other_source_until = entry["way"], dict(entry["told"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"checkpoint: the entry of {job_name} cannot be read") from error
        return job

    def record_complete(self, job: FollowedJob) -> None:
        """Record that all lines of a job have been delivered."""
        self._complete[job.name] = {"since": job.since, "count": job.line_count}

    def checkpoint(self, followed: Mapping[str, Mapping[str, Any]]) -> Checkpoint:
        """Return the checkpoint.

        Args:
            followed: the entries of the followed jobs, made by `job_entry`.
        """
        earlier = {name: entry for name, entry in self._earlier.items() if name not in followed}
        return Checkpoint({**earlier, **self._complete, **followed})


def job_entry(
    job: FollowedJob, resume_at: int, assembler: LineAssembler, current_batch: LogBatch | None
) -> dict[str, Any]:
    """Return the entry of a followed job: all lines that were read, without those that are not yet delivered.

    Args:
        job: the job.
        resume_at: where to continue reading, in ms since the epoch.
        assembler: holds pieces of long lines back.
        current_batch: the batch that is being delivered.
    """
    held, first_held = assembler.held(job.name)
    left, newest_delivered = current_batch.unconsumed(job.name) if current_batch else ({}, {})
    earliest = [moment for moment in (first_held, *left.values()) if moment is not None]
    return {
        "since": job.since,
        "resume": max(job.since, min([resume_at, *earliest])),
        "count": job.line_count - assembler.joined[job.name] - len(held) - len(left),
        "newest": job.newest,
        "streams": {**job.newest_by_stream, **newest_delivered},
        "way": job.source_name,
        "told": dict(job.other_source_until),
        "seen": job.seen.to_texts(without=[*held, *left]),
    }

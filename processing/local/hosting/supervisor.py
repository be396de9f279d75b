"""The supervisor of a host that serves a model: a process like `processing.local.jobs.supervisor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processing.local.jobs import supervisor
from processing.local.stores.job_kinds import ENDPOINT_HOST
from processing.local.stores.jobs import JobStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from processing.local.hosting.serving_host import ServingHost

MODULE = __name__
"""The module whose `main` a supervisor runs."""


def make_supervisor(home: Path, job: int, number: int) -> ServingHost:
    """Return the supervisor of a host of an endpoint or of a transform job.

    Args:
        home: the engine's folder.
        job: the job's number in the store.
        number: the host's number, from 1.
    """
    jobs = JobStore(home)
    record = jobs.get_by_id(job)
    if record.kind == ENDPOINT_HOST.resource:
        from processing.local.hosting.endpoint_host import EndpointHost

        return EndpointHost(home, jobs, record, number)
    from processing.local.hosting.transforms.host import TransformHost

    return TransformHost(home, jobs, record, number)


def main(arguments: Sequence[str]) -> None:
    """Run the host that the command line names."""
    supervisor.main(arguments, make_supervisor)

"""The supervisor: a process that runs one host of a job, from its inputs to its results.

It is started as `python -I -S -c PROGRAM <package root> <engine folder> <job> <host> <lock descriptor>`, with the
collection of garbage off. The inherited lock stays locked as long as this process lives; other processes detect its
death by that.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from processing.local.stores.job_kinds import PROCESSING, TRAINING
from processing.local.stores.jobs import JobStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processing.local.jobs.host_supervisor import HostSupervisor


def make_supervisor(home: Path, job: int, number: int) -> HostSupervisor:
    """Return the supervisor of a host, for the kind of its job. Only the modules of this kind are imported.

    Args:
        home: the engine's folder.
        job: the job's number in the store.
        number: the host's number, from 1.
    """
    jobs = JobStore(home)
    record = jobs.get_by_id(job)
    if record.kind == TRAINING.resource:
        from processing.local.jobs.training_host import TrainingHost

        return TrainingHost(home, jobs, record, number)
    if record.kind == PROCESSING.resource:
        from processing.local.jobs.processing_host import ProcessingHost

        return ProcessingHost(home, jobs, record, number)
    raise LookupError(f"the jobs of the kind {record.kind} have no supervisor")


def main(arguments: Sequence[str], start: Callable[[Path, int, int], HostSupervisor] = make_supervisor) -> None:
    """Run the host that the command line names.

    Args:
        arguments: the engine's folder, the job's number, the host's number, and the lock's descriptor.
        start: makes the supervisor.
    """
    home, job, number, lock = arguments
    os.set_inheritable(int(lock), False)  # noqa: FBT003 - no process that starts from here may inherit the lock
    supervisor = start(Path(home), int(job), int(number))
    gc.freeze()  # what was imported lives until the end, and a search among it takes milliseconds
    gc.enable()
    supervisor.run()


if __name__ == "__main__":
    main(sys.argv[1:])

"""The part of the operations on jobs that all kinds share: start, look-up, page, stop and deletion."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from processing.local import file_trees, remote_s3
from processing.local.errors import ApiError
from processing.local.handlers.sagemaker.common import DEFAULT_PAGE, arn_prefix, now, time_filters
from processing.local.jobs import events, host_processes, leftovers
from processing.local.reserve import keep_reserve
from processing.local.stores.list_query import ListQuery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.local.context import EngineContext
    from processing.local.jobs.execution_plan import ExecutionPlan
    from processing.local.stores.job_kinds import JobKind
    from processing.local.stores.jobs import JobRecord


class JobRunner:
    """The jobs of one kind: starts their hosts, and keeps their records true.

    Args:
        engine: the engine.
        kind: the kind.
        module: the module of the supervisors.

    Attributes:
        store: the jobs of the kind.
    """

    def __init__(self, engine: EngineContext, kind: JobKind, module: str = host_processes.SUPERVISOR) -> None:
        self._engine = engine
        self._kind = kind
        self._module = module
        self.store = engine.jobs.of_kind(kind)

    def arn(self, name: str) -> str:
        """Return the ARN of the job with a name."""
        return f"{arn_prefix(self._engine)}:{self._kind.resource}/{name}"

    def start(self, request: Mapping[str, Any], plan: ExecutionPlan, count: int, tags: Mapping[str, str]) -> str:
        """Record a job, start its hosts, and return its ARN.

        Args:
            request: the request without its tags, with its defaults.
            plan: the job's execution plan.
            count: the number of its hosts.
            tags: its tags.

        Raises:
            ApiError: the name belongs to another job (`ResourceInUse`), or the disk is full.
        """
        home, name = self._engine.home, request[self._kind.name_member]
        folder = f"jobs/{name}-{uuid.uuid4().hex[:12]}"
        keep_reserve(home)
        if self._kind.announced:
            # A waiting client cannot tell a job that logs nothing from a group that is late: ours waits 90 seconds.
            self._engine.logs.ensure_group(self._kind.log_group)
        locks = host_processes.HostLocks(home / folder, count)
        try:
            job = self.store.create(
                request, arn=self.arn(name), folder=folder, plan=plan.to_json(), hosts=count, tags=tags, now=now()
            )
            credentials = remote_s3.supervisor_environment(self._engine.settings)
            environment = host_processes.machine_environment() | credentials
            host_processes.start_supervisors(home, job, count, locks, environment, self._module)
        except ApiError:
            file_trees.remove_tree(home / folder)
            raise
        finally:
            locks.close()
        self._deliver_events()
        return job.arn

    def find(self, name: str) -> JobRecord:
        """Return a job, after the ends of dead hosts are recorded.

        Raises:
            ApiError: the job does not exist.
        """
        job = self.store.get(name)
        if not job.finished and host_processes.reap_dead_hosts(self.store, self._engine.home, [job]):
            job = self.store.get(job.name)
        self._deliver_events()
        return job

    def page(self, params: Mapping[str, Any], *, descending: bool = False) -> tuple[Sequence[JobRecord], str | None]:
        """Return a page of jobs for the parameters of a List operation, and the token of the next page or None.

        Args:
            params: the parameters.
            descending: the order if the parameters have none.
        """
        self._clean_up()
        query = ListQuery(
            **time_filters(params),
            name_contains=params.get("NameContains"),
            status=params.get("StatusEquals"),
            sort_by=params.get("SortBy", "CreationTime"),
            descending=params.get("SortOrder", "Descending" if descending else "Ascending") == "Descending",
        )
        found = self.store.list(query, params.get("MaxResults", DEFAULT_PAGE), params.get("NextToken"))
        self._deliver_events()
        return found

    def stop(self, name: str) -> None:
        """Ask a job's hosts to stop, which they do at their next tick."""
        job = self.store.get(name)
        host_processes.reap_dead_hosts(self.store, self._engine.home, [job])
        self.store.request_stop(job.name, now())
        self._deliver_events()

    def delete(self, name: str) -> None:
        """Delete a finished job. Its log stays, as on AWS."""
        unfinished = [job for job in self.store.unfinished() if (job.kind, job.name) == (self._kind.resource, name)]
        host_processes.reap_dead_hosts(self.store, self._engine.home, unfinished)
        job = self.store.delete(name)
        file_trees.remove_tree(self._engine.home / job.folder)

    def _clean_up(self) -> None:
        """Record the ends of hosts that died, and remove the leftovers of killed processes."""
        unfinished = self.store.unfinished()
        host_processes.reap_dead_hosts(self.store, self._engine.home, unfinished)
        leftovers.remove_leftover_folders(self._engine.home, {job.folder for job in unfinished})

    def _deliver_events(self) -> None:
        """Deliver pending events, of this change or of a killed process, before the operation returns."""
        events.deliver(self.store, self._engine.home)

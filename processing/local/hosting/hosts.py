"""The hosts of endpoints, seen from other processes: their start, and a new start after their death."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any

from processing.container import contract
from processing.local import file_trees, remote_s3
from processing.local.hosting import supervisor
from processing.local.jobs import events, host_processes
from processing.local.reserve import keep_reserve
from processing.local.stores.endpoints import EndpointState, EndpointStore, NewHost, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeVar

    from processing.local.context import EngineContext
    from processing.local.stores.resources import ResourceRecord

    Result = TypeVar("Result")


class EndpointHosts:
    """The hosts of the endpoints of an engine.

    Args:
        engine: the engine.
        store: its endpoints.
    """

    def __init__(self, engine: EngineContext, store: EndpointStore) -> None:
        self._engine = engine
        self._store = store
        self._jobs = engine.jobs

    def folder(self, variant: Variant) -> str:
        """Return the folder of the host of a variant, where its connections are handed out."""
        return f"{self._engine.home}/{variant.folder}/{contract.host_name(1)}"

    def new_folder(self, endpoint: str) -> str:
        """Return a name for the folder of a new host, relative to the engine's folder."""
        return f"jobs/{endpoint}-{uuid.uuid4().hex[:12]}"

    def start(self, hosts: Sequence[NewHost], record: Callable[[], tuple[Result, Sequence[Variant]]]) -> Result:
        """Start hosts, and return the result of `record`.

        The locks of the hosts are taken before they are visible, and passed to their supervisors. So another process
        never takes a host that is about to start for a dead one.

        Args:
            hosts: the hosts.
            record: records the hosts in the store, and returns a result and the variants that they serve.

        Raises:
            ApiError: `record` raised it, or the disk is full.
        """
        home = self._engine.home
        keep_reserve(home)
        variants: Sequence[Variant] = ()
        with contextlib.ExitStack() as stack:
            locks = {}
            for host in hosts:
                locks[host.folder] = stack.enter_context(
                    contextlib.closing(host_processes.HostLocks(home / host.folder, 1))
                )
            try:
                result, variants = record()
            finally:
                for folder in set(locks) - {variant.folder for variant in variants}:
                    file_trees.remove_tree(home / folder)
            environment = host_processes.machine_environment()
            environment |= remote_s3.supervisor_environment(self._engine.settings)
            for variant in variants:
                job = self._jobs.get_by_id(variant.job)
                host_processes.start_supervisors(home, job, 1, locks[variant.folder], environment, supervisor.MODULE)
        self.deliver_events()
        return result

    def restart(self, endpoint: str, ended: Variant) -> Variant | None:
        """Start a host in place of one that has ended, and return the variant; None if another process was faster."""
        try:
            request, plan = self._jobs.request(ended.job), self._jobs.execution_plan(ended.job)
        except LookupError:
            return None
        host = NewHost(ended.name, self.new_folder(endpoint), request, plan, ended.weight, ended.instances)

        def record() -> tuple[Variant | None, Sequence[Variant]]:
            made = self._store.replace_host(endpoint, ended, host, time.time())
            return made, [] if made is None else [made]

        return self.start([host], record)

    def end_of(self, variant: Variant) -> str | None:
        """Return the reason why a variant's host has ended; None if it runs. Dead hosts are recorded first."""
        try:
            job = self._jobs.get_by_id(variant.job)
            if not job.finished and host_processes.reap_dead_hosts(self._jobs, self._engine.home, [job]):
                job = self._jobs.get_by_id(variant.job)
        except LookupError:
            return "it was removed"
        return (job.failure_reason or "it was stopped") if job.finished else None

    def settled(self, record: ResourceRecord) -> ResourceRecord | None:
        """Return an endpoint after the ends of its dead hosts are recorded; None if it is gone."""
        jobs = []
        for variant in EndpointState.of(record).hosts:
            with contextlib.suppress(LookupError):
                jobs.append(self._jobs.get_by_id(variant.job))
        unfinished = [job for job in jobs if not job.finished]
        dead = bool(unfinished) and host_processes.reap_dead_hosts(self._jobs, self._engine.home, unfinished)
        found: ResourceRecord | None = record
        if dead or record.status in {"Creating", "Updating", "Deleting"}:
            found = self._store.settle(record.name, time.time())
        self.deliver_events()
        return found

    def settle_all(self) -> None:
        """Settle every endpoint that is being created, updated or deleted, and forget hosts that were killed."""
        for record in self._store.in_transition():
            self.settled(record)
        hosts = self._jobs.endpoint_hosts()
        if host_processes.reap_dead_hosts(self._jobs, self._engine.home, hosts) or any(job.finished for job in hosts):
            self._store.forget_ended_hosts()

    def deliver_events(self) -> None:
        """Deliver pending events."""
        events.deliver(self._jobs, self._engine.home)


def host_request(
    endpoint: str, variant: Mapping[str, Any], model: Mapping[str, Any], async_config: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the request of a host: all that its supervisor has to know.

    Args:
        endpoint: the endpoint's name.
        variant: the variant of the endpoint configuration.
        model: the request that created the model.
        async_config: the AsyncInferenceConfig; None for none.
    """
    return {
        "EndpointName": endpoint,
        "VariantName": variant["VariantName"],
        "ModelName": variant["ModelName"],
        "Container": container_of(model),
        "EnableNetworkIsolation": model.get("EnableNetworkIsolation", False),
        "RoleArn": model.get("ExecutionRoleArn"),
        "InstanceType": variant.get("InstanceType"),
        "VolumeSizeInGB": variant.get("VolumeSizeInGB"),
        "HealthSeconds": variant.get("ContainerStartupHealthCheckTimeoutInSeconds"),
        "AsyncInferenceConfig": async_config,
    }


def container_of(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the container definition of a model, which has one container."""
    found: Mapping[str, Any] = model.get("PrimaryContainer") or model["Containers"][0]
    return found


def variants_by_name(variants: Iterable[Variant]) -> dict[str, Variant]:
    """Return variants by their names."""
    return {variant.name: variant for variant in variants}

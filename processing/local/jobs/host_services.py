"""The services of a host beside its program: a gateway to the engine, pipes, resource limits, and a sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processing.local.jobs.gateway import Gateway, signing_environment
from processing.local.jobs.resource_sampler import Sampler
from processing.local.limits import GIB, OUT_OF_MEMORY, DiskWatch, HostLimits
from processing.local.stores.metrics import HostSamples, MetricStore

if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from processing.local.jobs.data import PipeInput
    from processing.local.jobs.execution_plan import ExecutionPlan
    from processing.local.jobs.object_source import ObjectSource
    from processing.local.jobs.pipes import Pipes


class HostServices:
    """The services of one host. Each method starts or uses some of them, and `close` ends all.

    Args:
        home: the engine's folder.
        work: the host's folder.
        dimensions: the dimensions of its metrics.
        cpu_slot: a number that differs between hosts, so that hosts use different CPUs.
        plan: the job's execution plan.
        volume: the size of the host's disk volume, in GB.
        namespace: the namespace of its metrics.
        own_network: whether each program has a network of its own, with a gateway of its own.
    """

    def __init__(
        self,
        home: Path,
        work: Path,
        dimensions: Mapping[str, str],
        cpu_slot: int,
        plan: ExecutionPlan,
        volume: int,
        namespace: str,
        *,
        own_network: bool = False,
    ) -> None:
        self._home = home
        self._volume = volume
        self._limits = HostLimits(plan.limits, work, cpu_slot)
        self._disk = DiskWatch(work, volume * GIB)
        samples = HostSamples(MetricStore(home), namespace, dimensions)
        self._sampler = Sampler(samples, self._disk, plan.memory, plan.sample)
        self._options = plan.gateway
        self._gateway = None if plan.gateway is None or own_network else Gateway(home, plan.gateway)
        self._pipes: Pipes | None = None

    def open_pipes(self, streams: Sequence[PipeInput], objects: ObjectSource) -> None:
        """Make the pipes of the inputs in Pipe mode."""
        if streams:
            from processing.local.jobs.pipes import Pipes  # few jobs have pipes, and every job would pay the import

            self._pipes = Pipes()
            self._pipes.open(streams, objects)

    def environment(self, requested: Mapping[str, str]) -> dict[str, str]:
        """Return the variables by which the program's clients find the engine; empty if the host has no network.

        Args:
            requested: the variables of the job's request.
        """
        if self._gateway is not None:
            return self._gateway.environment(requested)
        return {} if self._options is None else signing_environment(self._options, requested)

    def open_gateway(self, listener: _socket.socket) -> None:
        """Serve the engine at a socket that listens in the network of the present program."""
        self.close_gateway()
        assert self._options is not None
        self._gateway = Gateway(self._home, self._options, listener)

    def close_gateway(self) -> None:
        """End the gateway of the last program."""
        if self._gateway is not None:
            self._gateway.close()
            self._gateway = None

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` within the host's limits."""
        return self._limits.command(argv)

    def program_started(self, process: int, find: Callable[[], int] | None = None) -> None:
        """Start sampling the program.

        Args:
            process: the id of the command's process.
            find: finds the id of the process to sample instead; see `Sampler.watch`.
        """
        self._sampler.watch(process, find)

    def take_lines(self) -> list[str]:
        """Return the services' lines for the job's log since the last call."""
        gateway = self._gateway  # the thread that restarts the program may close it meanwhile
        return [] if gateway is None else gateway.take_lines()

    def problem(self) -> str | None:
        """Return the FailureReason for which the program has to be ended; None if there is none."""
        if self._pipes is not None and self._pipes.problem is not None:
            return self._pipes.problem
        if self._disk.exceeded:
            return f"ClientError: Insufficient disk space: the host's files exceed VolumeSizeInGB ({self._volume})"
        return None

    def program_ended(self, exit_code: int) -> str | None:
        """Take the last sample, and return the FailureReason if the failure is not the program's own."""
        self._sampler.finish()
        if self.problem() is not None:
            return self.problem()
        return OUT_OF_MEMORY if exit_code and self._limits.out_of_memory() else None

    def close(self) -> None:
        """End all services."""
        self._sampler.stop()
        if self._pipes is not None:
            self._pipes.close()
        self.close_gateway()
        self._limits.close()

"""What a host has beside its program: a way to the engine, pipes, limits, and somebody who measures what it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.jobs.gateway import Gateway
from processing.local.jobs.resource_sampler import Sampler
from processing.local.limits import GIB, OUT_OF_MEMORY, DiskWatch, HostLimits
from processing.local.stores.metrics import MetricStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from processing.local.jobs.data import PipeInput
    from processing.local.jobs.pipes import Pipes
    from processing.local.stores.objects import ObjectStore


class HostServices:
    """Those of one host. Each has its beginning in one of the methods here, and all have their end in `close`.

    Args:
        home: the engine's folder.
        work: the host's folder.
        host: the host's name in the metrics, such as `my-job/algo-1`.
        turn: a number that differs between hosts.
        plan: how the job runs on this machine.
        volume: the size of the host's disk volume, in GB.
    """

    def __init__(self, home: Path, work: Path, host: str, turn: int, plan: Mapping[str, Any], volume: int) -> None:
        self._volume = volume
        self._limits = HostLimits(plan["limits"], work, turn)
        self._disk = DiskWatch(work, volume * GIB)
        self._sampler = Sampler(host, MetricStore(home), self._disk, plan["memory"], plan["sample"])
        self._gateway = None if plan["gateway"] is None else Gateway(home, plan["gateway"])
        self._pipes: Pipes | None = None

    def open_pipes(self, streams: Sequence[PipeInput], objects: ObjectStore) -> None:
        """Make the pipes of inputs in Pipe mode."""
        if streams:
            from processing.local.jobs.pipes import Pipes  # few jobs have any, and each would pay for the import

            self._pipes = Pipes()
            self._pipes.open(streams, objects)

    def environment(self, requested: Mapping[str, str]) -> dict[str, str]:
        """Return the variables by which the program's clients find the engine; none where it has no network.

        Args:
            requested: the variables that the job's request sets.
        """
        return {} if self._gateway is None else self._gateway.environment(requested)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` within the host's limits."""
        return self._limits.command(argv)

    def started(self, process: int, find: Callable[[], int] | None = None) -> None:
        """Be told that the program runs: that process, or the one that is found instead, and its descendants."""
        self._sampler.watch(process, find)

    def said(self) -> list[str]:
        """Return what the job's log has to say of them since the last call."""
        return [] if self._gateway is None else self._gateway.said()

    def problem(self) -> str | None:
        """Return why the program has to be ended, as the FailureReason says it."""
        if self._pipes is not None and self._pipes.problem is not None:
            return self._pipes.problem
        if self._disk.exceeded:
            return f"ClientError: Insufficient disk space: the host's files exceed VolumeSizeInGB ({self._volume})"
        return None

    def ended(self, exit_code: int) -> str | None:
        """Be told that the program has ended; return why the host fails, where that is not the program's own fault."""
        self._sampler.finish()
        if self.problem() is not None:
            return self.problem()
        return OUT_OF_MEMORY if exit_code and self._limits.out_of_memory() else None

    def close(self) -> None:
        """Let all of them go."""
        self._sampler.stop()
        if self._pipes is not None:
            self._pipes.close()
        if self._gateway is not None:
            self._gateway.close()
        self._limits.close()

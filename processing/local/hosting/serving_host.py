"""The part of a supervisor that endpoints and transform jobs share: a program that serves a model at port 8080.

Each program has a network of its own, if the sandbox or the relay can make one. Then any number of programs serve on
one machine. Otherwise there is one at a time.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

from processing.container import relay as relay_script
from processing.local.hosting.broker import Relay
from processing.local.hosting.networks import has_own_network, only_server, relay_makes_network
from processing.local.hosting.program_process import ProgramProcess
from processing.local.jobs.data import DataError
from processing.local.jobs.host_supervisor import HostSupervisor
from processing.local.jobs.image_command import command_of
from processing.local.jobs.model_data import fetch_model
from processing.local.stores.jobs import TEXT_LIMIT, HostEnd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.container import runner
    from processing.local.sandboxes.base import Bind, HostCommand, HostSpec

UNHEALTHY, PROBLEM = "unhealthy", "serving-problem"
"""The reasons for a stop: the program was not healthy in time; the use of the healthy program failed."""
HEALTH_SECONDS = 480.0
"""The time in which a program has to become healthy, as on AWS."""
_VOLUME_GB = 16_384
"""The size of a disk volume without a limit of its own."""


class ServingHost(HostSupervisor):
    """The process of a host that serves a model."""

    folders = ("home", "ml/tmp", "ml/output", "ml/model")
    longest_grace = 30.0
    """The seconds between SIGTERM and SIGKILL on AWS for a program that serves."""
    _process: ProgramProcess | None = None
    _relay: Relay | None = None

    # The contract of the kind

    def container(self) -> Mapping[str, Any]:
        """Return the container definition of the model."""
        found: Mapping[str, Any] = self._request["Container"]
        return found

    def health_seconds(self) -> float:
        """Return the time in which the program has to become healthy."""
        return HEALTH_SECONDS

    def on_healthy(self, process: ProgramProcess) -> None:
        """Use the program, which is healthy now. Called in a thread of its own."""
        raise NotImplementedError

    def on_program_end(self) -> None:
        """Stop the use of the program, which has ended. Called before and after the end of `on_healthy`."""

    def may_restart(self) -> bool:
        """Return whether a program that ended by itself after it was healthy is started again."""
        return False

    def unhealthy_reason(self) -> str:
        """Return the FailureReason for a program that was never healthy, without details."""
        raise NotImplementedError

    def inputs(self) -> Sequence[Mapping[str, Any]]:
        """Return no inputs. The model's data is not among a job's inputs."""
        return []

    def outputs(self) -> Sequence[Mapping[str, Any]]:
        """Return no outputs."""
        return []

    def volume(self) -> int:
        """Return the size of the disk volume, in GB."""
        return int(self._request.get("VolumeSizeInGB") or _VOLUME_GB)

    def max_runtime(self) -> int | None:
        """Return None: a program serves until it is stopped."""
        return None

    def image(self) -> tuple[str, bool]:
        """Return the image, which runs with its own entrypoint."""
        return self.container()["Image"], False

    def isolated(self) -> bool:
        """Return whether the model asks for network isolation."""
        return bool(self._request.get("EnableNetworkIsolation"))

    def own_network(self) -> bool:
        """Return whether each program has a network of its own."""
        return has_own_network(self._sandbox)

    def joins_network(self) -> bool:
        """Return whether the sandbox shares the network of its command, which may be one that the relay has made."""
        return relay_makes_network(self._sandbox) or not (self.own_network() or self.isolated())

    def passed(self) -> Sequence[str]:
        """Return the variable by which the relay tells a container's program where the engine is."""
        return ["AWS_ENDPOINT_URL"] if relay_makes_network(self._sandbox) else []

    def write_config(self) -> None:
        """Put the model's data at /opt/ml/model."""
        fetch_model(self.container(), self._ml_root, self._objects, self._check)

    def variables(self) -> dict[str, str]:
        """Return no variables."""
        return {}

    def command(self, binds: Sequence[Bind]) -> tuple[list[str], dict[str, str]]:
        """Return the command that serves, and the requested variables."""
        del binds
        requested = {**(self.container().get("Environment") or {}), **(self._request.get("Environment") or {})}
        return command_of(self._plan, "serve", requested)

    def collect(self, end: HostEnd) -> HostEnd:
        """Return the end: a program that serves leaves no results."""
        return end

    # The program's processes

    def run_to_end(
        self, argv: Sequence[str], env: Mapping[str, str], host: HostSpec, inherited: Sequence[int] = ()
    ) -> runner.ProgramExit:
        """Run the program, again and again if it may be restarted, and return its last end."""
        with contextlib.nullcontext(enter_result=True) if self.own_network() else only_server(self._home) as has_port:
            if has_port:
                return self._run_programs(argv, env, host, inherited)
        raise DataError(
            f"The port {relay_script.PORT} of this machine is in use, and the sandbox {self._sandbox.name} cannot give "
            "a program a network of its own: one program serves at a time. Delete the other endpoint, or install "
            "bubblewrap"
        )

    def _run_programs(
        self, argv: Sequence[str], env: Mapping[str, str], host: HostSpec, inherited: Sequence[int]
    ) -> runner.ProgramExit:
        while True:
            gateway = self._services.open_gateway if self._plan.gateway is not None else None
            relay = self._relay = Relay(gateway=gateway is not None) if self.own_network() else None
            process = self._process = ProgramProcess(relay, gateway, self.on_healthy, self.health_seconds())
            descriptors = list(inherited) if relay is None else [*inherited, relay.inherited]
            try:
                ended = super().run_to_end(self._beside_relay(argv), env, host, descriptors)
            finally:
                self.on_program_end()  # first, because it lets `on_healthy` of a transform job end
                process.close()
                # Until now `on_healthy` may have gone on, and begun a use of the program that has ended.
                self.on_program_end()
            if ended.stop_reason is not None or not process.healthy or not self.may_restart():
                return ended
            self.log(f"The program ended with exit code {ended.exit_code}, and is started again.")
            # A container stays after its end, and the next one has the same name.
            self._sandbox.remove(host.key, host.ml_root)
            self._sandbox.prepare(host, self._check)

    def _beside_relay(self, argv: Sequence[str]) -> Sequence[str]:
        """Return the command that runs a program beside its relay, if that is inside the sandbox."""
        if self._relay is None or self._plan.python is None:
            return argv
        return self._relay.command(self._plan.python.executable, argv)

    def outer_command(self, argv: Sequence[str]) -> Sequence[str]:
        """Return the command that runs a sandbox's command in the network that the relay makes."""
        if self._relay is None or not relay_makes_network(self._sandbox):
            return argv
        first = self._sandbox.network_command or ()
        return [*first, *self._relay.command(sys.executable, argv, makes_network=True)]

    def kept(self) -> Sequence[str]:
        """Return the script of the relay, which the sandbox has to show."""
        return [relay_script.__file__] if self.own_network() else []

    def log(self, text: str) -> None:
        """Write a line to the host's log."""
        self.emit([(int(time.time() * 1000), text)])

    def _on_start(self, group: int, command: HostCommand) -> None:
        super()._on_start(group, command)
        if self._process is not None:
            self._process.started()

    def _should_stop(self) -> str | None:
        process = self._process
        if process is not None and process.gave_up:
            return UNHEALTHY
        if process is not None and process.problem is not None:
            return PROBLEM
        return super()._should_stop()

    def _end_of_host(self, ended: runner.ProgramExit, host: HostSpec) -> HostEnd:
        process = self._process
        if process is not None and process.problem is not None:
            raise process.problem
        end = super()._end_of_host(ended, host)
        if process is None or process.healthy or end.outcome in {"stopped", "cancelled"} or _has_other_reason(end):
            return end
        return HostEnd("failed", ended.exit_code, self._with_details(ended, process))

    def _with_details(self, ended: runner.ProgramExit, process: ProgramProcess) -> str:
        """Return the FailureReason with the last sign of life of the program, and its last lines."""
        sign = process.last_answer if ended.stop_reason == UNHEALTHY else f"it ended with exit code {ended.exit_code}"
        lines = " / ".join(line.strip() for line in self._last_lines if line.strip())
        reason = f"{self.unhealthy_reason()} The program was never healthy: {sign}."
        if not lines:
            return reason
        reason += " Its last lines: "
        room = TEXT_LIMIT - len(reason)  # the very last line is that of the error
        return f"{reason}{lines}" if len(lines) <= room else f"{reason}...{lines[3 - room :]}"


def _has_other_reason(end: HostEnd) -> bool:
    """Return whether a host failed for a reason beside its program, such as a lack of memory."""
    return end.outcome == "failed" and end.reason is not None and not end.reason.startswith("AlgorithmError")

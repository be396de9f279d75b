"""The host of a processing job: its inputs and outputs, its command, and its exit message."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing.container import contract
from processing.local.import_path import PACKAGE_ROOT
from processing.local.jobs import output_files
from processing.local.jobs.data import inputs, outputs
from processing.local.jobs.host_supervisor import HostSupervisor, on_this_machine
from processing.local.spark.launcher import LauncherSettings, write_launcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.local.sandboxes.base import Bind
    from processing.local.stores.jobs import HostEnd

_COMMAND_FILE = "command.sh"
"""`processing.container.command.FILE`, without its import."""
_PYTHON = re.compile(r"python(3(\.\d+)?)?")


class ProcessingHost(HostSupervisor):
    """The process of one host of a processing job."""

    log_group = contract.LOG_GROUP
    folders = ("home", "ml/tmp", "ml/processing", "ml/output")

    def inputs(self) -> Sequence[Mapping[str, Any]]:
        """Return the inputs that the engine provides."""
        return list(inputs(self._request))

    def outputs(self) -> Sequence[Mapping[str, Any]]:
        """Return the outputs that the engine uploads."""
        return list(outputs(self._request))

    def volume(self) -> int:
        """Return the size of the host's disk volume, in GB."""
        size: int = self._request["ProcessingResources"]["ClusterConfig"]["VolumeSizeInGB"]
        return size

    def max_runtime(self) -> int:
        """Return the seconds after which the program is stopped."""
        condition: Mapping[str, int] = self._request.get("StoppingCondition") or {}
        return condition.get("MaxRuntimeInSeconds") or contract.DEFAULT_MAX_RUNTIME

    def image(self) -> tuple[str, bool]:
        """Return the image, and whether the request has an entrypoint."""
        app = self._request["AppSpecification"]
        return app["ImageUri"], bool(app.get("ContainerEntrypoint"))

    def isolated(self) -> bool:
        """Return whether the job asks for network isolation."""
        return bool((self._request.get("NetworkConfig") or {}).get("EnableNetworkIsolation"))

    def write_config(self) -> None:
        """Write both files of /opt/ml/config."""
        config = contract.job_config(self._request, self._record.arn)
        contract.write_config(self._ml_root, config, self._number, self._count)

    def variables(self) -> dict[str, str]:
        """Return the job's ARN, as the platform does."""
        return {"PROCESSING_JOB_ARN": self._record.arn}

    def command(self, binds: Sequence[Bind]) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the requested variables.

        If a part of a command travelled in a file, it comes from there. The same program then runs in the same way,
        however long its variables are.
        """
        app = self._request["AppSpecification"]
        argv = [*app.get("ContainerEntrypoint", ()), *app.get("ContainerArguments", ())]
        requested: dict[str, str] = dict(self._request.get("Environment") or {})
        if self._plan.python is None:
            return argv, requested
        if len(argv) > 1 and argv[0] == "/bin/sh" and posixpath.basename(argv[1]) == _COMMAND_FILE:
            spilled = _spilled_command(on_this_machine(argv[1], binds, self._ml_root))
            if spilled is not None:
                requested.update(spilled[0])
                argv = [*argv[2:], *spilled[1]]
        if _PYTHON.fullmatch(argv[0]):
            argv[0] = self._plan.python.executable
        return argv, requested

    def _environment(self, argv: Sequence[str], requested: Mapping[str, str]) -> dict[str, str]:
        """Return the environment, in which the engine's `smspark-submit` is the last program on the PATH."""
        env = super()._environment(argv, requested)
        if self._plan.python is not None:
            env["PATH"] = os.pathsep.join([env["PATH"], str(self._write_spark_launcher().parent)])
        return env

    def _write_spark_launcher(self) -> Path:
        ml_root = contract.ML if self._sandbox.mounts else self._ml_root
        assert self._plan.python is not None
        settings = LauncherSettings(
            ml_root, str(self._folder / "spark"), self._plan.python.executable, self._plan.memory
        )
        gateway = self._plan.gateway
        return write_launcher(
            self._work / "programs", settings, [PACKAGE_ROOT, *(() if gateway is None else gateway.path)]
        )

    def collect(self, end: HostEnd) -> HostEnd:
        """Upload the outputs, however the program ended, and add the exit message."""
        if self.outputs():
            self._jobs.record_uploading(self._record.id)
        return self._add_message(self.upload(end))

    def _add_message(self, end: HostEnd) -> HostEnd:
        output_files.unlock(self._ml_root, "output/message")
        try:
            return end._replace(exit_message=contract.exit_message(self._ml_root))
        except UnicodeDecodeError:
            reason = "ClientError: the exit message in /opt/ml/output/message is not UTF-8"
            return end if end.outcome == "failed" else end._replace(outcome="failed", reason=reason)


def _spilled_command(path: str) -> tuple[dict[str, str], list[str]] | None:
    from processing.container.command import parse_script  # few commands are so long

    try:
        return parse_script(Path(path).read_bytes())
    except OSError:
        return None

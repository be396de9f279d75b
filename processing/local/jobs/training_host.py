"""The host of a training job: its channels and checkpoints, its command, its failure, and its artifacts."""

from __future__ import annotations

import math
import posixpath
import re
import time
from typing import TYPE_CHECKING, Any

from processing.container import contract, training_contract
from processing.local.errors import tolerating_full_disk
from processing.local.jobs import output_files
from processing.local.jobs.data import DataError, is_file_uri
from processing.local.jobs.host_supervisor import HostSupervisor
from processing.local.jobs.image_command import command_of
from processing.local.programs.container import JOB_KEY
from processing.local.stores import phases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from processing.local.sandboxes.base import Bind
    from processing.local.stores.jobs import HostEnd, JobRecord, JobStore

_NO_REASON = "See job logs for more information"


class TrainingHost(HostSupervisor):
    """The process of one host of a training job."""

    log_group = training_contract.LOG_GROUP
    folders = ("home", "ml/tmp", "ml/input/data", "ml/model", "ml/output/data")

    def __init__(self, home: Path, jobs: JobStore, record: JobRecord, number: int) -> None:
        super().__init__(home, jobs, record, number)
        definitions = self._request["AlgorithmSpecification"].get("MetricDefinitions") or ()
        self._patterns = [(item["Name"], re.compile(item["Regex"])) for item in definitions]
        self._metrics: dict[str, tuple[float, float]] = {}

    def inputs(self) -> Sequence[Mapping[str, Any]]:
        """Return the channels, and the checkpoints of an earlier job."""
        channels = training_contract.channel_inputs(self._request)
        config = training_contract.checkpoint_config(self._request)
        if config is None or is_file_uri(config["S3Uri"]):  # a directory of this machine is used in place
            return channels
        location = f"{config['S3Uri'].rstrip('/')}/"
        return [
            *channels,
            {
                "LocalPath": config["LocalPath"],
                "S3Uri": location,
                "S3DataType": "S3Prefix",
                "S3InputMode": "File",
                "MayBeEmpty": True,
            },
        ]

    def outputs(self) -> Sequence[Mapping[str, Any]]:
        """Return the checkpoints, which are uploaded while the program runs."""
        config = training_contract.checkpoint_config(self._request)
        return [] if config is None else [{**config, "S3UploadMode": "Continuous"}]

    def volume(self) -> int:
        """Return the size of the host's disk volume, in GB."""
        size: int = self._request["ResourceConfig"]["VolumeSizeInGB"]
        return size

    def max_runtime(self) -> int:
        """Return the seconds after which the program is stopped."""
        seconds: int = self._request["StoppingCondition"]["MaxRuntimeInSeconds"]
        return seconds

    def image(self) -> tuple[str, bool]:
        """Return the image, and whether the request has an entrypoint."""
        algorithm = self._request["AlgorithmSpecification"]
        return algorithm["TrainingImage"], bool(algorithm.get("ContainerEntrypoint"))

    def isolated(self) -> bool:
        """Return whether the job asks for network isolation."""
        return bool(self._request.get("EnableNetworkIsolation"))

    def begin(self) -> None:
        """Record the phase in which data is downloaded."""
        self._jobs.record_phase(self._record.id, phases.DOWNLOADING, time.time())

    def write_config(self) -> None:
        """Write the files of /opt/ml/input/config, after the data was fetched."""
        self._uploads.note_existing()
        training_contract.write_config(self._ml_root, self._request, self._number, self._count)

    def variables(self) -> dict[str, str]:
        """Return the job's name and ARN, as the platform does."""
        return training_contract.job_variables(self._record.name, self._record.arn)

    def command(self, binds: Sequence[Bind]) -> tuple[list[str], dict[str, str]]:
        """Return the entrypoint of the request, or the image's or the program's command `train`."""
        del binds
        algorithm = self._request["AlgorithmSpecification"]
        requested = dict(self._request.get("Environment") or {})
        if self._plan.program is not None:
            requested[JOB_KEY] = posixpath.basename(self._record.folder)  # it ends in random letters and digits
        return command_of(
            self._plan,
            "train",
            requested,
            entrypoint=algorithm.get("ContainerEntrypoint") or (),
            arguments=algorithm.get("ContainerArguments") or (),
        )

    def emit(self, messages: Sequence[tuple[int, str]]) -> None:
        """Append messages to the job's log, and find the metrics in them."""
        super().emit(messages)
        found = [
            (name, stamp / 1000, value)
            for name, pattern in self._patterns
            for stamp, message in messages
            for value in map(_number, pattern.finditer(message))
            if value is not None
        ]
        if found:
            self._add_metrics(found)

    def _add_metrics(self, found: Sequence[tuple[str, float, float]]) -> None:
        """Store values of the program's metrics, with their times, in CloudWatch, and keep the last ones."""
        from processing.local.stores.metrics import Metric, MetricStore, Sample

        dimensions = {"TrainingJobName": self._record.name}
        with tolerating_full_disk():  # the log has the values
            MetricStore(self._home).put(
                (Metric.of(self.log_group, name, dimensions), "None", [Sample.of(moment, value)])
                for name, moment, value in found
            )
        self._metrics.update((name, (value, moment)) for name, moment, value in found)

    def collect(self, end: HostEnd) -> HostEnd:
        """Upload checkpoints, and leave the artifacts for the last host, however the program ended."""
        end = self._with_failure(self.upload(end))
        if self._metrics:
            self._jobs.record_metrics(self._record.id, self._metrics)
        from processing.local.jobs.training_artifacts import leave  # it loads tarfile, which takes long

        return self._unless_failed(lambda: leave(self._ml_root, self._place(self._number)), end)

    def complete(self, end: HostEnd) -> HostEnd:
        """As the last host, upload the artifacts of all hosts, even if this one has not started its program."""
        if not self._retry_while_full(lambda: self._jobs.is_last_host(self._record.id, self._number, end, time.time())):
            return end
        places = [place for place in map(self._place, range(1, self._count + 1)) if place.is_dir()]
        if not places:  # no program has run
            return end
        from processing.local.jobs.training_artifacts import Artifacts

        self._free_space()
        self._jobs.record_phase(self._record.id, phases.UPLOADING, time.time())
        artifacts = Artifacts(self._request, places, self._folder, self._objects, self._log)
        return self._unless_failed(lambda: artifacts.upload(completed=end.outcome == "completed"), end)

    def _unless_failed(self, work: Callable[[], None], end: HostEnd) -> HostEnd:
        """Do work on the artifacts, and return the host's end. An error of the work fails a host that has completed."""
        try:
            work()
        except (DataError, OSError) as error:
            self._log(str(error))
            if end.outcome == "completed":
                return end._replace(outcome="failed", reason=f"{error}")
        return end

    def _log(self, text: str) -> None:
        self.emit([(int(time.time() * 1000), text)])

    def _place(self, number: int) -> Path:
        return self._folder / f"results-{contract.host_name(number)}"

    def _with_failure(self, end: HostEnd) -> HostEnd:
        """Return the end of the host with the program's own reason, if it failed and wrote one."""
        if end.outcome != "failed" or _NO_REASON not in (end.reason or ""):
            return end
        output_files.unlock(self._ml_root, "output/failure")
        text = training_contract.failure(self._ml_root)
        return end if text is None else end._replace(reason=f"AlgorithmError: {text}, exit code: {end.exit_code}")


def _number(found: re.Match[str]) -> float | None:
    """Return the first group of a match as a number, or the whole match; None if it is not a finite one."""
    try:
        value = float(found[1] if found.re.groups else found[0])
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None

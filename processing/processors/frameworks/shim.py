"""`ShimProcessor`: runs the program of any image for one task or for thousands."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing._utils.validation import FLAG, ITERABLE, NAME, require
from processing.container.shim.errors import TaskError
from processing.container.shim.tasks import Task, parse_tasks
from processing.exceptions import ConfigurationError
from processing.models import ProcessingInput
from processing.processors.frameworks.shim_run import ShimRun
from processing.processors.processor import Processor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from processing.default_sessions import SessionLike
    from processing.job.start import IfExists
    from processing.models import NetworkConfig
    from processing.processors.base import Preferences, Tags
    from processing.staging.progress import Progress

_TASKS = "/opt/ml/processing/input/shim-tasks"
_HOSTS = "/opt/ml/config/resourceconfig.json"
_LOCAL_FOLDERS = {"INPUT": "/opt/ml/processing/shim/input", "OUTPUT": "/opt/ml/processing/shim/output"}
"""The folders of a program that runs on this machine without a container: /input could be the user's own."""
_LOCAL_SHIM = ["python3", "-m", "processing.container.shim"]
_KEYS = ("PROCESSING_SHIM_SIGNING_KEY_HEX", "GRAND_CHALLENGE_COMPONENT_SIGNING_KEY_HEX")


class ShimProcessor(Processor):
    """Runs the program of an image that has the container shim, once for each task.

    A task names objects in S3. The shim downloads them to /input, runs the program, uploads /output, and stores a
    result. The tasks are split over the instances. `processing-shim patch` puts the shim into an image.

    On the embedded engine the program runs on this machine, unless the session runs images. Its folders are then
    /opt/ml/processing/shim/input and /opt/ml/processing/shim/output.

    If role, keys, env, tags or network are left out, the SageMaker config file supplies them.

    Args:
        image_uri: the container image, with the shim as its entrypoint. Optional on the embedded engine, which does not
            run it.
        role: the ARN of the IAM role that SageMaker assumes, or its name, which is looked up with IAM GetRole. Optional
            on the embedded engine.
        instance_count: the number of instances, 1 to 100.
        instance_type: the instance type, such as `ml.m5.xlarge`; `local` runs the job on this machine, on the embedded
            engine.
        command: the program and its arguments; None for those of the image before it was patched.
        entrypoint: the shim; None for the entrypoint of the image.
        volume_size_in_gb: the storage of each instance, in GB.
        volume_kms_key: the KMS key that encrypts that storage.
        output_kms_key: the KMS key that encrypts the outputs of the job; the shim's own have the bucket's key.
        max_runtime_in_seconds: the seconds after which AWS stops the job; None for AWS's default, a day.
        base_job_name: the beginning of generated job names; by default the name of the image.
        sagemaker_session: a `processing.Session`, a `processing.LocalSession` or a `sagemaker.Session`; by default a
            session made from the environment.
        env: the environment variables of the container, the settings of the shim among them.
        tags: the job's tags: a dictionary, or a list of `{"Key": ..., "Value": ...}`.
        network_config: the network of the containers.
        instance_preferences: instance types in order of priority, 1 to 5, instead of `instance_type`; or
            `{"InstanceType": ..., "InstanceCount": ...}` for each, instead of `instance_count` too.
        extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.

    Attributes:
        jobs: the jobs that this processor has started, the oldest first.
        latest_job: the job that was started last, or None.
    """

    command: list[str] | None = None

    def __init__(
        self,
        image_uri: str | None = None,
        role: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        command: list[str] | None = None,
        entrypoint: list[str] | None = None,
        volume_size_in_gb: int = 30,
        volume_kms_key: str | None = None,
        output_kms_key: str | None = None,
        max_runtime_in_seconds: int | None = None,
        base_job_name: str | None = None,
        sagemaker_session: SessionLike | None = None,
        env: dict[str, str] | None = None,
        tags: Tags | None = None,
        network_config: NetworkConfig | None = None,
        *,
        instance_preferences: Preferences | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.command = command
        super().__init__(
            role=role,
            image_uri=image_uri,
            instance_count=instance_count,
            instance_type=instance_type,
            entrypoint=entrypoint,
            volume_size_in_gb=volume_size_in_gb,
            volume_kms_key=volume_kms_key,
            output_kms_key=output_kms_key,
            max_runtime_in_seconds=max_runtime_in_seconds,
            base_job_name=base_job_name,
            sagemaker_session=sagemaker_session,
            env=env,
            tags=tags,
            network_config=network_config,
            instance_preferences=instance_preferences,
            extra=extra,
        )

    def run_tasks(
        self,
        tasks: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        *,
        keep_going: bool = True,
        wait: bool = True,
        job_name: str | None = None,
        experiment_config: dict[str, str] | None = None,
        kms_key: str | None = None,
        if_exists: IfExists = "fail",
        extra: Mapping[str, Any] | None = None,
        progress: Callable[[Progress], object] | None = None,
        quiet: bool = False,
    ) -> ShimRun:
        """Start one job for all tasks, and wait for its end.

        A failed task fails the job, and is no error here: `results()` of the returned value tells which failed, and
        why. Each instance runs its tasks one after the other: instance i of n has every n-th task.

        Args:
            tasks: a task, or any number of them, in the form of sagemaker-shim: `pk`, `inputs`, `output_bucket_name`,
                `output_prefix`, and optionally `timeout`, in ISO 8601, in seconds or a timedelta. No two tasks may have
                the same place for outputs.
            keep_going: False to run no further task of an instance after one has failed.
            wait: False to return as soon as the job has been created.
            job_name: the job's name; by default generated from the base name and the time.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
            kms_key: the KMS key that encrypts the uploaded list of tasks.
            if_exists: the action if a job named `job_name` exists: `fail`; `attach` to return that job; or `suffix` to
                start one under a name that ends with `-2`, `-3`, ...
            extra: settings of CreateProcessingJob that no parameter has, in the service's spelling; merged over the
                processor's own `extra`.
            progress: a function that is called with a `Progress` after the upload of the tasks.
            quiet: True to show nothing: neither the job's status on standard error nor its log lines.

        Raises:
            ConfigurationError: a task or another value cannot work; nothing was uploaded or started.
            StagingError: an upload failed; nothing was started.
            SubmissionError: AWS refused the request.
            EngineError: the embedded engine cannot run the job here.
        """
        require("keep_going", keep_going, FLAG)
        require("wait", wait, FLAG)
        text, parsed = _check_tasks(tasks)
        runner = self._with_shim()
        with _as_file(text) as path:
            job = runner.run(
                inputs=[ProcessingInput(source=path, destination=_TASKS, input_name="shim-tasks")],
                arguments=self._arguments(keep_going=keep_going),
                wait=False,
                job_name=job_name,
                experiment_config=experiment_config,
                kms_key=kms_key,
                if_exists=if_exists,
                extra=extra,
                progress=progress,
                quiet=quiet or wait,  # the wait shows the job
            )
        with self._run_lock:
            self.latest_job = job
            self.jobs = [*self.jobs, job]
        run = ShimRun(job, parsed, self._signing_key())
        if wait:
            run.wait(quiet=quiet)
        return run

    def _arguments(self, *, keep_going: bool) -> list[str]:
        words = ["invoke", "-f", f"{_TASKS}/tasks.json", "--hosts", _HOSTS]
        words += ["--keep-going"] if keep_going else []
        if self.command is None:
            return words
        require("command", self.command, ITERABLE)
        program = list(self.command)
        for index, word in enumerate(program):
            require(f"command[{index}]", word, NAME)
        return [*words, "--", *program] if program else words

    def _with_shim(self) -> ShimProcessor:
        """Return a copy of this processor; on this machine without a container it has the shim of this package."""
        runner = copy.copy(self)
        runner._resolve_session()  # noqa: SLF001 - a copy of this processor
        session = runner.sagemaker_session
        if session.is_local and not session.engine.settings.runs_images:
            if self.command is None:
                raise ConfigurationError(
                    "command: missing; the embedded engine does not run the image, so name a program"
                )
            runner.entrypoint = self.entrypoint or _LOCAL_SHIM
            folders = {f"PROCESSING_SHIM_{name}_PATH": path for name, path in _LOCAL_FOLDERS.items()}
            runner.env = {**folders, **(runner.env or {})}
        return runner

    def _signing_key(self) -> bytes:
        """Return the key of signatures that the container has; empty for no signatures."""
        text = next((str((self.env or {})[name]) for name in _KEYS if (self.env or {}).get(name)), "")
        with contextlib.suppress(ValueError):  # the shim names it
            return bytes.fromhex(text)
        return b""


def _check_tasks(tasks: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> tuple[str, Sequence[Task]]:
    """Return the tasks as JSON, and parsed.

    Raises:
        ConfigurationError: a field is missing or wrong, or two tasks would overwrite each other's result.
    """
    if isinstance(tasks, Mapping):
        listed: list[Any] = [tasks]
    else:
        require("tasks", tasks, ITERABLE)
        listed = list(tasks)
    if not listed:
        raise ConfigurationError("tasks: has no task; give at least one")
    for index, task in enumerate(listed):
        if not isinstance(task, Mapping):
            raise ConfigurationError(f"tasks[{index}]: must be a dictionary with pk, inputs and the place of outputs")
    try:
        text = json.dumps([_with_timeout(task) for task in listed])
        parsed = parse_tasks(text)
    except TaskError as error:
        raise ConfigurationError(f"tasks{error}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"tasks: cannot be written as JSON ({error})") from error
    places: dict[tuple[str, str], int] = {}
    for index, each in enumerate(parsed):
        first = places.setdefault((each.output_bucket_name, each.output_prefix), index)
        if first != index:
            raise ConfigurationError(f"tasks[{index}].output_prefix: the same place as that of tasks[{first}]")
    return text, parsed


def _with_timeout(task: Mapping[str, Any]) -> dict[str, Any]:
    timeout = task.get("timeout")
    seconds = timeout.total_seconds() if isinstance(timeout, dt.timedelta) else timeout
    return {**task, "timeout": seconds} if "timeout" in task else dict(task)


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Write the tasks to a file of their name in the container, and remove it after the upload."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tasks.json")
        path.write_text(text, encoding="utf-8")
        yield str(path)

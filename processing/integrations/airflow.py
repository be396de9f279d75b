"""An Airflow operator that runs a processing job, and the trigger that waits for it. For Airflow 3.

The job's name is made of the task's identity. So a retry finds the job of an attempt whose worker was lost, and a
cleared task starts a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import itertools
import re
from typing import TYPE_CHECKING, Any, Final

import attrs
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from processing._utils.validation import FLAG, MAPPING, NAME, require, with_methods
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from processing.job.job import ProcessingJob
    from processing.session.session import Session

_PROCESSOR: Final = with_methods("a processor", "run", "request")
_TEMPLATES: Final = ("env", "entrypoint", "tags", "base_job_name")
"""The attributes of a processor in which templates are rendered."""

_LONGEST_BASE: Final = 40  # a digest of 16 digits, a number and two dashes follow, 63 characters in all


class ProcessingOperator(BaseOperator):
    """A task that runs a processing job, writes its log lines into the task's log, and fails if the job fails.

    A task that is killed stops its job. A retry attaches to the job of an earlier attempt that is still running or has
    completed. The result is a dictionary with `job_name`, `status` and the URIs of `outputs`.

    Jinja templates are rendered in `run_arguments`, and in the processor's `env`, `entrypoint`, `tags` and
    `base_job_name`.

    Args:
        processor: the processor; it makes no call to AWS while the DAG is parsed.
        run_arguments: the arguments of its `run`, such as `{"code": "clean.py"}`. `wait`, `logs`, `job_name`,
            `if_exists` and `quiet` are the operator's.
        aws_conn_id: the connection whose credentials are used; None for those of the processor's session.
        deferrable: True to wait in the triggerer, which holds no worker. The log lines are then written at the end.
        **kwargs: the arguments of every operator, such as `task_id` and `retries`.
    """

    def __init__(
        self,
        *,
        processor: Any,
        run_arguments: Mapping[str, Any] | None = None,
        aws_conn_id: str | None = None,
        deferrable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require("processor", processor, _PROCESSOR)
        require("run_arguments", run_arguments, MAPPING, optional=True)
        require("aws_conn_id", aws_conn_id, NAME, optional=True)
        require("deferrable", deferrable, FLAG)
        for name in ("wait", "logs", "job_name", "if_exists", "quiet"):
            if name in (run_arguments or {}):
                raise ConfigurationError(f"run_arguments[{name!r}]: is set by the operator; leave it out")
        self.processor = processor
        self.run_arguments = dict(run_arguments or {})
        self.aws_conn_id = aws_conn_id
        self.deferrable = deferrable
        self._job: ProcessingJob | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Start or find the job, and wait for its end.

        Raises:
            AirflowFailException: a value cannot work, so a retry is of no use.
            JobFailedError, JobStoppedError: the job failed or was stopped.
        """

        def render(text: str) -> Any:
            return self.render_template(text, context)

        processor = copy.copy(self.processor)
        for name in _TEMPLATES:
            setattr(processor, name, _rendered(getattr(processor, name, None), render))
        session = processor.sagemaker_session = self._session()
        try:
            job = self._start(processor, _rendered(self.run_arguments, render), session, context["ti"])
        except ConfigurationError as error:
            raise AirflowFailException(str(error)) from error
        if self.deferrable:
            self.defer(
                trigger=ProcessingJobTrigger(
                    job.job_name, session.boto_region_name, self.aws_conn_id, is_local=session.is_local
                ),
                method_name="execute_complete",
            )
        return self._finish(job)

    def execute_complete(self, context: Any, event: Mapping[str, Any]) -> dict[str, Any]:
        """Continue after the trigger: write the log lines, and return the result of the job."""
        del context
        from processing.job.job import attach

        return self._finish(attach(event["job_name"], session=self._session()))

    def on_kill(self) -> None:
        """Stop the job."""
        if self._job is not None:
            _stop(self._job)

    def _session(self) -> Session:
        session: Session = self.processor.sagemaker_session
        return session if self.aws_conn_id is None else _session(session.boto_region_name, self.aws_conn_id)

    def _start(self, processor: Any, arguments: dict[str, Any], session: Session, task: Any) -> ProcessingJob:
        """Return the job of an earlier attempt that has not failed, or start one."""
        from processing.aws.retry import is_not_found
        from processing.job.job import ProcessingJob

        base = _base_name(processor.base_job_name or self.task_id, task, int(self.retries or 0))
        for number in itertools.count(1):
            name = base if number == 1 else f"{base}-{number}"
            try:
                described = session.describe_processing_job(name)
            except Exception as error:
                if not is_not_found(error):
                    raise
                break
            if described["ProcessingJobStatus"] in {"InProgress", "Completed"}:
                self.log.info("attached to the processing job %s of an earlier attempt", name)
                self._job = ProcessingJob.described(session, name, described)
                return self._job
        self.log.info("starting the processing job %s", name)
        self._job = ProcessingJob.known(session, name)  # a kill during the submission stops it, too
        self._job = processor.run(**arguments, job_name=name, if_exists="attach", wait=False, quiet=True)
        assert self._job is not None
        if self._job.console_url:
            self.log.info("%s", self._job.console_url)
        return self._job

    def _finish(self, job: ProcessingJob) -> dict[str, Any]:
        """Write the log lines until the job's end, and return its result."""
        from processing.watching.events import LogEvent

        self._job = job
        several = job.describe()["ProcessingResources"]["ClusterConfig"].get("InstanceCount", 1) != 1
        with contextlib.closing(job.events()) as events:
            for event in events:
                if isinstance(event, LogEvent):
                    self.log.info("%s", f"{event.host}: {event.message}" if several else event.message)
                else:
                    self.log.info("%s", f"{job.job_name}: {event.status}")
        job.wait(logs=False, quiet=True)
        return {
            "job_name": job.job_name,
            "status": "Completed",
            "outputs": {str(output.output_name): output.destination for output in job.outputs},
        }


class ProcessingJobTrigger(BaseTrigger):
    """A trigger that fires when a processing job has ended.

    Args:
        job_name: the job's name.
        region_name: the job's region.
        aws_conn_id: the connection whose credentials are used; None for those of the triggerer.
        is_local: True for a job of the embedded engine on the triggerer's machine.
    """

    def __init__(
        self, job_name: str, region_name: str | None = None, aws_conn_id: str | None = None, *, is_local: bool = False
    ) -> None:
        super().__init__()
        self.job_name = job_name
        self.region_name = region_name
        self.aws_conn_id = aws_conn_id
        self.is_local = is_local

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of the class and its arguments, from which the triggerer makes it again."""
        arguments = {name: getattr(self, name) for name in ("job_name", "region_name", "aws_conn_id", "is_local")}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the job's end without a thread, and yield one event with the job's name."""
        from processing.job.wait import wait_async

        await wait_async([await asyncio.to_thread(self._find)], quiet=True)
        yield TriggerEvent({"job_name": self.job_name})

    async def on_kill(self) -> None:
        """Stop the job: the user has killed the task while it was deferred."""
        await asyncio.to_thread(lambda: _stop(self._find()))

    def _find(self) -> ProcessingJob:
        from processing.job.job import ProcessingJob
        from processing.local.session import LocalSession

        session = LocalSession() if self.is_local else _session(self.region_name, self.aws_conn_id)
        return ProcessingJob.known(session, self.job_name)


def _session(region: str | None, connection: str | None) -> Session:
    from processing.session.session import Session

    if connection is None:
        return Session(region_name=region)
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    return Session(AwsGenericHook(connection, region_name=region, client_type="sagemaker").get_session())


def _stop(job: ProcessingJob) -> None:
    """Stop a job, if it exists."""
    from processing.aws.retry import is_not_found

    try:
        job.stop()
    except Exception as error:
        if not is_not_found(error):
            raise


def _base_name(base: str, task: Any, retries: int) -> str:
    """Return the name of the first job of a task instance.

    Args:
        base: the beginning of the name.
        task: the task instance.
        retries: the retries of the task.
    """
    # Airflow adds the retries to the tries so far when a task is cleared. All attempts in between have one name.
    first_try = int(task.max_tries) - retries + 1
    identity = (task.dag_id, task.run_id, task.task_id, task.map_index, first_try)
    digest = hashlib.sha256("\n".join(map(str, identity)).encode()).hexdigest()[:16]
    plain = re.sub(r"[^a-zA-Z0-9]+", "-", base).strip("-")[:_LONGEST_BASE].rstrip("-")
    return f"{plain or 'task'}-{digest}"


def _rendered(value: Any, render: Callable[[str], Any]) -> Any:
    """Return a copy of a value in whose texts, those of inputs and outputs among them, templates are rendered."""
    if isinstance(value, str):
        return render(value)
    if isinstance(value, dict):
        return {key: _rendered(member, render) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_rendered(member, render) for member in value)
    if attrs.has(type(value)):
        copied = copy.copy(value)
        for field in attrs.fields(type(value)):
            # Frozen models have no other way; the copy is ours.
            object.__setattr__(copied, field.name, _rendered(getattr(value, field.name), render))
        return copied
    return value

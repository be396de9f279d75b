"""The operations on processing jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.handlers.sagemaker.common import tags_of
from processing.local.handlers.sagemaker.jobs import JobRunner
from processing.local.jobs.description import description, selected_instances, summary, with_defaults
from processing.local.jobs.execution_planner import make_execution_plan
from processing.local.jobs.validation import check_runnable
from processing.local.jobs.workload import processing_workload
from processing.local.stores.job_kinds import PROCESSING

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.handlers import Operation


class ProcessingJobOperations:
    """The operations that create, describe, list, stop and delete processing jobs.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._runner = JobRunner(engine, PROCESSING)
        self.operations: dict[str, Operation] = {
            "CreateProcessingJob": self.create_processing_job,
            "DescribeProcessingJob": self.describe_processing_job,
            "ListProcessingJobs": self.list_processing_jobs,
            "StopProcessingJob": self.stop_processing_job,
            "DeleteProcessingJob": self.delete_processing_job,
        }

    def create_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Record a job and start its hosts."""
        request = with_defaults(params)
        check_runnable(
            {**request, "Tags": params.get("Tags") or []},
            runs_image=self._engine.settings.runs_images,
            region=self._engine.chosen_region,
            objects=None if self._engine.settings.remote_s3_endpoint else self._engine.objects,
        )
        plan = make_execution_plan(self._engine, processing_workload(request))
        count = selected_instances(request)[1]
        return {"ProcessingJobArn": self._runner.start(request, plan, count, tags_of(params))}

    def describe_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a job's request and its state."""
        job = self._runner.find(params["ProcessingJobName"])
        return description(self._runner.store.request(job.id), job)

    def list_processing_jobs(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of job summaries."""
        page, token = self._runner.page(params)
        answer: dict[str, Any] = {"ProcessingJobSummaries": [summary(job) for job in page]}
        return answer if token is None else {**answer, "NextToken": token}

    def stop_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Ask a job's hosts to stop, which they do at their next tick."""
        self._runner.stop(params["ProcessingJobName"])
        return {}

    def delete_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a finished job. Its log stays, as on AWS."""
        self._runner.delete(params["ProcessingJobName"])
        return {}

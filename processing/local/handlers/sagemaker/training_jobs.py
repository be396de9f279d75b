"""The operations on training jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.handlers.sagemaker.common import tags_of
from processing.local.handlers.sagemaker.jobs import JobRunner
from processing.local.jobs.execution_planner import make_execution_plan
from processing.local.jobs.training_description import description, summary, with_defaults
from processing.local.jobs.training_validation import check_trainable
from processing.local.jobs.workload import training_workload
from processing.local.stores.job_kinds import TRAINING

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.handlers import Operation


class TrainingJobOperations:
    """The operations that create, describe, list, stop and delete training jobs.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._runner = JobRunner(engine, TRAINING)
        self.operations: dict[str, Operation] = {
            "CreateTrainingJob": self.create_training_job,
            "DescribeTrainingJob": self.describe_training_job,
            "ListTrainingJobs": self.list_training_jobs,
            "StopTrainingJob": self.stop_training_job,
            "DeleteTrainingJob": self.delete_training_job,
        }

    def create_training_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Record a job and start its hosts."""
        request = with_defaults(params)
        check_trainable(
            {**request, "Tags": params.get("Tags") or []},
            region=self._engine.chosen_region,
            objects=None if self._engine.settings.remote_s3_endpoint else self._engine.objects,
        )
        plan = make_execution_plan(self._engine, training_workload(request))
        count = request["ResourceConfig"]["InstanceCount"]
        return {"TrainingJobArn": self._runner.start(request, plan, count, tags_of(params))}

    def describe_training_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a job's request and its state."""
        job = self._runner.find(params["TrainingJobName"])
        return description(self._runner.store.request(job.id), job)

    def list_training_jobs(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of job summaries. No job has a warm pool or a training plan."""
        if params.get("WarmPoolStatusEquals") or params.get("TrainingPlanArnEquals"):
            return {"TrainingJobSummaries": []}
        page, token = self._runner.page(params)
        answer: dict[str, Any] = {"TrainingJobSummaries": [summary(job) for job in page]}
        return answer if token is None else {**answer, "NextToken": token}

    def stop_training_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Ask a job's hosts to stop, which they do at their next tick."""
        self._runner.stop(params["TrainingJobName"])
        return {}

    def delete_training_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a finished job. Its log stays, as on AWS."""
        self._runner.delete(params["TrainingJobName"])
        return {}

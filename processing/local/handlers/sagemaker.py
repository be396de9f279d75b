"""Handler for SageMaker's operations on processing jobs.

Params and results have the member names and types of boto3. Times are timezone-aware datetimes. The engine validates
params against the service model (enums, lengths, patterns) before it calls a handler.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

from processing.local import file_trees, remote_s3
from processing.local.errors import ApiError
from processing.local.jobs import events, host_processes, leftovers
from processing.local.jobs.description import description, selected_instances, summary, with_defaults
from processing.local.jobs.execution_planner import make_execution_plan
from processing.local.jobs.validation import check_runnable
from processing.local.reserve import keep_reserve
from processing.local.stores.jobs import JobQuery, JobStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

DEFAULT_PAGE = 10
"""SageMaker's default for the jobs of a page."""


class SageMakerHandler:
    """Handler that creates, describes, lists, stops, deletes and tags processing jobs.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._jobs = JobStore(engine.home)
        self.operations: dict[str, Operation] = {
            "CreateProcessingJob": self.create_processing_job,
            "DescribeProcessingJob": self.describe_processing_job,
            "ListProcessingJobs": self.list_processing_jobs,
            "StopProcessingJob": self.stop_processing_job,
            "DeleteProcessingJob": self.delete_processing_job,
            "AddTags": self.add_tags,
            "ListTags": self.list_tags,
            "DeleteTags": self.delete_tags,
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
        name = request["ProcessingJobName"]
        arn = f"arn:aws:sagemaker:{self._engine.region}:{self._engine.account}:processing-job/{name}"
        plan = make_execution_plan(self._engine, request).to_json()
        count = selected_instances(request)[1]
        folder = f"jobs/{name}-{uuid.uuid4().hex[:12]}"
        keep_reserve(self._engine.home)
        locks = host_processes.HostLocks(self._engine.home / folder, count)
        try:
            tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", ())}
            job = self._jobs.create(request, arn=arn, folder=folder, plan=plan, hosts=count, tags=tags, now=_now())
            credentials = remote_s3.supervisor_environment(self._engine.settings)
            environment = host_processes.machine_environment() | credentials
            host_processes.start_supervisors(self._engine.home, job, count, locks, environment)
        except ApiError:
            file_trees.remove_tree(self._engine.home / folder)
            raise
        finally:
            locks.close()
        self._deliver_events()
        return {"ProcessingJobArn": arn}

    def describe_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a job's request and its state."""
        job = self._jobs.get(params["ProcessingJobName"])
        if not job.finished and host_processes.reap_dead_hosts(self._jobs, self._engine.home, [job]):
            job = self._jobs.get(job.name)
        self._deliver_events()
        return description(self._jobs.request(job.id), job)

    def list_processing_jobs(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of job summaries."""
        self._clean_up()
        query = JobQuery(
            created_after=_seconds(params.get("CreationTimeAfter")),
            created_before=_seconds(params.get("CreationTimeBefore")),
            modified_after=_seconds(params.get("LastModifiedTimeAfter")),
            modified_before=_seconds(params.get("LastModifiedTimeBefore")),
            name_contains=params.get("NameContains"),
            status=params.get("StatusEquals"),
            sort_by=params.get("SortBy", "CreationTime"),
            descending=params.get("SortOrder") == "Descending",
        )
        page, token = self._jobs.list(query, params.get("MaxResults", DEFAULT_PAGE), params.get("NextToken"))
        self._deliver_events()
        answer: dict[str, Any] = {"ProcessingJobSummaries": [summary(job) for job in page]}
        return answer if token is None else {**answer, "NextToken": token}

    def stop_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Ask a job's hosts to stop, which they do at their next tick."""
        job = self._jobs.get(params["ProcessingJobName"])
        host_processes.reap_dead_hosts(self._jobs, self._engine.home, [job])
        self._jobs.request_stop(job.name, _now())
        self._deliver_events()
        return {}

    def delete_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a finished job. Its log stays, as on AWS."""
        name = params["ProcessingJobName"]
        host_processes.reap_dead_hosts(
            self._jobs, self._engine.home, [job for job in self._jobs.unfinished() if job.name == name]
        )
        job = self._jobs.delete(name)
        file_trees.remove_tree(self._engine.home / job.folder)
        return {}

    def add_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add or overwrite tags."""
        tags = {tag["Key"]: tag["Value"] for tag in params["Tags"]}
        return {"Tags": _tag_list(self._jobs.add_tags(params["ResourceArn"], tags))}

    def list_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return all tags, without paging: 50 tags, the most a job can have, fit the smallest page of the API."""
        return {"Tags": _tag_list(self._jobs.tags(params["ResourceArn"]))}

    def delete_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove tags by key."""
        self._jobs.delete_tags(params["ResourceArn"], params["TagKeys"])
        return {}

    def _clean_up(self) -> None:
        """Record the ends of hosts that died, and remove the leftovers of killed processes."""
        unfinished = self._jobs.unfinished()
        host_processes.reap_dead_hosts(self._jobs, self._engine.home, unfinished)
        leftovers.remove_leftover_folders(self._engine.home, {job.folder for job in unfinished})

    def _deliver_events(self) -> None:
        """Deliver pending events, of this change or of a killed process, before the operation returns."""
        events.deliver(self._jobs, self._engine.home)


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _now() -> float:
    """Return the time in seconds since the epoch, rounded to the API's resolution of milliseconds."""
    return round(dt.datetime.now(dt.timezone.utc).timestamp(), 3)


def _seconds(moment: Any) -> float | None:
    """Return a time of a request in seconds since the epoch. Like botocore, it treats naive times as UTC."""
    if moment is None or isinstance(moment, (int, float)):
        return moment
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)
    return float(aware.timestamp())

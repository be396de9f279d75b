"""The operations of SageMaker that concern processing jobs.

Params and results have the member names and types of boto3; times are timezone-aware datetimes. The generic checks of
the service model (enums, lengths, patterns) have been made before a handler is called.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

from processing.local import file_trees as trees
from processing.local import remote_s3 as elsewhere
from processing.local.errors import ApiError
from processing.local.jobs import events
from processing.local.jobs import host_processes as hosts
from processing.local.jobs import leftovers as remains
from processing.local.jobs.description import description, selected_instances, summary, with_defaults
from processing.local.jobs.execution_plan import make_execution_plan
from processing.local.jobs.validation import check_runnable
from processing.local.stores.jobs import JobQuery, JobStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

DEFAULT_PAGE = 10


class SageMakerHandler:
    """Create, describe, list, stop and delete processing jobs, and tag them.

    Args:
        engine: the engine that it belongs to.

    Attributes:
        operations: the function for each operation, by its name in the API.
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
        """Note the job and start its hosts."""
        request = with_defaults(params)
        check_runnable(request, runs_image=self._engine.settings.runs_images)
        name = request["ProcessingJobName"]
        arn = f"arn:aws:sagemaker:{self._engine.region}:{self._engine.account}:processing-job/{name}"
        plan = make_execution_plan(self._engine, request)
        count = selected_instances(request)[1]
        folder = f"jobs/{name}-{uuid.uuid4().hex[:12]}"
        locks = hosts.HostLocks(self._engine.home / folder, count)
        try:
            tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", ())}
            job = self._jobs.create(request, arn=arn, folder=folder, plan=plan, hosts=count, tags=tags, now=_now())
            environment = hosts.machine_environment() | elsewhere.environment(self._engine.settings)
            hosts.start_supervisors(self._engine.home, job, count, locks, environment)
        except ApiError:
            trees.remove_tree(self._engine.home / folder)
            raise
        finally:
            locks.close()
        self._deliver()
        return {"ProcessingJobArn": arn}

    def describe_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer everything that was asked for, and how it stands."""
        job = self._jobs.get(params["ProcessingJobName"])
        if not job.finished and hosts.reap_dead_hosts(self._jobs, self._engine.home, [job]):
            job = self._jobs.get(job.name)
        self._deliver()
        return description(self._jobs.request(job.id), job)

    def list_processing_jobs(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a page of job summaries."""
        self._clear_away()
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
        self._deliver()
        answer: dict[str, Any] = {"ProcessingJobSummaries": [summary(job) for job in page]}
        return answer if token is None else {**answer, "NextToken": token}

    def stop_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Ask a job's hosts to stop; they do so at their next tick."""
        job = self._jobs.get(params["ProcessingJobName"])
        hosts.reap_dead_hosts(self._jobs, self._engine.home, [job])
        self._jobs.request_stop(job.name, _now())
        self._deliver()
        return {}

    def delete_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Forget a finished job; its log stays, as on AWS."""
        name = params["ProcessingJobName"]
        hosts.reap_dead_hosts(
            self._jobs, self._engine.home, [job for job in self._jobs.unfinished() if job.name == name]
        )
        job = self._jobs.delete(name)
        trees.remove_tree(self._engine.home / job.folder)
        return {}

    def add_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add or overwrite tags."""
        tags = {tag["Key"]: tag["Value"] for tag in params["Tags"]}
        return {"Tags": _tag_list(self._jobs.add_tags(params["ResourceArn"], tags))}

    def list_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer all tags: a job has no more than the smallest page that may be asked for."""
        return {"Tags": _tag_list(self._jobs.tags(params["ResourceArn"]))}

    def delete_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove tags by key."""
        self._jobs.delete_tags(params["ResourceArn"], params["TagKeys"])
        return {}

    def _clear_away(self) -> None:
        """Note the ends of hosts that died, and remove what killed processes left."""
        unfinished = self._jobs.unfinished()
        hosts.reap_dead_hosts(self._jobs, self._engine.home, unfinished)
        remains.remove_leftover_folders(self._engine.home, {job.folder for job in unfinished})

    def _deliver(self) -> None:
        """Deliver the events that a change has just made, or that a killed process left: who asks finds them told."""
        events.deliver(self._jobs, self._engine.home)


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _now() -> float:
    """Seconds since the epoch, in whole milliseconds: what the API can say of a time."""
    return round(dt.datetime.now(dt.timezone.utc).timestamp(), 3)


def _seconds(moment: Any) -> float | None:
    """Return a time of the request as seconds since the epoch; a naive one is taken for UTC, as botocore does."""
    if moment is None or isinstance(moment, (int, float)):
        return moment
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)
    return float(aware.timestamp())

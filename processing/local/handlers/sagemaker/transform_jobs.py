"""The operations on transform jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.container.contract import DAY
from processing.local.errors import ApiError
from processing.local.handlers.sagemaker import named_resources
from processing.local.handlers.sagemaker.common import tags_of
from processing.local.handlers.sagemaker.jobs import JobRunner
from processing.local.hosting import supervisor
from processing.local.hosting.hosts import container_of
from processing.local.hosting.transforms.data_processing import DataProcessing, FilterError
from processing.local.hosting.transforms.settings import MAX_PAYLOAD
from processing.local.jobs.execution_planner import make_execution_plan
from processing.local.jobs.transform_description import (
    transform_description,
    transform_summary,
    transform_with_defaults,
)
from processing.local.jobs.workload import Workload
from processing.local.stores.job_kinds import TRANSFORM
from processing.local.stores.resources import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

_KEYS_SECONDS = 28 * DAY
"""The time for which the keys of a job's program are valid: the longest time of a transform job on AWS."""


class TransformJobOperations:
    """The operations that create, describe, list and stop transform jobs.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._models = named_resources.resource_store(engine, MODEL)
        self._runner = JobRunner(engine, TRANSFORM, supervisor.MODULE)
        self.operations: dict[str, Operation] = {
            "CreateTransformJob": self.create_transform_job,
            "DescribeTransformJob": self.describe_transform_job,
            "ListTransformJobs": self.list_transform_jobs,
            "StopTransformJob": self.stop_transform_job,
        }

    def create_transform_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Record a job and start its hosts. The job gets a copy of its model."""
        request = transform_with_defaults(params)
        problems = list(_problems(request))
        if problems:
            raise ApiError("ValidationException", " ".join(problems))
        model = self._models.get(request["ModelName"]).request
        container = container_of(model)
        request["Model"] = {
            "Container": container,
            "EnableNetworkIsolation": model.get("EnableNetworkIsolation", False),
        }
        workload = Workload(
            name=request["TransformJobName"],
            image=container["Image"],
            role=model["ExecutionRoleArn"],
            instance_type=request["TransformResources"]["InstanceType"],
            longest=_KEYS_SECONDS,
            isolated=bool(model.get("EnableNetworkIsolation")),
        )
        plan = make_execution_plan(self._engine, workload)
        count = request["TransformResources"]["InstanceCount"]
        return {"TransformJobArn": self._runner.start(request, plan, count, tags_of(params))}

    def describe_transform_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a job's request and its state."""
        job = self._runner.find(params["TransformJobName"])
        return transform_description(self._runner.store.request(job.id), job)

    def list_transform_jobs(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of job summaries."""
        page, token = self._runner.page(params, descending=True)
        answer: dict[str, Any] = {"TransformJobSummaries": [transform_summary(job) for job in page]}
        return answer if token is None else {**answer, "NextToken": token}

    def stop_transform_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Ask a job's hosts to stop, which they do at their next tick."""
        self._runner.stop(params["TransformJobName"])
        return {}


def _problems(request: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of a request that the service model does not find."""
    source = request["TransformInput"]
    data_type = source["DataSource"]["S3DataSource"]["S3DataType"]
    if data_type not in {"S3Prefix", "ManifestFile"}:
        yield f"S3DataType: the local engine has S3Prefix and ManifestFile, not {data_type}."
    if (request.get("DataCaptureConfig") or {}).get("DestinationS3Uri"):
        yield "DataCaptureConfig: the local engine does not have data capture."
    payload, concurrency = request.get("MaxPayloadInMB", 0), request.get("MaxConcurrentTransforms", 0)
    if payload > MAX_PAYLOAD or payload * concurrency > MAX_PAYLOAD:
        yield (
            f"MaxPayloadInMB, and its product with MaxConcurrentTransforms, must not exceed {MAX_PAYLOAD}; they are "
            f"{payload} and {concurrency}."
        )
    try:
        DataProcessing(request)
    except FilterError as error:
        yield f"{error}."

"""Handler for SageMaker's operations, with a module for each resource.

Params and results have the member names and types of boto3. Times are timezone-aware datetimes. The engine validates
params against the service model (enums, lengths, patterns) before it calls a handler.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.sagemaker.endpoint_configs import EndpointConfigOperations
from processing.local.handlers.sagemaker.endpoints import EndpointOperations
from processing.local.handlers.sagemaker.models import ModelOperations
from processing.local.handlers.sagemaker.processing_jobs import ProcessingJobOperations
from processing.local.handlers.sagemaker.tags import TagOperations
from processing.local.handlers.sagemaker.training_jobs import TrainingJobOperations
from processing.local.handlers.sagemaker.transform_jobs import TransformJobOperations
from processing.local.jobs.validation import member_name
from processing.request.rules import general_broken_rules

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

__all__ = ["SageMakerHandler"]

_CHECKED_WITH_OTHERS = frozenset({"CreateProcessingJob", "CreateTrainingJob"})
"""The operations that report what no operation takes together with their other problems."""


class SageMakerHandler:
    """Handler for jobs, models, endpoint configurations, endpoints and tags.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        groups = (
            ProcessingJobOperations,
            TrainingJobOperations,
            ModelOperations,
            EndpointConfigOperations,
            EndpointOperations,
            TransformJobOperations,
            TagOperations,
        )
        self.operations: dict[str, Operation] = {
            name: function if name in _CHECKED_WITH_OTHERS else _checked(function)
            for group in groups
            for name, function in group(engine).operations.items()
        }


def _checked(operation: Operation) -> Operation:
    """Return an operation that refuses characters, numbers and tags that no operation takes."""

    @functools.wraps(operation)
    def check(params: dict[str, Any]) -> dict[str, Any]:
        problems = [broken.describe(member_name) for broken in general_broken_rules(params)]
        if problems:
            raise ApiError("ValidationException", " ".join(problems))
        return operation(params)

    return check

"""Handler for SageMaker's operations, with a module for each resource.

Params and results have the member names and types of boto3. Times are timezone-aware datetimes. The engine validates
params against the service model (enums, lengths, patterns) before it calls a handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from processing.local.handlers.sagemaker.endpoint_configs import EndpointConfigOperations
from processing.local.handlers.sagemaker.endpoints import EndpointOperations
from processing.local.handlers.sagemaker.models import ModelOperations
from processing.local.handlers.sagemaker.processing_jobs import ProcessingJobOperations
from processing.local.handlers.sagemaker.tags import TagOperations
from processing.local.handlers.sagemaker.training_jobs import TrainingJobOperations
from processing.local.handlers.sagemaker.transform_jobs import TransformJobOperations

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

__all__ = ["SageMakerHandler"]


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
            name: function for group in groups for name, function in group(engine).operations.items()
        }

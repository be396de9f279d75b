"""Processors for the frameworks that AWS publishes images for; the framework's version determines the image.

Parameters, their order and their defaults are those of `sagemaker` 2.x. A processor knows the image's URI when it is
constructed, without a call to AWS: the URI comes from `processing.images`, for the session's region. The embedded
engine uses the same URI as a name and does not pull the image. `LocalSession(images=...)` can map it to a Python.
"""

from processing.processors.frameworks.data_wrangler import DataWranglerProcessor
from processing.processors.frameworks.huggingface import HuggingFaceProcessor
from processing.processors.frameworks.shim import ShimProcessor
from processing.processors.frameworks.shim_run import ShimResult, ShimRun
from processing.processors.frameworks.sklearn import SKLearnProcessor
from processing.processors.frameworks.versioned import (
    MXNetProcessor,
    PyTorchProcessor,
    TensorFlowProcessor,
    XGBoostProcessor,
)

__all__ = [
    "DataWranglerProcessor",
    "HuggingFaceProcessor",
    "MXNetProcessor",
    "PyTorchProcessor",
    "SKLearnProcessor",
    "ShimProcessor",
    "ShimResult",
    "ShimRun",
    "TensorFlowProcessor",
    "XGBoostProcessor",
]

"""Processors for the frameworks that AWS publishes images for: the image follows from the framework's version.

Parameters, their order and their defaults are those of `sagemaker` 2.x. The image's URI is known at construction and no
call to AWS is made for it: it comes from `processing.images`, for the session's region. On the embedded engine the URI
is the same one: there it names the image without being pulled, and `LocalSession(images=...)` can map it to a Python.
"""

from processing.processors.frameworks.data_wrangler import DataWranglerProcessor
from processing.processors.frameworks.huggingface import HuggingFaceProcessor
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
    "TensorFlowProcessor",
    "XGBoostProcessor",
]

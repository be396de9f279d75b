"""Run AWS SageMaker Processing jobs: on AWS, or for real on this machine.

The public names are loaded when first used (PEP 562): `import processing` loads neither boto3, botocore nor tenacity,
and costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processing.exceptions import (
        CapacityError,
        CodeNotFoundError,
        ConfigurationError,
        EngineError,
        JobError,
        JobFailedError,
        JobStoppedError,
        ProcessingError,
        StagingError,
        SubmissionError,
        UnexpectedStatusException,
        WaitTimeoutError,
    )
    from processing.job import ProcessingJob, attach
    from processing.local.session import LocalSession
    from processing.models import (
        AthenaDatasetDefinition,
        DatasetDefinition,
        FeatureStoreOutput,
        NetworkConfig,
        ProcessingInput,
        ProcessingOutput,
        RedshiftDatasetDefinition,
        RunArgs,
        S3Input,
    )
    from processing.processors import FrameworkProcessor, Processor, ScriptProcessor
    from processing.session import Session

__version__ = "0.1.0"

_HOME_OF = {
    "processing.exceptions": (
        "CapacityError",
        "CodeNotFoundError",
        "ConfigurationError",
        "EngineError",
        "JobError",
        "JobFailedError",
        "JobStoppedError",
        "ProcessingError",
        "StagingError",
        "SubmissionError",
        "UnexpectedStatusException",
        "WaitTimeoutError",
    ),
    "processing.job": ("ProcessingJob", "attach"),
    "processing.local.session": ("LocalSession",),
    "processing.models": (
        "AthenaDatasetDefinition",
        "DatasetDefinition",
        "FeatureStoreOutput",
        "NetworkConfig",
        "ProcessingInput",
        "ProcessingOutput",
        "RedshiftDatasetDefinition",
        "RunArgs",
        "S3Input",
    ),
    "processing.processors": ("FrameworkProcessor", "Processor", "ScriptProcessor"),
    "processing.session": ("Session",),
}
_MODULE_OF = {name: module for module, names in _HOME_OF.items() for name in names}

__all__ = [
    "AthenaDatasetDefinition",
    "CapacityError",
    "CodeNotFoundError",
    "ConfigurationError",
    "DatasetDefinition",
    "EngineError",
    "FeatureStoreOutput",
    "FrameworkProcessor",
    "JobError",
    "JobFailedError",
    "JobStoppedError",
    "LocalSession",
    "NetworkConfig",
    "ProcessingError",
    "ProcessingInput",
    "ProcessingJob",
    "ProcessingOutput",
    "Processor",
    "RedshiftDatasetDefinition",
    "RunArgs",
    "S3Input",
    "ScriptProcessor",
    "Session",
    "StagingError",
    "SubmissionError",
    "UnexpectedStatusException",
    "WaitTimeoutError",
    "attach",
]


def __getattr__(name: str) -> Any:
    """Load the module that a public name lives in."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'processing' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

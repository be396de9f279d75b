"""Run AWS SageMaker Processing jobs: on AWS, or for real on this machine.

The public names are loaded when first used (PEP 562): `import processing` loads neither boto3, botocore nor tenacity,
and costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processing import compat as compat
    from processing import config as config
    from processing import doctor as doctor
    from processing import images as images
    from processing import pricing as pricing
    from processing import watching as watching
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
        WatchError,
    )
    from processing.execution_role import get_execution_role
    from processing.job.fleet.fleet import Fleet, submit_all
    from processing.job.fleet.search import jobs
    from processing.job.fleet.submission import FleetProgress
    from processing.job.job import ProcessingJob, attach
    from processing.job.plan import RunPlan
    from processing.job.wait import (
        as_completed,
        as_completed_async,
        events,
        events_async,
        wait,
        wait_async,
    )
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
    from processing.processors.frameworks import (
        DataWranglerProcessor,
        HuggingFaceProcessor,
        MXNetProcessor,
        PyTorchProcessor,
        SKLearnProcessor,
        TensorFlowProcessor,
        XGBoostProcessor,
    )
    from processing.session.session import Session
    from processing.staging.progress import Progress

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
        "WatchError",
    ),
    "processing.job.fleet.search": ("jobs",),
    "processing.job.fleet.fleet": ("Fleet", "submit_all"),
    "processing.job.fleet.submission": ("FleetProgress",),
    "processing.processors.frameworks": (
        "DataWranglerProcessor",
        "HuggingFaceProcessor",
        "MXNetProcessor",
        "PyTorchProcessor",
        "SKLearnProcessor",
        "TensorFlowProcessor",
        "XGBoostProcessor",
    ),
    "processing.job.job": ("ProcessingJob", "attach"),
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
    "processing.job.plan": ("RunPlan",),
    "processing.processors": ("FrameworkProcessor", "Processor", "ScriptProcessor"),
    "processing.execution_role": ("get_execution_role",),
    "processing.session.session": ("Session",),
    "processing.staging.progress": ("Progress",),
    "processing.job.wait": (
        "as_completed",
        "as_completed_async",
        "events",
        "events_async",
        "wait",
        "wait_async",
    ),
}
_MODULES = (
    "compat",
    "config",
    "doctor",
    "images",
    "pricing",
    "watching",
)  # what is used as `processing.config.explain()`
_MODULE_OF = {name: module for module, names in _HOME_OF.items() for name in names}

__all__ = [
    "AthenaDatasetDefinition",
    "CapacityError",
    "CodeNotFoundError",
    "ConfigurationError",
    "DataWranglerProcessor",
    "DatasetDefinition",
    "EngineError",
    "FeatureStoreOutput",
    "Fleet",
    "FleetProgress",
    "FrameworkProcessor",
    "HuggingFaceProcessor",
    "JobError",
    "JobFailedError",
    "JobStoppedError",
    "LocalSession",
    "MXNetProcessor",
    "NetworkConfig",
    "ProcessingError",
    "ProcessingInput",
    "ProcessingJob",
    "ProcessingOutput",
    "Processor",
    "Progress",
    "PyTorchProcessor",
    "RedshiftDatasetDefinition",
    "RunArgs",
    "RunPlan",
    "S3Input",
    "SKLearnProcessor",
    "ScriptProcessor",
    "Session",
    "StagingError",
    "SubmissionError",
    "TensorFlowProcessor",
    "UnexpectedStatusException",
    "WaitTimeoutError",
    "WatchError",
    "XGBoostProcessor",
    "as_completed",
    "as_completed_async",
    "attach",
    "events",
    "events_async",
    "get_execution_role",
    "jobs",
    "submit_all",
    "wait",
    "wait_async",
]


if not TYPE_CHECKING:  # a type checker would take every name for one that there is

    def __getattr__(name: str) -> Any:
        """Load the module that a public name lives in, or a module that is public itself."""
        if name in _MODULES:
            return importlib.import_module(f"processing.{name}")
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module 'processing' has no attribute {name!r}")
        value = getattr(importlib.import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})

"""AWS SageMaker Processing jobs: on AWS, or for real on this machine.

Public names are imported on first use (PEP 562), so that `import processing` takes milliseconds and loads neither
boto3, botocore nor tenacity.
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
    from processing import spark as spark
    from processing import watching as watching
    from processing.aws.retry import RetryPolicy as RetryPolicy
    from processing.clock import Clock as Clock
    from processing.exceptions import CapacityError as CapacityError
    from processing.exceptions import CodeNotFoundError as CodeNotFoundError
    from processing.exceptions import ConfigurationError as ConfigurationError
    from processing.exceptions import CredentialsError as CredentialsError
    from processing.exceptions import DeserializationError as DeserializationError
    from processing.exceptions import EngineError as EngineError
    from processing.exceptions import JobError as JobError
    from processing.exceptions import JobFailedError as JobFailedError
    from processing.exceptions import JobStoppedError as JobStoppedError
    from processing.exceptions import NameTakenError as NameTakenError
    from processing.exceptions import ProcessingError as ProcessingError
    from processing.exceptions import RemoteFunctionError as RemoteFunctionError
    from processing.exceptions import RuntimeEnvironmentError as RuntimeEnvironmentError
    from processing.exceptions import SerializationError as SerializationError
    from processing.exceptions import ServiceError as ServiceError
    from processing.exceptions import StagingError as StagingError
    from processing.exceptions import SubmissionError as SubmissionError
    from processing.exceptions import UnexpectedStatusException as UnexpectedStatusException
    from processing.exceptions import WaitTimeoutError as WaitTimeoutError
    from processing.exceptions import WatchError as WatchError
    from processing.execution_role import get_execution_role as get_execution_role
    from processing.export.step_functions import StateMachine as StateMachine
    from processing.job.cards import Card as Card
    from processing.job.cards import card as card
    from processing.job.cost import JobCost as JobCost
    from processing.job.fleet.fleet import Fleet as Fleet
    from processing.job.fleet.fleet import submit_all as submit_all
    from processing.job.fleet.results import FleetResult as FleetResult
    from processing.job.fleet.runs import RunSpec as RunSpec
    from processing.job.fleet.search import JobListing as JobListing
    from processing.job.fleet.search import jobs as jobs
    from processing.job.fleet.submission import FleetProgress as FleetProgress
    from processing.job.job import ProcessingJob as ProcessingJob
    from processing.job.job import attach as attach
    from processing.job.metrics import HostMetrics as HostMetrics
    from processing.job.metrics import JobMetrics as JobMetrics
    from processing.job.metrics import Utilization as Utilization
    from processing.job.outputs import JobOutput as JobOutput
    from processing.job.outputs import JobOutputs as JobOutputs
    from processing.job.plan import PlannedUpload as PlannedUpload
    from processing.job.plan import RunPlan as RunPlan
    from processing.job.rerun import rerun as rerun
    from processing.job.wait import WaitResult as WaitResult
    from processing.job.wait import as_completed as as_completed
    from processing.job.wait import as_completed_async as as_completed_async
    from processing.job.wait import events as events
    from processing.job.wait import events_async as events_async
    from processing.job.wait import wait as wait
    from processing.job.wait import wait_async as wait_async
    from processing.local.cleaning import Cleaned as Cleaned
    from processing.local.session import LocalSession as LocalSession
    from processing.local.settings import EngineSettings as EngineSettings
    from processing.models import AthenaDatasetDefinition as AthenaDatasetDefinition
    from processing.models import DatasetDefinition as DatasetDefinition
    from processing.models import FeatureStoreOutput as FeatureStoreOutput
    from processing.models import NetworkConfig as NetworkConfig
    from processing.models import ProcessingInput as ProcessingInput
    from processing.models import ProcessingOutput as ProcessingOutput
    from processing.models import RedshiftDatasetDefinition as RedshiftDatasetDefinition
    from processing.models import RunArgs as RunArgs
    from processing.models import S3Input as S3Input
    from processing.processors import FrameworkProcessor as FrameworkProcessor
    from processing.processors import Processor as Processor
    from processing.processors import ScriptProcessor as ScriptProcessor
    from processing.processors.frameworks import DataWranglerProcessor as DataWranglerProcessor
    from processing.processors.frameworks import HuggingFaceProcessor as HuggingFaceProcessor
    from processing.processors.frameworks import MXNetProcessor as MXNetProcessor
    from processing.processors.frameworks import PyTorchProcessor as PyTorchProcessor
    from processing.processors.frameworks import ShimProcessor as ShimProcessor
    from processing.processors.frameworks import ShimResult as ShimResult
    from processing.processors.frameworks import ShimRun as ShimRun
    from processing.processors.frameworks import SKLearnProcessor as SKLearnProcessor
    from processing.processors.frameworks import TensorFlowProcessor as TensorFlowProcessor
    from processing.processors.frameworks import XGBoostProcessor as XGBoostProcessor
    from processing.remote_function import RemoteExecutor as RemoteExecutor
    from processing.remote_function import remote as remote
    from processing.request.build import ProcessingRequest as ProcessingRequest
    from processing.session.session import Session as Session
    from processing.staging.progress import Progress as Progress
    from processing.watching.checkpoint import Checkpoint as Checkpoint
    from processing.watching.events import LogEvent as LogEvent
    from processing.watching.events import StatusChanged as StatusChanged
    from processing.watching.polling import Polling as Polling
    from processing.watching.status.eventbridge import EventBridgeSource as EventBridgeSource
    from processing.watching.status.model import Lost as Lost
    from processing.watching.stream import EventStream as EventStream

__version__ = "0.1.0"

_NAMES_OF = {
    "processing.aws.retry": ("RetryPolicy",),
    "processing.clock": ("Clock",),
    "processing.exceptions": (
        "CapacityError",
        "CodeNotFoundError",
        "ConfigurationError",
        "CredentialsError",
        "DeserializationError",
        "EngineError",
        "JobError",
        "JobFailedError",
        "JobStoppedError",
        "NameTakenError",
        "ProcessingError",
        "RemoteFunctionError",
        "RuntimeEnvironmentError",
        "SerializationError",
        "ServiceError",
        "StagingError",
        "SubmissionError",
        "UnexpectedStatusException",
        "WaitTimeoutError",
        "WatchError",
    ),
    "processing.execution_role": ("get_execution_role",),
    "processing.export.step_functions": ("StateMachine",),
    "processing.job.cards": ("Card", "card"),
    "processing.job.cost": ("JobCost",),
    "processing.job.fleet.fleet": ("Fleet", "submit_all"),
    "processing.job.fleet.results": ("FleetResult",),
    "processing.job.fleet.runs": ("RunSpec",),
    "processing.job.fleet.search": ("JobListing", "jobs"),
    "processing.job.fleet.submission": ("FleetProgress",),
    "processing.job.job": ("ProcessingJob", "attach"),
    "processing.job.metrics": ("HostMetrics", "JobMetrics", "Utilization"),
    "processing.job.outputs": ("JobOutput", "JobOutputs"),
    "processing.job.plan": ("PlannedUpload", "RunPlan"),
    "processing.job.rerun": ("rerun",),
    "processing.job.wait": (
        "WaitResult",
        "as_completed",
        "as_completed_async",
        "events",
        "events_async",
        "wait",
        "wait_async",
    ),
    "processing.local.cleaning": ("Cleaned",),
    "processing.local.session": ("LocalSession",),
    "processing.local.settings": ("EngineSettings",),
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
    "processing.processors.frameworks": (
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
    ),
    "processing.remote_function": ("RemoteExecutor", "remote"),
    "processing.request.build": ("ProcessingRequest",),
    "processing.session.session": ("Session",),
    "processing.staging.progress": ("Progress",),
    "processing.watching.checkpoint": ("Checkpoint",),
    "processing.watching.events": ("LogEvent", "StatusChanged"),
    "processing.watching.polling": ("Polling",),
    "processing.watching.status.eventbridge": ("EventBridgeSource",),
    "processing.watching.status.model": ("Lost",),
    "processing.watching.stream": ("EventStream",),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}
_MODULES = (
    "compat",
    "config",
    "doctor",
    "images",
    "pricing",
    "spark",
    "watching",
)  # used as `processing.config.explain()`

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 - type checkers read the imports above; a test holds the two lists equal


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import the module of a public name on first use."""
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

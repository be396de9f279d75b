"""The engine: the stores of one folder, and the handlers of the services over them."""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import TYPE_CHECKING, Any

from processing._utils.forks import ForkSafeLock
from processing.container.contract import LOCAL_INSTANCE_TYPES
from processing.local.errors import ApiError, file_error, tolerating_full_disk
from processing.local.home import check_folders, engine_home, explain_os_errors, prepare_home, require_locks
from processing.local.reserve import keep_reserve, released_reserve
from processing.local.stores.database import saving_space
from processing.local.stores.jobs import JobStore
from processing.local.stores.logs import LogStore
from processing.local.stores.metrics import MetricStore
from processing.local.stores.objects import ObjectStore
from processing.local.stores.queues import QueueStore
from processing.request.service_model import aws_message, service_model, violations

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from processing.local.cleaning import Age, Cleaned, Size
    from processing.local.handlers import Operation
    from processing.local.settings import EngineSettings
    from processing.request.service_model import Violation

    Operations = Mapping[str, Operation]

ACCOUNT = "000000000000"
REGION = "us-east-1"

_HANDLERS = {
    "sagemaker": ("processing.local.handlers.sagemaker", "SageMakerHandler"),
    "s3": ("processing.local.handlers.s3", "S3Handler"),
    "logs": ("processing.local.handlers.logs", "LogsHandler"),
    "sts": ("processing.local.handlers.sts", "StsHandler"),
    "iam": ("processing.local.handlers.iam", "IamHandler"),
    "sqs": ("processing.local.handlers.sqs", "SqsHandler"),
    "cloudwatch": ("processing.local.handlers.cloudwatch", "CloudWatchHandler"),
    "resourcegroupstaggingapi": ("processing.local.handlers.tagging", "TaggingHandler"),
    "sagemaker-runtime": ("processing.local.handlers.runtime", "RuntimeHandler"),
}
_REMOTE_S3 = ("processing.local.handlers.remote_s3", "RemoteS3Handler")
_VALIDATION_ERRORS = {
    "sagemaker": "ValidationException",
    "sagemaker-runtime": "ValidationError",
    "logs": "InvalidParameterException",
    "cloudwatch": "ValidationError",
    "sqs": "InvalidParameterValue",
    "resourcegroupstaggingapi": "InvalidParameterException",
}
"""The services whose parameters are validated against the model before the handler runs, and their error codes."""


class Engine:
    """SageMaker, S3, CloudWatch Logs, STS and IAM over one folder. Any number of processes may have it open.

    Opening costs next to nothing: databases are opened and handlers are imported at their first use.

    Args:
        home: the folder; by default that of `engine_home()`.
        settings: the settings for jobs.
        region: the AWS region in ARNs; None for us-east-1.

    Attributes:
        home: the folder.
        settings: the settings for jobs.
        account: the account's number.
        region: the AWS region in ARNs.
        chosen_region: the region that was given, which images and keys of jobs have to fit; None if none was given.
        jobs: the processing jobs.
        objects: the object store.
        logs: the log store.
        metrics: the metric store.
        queues: the queue store.
    """

    account = ACCOUNT

    def __init__(
        self, home: Path | None = None, settings: EngineSettings | None = None, *, region: str | None = None
    ) -> None:
        from processing.local.settings import EngineSettings

        require_locks()
        self.home = engine_home() if home is None else prepare_home(home)
        self.settings = EngineSettings() if settings is None else settings
        self.region = REGION if region is None else region
        self.chosen_region = region
        with explain_os_errors(self.home):  # it makes folders
            self.objects = ObjectStore(self.home)
        self.jobs = JobStore(self.home)
        self.logs = LogStore(self.home)
        self.metrics = MetricStore(self.home)
        self.queues = QueueStore(self.home)
        self._operations: dict[str, Operations] = {}
        self._lock = ForkSafeLock()

    def handle(self, service: str, operation: str, params: dict[str, Any]) -> Mapping[str, Any]:
        """Execute an operation, and return its result with boto3's names and types.

        Args:
            service: boto3's name of the service, such as `sagemaker`.
            operation: the API's name of the operation, such as `DescribeProcessingJob`.
            params: the parameters, as for a boto3 client.

        Raises:
            ApiError: the service refuses the request, or the engine does not have the operation (`NotImplemented`,
                501).
        """
        function = self._operations_of(service).get(operation)
        if function is None:
            missing = f"the operation {operation} of {service}" if operation else f"the service {service}"
            raise ApiError("NotImplemented", f"The local engine does not have {missing}.", 501)
        code = _VALIDATION_ERRORS.get(service)
        if code is not None:
            _validate(service, operation, params, code)
        try:
            return function(params)
        except OSError as error:
            raise file_error(self.home, error) or error from error

    def check(self) -> None:
        """Open the stores, so that an unusable folder is an error now and not later.

        Raises:
            EngineError: the folder cannot be written to, a file in it is damaged, or a newer version made it.
        """
        self._open_stores()
        keep_reserve(self.home)

    def _open_stores(self) -> None:
        prepare_home(self.home)
        check_folders(self.home)
        stores = (self.jobs, self.objects, self.logs, self.metrics)
        for store in stores:
            store.check()

    def clean(
        self, *, older_than: Age | None = None, larger_than: Size | None = None, dry_run: bool = False
    ) -> Cleaned:
        """Remove old data from the folder: see `LocalSession.clean`."""
        from processing.local.cleaning import clean

        try:
            with (
                released_reserve(self.home) as nearly_full,
                saving_space() if nearly_full else contextlib.nullcontext(),
            ):
                with tolerating_full_disk():  # databases can be read without room
                    self._open_stores()
                return clean(self.home, older_than=older_than, larger_than=larger_than, dry_run=dry_run)
        except OSError as error:
            raise file_error(self.home, error) or error from error

    def _operations_of(self, service: str) -> Operations:
        found = self._operations.get(service)
        if found is None:
            with self._lock:
                if service not in self._operations and service in _HANDLERS:
                    module, name = _HANDLERS[service]
                    if service == "s3" and self.settings.remote_s3_endpoint is not None:
                        module, name = _REMOTE_S3
                    handler = getattr(importlib.import_module(module), name)(self)
                    self._operations[service] = handler.operations
                found = self._operations.get(service, {})
        return found


@functools.cache
def _input_shape(service: str, operation: str) -> Any:
    return service_model(service).operation_model(operation).input_shape


def _validate(service: str, operation: str, params: dict[str, Any], code: str) -> None:
    shape = _input_shape(service, operation)
    if shape is None:
        return
    found = [each for each in violations(shape, params) if not _is_tolerated(each)]
    if found:
        raise ApiError(code, aws_message(found))


def _is_tolerated(violation: Violation) -> bool:
    """Return whether the engine accepts a violation: a local instance type, `file://`, or an unknown member."""
    if violation.kind == "unknown":  # a member that only a newer client's model has
        return True
    if violation.kind == "enum":
        if violation.path[:1] in {("Attributes",), ("AttributeNames",)}:  # SQS has a different error for these
            return True
        return violation.path[-1:] == ("InstanceType",) and violation.value in LOCAL_INSTANCE_TYPES
    return violation.kind == "pattern" and str(violation.value).startswith("file://")

"""The embedded engine as the AWS of a script: every boto3 client of the process reaches it."""

from __future__ import annotations

import atexit
import os
import re
from typing import TYPE_CHECKING, Any

from processing.container.contract import LOCAL_INSTANCE_TYPES
from processing.default_sessions import LOCAL_ROLE
from processing.local.commands.serve import CONFLICTING
from processing.local.engine import REGION, Engine
from processing.local.errors import ApiError
from processing.local.transports.server import Server, logging_to
from processing.request.bucket_names import is_s3
from processing.session.session import Session
from processing.watching.polling import Polling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_WRITES = frozenset({"PutObject", "CreateMultipartUpload", "CopyObject"})
_ECR = re.compile(rb"\d{12}\.dkr\.ecr\.([a-z]{2}[a-z-]*-\d)\.")
_CALLER = f"arn:aws:sts::000000000000:assumed-role/{LOCAL_ROLE.rpartition('/')[2]}/script"


class ScriptEngine(Engine):
    """An engine for a script that was written for an AWS account.

    The caller has an execution role, buckets exist when something is written to them, and every job runs on this
    machine, with any instance type.

    Args:
        report: a function that is called with a line for each replacement.
        region: the AWS region.
    """

    def __init__(self, report: Callable[[str], object], region: str) -> None:
        super().__init__(region=region)
        # The sessions of a script may have regions of their own.
        self.chosen_region = None
        self._report = report

    def handle(self, service: str, operation: str, params: dict[str, Any]) -> Mapping[str, Any]:
        """Execute an operation; see `Engine.handle`."""
        if (service, operation) == ("sagemaker", "CreateProcessingJob"):
            params = self._with_local_instances(params)
            for bucket in _output_buckets(params):
                self._create_bucket(bucket)
        elif service == "s3" and operation in _WRITES:
            self._create_bucket(str(params.get("Bucket")))
        answer = super().handle(service, operation, params)
        if (service, operation) == ("sts", "GetCallerIdentity"):
            return {**answer, "Arn": _CALLER}
        return answer

    def _with_local_instances(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters with `local` as the instance type."""
        resources = params.get("ProcessingResources") or {}
        cluster = resources.get("ClusterConfig") or {}
        found = cluster.get("InstanceType") or _first_preference(cluster)
        if found is None or found in LOCAL_INSTANCE_TYPES:
            return params
        self._report(f"job {params.get('ProcessingJobName')}: the instance type {found} is replaced by local")
        changed = {name: value for name, value in cluster.items() if name != "InstancePreferences"}
        changed |= {"InstanceType": "local", "InstanceCount": cluster.get("InstanceCount", 1)}
        return {**params, "ProcessingResources": {**resources, "ClusterConfig": changed}}

    def _create_bucket(self, bucket: str) -> None:
        """Create a bucket, if it does not exist and its name is valid."""
        try:
            self.objects.head_bucket(bucket)
        except ApiError:
            try:
                self.objects.create_bucket(bucket, "", {})
            except ApiError:  # the operation itself reports an invalid name
                return
            self._report(f"the bucket {bucket} is made on the engine")


def serve_engine(report: Callable[[str], object], source: bytes) -> str:
    """Serve the engine until the process ends, point all AWS clients of the process at it, and return a summary.

    Args:
        report: a function that is called with a line for each replacement.
        source: the content of the script.
    """
    engine = ScriptEngine(report, _region(source))
    engine.check()
    server = Server(engine)
    log = logging_to(engine.home)
    log.__enter__()
    server.start()
    # Exit handlers run in reverse order, and those of the script may still call the engine.
    atexit.register(log.__exit__, None, None, None)
    atexit.register(server.stop)
    for name in CONFLICTING:
        os.environ.pop(name, None)
    os.environ.update(server.environment())
    os.environ["PROCESSING_TARGET"] = "local"
    Session._default_polling = Polling.of_engine()  # noqa: SLF001 - every session of the process reaches it
    return (
        f"--local: jobs run on this machine, on the engine in {engine.home}, as in {engine.region}; instance types are "
        "replaced by local, and roles and buckets need no account"
    )


def _region(source: bytes) -> str:
    """Return the region of the user's environment and files, else of an image in the script, else the engine's."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        region = os.environ.get("AWS_REGION") or botocore.session.Session().get_config_variable("region")
    except BotoCoreError:  # a profile that does not exist on this machine
        region = None
    if region:
        return str(region)
    image = _ECR.search(source)
    return REGION if image is None else image[1].decode()


def _first_preference(cluster: Mapping[str, Any]) -> str | None:
    preferences = cluster.get("InstancePreferences") or ()
    return next((preference.get("InstanceType") for preference in preferences), None)


def _output_buckets(params: Mapping[str, Any]) -> list[str]:
    outputs = (params.get("ProcessingOutputConfig") or {}).get("Outputs") or ()
    uris = [(output.get("S3Output") or {}).get("S3Uri") for output in outputs]
    return [uri.split("/")[2] for uri in uris if uri and is_s3(uri)]

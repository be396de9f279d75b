"""The operations of SageMaker that concern processing jobs.

Params and results have the member names and types of boto3; times are timezone-aware datetimes. The generic checks of
the service model (enums, lengths, patterns) have been made before a handler is called.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from processing.container import contract
from processing.exceptions import ConfigurationError
from processing.local import hosts, processes, sandboxes
from processing.local.data import inputs, is_file_uri, outputs, overlap
from processing.local.description import completed, description, selected, summary
from processing.local.errors import ApiError
from processing.local.stores.jobs import JobQuery, JobStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from processing.local.settings import EngineSettings, Interpreter

_log = logging.getLogger(__name__)
_announced: set[tuple[str, str]] = set()

DEFAULT_PAGE = 10
DEFAULT_TAG_PAGE = 50
_CREDENTIAL_FILES = (
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)


class Surroundings(Protocol):
    """What the handler needs to know of the engine."""

    home: Path
    settings: EngineSettings
    account: str
    region: str


class SageMakerHandler:
    """Create, describe, list, stop and delete processing jobs, and tag them.

    Args:
        engine: the engine that it belongs to.

    Attributes:
        operations: the function for each operation, by its name in the API.
    """

    def __init__(self, engine: Surroundings) -> None:
        self._engine = engine
        self._jobs = JobStore(engine.home)
        self.operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "CreateProcessingJob": self.create_processing_job,
            "DescribeProcessingJob": self.describe_processing_job,
            "ListProcessingJobs": self.list_processing_jobs,
            "StopProcessingJob": self.stop_processing_job,
            "DeleteProcessingJob": self.delete_processing_job,
            "AddTags": self.add_tags,
            "ListTags": self.list_tags,
            "DeleteTags": self.delete_tags,
        }

    def create_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Note the job and start its hosts."""
        request = completed(params)
        check_runnable(request, runs_image=self._engine.settings.runs_images)
        name = request["ProcessingJobName"]
        arn = f"arn:aws:sagemaker:{self._engine.region}:{self._engine.account}:processing-job/{name}"
        plan = self._plan(request)
        count = selected(request)[1]
        folder = f"jobs/{name}-{uuid.uuid4().hex[:12]}"
        locks = hosts.Locks(self._engine.home / folder, count)
        try:
            tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", ())}
            job = self._jobs.create(request, arn=arn, folder=folder, plan=plan, hosts=count, tags=tags, now=_now())
            hosts.start_supervisors(self._engine.home, job, count, locks, hosts.machine_environment())
        except ApiError:
            processes.remove_tree(self._engine.home / folder)
            raise
        finally:
            locks.close()
        return {"ProcessingJobArn": arn}

    def describe_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer everything that was asked for, and how it stands."""
        job = self._jobs.get(params["ProcessingJobName"])
        if not job.finished and hosts.bury_dead(self._jobs, self._engine.home, [job]):
            job = self._jobs.get(job.name)
        return description(self._jobs.request(job.id), job)

    def list_processing_jobs(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a page of job summaries."""
        hosts.bury_dead(self._jobs, self._engine.home, self._jobs.unfinished())
        query = JobQuery(
            created_after=_seconds(params.get("CreationTimeAfter")),
            created_before=_seconds(params.get("CreationTimeBefore")),
            modified_after=_seconds(params.get("LastModifiedTimeAfter")),
            modified_before=_seconds(params.get("LastModifiedTimeBefore")),
            name_contains=params.get("NameContains"),
            status=params.get("StatusEquals"),
            sort_by=params.get("SortBy", "CreationTime"),
            descending=params.get("SortOrder") == "Descending",
        )
        page, token = self._jobs.list(query, params.get("MaxResults", DEFAULT_PAGE), params.get("NextToken"))
        answer: dict[str, Any] = {"ProcessingJobSummaries": [summary(job) for job in page]}
        return answer if token is None else {**answer, "NextToken": token}

    def stop_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Ask a job's hosts to stop; they do so at their next tick."""
        job = self._jobs.get(params["ProcessingJobName"])
        hosts.bury_dead(self._jobs, self._engine.home, [job])
        self._jobs.request_stop(job.name, _now())
        return {}

    def delete_processing_job(self, params: dict[str, Any]) -> dict[str, Any]:
        """Forget a finished job; its log stays, as on AWS."""
        name = params["ProcessingJobName"]
        hosts.bury_dead(self._jobs, self._engine.home, [job for job in self._jobs.unfinished() if job.name == name])
        job = self._jobs.delete(name)
        processes.remove_tree(self._engine.home / job.folder)
        return {}

    def add_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add or overwrite tags."""
        tags = {tag["Key"]: tag["Value"] for tag in params["Tags"]}
        return {"Tags": _tag_list(self._jobs.add_tags(params["ResourceArn"], tags))}

    def list_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a page of tags; the token is the last key of the page before."""
        after = params.get("NextToken", "")
        tags = {key: value for key, value in self._jobs.tags(params["ResourceArn"]).items() if key > after or not after}
        size = params.get("MaxResults", DEFAULT_TAG_PAGE)
        page = _tag_list(dict(list(tags.items())[:size]))
        return {"Tags": page} if len(tags) <= size else {"Tags": page, "NextToken": page[-1]["Key"]}

    def delete_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove tags by key."""
        self._jobs.delete_tags(params["ResourceArn"], params["TagKeys"])
        return {}

    def _plan(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Decide how the job runs on this machine; it is stored with the job, for its supervisors and for readers."""
        settings = self._engine.settings
        image = request["AppSpecification"]["ImageUri"]
        sandbox = sandboxes.suitable(settings)
        try:
            python = None if sandbox.runs_image else settings.interpreter(image)
        except ConfigurationError as error:
            raise ApiError("ValidationException", str(error)) from error
        isolated = bool((request.get("NetworkConfig") or {}).get("EnableNetworkIsolation"))
        _announce(python, sandbox, isolated=isolated)
        return {
            "tick": settings.tick,
            "grace": settings.grace,
            "sandbox": sandbox.state(),
            "python": None if python is None else {"executable": python.executable, "venv": python.venv},
            "gpus": selected(request)[0] == "local_gpu",
            "environment": {
                **({} if python is None else {**hosts.machine_environment(), "PYTHONUNBUFFERED": "1"}),
                "AWS_CONFIG_FILE": os.devnull,
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_REGION": self._engine.region,
                "AWS_DEFAULT_REGION": self._engine.region,
            },
            "masks": _credential_files(),
        }


def check_runnable(request: Mapping[str, Any], *, runs_image: bool = False) -> None:
    """Refuse what SageMaker refuses beyond the service model, and what the engine cannot do.

    Args:
        request: CreateProcessingJob's members.
        runs_image: whether the image runs, so that its entrypoint is there.

    Raises:
        ApiError: `ValidationException`, with every reason.
    """
    problems = [
        *_application_problems(request, runs_image=runs_image),
        *_input_problems(request),
        *_output_problems(request),
    ]
    names = [item["InputName"] for item in request.get("ProcessingInputs", ())]
    problems += [f"The input name {name} is used more than once." for name in sorted(_doubled(names))]
    paths = [item["S3Input"].get("LocalPath") for item in request.get("ProcessingInputs", ()) if item.get("S3Input")]
    problems += [f"The LocalPath {path} is used by more than one input." for path in sorted(_doubled(paths))]
    problems = problems or _place_problems(request)
    if problems:
        raise ApiError("ValidationException", " ".join(problems))


def _application_problems(request: Mapping[str, Any], *, runs_image: bool) -> list[str]:
    problems = []
    if not runs_image and not request["AppSpecification"].get("ContainerEntrypoint"):
        problems.append(
            "ContainerEntrypoint is missing: the local engine does not run the image, so it has no entrypoint of "
            'its own. Give one, such as ["python3", "/opt/ml/processing/input/code/script.py"].'
        )
    cluster = request["ProcessingResources"]["ClusterConfig"]
    preferences = cluster.get("InstancePreferences")
    if preferences and cluster.get("InstanceType"):
        problems.append("InstanceType and InstancePreferences exclude each other.")
    if not preferences and not (cluster.get("InstanceType") and cluster.get("InstanceCount")):
        problems.append("InstanceType and InstanceCount are required, unless there are InstancePreferences.")
    return problems


def _input_problems(request: Mapping[str, Any]) -> list[str]:
    problems = []
    for item in request.get("ProcessingInputs", ()):
        label = f"The input {item['InputName']}"
        s3_input = item.get("S3Input")
        if item.get("DatasetDefinition"):
            problems.append(f"{label} has a DatasetDefinition: the local engine has neither Athena nor Redshift.")
        elif not s3_input:
            problems.append(f"{label} has no S3Input.")
        else:
            if s3_input.get("S3InputMode") == "Pipe":
                problems.append(f"{label} has the S3InputMode Pipe, which the local engine does not have; use File.")
            problems += _path_problems(label, s3_input, app_managed=bool(item.get("AppManaged")))
            if s3_input["S3CompressionType"] == "Gzip" and s3_input["S3InputMode"] != "Pipe":
                problems.append(f"{label}: the S3CompressionType Gzip needs the S3InputMode Pipe.")
    return problems


def _output_problems(request: Mapping[str, Any]) -> list[str]:
    problems = []
    items = (request.get("ProcessingOutputConfig") or {}).get("Outputs", ())
    for item in items:
        label = f"The output {item['OutputName']}"
        if item.get("FeatureStoreOutput"):
            problems.append(f"{label} has a FeatureStoreOutput: the local engine has no feature store.")
        elif not item.get("S3Output"):
            problems.append(f"{label} has no S3Output.")
        else:
            problems += _path_problems(label, item["S3Output"], app_managed=bool(item.get("AppManaged")))
    doubled = _doubled([item["OutputName"] for item in items])
    return problems + [f"The output name {name} is used more than once." for name in sorted(doubled)]


def _path_problems(label: str, item: Mapping[str, Any], *, app_managed: bool) -> list[str]:
    if app_managed:
        return []
    problems = []
    path = item.get("LocalPath") or ""
    if not path.startswith(f"{contract.PROCESSING}/") or ".." in path.split("/"):
        problems.append(f"{label}: the LocalPath {path!r} must begin with {contract.PROCESSING}/.")
    if not item["S3Uri"].startswith(("s3://", "file://")):
        problems.append(f"{label}: the S3Uri {item['S3Uri']} is neither s3:// nor file://.")
    return problems


def _place_problems(request: Mapping[str, Any]) -> list[str]:
    """Find what an output would hide that is used in place: all that lies in it."""
    paths = [item["LocalPath"] for item in (*inputs(request), *outputs(request))]
    places = [item["LocalPath"] for item in outputs(request) if is_file_uri(item["S3Uri"])]
    return [
        f"The LocalPath {place} of an output to file:// overlaps with the LocalPath {path}, which it would hide."
        for place in places
        for path in paths
        if len(path) > len(place) and overlap(place, path)
    ]


def _doubled(values: Sequence[str | None]) -> set[str]:
    return {value for value in values if value is not None and values.count(value) > 1}


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _now() -> float:
    """Seconds since the epoch, in whole milliseconds: what the API can say of a time."""
    return round(dt.datetime.now(dt.timezone.utc).timestamp(), 3)


def _seconds(moment: Any) -> float | None:
    """Return a time of the request as seconds since the epoch; a naive one is taken for UTC, as botocore does."""
    if moment is None or isinstance(moment, (int, float)):
        return moment
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)
    return float(aware.timestamp())


def _credential_files() -> list[str]:
    """Return where this machine may keep AWS credentials: a job sees nothing there."""
    files = [os.environ[name] for name in _CREDENTIAL_FILES if os.environ.get(name)]
    homes = {os.path.expanduser("~")}  # noqa: PTH111 -- unlike Path.home(), it does not raise without a home
    if os.name == "posix":
        import pwd

        with contextlib.suppress(KeyError):  # a user without an entry, as containers have
            homes.add(pwd.getpwuid(os.getuid()).pw_dir)
    return sorted({*files, *(os.path.join(home, ".aws") for home in homes)} - {os.devnull})  # noqa: PTH118


def _announce(python: Interpreter | None, sandbox: sandboxes.Sandbox, *, isolated: bool) -> None:
    """Say once in a process what stands in for images and instances."""
    if python is not None and (python.executable, sandbox.name) not in _announced:
        _announced.add((python.executable, sandbox.name))
        _log.info(
            "Jobs of the local engine run on %s in the %s sandbox; their images are not used.",
            python.executable,
            sandbox.name,
        )
    if isolated and not sandbox.isolates_network:
        _log.warning("The %s sandbox cannot keep a job from the network.", sandbox.name)

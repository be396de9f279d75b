"""A job again: the request of an existing job under another name, with changes."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils import did_you_mean
from processing._utils.validation import instance_of, require
from processing.exceptions import ConfigurationError
from processing.job.job import ProcessingJob
from processing.job.launch import Launch
from processing.job.lookup import describe_existing
from processing.job.start import start_generated, start_named
from processing.request.build import request_from_describe
from processing.request.job_names import JOB_NAME, LONGEST_NAME, unique_job_name
from processing.staging.pending_uploads import PendingUploads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from processing.request.build import ProcessingRequest
    from processing.session.session import Session

# The parameters of processors, and the fields of a request that they set.
_FIELDS: Final = {
    "role": "role_arn",
    "image_uri": "image_uri",
    "instance_count": "instance_count",
    "instance_type": "instance_type",
    "entrypoint": "entrypoint",
    "arguments": "arguments",
    "env": "environment",
    "volume_size_in_gb": "volume_size_in_gb",
    "volume_kms_key": "volume_kms_key",
    "output_kms_key": "output_kms_key",
    "max_runtime_in_seconds": "max_runtime_in_seconds",
    "tags": "tags",
}


def rerun(job: ProcessingJob, *, job_name: str | None = None, **changes: Any) -> ProcessingJob:
    """Start a job with the request of an existing one, its code and data included, and return it at once.

    The new job has the tags of the existing one. An output below a prefix with the old name goes below one with the new
    name. Other outputs have the same destination, so their files may be replaced.

    Args:
        job: the existing job.
        job_name: the new job's name; by default generated from the old name and the time.
        **changes: parameters of processors with new values: role, image_uri, instance_count, instance_type,
            entrypoint, arguments, env (added to the present variables), volume_size_in_gb, volume_kms_key,
            output_kms_key, max_runtime_in_seconds, tags (added to the present ones).

    Raises:
        ConfigurationError: a change is not one of these, or cannot work; nothing was started.
        SubmissionError: AWS refused the request.
    """
    require("job", job, instance_of(ProcessingJob))
    require("job_name", job_name, JOB_NAME, optional=True)  # outputs get it in their destinations
    session = job.sagemaker_session
    prepare = _repetition(session, job.job_name, changes)
    return start_generated(prepare) if job_name is None else start_named(session, prepare, job_name, "fail")


def _repetition(session: Session, job_name: str, changes: Mapping[str, Any]) -> Callable[[str | None], Launch]:
    """Return a function that prepares the launch of a job like an existing one, under a name.

    Args:
        session: the session of the existing job.
        job_name: the existing job's name.
        changes: the parameters of processors that change, with their new values.

    Raises:
        ConfigurationError: one of the parameters cannot be changed, or the job does not exist.
    """
    for name in changes:
        if name not in _FIELDS:
            raise ConfigurationError(f"{name}: is not a parameter that can be changed{did_you_mean(name, _FIELDS)}")
    described = describe_existing(session, job_name, "job")
    request = _changed(request_from_describe(described), _tags(session, described), changes)

    def prepare(name: str | None) -> Launch:
        new = unique_job_name(_base_name(job_name), session.clock) if name is None else name
        launch = Launch(session, _renamed(request, job_name, new), PendingUploads())
        launch.check()
        return launch

    return prepare


def request_of(session: Session, job_name: str) -> ProcessingRequest:
    """Return the request of an existing job, with its tags. Two calls.

    Raises:
        ConfigurationError: the job does not exist.
    """
    described = describe_existing(session, job_name, "job")
    return attrs.evolve(request_from_describe(described), tags=tuple(_tags(session, described).items()) or None)


def _base_name(job_name: str) -> str:
    """Return the beginning of a job's name without the time at its end, if there is one."""
    return re.sub(r"-\d{4}(-\d{2}){5}-\d{3}$", "", job_name)[: LONGEST_NAME - 24]


def _tags(session: Session, described: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a job, without those that AWS itself sets."""
    tags: dict[str, str] = {}
    params: dict[str, Any] = {"ResourceArn": described["ProcessingJobArn"]}
    while True:
        answer = session.api.call("sagemaker", "ListTags", params)
        tags.update((tag["Key"], tag["Value"]) for tag in answer.get("Tags") or () if not tag["Key"].startswith("aws:"))
        if not answer.get("NextToken"):
            return tags
        params["NextToken"] = answer["NextToken"]


def _changed(request: ProcessingRequest, tags: Mapping[str, str], changes: Mapping[str, Any]) -> ProcessingRequest:
    values = dict(changes)
    if "env" in values:
        values["env"] = _merged("env", dict(request.environment or ()), values["env"])
    values["tags"] = _merged("tags", dict(tags), values.get("tags") or {}) or None
    if values.get("instance_type") is not None:
        request = attrs.evolve(request, instance_preferences=None)
    for name in ("entrypoint", "arguments"):
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    return attrs.evolve(request, **{_FIELDS[name]: value for name, value in values.items()})


def _merged(name: str, old: dict[str, Any], new: Any) -> tuple[tuple[str, Any], ...]:
    if not isinstance(new, dict):
        raise ConfigurationError(f"{name}: must be a dictionary, not {type(new).__name__}")
    return tuple({**old, **new}.items())


def _renamed(request: ProcessingRequest, old: str, new: str) -> ProcessingRequest:
    outputs = []
    for output in request.outputs:
        moved = copy.copy(output)
        if isinstance(moved.destination, str):
            moved.destination = f"{moved.destination}/".replace(f"/{old}/", f"/{new}/")[:-1]
        outputs.append(moved)
    return attrs.evolve(request, job_name=new, outputs=tuple(outputs))

"""Jobs that train: parts of their request, their end, and the model that they leave."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils.validation import INTEGER, NAME, TEXT, require, shown
from processing.exceptions import CapacityError, ConfigurationError, JobError, JobFailedError, JobStoppedError
from processing.spark.ml.creation import TRAINING_JOB, Resource, describe
from processing.spark.ml.hosting import poll_interval

if TYPE_CHECKING:
    from processing.session.session import Session
    from processing.spark.ml.upload import Staged

logger = logging.getLogger(__name__)

_ENDED: Final = frozenset({"Completed", "Failed", "Stopped"})


@attrs.define
class Pending:
    """A job that trains and may be in progress, and its data.

    Args:
        session: the session.
        job_name: the job.
        staged: the data.
        kept: True to keep them when the job has ended.
        resource: the kind of the job.
    """

    session: Session
    job_name: str
    staged: Staged
    kept: bool
    resource: Resource = TRAINING_JOB
    _done: bool = False

    def wait(self) -> None:
        """Wait for the job's end, and delete its data.

        Raises:
            JobError: the job failed, or was stopped without a model.
        """
        if self._done:
            return
        try:
            wait_for_training(self.session, self.resource, self.job_name)
        finally:
            # After Ctrl-C the job goes on, and needs its data.
            if _is_over(self.session, self.resource, self.job_name):
                self._end_data()
            else:
                logger.warning(
                    "%s %s may be in progress, and its data stay at %s",
                    self.resource.noun,
                    self.job_name,
                    self.staged.prefix,
                )
        self._done = True

    def _end_data(self) -> None:
        try:
            self.staged.end(self.session, kept=self.kept)
        except Exception as error:  # noqa: BLE001 - the job's end counts: its model, or its error
            logger.warning("the data of %s at %s were not deleted: %s", self.job_name, self.staged.prefix, error)


def _is_over(session: Session, resource: Resource, name: str) -> bool:
    try:
        found = describe(session.api, resource, name)
    except Exception as error:  # noqa: BLE001 - the data stay
        logger.warning("the state of %s %s is not known: %s", resource.noun, name, error)
        return False
    return found is not None and found[f"{resource.operation}Status"] in _ENDED


def wait_for_training(session: Session, resource: Resource, name: str) -> None:
    """Wait until a job that trains has ended.

    Raises:
        JobFailedError: it failed.
        JobStoppedError: it was stopped without a model.
    """
    clock = session.clock
    while True:
        found = describe(session.api, resource, name)
        if found is None:
            raise JobError(f"{resource.noun} {name} does not exist", job_name=name, status="missing")
        if found[f"{resource.operation}Status"] in _ENDED:
            _check_end(resource, name, found)
            return
        clock.sleep(poll_interval(session))


def _check_end(resource: Resource, name: str, found: Mapping[str, Any]) -> None:
    status = found[f"{resource.operation}Status"]
    reason = found.get("ExitMessage") or found.get("FailureReason")
    if status == "Failed":
        kind = CapacityError if reason and "CapacityError" in reason else JobFailedError
        raise kind(
            f"{resource.noun} {name} failed: {reason or 'AWS gave no reason'}. Its lines are in the log group "
            f"/aws/sagemaker/{resource.operation}s",
            job_name=name,
            failure_reason=reason,
        )
    if status == "Stopped" and not found.get("ModelArtifacts", {}).get("S3ModelArtifacts"):
        raise JobStoppedError(
            f"{resource.noun} {name} was stopped without a model", job_name=name, status=status, failure_reason=reason
        )


def model_data(session: Session, name: str) -> str:
    """Return the place of the model of a training job that is Completed or Stopped.

    Raises:
        JobError: the job does not exist, has not ended or has no model.
    """
    found = describe(session.api, TRAINING_JOB, name)
    status = "missing" if found is None else found["TrainingJobStatus"]
    if found is None or status not in {"Completed", "Stopped"}:
        raise JobError(
            f"trainingJobName: training job {name} is {status}; it must be Completed or Stopped",
            job_name=name,
            status=status,
        )
    _check_end(TRAINING_JOB, name, found)
    return str(found["ModelArtifacts"]["S3ModelArtifacts"])


_TAG_VALUE: Final = TEXT | INTEGER


def tag_list(tags: Mapping[str, str] | Sequence[Any] | None) -> list[dict[str, str]]:
    """Return tags as SageMaker takes them.

    Raises:
        ConfigurationError: a tag has no Key and Value, or they are no texts.
    """
    if isinstance(tags, Mapping):
        tags = [{"Key": key, "Value": value} for key, value in tags.items()]
    for index, tag in enumerate(tags or ()):
        if not (isinstance(tag, Mapping) and set(tag) == {"Key", "Value"}):
            raise ConfigurationError(f"tags[{index}]: must be a dictionary with Key and Value, not {shown(tag)}")
        require(f"tags[{index}].Key", tag["Key"], NAME)
        require(f"tags[{index}].Value", tag["Value"], _TAG_VALUE)
    return [{"Key": tag["Key"], "Value": str(tag["Value"])} for tag in tags or ()]


def network(subnets: Sequence[str] | None, security_groups: Sequence[str] | None) -> dict[str, Any]:
    """Return the member VpcConfig of a request, or nothing.

    Raises:
        ConfigurationError: one of the two is missing.
    """
    if not subnets and not security_groups:
        return {}
    if not (subnets and security_groups):
        missing = "securityGroupIds" if subnets else "subnets"
        raise ConfigurationError(f"{missing}: missing; subnets and securityGroupIds belong together")
    return {"VpcConfig": {"Subnets": list(subnets), "SecurityGroupIds": list(security_groups)}}

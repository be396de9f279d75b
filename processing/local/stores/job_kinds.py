"""The kinds of SageMaker's jobs. Names of jobs are unique within a kind."""

from __future__ import annotations

from typing import NamedTuple


class JobKind(NamedTuple):
    """A kind of jobs.

    Attributes:
        resource: the resource type in ARNs, such as `training-job`. Stores name the kind by it.
        prefix: the beginning of the API's names, such as `Training` in CreateTrainingJob and TrainingJobName.
        unknown: the message for a name without a job, with a place for the name.
        has_phases: whether a job has a SecondaryStatus.
        announced: whether changes of a job's status are events. They are not for kinds that AWS does not have.
    """

    resource: str
    prefix: str
    unknown: str = "Could not find requested job with name: {}"
    has_phases: bool = False
    announced: bool = True

    @property
    def name_member(self) -> str:
        """The API's member for a job's name."""
        return f"{self.prefix}JobName"

    @property
    def log_group(self) -> str:
        """The log group of the kind's jobs: `/aws/sagemaker/TrainingJobs`."""
        return f"/aws/sagemaker/{self.prefix}Jobs"

    @property
    def label(self) -> str:
        """The kind in a sentence: `training job`."""
        return f"{self.prefix.lower()} job"


PROCESSING = JobKind("processing-job", "Processing")
TRAINING = JobKind("training-job", "Training", "Requested resource not found.", has_phases=True)
TRANSFORM = JobKind("transform-job", "Transform")
ENDPOINT_HOST = JobKind("endpoint-host", "EndpointHost", announced=False)
"""The hosts of endpoints, which are jobs for the engine alone."""
KINDS = {kind.resource: kind for kind in (PROCESSING, TRAINING, TRANSFORM, ENDPOINT_HOST)}
"""The kinds by their resource types."""

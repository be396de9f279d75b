"""A submitted job: its parameters, status, events, log lines and outputs, and the wait for its end.

`ProcessingJob.from_launch` submits a new job. `attach` and the other `from_` constructors find an existing one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs

from processing import default_sessions
from processing._utils import lazy
from processing._utils.validation import NAME, Kind, require
from processing.container.contract import TERMINAL
from processing.exceptions import ConfigurationError
from processing.job.cost import console_url, cost_of, instances_of_description, instances_of_request
from processing.job.lookup import check_region, describe_existing, job_name_of_arn
from processing.job.outputs import JobOutput, JobOutputs
from processing.job.watch_state import WatchState
from processing.job.watched_job import WatchedJob

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.default_sessions import SessionLike
    from processing.job.cost import Instances, JobCost
    from processing.job.launch import Launch
    from processing.job.metrics import JobMetrics
    from processing.models import ProcessingInput, ProcessingOutput
    from processing.session.session import Session


@attrs.frozen
class _StartedWith:
    """The parameters of a job that its object shows."""

    inputs: list[ProcessingInput]
    outputs: JobOutputs
    output_kms_key: str | None


_INPUTS = Kind(
    "a list of processing.ProcessingInput",
    lambda value: isinstance(value, (list, tuple)) and all(hasattr(each, "s3_input_mode") for each in value),
)
_OUTPUTS = Kind(
    "a list of processing.ProcessingOutput",
    lambda value: isinstance(value, (list, tuple)) and all(hasattr(each, "s3_upload_mode") for each in value),
)


class ProcessingJob(WatchedJob):
    """A processing job on AWS or on the embedded engine.

    `run` returns one, `processing.attach` finds one by its name. `processing.jobs` lists them.

    Args:
        sagemaker_session: the `Session` that reaches the job.
        job_name: the job's name.
        inputs: the job's inputs, if they are known.
        outputs: the job's outputs, if they are known.
        output_kms_key: the KMS key that encrypts the outputs.
        arn: the job's ARN; None looks it up when it is needed.
        instance_count: the number of instances, if it is known.

    Attributes:
        sagemaker_session: the `Session` that reaches the job.
        job_name: the job's name.
        summary: the job's entry in the listing by which `processing.jobs` found it; None for other jobs.
        watch_state: the last observed state of the job; internal to the package.
        instances: the instances of the job, if they are known; internal to the package.
    """

    def __init__(
        self,
        sagemaker_session: SessionLike | None,
        job_name: str,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput] | None = None,
        output_kms_key: str | None = None,
        *,
        arn: str | None = None,
        instance_count: int | None = None,
    ) -> None:
        self.sagemaker_session: Session = default_sessions.session_for_attach(sagemaker_session)
        require("job_name", job_name, NAME)
        require("inputs", inputs, _INPUTS, optional=True)
        require("outputs", outputs, _OUTPUTS, optional=True)
        self.job_name = job_name
        self.summary: Mapping[str, Any] | None = None
        self.watch_state = WatchState()
        job_outputs = JobOutputs(JobOutput.from_output(output, self.sagemaker_session) for output in outputs or ())
        # None means that DescribeProcessingJob has to be asked.
        self._started_with: _StartedWith | None = _StartedWith(list(inputs or ()), job_outputs, output_kms_key)
        self._arn = arn
        self._instance_count = instance_count
        self.instances: list[Instances] = []  # not known
        self._shown: tuple[str, str] | None = None  # the observed status, and the card that a notebook has shown for it

    @classmethod
    def start_new(
        cls,
        processor: Any,
        inputs: Sequence[ProcessingInput] | None,
        outputs: Sequence[ProcessingOutput] | None,
        experiment_config: dict[str, str] | None = None,
    ) -> ProcessingJob:
        """Start the job that a processor describes.

        Args:
            processor: the processor, after its hooks have run.
            inputs: the inputs with names and URIs, as `_normalize_inputs` returns them.
            outputs: the outputs with names and URIs, as `_normalize_outputs` returns them.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.

        Raises:
            ConfigurationError: the request is not valid; nothing was uploaded.
            EngineError: the embedded engine cannot run the job on this machine.
            StagingError: an upload failed; nothing was submitted.
            SubmissionError: AWS refused the request.
        """
        from processing.job.launch import Launch

        return ProcessingJob.from_launch(Launch.from_processor(processor, inputs, outputs, experiment_config))

    @classmethod
    def from_launch(cls, launch: Launch) -> ProcessingJob:
        """Stage and submit a launch, and return its job.

        Raises:
            EngineError: the embedded engine cannot run the job on this machine.
            StagingError: an upload failed; nothing was submitted.
            SubmissionError: AWS refused the request.
        """
        submitted, request = launch.submit(), launch.request
        job = cls(
            launch.session,
            request.job_name,
            request.inputs,
            request.outputs,
            request.output_kms_key,
            arn=submitted.arn,
            instance_count=request.instance_count,
        )
        job.watch_state = WatchState(in_progress_at=submitted.not_created_before)
        job.instances = instances_of_request(request)
        return job

    @classmethod
    def from_processing_name(cls, sagemaker_session: SessionLike | None, processing_job_name: str) -> ProcessingJob:
        """Return the job of that name, with the inputs and outputs that it was started with.

        Args:
            sagemaker_session: the `Session` that reaches the job.
            processing_job_name: the job's name.

        Raises:
            ConfigurationError: there is no job of that name.
        """
        require("processing_job_name", processing_job_name, NAME)
        session = default_sessions.session_for_attach(sagemaker_session)
        description = describe_existing(session, processing_job_name, "processing_job_name")
        return cls.described(session, processing_job_name, description)

    @classmethod
    def from_processing_arn(cls, sagemaker_session: SessionLike | None, processing_job_arn: str) -> ProcessingJob:
        """Return the job of that ARN (`arn:<partition>:sagemaker:<region>:<account>:processing-job/<name>`).

        Args:
            sagemaker_session: the `Session` that reaches the job.
            processing_job_arn: the job's ARN.

        Raises:
            ConfigurationError: the text is not such an ARN, the job is in another region, or the job does not exist.
        """
        require("processing_job_arn", processing_job_arn, NAME)
        session = default_sessions.session_for_attach(sagemaker_session)
        name = job_name_of_arn(session, processing_job_arn, "processing_job_arn")
        return cls.described(session, name, describe_existing(session, name, "processing_job_arn"))

    @classmethod
    def from_event(cls, event: Mapping[str, Any] | str | bytes, session: SessionLike | None = None) -> ProcessingJob:
        """Return the job of an EventBridge event, without a call.

        Args:
            event: a "SageMaker Processing Job State Change": the mapping that a Lambda function gets, or its JSON text,
                such as the body of an SQS message.
            session: the `Session` that reaches the job; None means AWS, unless the environment has
                PROCESSING_TARGET=local.

        Raises:
            ConfigurationError: it is not such an event, or the event's region is not the session's.
        """
        from processing.watching.status.eventbridge_event import read_event

        found = read_event(event)
        target = default_sessions.session_for_attach(session, "session")
        if found is None:
            raise ConfigurationError('event: must be a "SageMaker Processing Job State Change" of EventBridge')
        if found.region is not None:
            check_region(target, found.region, "event")
        return cls.known(target, found.job_name, arn=found.arn)

    @classmethod
    def known(cls, session: Session, job_name: str, *, arn: str | None = None) -> ProcessingJob:
        """Return a job that exists, without a call.

        The first use of `inputs`, `outputs` or `output_kms_key` asks AWS for them.

        Args:
            session: the session that reaches the job.
            job_name: the job's name.
            arn: the job's ARN; None looks it up when it is needed.
        """
        job = cls(session, job_name, arn=arn)
        job._started_with = None
        return job

    @classmethod
    def listed(cls, session: Session, summary: Mapping[str, Any], *, at: float | None) -> ProcessingJob:
        """Return a job from its summary by ListProcessingJobs, without a call.

        Args:
            session: the session that reaches the job.
            summary: the job's entry in the answer. A job that has ended by it is not polled any more.
            at: a moment of AWS's clock, in seconds since the epoch. The listing has every change of status before it.
                None if AWS's answer had no time.
        """
        from processing.job.outcome import Outcome

        job = cls.known(session, summary["ProcessingJobName"], arn=summary.get("ProcessingJobArn"))
        status = summary["ProcessingJobStatus"]
        job.watch_state = WatchState(
            summary.get("CreationTime"),
            in_progress_at=at if status == "InProgress" else None,
            outcome=Outcome.of(summary) if status in TERMINAL else None,
        )
        return job

    @classmethod
    def described(cls, session: Session, job_name: str, description: Mapping[str, Any]) -> ProcessingJob:
        """Return a job from its description by DescribeProcessingJob.

        Args:
            session: the session that reaches the job.
            job_name: the job's name.
            description: the answer of DescribeProcessingJob. Only its status is certain to be in it.
        """
        from processing.request.build import request_from_describe

        request = request_from_describe(description)
        job = cls(
            session,
            job_name,
            request.inputs,
            request.outputs,
            request.output_kms_key,
            arn=description.get("ProcessingJobArn"),
            instance_count=request.instance_count,
        )
        job.watch_state = WatchState(description.get("CreationTime"))
        job.instances = instances_of_description(description)
        return job

    @lazy
    def inputs(self) -> list[ProcessingInput]:
        """The inputs that the job was started with."""
        return self._described.inputs

    @lazy
    def outputs(self) -> JobOutputs:
        """The outputs that the job was started with, by position and by name."""
        return self._described.outputs

    @lazy
    def output_kms_key(self) -> str | None:
        """The KMS key that encrypts the outputs."""
        return self._described.output_kms_key

    @lazy
    def _described(self) -> _StartedWith:
        """The parameters of the job; one DescribeProcessingJob if only the job's name is known."""
        if self._started_with is not None:
            return self._started_with
        job = self.described(self.sagemaker_session, self.job_name, self.describe())
        return _StartedWith(job.inputs, job.outputs, job.output_kms_key)

    @property
    def name(self) -> str:
        """The job's name; the same as `job_name`."""
        return self.job_name

    @property
    def arn(self) -> str:
        """The job's ARN; one call on the first use if it is not known."""
        if self._arn is None:
            from processing.aws.truncation import TruncatedResponseError

            arn = self.describe().get("ProcessingJobArn")
            if arn is None:
                raise TruncatedResponseError("DescribeProcessingJob", ("ProcessingJobArn",))
            self._arn = str(arn)
        return self._arn

    @property
    def status(self) -> str:
        """The job's status now: InProgress, Completed, Failed, Stopping or Stopped. One call."""
        return str(self.describe()["ProcessingJobStatus"])

    @property
    def console_url(self) -> str | None:
        """The job's page in the AWS console; None for a job of the engine, or if AWS's console there is not public."""
        return console_url(self.sagemaker_session, self.job_name)

    @property
    def cost(self) -> JobCost:
        """The price of the job: the highest one, and after its end the actual one. One call."""
        return cost_of(self.sagemaker_session, self.describe())

    def metrics(self) -> JobMetrics:
        """Return the CPU, memory and disk use of each host, as CloudWatch has it, and a recommendation.

        AWS stores a sample a minute, so a job of less than a few minutes may have no metrics.

        Raises:
            botocore.exceptions.ClientError: AWS refuses a call, for example because the permission
                `cloudwatch:GetMetricData` is missing.
        """
        from processing.job.metrics import job_metrics

        return job_metrics(self.sagemaker_session, self.job_name, self.describe())

    def delete(self) -> None:
        """Delete a job that has ended. Its outputs and its log lines stay.

        Raises:
            botocore.exceptions.ClientError: the job has not ended, or AWS refuses the call.
        """
        self.sagemaker_session.api.call("sagemaker", "DeleteProcessingJob", {"ProcessingJobName": self.job_name})

    def stop(self) -> None:
        """Ask AWS to stop the job, and return at once. It is not an error if the job has ended already."""
        from processing.aws.retry import error_code

        try:
            self.sagemaker_session.stop_processing_job(self.job_name)
        except Exception as error:
            # AWS refuses to stop a job that has ended, and has no error code of its own for that.
            if error_code(error) != "ValidationException" or self.status not in TERMINAL | {"Stopping"}:
                raise

    def __repr__(self) -> str:
        return f"ProcessingJob({self.job_name!r})"

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows: at most three calls, and none when it is shown again.

        A wait that has observed another status since then makes a new card.
        """
        observed = self.watch_state.status
        if self._shown is None or self._shown[0] != observed:
            self._shown = observed, self.card()
        return self._shown[1]

    def card(self) -> str:
        """Return the job's card as HTML: its state, the use of its hosts, its price and its last lines.

        It makes at most three calls. If AWS refuses the metrics or the lines, the card is without them.

        Raises:
            botocore.exceptions.ClientError: the job does not exist, or AWS refuses its description.
        """
        from processing.job.facts import read_facts
        from processing.report.job_card import job_card

        return job_card(read_facts(self.sagemaker_session, self.job_name, self.describe()))


def attach(name: str, session: SessionLike | None = None) -> ProcessingJob:
    """Return an existing job, started in this process or in any other.

    Args:
        name: the job's name, or its ARN.
        session: the `Session` that reaches the job. None means AWS, unless the environment has PROCESSING_TARGET=local;
            give a `LocalSession()` for a job of the embedded engine.

    Raises:
        ConfigurationError: there is no such job.
    """
    value: object = name  # not every caller has a type checker
    if not isinstance(value, str) or not re.fullmatch(r"arn:.*|[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", value):
        raise ConfigurationError(f"name: must be a job's name or ARN, not {name!r}")
    target = default_sessions.session_for_attach(session, "session")
    if name.startswith("arn:"):
        name = job_name_of_arn(target, name, "name")
    return ProcessingJob.described(target, name, describe_existing(target, name, "name"))

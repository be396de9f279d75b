"""The facts on the card of a processing, training or transform job, read with at most three calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.job.cost import ON_THIS_MACHINE, console_url, cost_of, log_url
from processing.job.fact_calls import last_events, last_spans, line_spans, messages, read_metrics
from processing.report.job_card import HostUse, JobFacts, JobPhase
from processing.watching.render.run_text import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from processing.session.session import Session

_MOST_HOSTS: Final = 20  # as the card draws; two metrics each fit into one call
_METRICS: Final = {"cpu": "CPUUtilization", "memory": "MemoryUtilization"}
_MOST_OUTPUTS: Final = 5  # AWS allows ten
_MOST_METRICS: Final = 10  # of a training job's own, on its card


@attrs.frozen
class JobResource:
    """A kind of jobs in SageMaker's API.

    Args:
        prefix: the beginning of the API's names, such as `Training` in DescribeTrainingJob and TrainingJobName.
        console: the part of AWS's console with their pages.
        cluster: the members that lead to the instances in a description.
        image: the members that lead to the image or the model.
    """

    prefix: str
    console: str
    cluster: tuple[str, ...]
    image: tuple[str, ...]

    @property
    def label(self) -> str:
        """The kind in a sentence: `training job`."""
        return f"{self.prefix.lower()} job"

    @property
    def log_group(self) -> str:
        """The log group of the kind's jobs, which is also the namespace of their metrics."""
        return f"/aws/sagemaker/{self.prefix}Jobs"

    def describe(self, session: Session, name: str) -> Mapping[str, Any]:
        """Return the description of a job."""
        answer: Mapping[str, Any] = session.api.call(
            "sagemaker", f"Describe{self.prefix}Job", {f"{self.prefix}JobName": name}
        )
        return answer


PROCESSING: Final = JobResource(
    "Processing", "processing-jobs", ("ProcessingResources", "ClusterConfig"), ("AppSpecification", "ImageUri")
)
TRAINING: Final = JobResource("Training", "jobs", ("ResourceConfig",), ("AlgorithmSpecification", "TrainingImage"))
TRANSFORM: Final = JobResource("Transform", "transform-jobs", ("TransformResources",), ("ModelName",))


def read_facts(session: Session, name: str, description: Mapping[str, Any], kind: JobResource = PROCESSING) -> JobFacts:
    """Return the facts of the job with that description. Two calls at most; a refusal leaves its part out."""
    created = description.get("CreationTime")
    started, ended = description.get(f"{kind.prefix}StartTime"), description.get(f"{kind.prefix}EndTime")
    status = str(description[f"{kind.prefix}JobStatus"])
    end = ended or (created and created.fromtimestamp(session.clock.time(), created.tzinfo))
    cluster = _inside(description, kind.cluster) or {}
    instance_type = cluster.get("SelectedInstanceType") or cluster.get("InstanceType")
    count = int(cluster.get("InstanceCount") or 1)
    hosts = _hosts(session, kind, name, count, created, end)
    phases = _phases(description, created, end)
    waited = None if started is None or created is None else max((started - created).total_seconds(), 0.0)
    tail: list[str] = []
    spans: dict[str, tuple[float, float]] = {}
    if status == "Failed" and end is not None:
        events = last_events(session, kind.log_group, f"{name}/", end)
        tail = messages(events)
        if created is not None and waited is not None:
            spans = last_spans(events, name, created, waited)
    elif created is not None and not phases:
        spans = line_spans(session, kind.log_group, name, created)
    hosts = [attrs.evolve(host, lines=spans.get(host.name)) for host in hosts]
    return JobFacts(
        name=name,
        status=status,
        details=[
            ("instances", f"{count} x {instance_type}" if instance_type else None),
            ("model" if kind is TRANSFORM else "image", _inside(description, kind.image)),
            ("created", None if created is None else created.isoformat(" ", "seconds")),
            ("duration", None if started is None or end is None else duration((end - started).total_seconds())),
            *_details(session, kind, description),
        ],
        waited=waited,
        total=0.0 if created is None or end is None else max((end - created).total_seconds(), 0.0),
        hosts=hosts,
        reason=description.get("FailureReason"),
        tail=tail,
        console_url=console_url(session, name, kind.console),
        phases=phases,
        log_url=log_url(session, kind.log_group, f"{name}/"),
    )


def _inside(description: Mapping[str, Any], members: Sequence[str]) -> Any:
    found: Any = description
    for member in members:
        found = (found or {}).get(member)
    return found


def _details(session: Session, kind: JobResource, description: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Return the details of one kind alone. AWS's prices are known for processing jobs."""
    if kind is PROCESSING:
        outputs = (_inside(description, ("ProcessingOutputConfig", "Outputs")) or ())[:_MOST_OUTPUTS]
        return [
            ("price", str(cost_of(session, description))),
            ("message", description.get("ExitMessage")),
            *((f"output {each.get('OutputName')}", _inside(each, ("S3Output", "S3Uri"))) for each in outputs),
        ]
    billed = description.get("BillableTimeInSeconds")
    metrics = (description.get("FinalMetricDataList") or ())[:_MOST_METRICS]
    return [
        ("place", ON_THIS_MACHINE if session.is_local else None),
        ("billed time", None if billed is None or session.is_local else duration(billed)),
        ("artifacts", _inside(description, ("ModelArtifacts", "S3ModelArtifacts"))),
        ("output", _inside(description, ("TransformOutput", "S3OutputPath"))),
        *((str(each.get("MetricName")), _number(each.get("Value"))) for each in metrics),
    ]


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def _hosts(
    session: Session, kind: JobResource, name: str, count: int, begin: datetime | None, end: datetime | None
) -> list[HostUse]:
    """Return the hosts; the first ones with their use, if the job's times are known."""
    names = [f"algo-{number}" for number in range(1, count + 1)]
    if begin is None or end is None:
        return [HostUse(host) for host in names]
    wanted = {
        f"{use}_{number}": (kind.log_group, metric, {"Host": f"{name}/{host}"}, "Average")
        for number, host in enumerate(names[:_MOST_HOSTS])
        for use, metric in _METRICS.items()
    }
    values = read_metrics(session, wanted, begin, end)
    return [
        HostUse(host, values.get(f"cpu_{number}", ()), values.get(f"memory_{number}", ()))
        for number, host in enumerate(names)
    ]


def _phases(description: Mapping[str, Any], created: datetime | None, end: datetime | None) -> list[JobPhase]:
    """Return the phases that AWS reports, which it does for training jobs."""
    if created is None or end is None:
        return []
    return [
        JobPhase(
            str(each["Status"]),
            (each["StartTime"] - created).total_seconds(),
            (each.get("EndTime", end) - created).total_seconds(),
        )
        for each in description.get("SecondaryStatusTransitions") or ()
    ]

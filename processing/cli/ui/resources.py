"""The kinds of resources that the pages show, and the calls that read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.job.cards import ENDPOINT, JOB_KINDS
from processing.job.endpoint_facts import LOG_GROUPS
from processing.job.fact_calls import call
from processing.job.fleet.search import STATUSES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from processing.session.session import Session

PAGE: Final = 100
"""The rows of a page: the most that one List call returns."""
_STREAMS: Final = 8  # whose last lines are read
_LINES: Final = 100  # of each stream, and shown


@attrs.frozen
class PageKind:
    """A kind of resources.

    Args:
        resource: the resource type in ARNs, such as `training-job`. It is the kind's part of a URL.
        title: the kind's name in the plural.
        prefix: the beginning of the API's names, such as `TrainingJob` in TrainingJobName and ListTrainingJobs.
        summaries: the member of the List answer with the entries.
        end: the member of an entry with the time of its end; None if there is no such time.
        statuses: the statuses that the kind can have.
    """

    resource: str
    title: str
    prefix: str
    summaries: str
    end: str | None
    statuses: Sequence[str]

    def rows(
        self, session: Session, *, status: str | None, name: str | None, token: str | None, count: int = PAGE
    ) -> tuple[list[Row], str | None]:
        """Return a page of resources, the newest first, and the token of the next page.

        Args:
            session: the session of the engine.
            status: the only status; None for any.
            name: a part of the names; None for any.
            token: the token of the page; None for the first one.
            count: the most rows.
        """
        filters = {"StatusEquals": status, "NameContains": name, "NextToken": token}
        params = {"MaxResults": count, "SortBy": "CreationTime", "SortOrder": "Descending"}
        params |= {key: value for key, value in filters.items() if value}
        answer = session.api.call("sagemaker", f"List{self.prefix}s", params)
        return [self._row(each) for each in answer[self.summaries]], answer.get("NextToken")

    def _row(self, summary: Mapping[str, Any]) -> Row:
        return Row(
            name=str(summary[f"{self.prefix}Name"]),
            status=str(summary[f"{self.prefix}Status"]),
            created=summary["CreationTime"],
            ended=None if self.end is None else summary.get(self.end),
            note=str(summary.get("FailureReason") or summary.get("ExitMessage") or ""),
        )

    def tags(self, session: Session, description: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the tags of a resource."""
        answer = call(session, "sagemaker", "ListTags", {"ResourceArn": description.get(f"{self.prefix}Arn")})
        return [(each["Key"], each["Value"]) for each in answer.get("Tags") or ()]

    def last_lines(self, session: Session, name: str) -> list[str]:
        """Return the last lines of all log streams of a resource, in order of time."""
        is_endpoint = self.resource == ENDPOINT
        group = f"{LOG_GROUPS}/{name}" if is_endpoint else JOB_KINDS[self.resource].log_group
        params = {"logGroupName": group, **({} if is_endpoint else {"logStreamNamePrefix": f"{name}/"})}
        streams = call(session, "logs", "DescribeLogStreams", params).get("logStreams") or ()
        found: list[tuple[int, str]] = []
        for stream in streams[:_STREAMS]:
            tail = {"logGroupName": group, "logStreamName": stream["logStreamName"], "limit": _LINES}
            answer = call(session, "logs", "GetLogEvents", {**tail, "startFromHead": False})
            host = stream["logStreamName"].rpartition("/")[2].rpartition("-")[0] if len(streams) > 1 else ""
            found += [
                (event["timestamp"], f"{host}  {event['message']}" if host else event["message"])
                for event in answer.get("events") or ()
            ]
        found.sort(key=lambda event: event[0])
        return [line for _, line in found[-_LINES:]]


@attrs.frozen
class Row:
    """A row of a list.

    Args:
        name: the resource's name.
        status: its status.
        created: the time of its creation.
        ended: the time of its end; None if there is none.
        note: its failure reason or its exit message; empty if it has none.
    """

    name: str
    status: str
    created: datetime
    ended: datetime | None
    note: str


KINDS: Final[Mapping[str, PageKind]] = {
    each.resource: each
    for each in (
        PageKind(
            "processing-job",
            "Processing jobs",
            "ProcessingJob",
            "ProcessingJobSummaries",
            "ProcessingEndTime",
            STATUSES,
        ),
        PageKind("training-job", "Training jobs", "TrainingJob", "TrainingJobSummaries", "TrainingEndTime", STATUSES),
        PageKind(
            "transform-job", "Transform jobs", "TransformJob", "TransformJobSummaries", "TransformEndTime", STATUSES
        ),
        PageKind(ENDPOINT, "Endpoints", "Endpoint", "Endpoints", None, ("Creating", "InService", "Updating", "Failed")),
    )
}
"""The kinds by their resource types."""


def settings(description: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings of a job that its card does not show. Its environment is left out, as it may have secrets."""
    application = description.get("AppSpecification") or {}
    command = [*(application.get("ContainerEntrypoint") or ()), *(application.get("ContainerArguments") or ())]
    found = [("command", " ".join(command))] if command else []
    found += [
        (f"input {each['InputName']}", str((each.get("S3Input") or {}).get("S3Uri", "a dataset")))
        for each in description.get("ProcessingInputs") or ()
    ]
    found += [
        (f"channel {each['ChannelName']}", str(((each.get("DataSource") or {}).get("S3DataSource") or {}).get("S3Uri")))
        for each in description.get("InputDataConfig") or ()
    ]
    found += [(f"hyperparameter {key}", value) for key, value in (description.get("HyperParameters") or {}).items()]
    return found

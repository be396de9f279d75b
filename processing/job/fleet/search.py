"""Jobs that somebody started: by the beginning of their names, by tags, by status, by age."""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing import default_sessions as targets
from processing._utils import type_name
from processing.aws.retry import error_code, is_denied, server_time
from processing.exceptions import ConfigurationError
from processing.job.job import ProcessingJob

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from processing.session.session import Session

logger = logging.getLogger(__name__)

FLEET_TAG: Final = "sm-processing:fleet"
"""The key of the tag that every job of a fleet has; its value is the fleet's name."""

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)  # no job is older, and no request has earlier times
STATUSES: Final = ("InProgress", "Completed", "Failed", "Stopping", "Stopped")

_PAGE = 100  # the most that ListProcessingJobs and GetResources answer at a time
_SCANS = 5  # a token may expire while a long listing is read; then it is begun anew
_TAGS_LAG = 900.0  # seconds in which GetResources may not yet show the tags of a new job; generous, AWS gives no bound


def jobs(
    name_prefix: str | None = None,
    *,
    tags: Mapping[str, str | None] | None = None,
    status: str | None = None,
    created_after: dt.datetime | dt.timedelta | None = None,
    session: Any = None,
) -> Iterator[ProcessingJob]:
    """Yield the processing jobs of the account and region that meet every condition, oldest first.

    They are listed page by page, as they are taken. What a job was started with (`inputs`, `outputs`) is asked of AWS
    when it is first looked at.

    Args:
        name_prefix: the beginning of their names.
        tags: tags that they have; None as a value stands for any. Takes the permission `tag:GetResources`; tags of the
            last minutes may not be known there yet.
        status: InProgress, Completed, Failed, Stopping or Stopped.
        created_after: a time (a naive one is local), or how long ago.
        session: the `Session` that reaches them; None means AWS, unless the environment has PROCESSING_TARGET=local.

    Raises:
        ConfigurationError: a condition is none.
        botocore.exceptions.ClientError: AWS does not answer, such as for want of permission.
    """
    given: object = name_prefix  # not every caller has a type checker
    if given is not None and not (isinstance(given, str) and re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9-]{0,62}", given)):
        raise ConfigurationError(f"name_prefix: {name_prefix!r} cannot begin a job's name")
    if status is not None and status not in STATUSES:
        raise ConfigurationError(f"status: must be one of {', '.join(STATUSES)}, not {status!r}")
    _check_tags(tags)
    target = targets.session_for_attach(session, "session")
    filters: dict[str, Any] = {} if status is None else {"StatusEquals": status}
    if created_after is not None:
        filters["CreationTimeAfter"] = _moment(target, created_after)
    return _found(target, name_prefix or "", tags, filters)


def _check_tags(tags: object) -> None:
    if tags is None:
        return
    if not isinstance(tags, Mapping):
        raise ConfigurationError(f"tags: must be a mapping of keys to values, not {type_name(tags)}")
    for key, value in tags.items():
        if not isinstance(key, str) or not (value is None or isinstance(value, str)):
            raise ConfigurationError(
                f"tags[{key!r}]: a tag has strings for its key and its value, or None for any value"
            )


def _found(
    session: Session, prefix: str, tags: Mapping[str, str | None] | None, filters: Mapping[str, Any]
) -> Iterator[ProcessingJob]:
    marked = tagged(session, tags) if tags else None
    if marked is not None and not marked:
        return
    for each in listing(session, prefix, filters):
        if marked is None or each.arn in marked:
            yield each.job(session)


@attrs.frozen
class Listed:
    """What ListProcessingJobs says of a job.

    Args:
        summary: its words.
        answered: when, by AWS's clock in seconds since the epoch; None where AWS did not tell the time.
    """

    summary: Mapping[str, Any]
    answered: float | None

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self.summary["ProcessingJobName"])

    @property
    def arn(self) -> str:
        """Its ARN."""
        return str(self.summary["ProcessingJobArn"])

    @property
    def status(self) -> str:
        """Its status, as far as the listing does not lag."""
        return str(self.summary["ProcessingJobStatus"])

    @property
    def created(self) -> dt.datetime:
        """Its CreationTime."""
        moment: dt.datetime = self.summary["CreationTime"]
        return moment

    def job(self, session: Session) -> ProcessingJob:
        """Return the job."""
        at = None if self.answered is None else self.answered - session.polling.sweep_overlap  # listings lag
        return ProcessingJob.listed(session, self.summary, at=at)


def listing(session: Session, prefix: str, filters: Mapping[str, Any] | None = None) -> Iterator[Listed]:
    """Yield what ListProcessingJobs says of the jobs whose names begin so, oldest first, each job once.

    Args:
        session: where to ask.
        prefix: the beginning; an empty one for all.
        filters: further parameters of ListProcessingJobs.
    """
    params: dict[str, Any] = {
        "MaxResults": _PAGE,
        "SortBy": "CreationTime",
        "SortOrder": "Ascending",
        **(filters or {}),
    }
    if prefix:
        params["NameContains"] = prefix
    seen: set[tuple[str, Any]] = set()
    for page in _pages(session, params):
        answered = server_time(page.get("ResponseMetadata", {}))
        for each in (Listed(summary, answered) for summary in page["ProcessingJobSummaries"]):
            identity = each.arn, each.created
            if each.name.startswith(prefix) and identity not in seen:
                seen.add(identity)
                yield each


def listing_if_allowed(session: Session, prefix: str) -> list[Listed]:
    """Return the same as far as they may be listed: where that is denied, there are none.

    For who can do without: CreateProcessingJob finds a name that is taken, and to stop a job that has ended is no
    error.
    """
    try:
        return list(listing(session, prefix))
    except Exception as error:
        if not is_denied(error):
            raise
        logger.info("going on without a listing of the jobs %s*, as sagemaker:ListProcessingJobs is denied", prefix)
        return []


def _pages(session: Session, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    token: str | None = None
    scans = 1
    while True:
        following: dict[str, Any] = {"NextToken": token} if token else {}
        try:
            page = session.api.call("sagemaker", "ListProcessingJobs", {**params, **following})
        except Exception as error:
            # The token has expired: AWS has no error code of its own for that.
            if token is None or error_code(error) != "ValidationException" or scans == _SCANS:
                raise
            logger.debug("listing jobs anew: %s", error)
            token, scans = None, scans + 1
            continue
        yield page
        token = page.get("NextToken")
        if not token:
            return


def tagged(session: Session, tags: Mapping[str, str | None]) -> set[str]:
    """Return the ARNs of the processing jobs that have all those tags; None as a value stands for any.

    Raises:
        botocore.exceptions.ClientError: AWS does not answer; it takes the permission `tag:GetResources`.
    """
    filters = [{"Key": key, **({} if value is None else {"Values": [value]})} for key, value in tags.items()]
    params: dict[str, Any] = {
        "TagFilters": filters,
        "ResourceTypeFilters": ["sagemaker:processing-job"],
        "ResourcesPerPage": _PAGE,
    }
    found: set[str] = set()
    while True:
        answer = session.api.call("resourcegroupstaggingapi", "GetResources", params)
        found.update(entry["ResourceARN"] for entry in answer["ResourceTagMappingList"])
        token = answer.get("PaginationToken")
        if not token:
            return found
        params["PaginationToken"] = token


def of_fleet(session: Session, name: str, known: Collection[str] = ()) -> list[Listed]:
    """Return what is listed of a fleet's jobs, oldest first.

    Those whose names begin like the fleet's, and which have its tag: another fleet's name may begin with this one's.

    Args:
        session: where they are.
        name: the fleet's.
        known: the names of jobs that are known to be the fleet's.
    """
    found = listing_if_allowed(session, f"{name}-") if known else list(listing(session, f"{name}-"))
    others = [each for each in found if each.name not in known]
    ours = {each.name for each in _with_tag(session, others, name)}.union(known)
    return [each for each in found if each.name in ours]


def _with_tag(session: Session, found: Sequence[Listed], name: str) -> Sequence[Listed]:
    if not found:
        return found
    try:
        marked = tagged(session, {FLEET_TAG: name})
    except Exception as error:
        if not is_denied(error):
            raise
        logger.info("looking at the tags of %d jobs one by one, as tag:GetResources is denied", len(found))
        return [each for each in found if _has_tag(session, each, name)]
    now = _now(session)
    return [
        each
        for each in found
        if each.arn in marked or (each.created.timestamp() > now - _TAGS_LAG and _has_tag(session, each, name))
    ]


def _has_tag(session: Session, listed: Listed, name: str) -> bool:
    answer = session.api.call("sagemaker", "ListTags", {"ResourceArn": listed.arn})
    return {"Key": FLEET_TAG, "Value": name} in answer["Tags"]


def _now(session: Session) -> float:
    """Return AWS's time, in seconds since the epoch: ours may be off."""
    answer = session.api.call("sagemaker", "ListProcessingJobs", {"MaxResults": 1})
    return server_time(answer.get("ResponseMetadata", {})) or session.clock.time()


def _moment(session: Session, given: object) -> dt.datetime:
    if isinstance(given, dt.timedelta):
        now = dt.datetime.fromtimestamp(_now(session), dt.timezone.utc)
        longest = now - _EPOCH
        return now - max(min(given, longest), -longest)  # so that it is a date
    if not isinstance(given, dt.datetime):
        raise ConfigurationError(f"created_after: must be a datetime or a timedelta, not {type_name(given)}")
    # boto3 would take a naive one for UTC.
    return _EPOCH if given.year <= _EPOCH.year else given.astimezone()

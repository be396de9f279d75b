"""A search for existing jobs by name prefix, tags, status and age."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing import default_sessions
from processing._utils import type_name
from processing._utils.validation import NAME
from processing.aws.retry import error_code, is_denied, server_time
from processing.exceptions import ConfigurationError
from processing.job.job import ProcessingJob

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from processing.default_sessions import SessionLike
    from processing.session.session import Session

logger = logging.getLogger(__name__)

FLEET_TAG: Final = "sm-processing:fleet"
"""The key of the tag that every job of a fleet has; its value is the fleet's name."""

STATUSES: Final = ("InProgress", "Completed", "Failed", "Stopping", "Stopped")
"""The statuses that a job can have."""

# No job is older, and the service's timestamps cannot be earlier.
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)

# The maximum of a page of ListProcessingJobs and GetResources: the fewest calls.
_PAGE = 100

# A card makes no more calls than these.
_CALLS_OF_CARD = 3

# A page token may expire while the caller handles a long listing. The scan is then restarted, up to this many scans.
_MAX_SCANS = 5

# GetResources may not show the tags of a job that is younger than this, in seconds. AWS states no bound, so 15 minutes
# are generous; younger jobs are asked for their tags one by one.
_TAGS_LAG = 900.0


def jobs(
    name_prefix: str | None = None,
    *,
    tags: Mapping[str, str | None] | None = None,
    status: str | None = None,
    created_after: dt.datetime | dt.timedelta | None = None,
    session: SessionLike | None = None,
) -> JobListing:
    """Return the processing jobs of the account and region that meet every condition, oldest first.

    They are listed page by page, while the caller iterates. A notebook shows them as a card. The first use of a job's
    `inputs` or `outputs` asks AWS for them.

    Args:
        name_prefix: the beginning of the jobs' names.
        tags: tags that the jobs have; None as a value stands for any value. This needs the permission
            `tag:GetResources`. Tags of the last minutes may be missing there.
        status: InProgress, Completed, Failed, Stopping or Stopped.
        created_after: a moment or an age. A moment without a time zone is in this machine's.
        session: the `Session` that reaches the jobs; None means AWS, unless the environment has
            PROCESSING_TARGET=local.

    Raises:
        ConfigurationError: a condition is not valid.
        botocore.exceptions.ClientError: AWS refuses a call, for example because a permission is missing.
    """
    value: object = name_prefix  # not every caller has a type checker
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9-]{0,62}", value)):
        raise ConfigurationError(f"name_prefix: {name_prefix!r} cannot begin a job's name")
    if status is not None and status not in STATUSES:
        raise ConfigurationError(f"status: must be one of {', '.join(STATUSES)}, not {status!r}")
    _check_tags(tags)
    target = default_sessions.session_for_attach(session, "session")
    filters: dict[str, Any] = {} if status is None else {"StatusEquals": status}
    if created_after is not None:
        filters["CreationTimeAfter"] = _created_after(target, created_after)
    return JobListing(_matching(target, name_prefix or "", tags, filters))


class JobListing(Iterator[ProcessingJob]):
    """The jobs of a search: an iterator, and a card in notebooks.

    `processing.jobs` returns one. The card has a cell for each job that is listed already. Showing it the first time
    lists up to 300 jobs more, in at most three calls; the iteration still yields them.

    Args:
        batches: the jobs in lists, one for each call.
    """

    def __init__(self, batches: Iterator[list[ProcessingJob]]) -> None:
        self._batches = batches
        self._ahead: deque[ProcessingJob] = deque()
        self._listed: list[tuple[str, str]] = []
        self._shown = self._complete = False

    def __next__(self) -> ProcessingJob:
        while not self._ahead:
            if not self._list_more():
                raise StopIteration
        return self._ahead.popleft()

    def _list_more(self) -> bool:
        """Make one call, and return whether there may be another one."""
        batch = next(self._batches, None)
        if batch is None:
            self._complete = True
            return False
        self._ahead.extend(batch)
        self._listed.extend((job.job_name, str((job.summary or {}).get("ProcessingJobStatus"))) for job in batch)
        return True

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows: at most three calls, and none when it is shown again."""
        from processing.report.grid import jobs_card

        if not self._shown:
            for _ in range(_CALLS_OF_CARD):
                self._list_more()
            self._shown = True
        note = None if self._complete else "There may be more jobs: an iteration lists them."
        return jobs_card("processing jobs", self._listed, note=note)


def _check_tags(tags: object) -> None:
    if tags is None:
        return
    if not isinstance(tags, Mapping):
        raise ConfigurationError(f"tags: must be a mapping of keys to values, not {type_name(tags)}")
    for key, value in tags.items():
        if not NAME.accepts(key) or not (value is None or isinstance(value, str)):
            raise ConfigurationError(
                f"tags[{key!r}]: a tag has strings for its key, not blank, and its value, or None for any value"
            )


def _matching(
    session: Session, prefix: str, tags: Mapping[str, str | None] | None, filters: Mapping[str, Any]
) -> Iterator[list[ProcessingJob]]:
    """Yield the jobs in lists, one for each call. The lists of GetResources are empty."""
    marked: set[str] | None = None
    if tags:
        marked = set()
        for arns in _pages_of_arns(session, tags):
            marked |= arns
            yield []
        if not marked:
            return
    for page in _pages_of_summaries(session, prefix, filters):
        yield [_listed_job(session, each) for each in page if marked is None or each.arn in marked]


def _listed_job(session: Session, found: JobSummary) -> ProcessingJob:
    job = found.job(session)
    job.summary = found.summary
    return job


@attrs.frozen
class JobSummary:
    """The summary of a job by ListProcessingJobs.

    Args:
        summary: the job's entry in the answer.
        answered: the time of the answer by AWS's clock, in seconds since the epoch; None if the answer had no time.
    """

    summary: Mapping[str, Any]
    answered: float | None

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self.summary["ProcessingJobName"])

    @property
    def arn(self) -> str:
        """The job's ARN; empty if the answer lacks it."""
        return str(self.summary.get("ProcessingJobArn", ""))

    @property
    def status(self) -> str:
        """The job's status; a listing lags, so it may be an earlier one."""
        return str(self.summary["ProcessingJobStatus"])

    @property
    def created(self) -> dt.datetime:
        """The job's CreationTime; the epoch if the answer lacks it."""
        moment: dt.datetime = self.summary.get("CreationTime", _EPOCH)
        return moment

    def job(self, session: Session) -> ProcessingJob:
        """Return the job that is summarised."""
        # A listing lags by at most the overlap, so it has every change before this moment.
        at = None if self.answered is None else self.answered - session.polling.sweep_overlap
        return ProcessingJob.listed(session, self.summary, at=at)


def iter_summaries(session: Session, prefix: str, filters: Mapping[str, Any] | None = None) -> Iterator[JobSummary]:
    """Yield the summaries of the jobs whose names have a prefix, oldest first, each job once.

    Args:
        session: the session to list with.
        prefix: the beginning of the names; an empty one for all jobs.
        filters: further parameters of ListProcessingJobs.
    """
    return itertools.chain.from_iterable(_pages_of_summaries(session, prefix, filters))


def _pages_of_summaries(session: Session, prefix: str, filters: Mapping[str, Any] | None) -> Iterator[list[JobSummary]]:
    """Yield the summaries of jobs in lists, one for each call."""
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
        fresh = []
        for each in (JobSummary(summary, answered) for summary in page["ProcessingJobSummaries"]):
            identity = each.name, each.created
            if each.name.startswith(prefix) and identity not in seen:
                seen.add(identity)
                fresh.append(each)
        yield fresh


def list_summaries_if_allowed(session: Session, prefix: str) -> list[JobSummary]:
    """Return the summaries of the jobs whose names have a prefix; none if the caller may not list jobs.

    Use it if the listing only saves calls: CreateProcessingJob detects a name that is taken, and stopping a job that
    has ended is not an error.

    Args:
        session: the session to list with.
        prefix: the beginning of the names.
    """
    try:
        return list(iter_summaries(session, prefix))
    except Exception as error:
        if not is_denied(error):
            raise
        logger.info("continuing without a listing of the jobs %s*, as sagemaker:ListProcessingJobs is denied", prefix)
        return []


def _pages(session: Session, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    token: str | None = None
    scans = 1
    while True:
        continuation: dict[str, Any] = {"NextToken": token} if token else {}
        try:
            page = session.api.call("sagemaker", "ListProcessingJobs", {**params, **continuation})
        except Exception as error:
            # An expired token is a ValidationException: AWS has no error code of its own for it.
            if token is None or error_code(error) != "ValidationException" or scans == _MAX_SCANS:
                raise
            logger.debug("restarting the listing of jobs: %s", error)
            token, scans = None, scans + 1
            continue
        yield page
        token = page.get("NextToken")
        if not token:
            return


def arns_with_tags(session: Session, tags: Mapping[str, str | None]) -> set[str]:
    """Return the ARNs of the processing jobs that have all of the tags.

    Args:
        session: the session to ask with.
        tags: the tags; None as a value stands for any value.

    Raises:
        botocore.exceptions.ClientError: AWS refuses the call, for example because the permission `tag:GetResources` is
            missing.
    """
    return set().union(*_pages_of_arns(session, tags))


def _pages_of_arns(session: Session, tags: Mapping[str, str | None]) -> Iterator[set[str]]:
    """Yield the ARNs of the processing jobs that have all of the tags in sets, one for each call."""
    filters = [{"Key": key, **({} if value is None else {"Values": [value]})} for key, value in tags.items()]
    params: dict[str, Any] = {
        "TagFilters": filters,
        "ResourceTypeFilters": ["sagemaker:processing-job"],
        "ResourcesPerPage": _PAGE,
    }
    while True:
        answer = session.api.call("resourcegroupstaggingapi", "GetResources", params)
        yield {entry["ResourceARN"] for entry in answer["ResourceTagMappingList"]}
        token = answer.get("PaginationToken")
        if not token:
            return
        params["PaginationToken"] = token


def list_fleet(session: Session, name: str, known: Collection[str] = ()) -> list[JobSummary]:
    """Return the summaries of a fleet's jobs, oldest first.

    A job belongs to the fleet if its name has the fleet's prefix and it has the fleet's tag. The prefix alone is not
    enough, as another fleet's name may begin with this one's.

    Args:
        session: the session to list with.
        name: the fleet's name.
        known: names of jobs that are known to belong to the fleet; their tags are not checked.
    """
    found = list_summaries_if_allowed(session, f"{name}-") if known else list(iter_summaries(session, f"{name}-"))
    others = [each for each in found if each.name not in known]
    ours = {each.name for each in _with_fleet_tag(session, others, name)}.union(known)
    return [each for each in found if each.name in ours]


def _with_fleet_tag(session: Session, found: Sequence[JobSummary], name: str) -> Sequence[JobSummary]:
    if not found:
        return found
    try:
        marked = arns_with_tags(session, {FLEET_TAG: name})
    except Exception as error:
        if not is_denied(error):
            raise
        logger.info("reading the tags of %d jobs one by one, as tag:GetResources is denied", len(found))
        return [each for each in found if _has_fleet_tag(session, each, name)]
    now = _now(session)
    return [
        each
        for each in found
        if each.arn in marked or (each.created.timestamp() > now - _TAGS_LAG and _has_fleet_tag(session, each, name))
    ]


def _has_fleet_tag(session: Session, listed: JobSummary, name: str) -> bool:
    answer = session.api.call("sagemaker", "ListTags", {"ResourceArn": listed.arn})
    return {"Key": FLEET_TAG, "Value": name} in answer["Tags"]


def _now(session: Session) -> float:
    """Return the time by AWS's clock, in seconds since the epoch; this machine's clock may be wrong."""
    answer = session.api.call("sagemaker", "ListProcessingJobs", {"MaxResults": 1})
    return server_time(answer.get("ResponseMetadata", {})) or session.clock.time()


def _created_after(session: Session, value: object) -> dt.datetime:
    if isinstance(value, dt.timedelta):
        now = dt.datetime.fromtimestamp(_now(session), dt.timezone.utc)
        longest = now - _EPOCH
        return now - max(min(value, longest), -longest)  # a larger age would overflow the range of dates
    if not isinstance(value, dt.datetime):
        raise ConfigurationError(f"created_after: must be a datetime or a timedelta, not {type_name(value)}")
    # boto3 would read a moment without a time zone as UTC.
    return _EPOCH if value.year <= _EPOCH.year else value.astimezone()

"""The price of a job: the highest one before its end, and the actual one afterwards.

AWS bills each instance of a processing job by the second, from the job's start to its end. Prices come from
`processing.pricing`, without storage and taxes. A price that is not known is None, never a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from processing import pricing
from processing._utils import is_empty
from processing.aws.endpoints import is_aws
from processing.container.contract import DEFAULT_MAX_RUNTIME
from processing.watching.render.run_text import RunFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from processing.request.build import ProcessingRequest
    from processing.session.session import Session

ON_THIS_MACHINE = "on this machine"

# Larger than any number of instances or seconds, and small enough that the price fits into a float.
_MAX_COUNT = 10**9

# The hosts of AWS's consoles by the beginning of the region, the most specific first. The consoles of isolated
# partitions are not public, and have no host here. botocore's own table takes longer to load than the rest of a run.
_CONSOLES = {
    "cn-": "https://{region}.console.amazonaws.cn",
    "us-gov-": "https://{region}.console.amazonaws-us-gov.com",
    "us-iso": None,
    "eu-iso": None,
    "eusc-": None,
    "": "https://{region}.console.aws.amazon.com",
}


@attrs.frozen
class JobCost:
    """The price of a job in US dollars, without storage and taxes.

    Args:
        ceiling: the price if the job runs as long as it may; None if a price is not known.
        actual: the price of the time from the job's start to its end; None before the end, or if a price is not known.
        note: the calculation, or the reason for a price that is not known.
    """

    ceiling: float | None
    actual: float | None
    note: str

    def __str__(self) -> str:
        if self.actual is not None:
            return f"{self.actual:,.4f} USD: {self.note}"
        return f"not known: {self.note}" if self.ceiling is None else f"at most {self.ceiling:,.2f} USD: {self.note}"


@attrs.frozen
class Instances:
    """A number of instances of one type.

    Args:
        instance_type: the instance type.
        count: the number.
    """

    instance_type: Any
    count: Any

    def price(self, region: str, hours: float) -> tuple[float | None, str]:
        """Return the price of the instances for a time in US dollars, and its calculation.

        The price is None if it is not known; the text has the reason.
        """
        price = pricing.hourly_price(self.instance_type, region)
        if price is None:
            return None, (
                f"no price is known for {self.instance_type} in {region}; "
                f"processing.pricing.refresh({region!r}) fetches them"
            )
        return self.count * hours * price.usd, f"{self.count} x {self.instance_type} x {hours:g} h at {price}"


def highest_price(instances: Iterable[Instances], seconds: Any, region: str) -> tuple[float | None, str]:
    """Return the highest price of a job in US dollars, and its calculation; None and the reason if it is not known.

    Args:
        instances: the instances that AWS may choose among.
        seconds: the longest time that the job may run; None for AWS's default.
        region: the job's region.
    """
    longest = DEFAULT_MAX_RUNTIME if seconds is None else seconds
    if not _is_count(longest):
        return None, "how long it may run is not known"
    choices = list(instances)
    if not choices or not all(isinstance(each.instance_type, str) and _is_count(each.count) for each in choices):
        return None, "the instances are not known"
    prices = [each.price(region, longest / 3600) for each in choices]
    unknown = [(price, note) for price, note in prices if price is None]
    return unknown[0] if unknown else max(prices, key=lambda pair: pair[0] or 0.0)


def _is_count(value: Any) -> bool:
    """Return whether a value can be calculated with; an invalid one is listed among a plan's problems."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_COUNT


def instances_of_request(request: ProcessingRequest) -> list[Instances]:
    """Return the instances that AWS may choose among for a request."""
    own = [] if is_empty(request.instance_type) else [Instances(request.instance_type, request.instance_count)]
    return own + [
        Instances(preference.instance_type, preference.instance_count or request.instance_count)
        for preference in request.instance_preferences or ()
    ]


def instances_of_description(description: Mapping[str, Any]) -> list[Instances]:
    """Return the instances that a job has, or that AWS may choose among."""
    cluster = (description.get("ProcessingResources") or {}).get("ClusterConfig") or {}
    selected = cluster.get("SelectedInstanceType") or cluster.get("InstanceType")
    if selected:
        return [Instances(selected, cluster.get("SelectedInstanceCount") or cluster.get("InstanceCount") or 1)]
    return [
        Instances(each.get("InstanceType"), each.get("InstanceCount") or cluster.get("InstanceCount") or 1)
        for each in cluster.get("InstancePreferences") or ()
    ]


def cost_of(session: Session, description: Mapping[str, Any]) -> JobCost:
    """Return the price of a job with that description."""
    if session.is_local:
        return JobCost(0.0, 0.0 if description.get("ProcessingEndTime") else None, "it runs on this machine")
    region = session.boto_region_name
    instances = instances_of_description(description)
    limit = (description.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds")
    ceiling, note = highest_price(instances, limit, region)
    ended = description.get("ProcessingEndTime")
    if ended is None or ceiling is None:
        return JobCost(ceiling, None, note)
    started = description.get("ProcessingStartTime")
    if started is None:
        return JobCost(ceiling, 0.0, "it ended before it started")
    seconds = max(0.0, (ended - started).total_seconds())
    prices = [each.price(region, seconds / 3600) for each in instances]
    actual = max((price or 0.0) for price, _ in prices)
    return JobCost(ceiling, actual, f"{seconds:,.0f} s, of {note}")


def console_url(session: Session, name: str, part: str = "processing-jobs") -> str | None:
    """Return a page in the AWS console; None if it would not be about AWS, or the console there is not public.

    Args:
        session: the session that reaches the job or endpoint.
        name: its name.
        part: the part of the console: `processing-jobs`, `jobs` (of training), `transform-jobs` or `endpoints`.
    """
    return _in_console(session, f"sagemaker/home?region={{region}}#/{part}/{name}")


def log_url(session: Session, group: str, prefix: str = "") -> str | None:
    """Return the page of a log group in the AWS console, as `console_url` does.

    Args:
        session: the session that reaches the job or endpoint.
        group: the log group.
        prefix: the beginning of the names of the streams to show.
    """
    filters = f"$3FlogStreamNameFilter$3D{prefix.replace('/', '$252F')}" if prefix else ""
    place = f"logsV2:log-groups/log-group/{group.replace('/', '$252F')}{filters}"
    return _in_console(session, f"cloudwatch/home?region={{region}}#{place}")


def _in_console(session: Session, path: str) -> str | None:
    if session.is_local or not is_aws(session.client("sagemaker").meta.endpoint_url):
        return None
    region = session.boto_region_name
    host = next(host for prefix, host in _CONSOLES.items() if region.startswith(prefix))
    return None if host is None else f"{host}/{path}".format(region=region)


def jobs_place(session: Session) -> str:
    """Return the place of a session's jobs: their page in the AWS console if there is one. Makes no call."""
    if session.is_local:
        return ON_THIS_MACHINE
    endpoint = session.client("sagemaker").meta.endpoint_url
    if not is_aws(endpoint):  # an engine that is served, or another stand-in
        return f"at {endpoint}"
    return _in_console(session, "sagemaker/home?region={region}#/processing-jobs") or session.boto_region_name


def hourly_price_of(session: Session, instances: list[Instances]) -> float | None:
    """Return the price of a job's instances in US dollars an hour, without a call; None if it is not known."""
    if session.is_local or not is_aws(session.client("sagemaker").meta.endpoint_url):
        return 0.0
    # Of several preferences, AWS's choice is not known before the job runs.
    return instances[0].price(session.boto_region_name, 1.0)[0] if len(instances) == 1 else None


def facts_of_request(session: Session, request: ProcessingRequest) -> RunFacts:
    """Return the facts that a display shows about a job that is about to be created."""
    return run_facts(session, request.job_name, instances_of_request(request))


def run_facts(session: Session, job_name: str, instances: list[Instances], *, shows_outputs: bool = True) -> RunFacts:
    """Return the facts that a display shows about a job, without a call. Its instances may not be known."""
    place = console_url(session, job_name) or jobs_place(session)
    return RunFacts(job_name, place, hourly_price_of(session, instances), shows_outputs)

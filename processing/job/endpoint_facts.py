"""The facts on the card of an endpoint, read with at most three calls."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from processing.job.cost import ON_THIS_MACHINE, console_url, log_url
from processing.job.fact_calls import last_events, messages, read_metrics
from processing.report.endpoint_card import Chart, EndpointFacts, VariantUse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.session.session import Session

LOG_GROUPS: Final = "/aws/sagemaker/Endpoints"
"""The beginning of the log group of an endpoint, which its name ends. It is also the namespace of its instances."""
_Points: TypeAlias = dict[str, list[tuple[float, float]]]
_SPAN: Final = timedelta(hours=3)
_MOST_VARIANTS: Final = 10  # as the card draws


def describe_endpoint(session: Session, name: str) -> Mapping[str, Any]:
    """Return the description of an endpoint."""
    answer: Mapping[str, Any] = session.api.call("sagemaker", "DescribeEndpoint", {"EndpointName": name})
    return answer


def read_endpoint_facts(session: Session, name: str, description: Mapping[str, Any]) -> EndpointFacts:
    """Return the facts of the endpoint with that description. Two calls at most; a refusal leaves its part out."""
    from datetime import datetime, timezone

    status = str(description["EndpointStatus"])
    now = datetime.fromtimestamp(session.clock.time(), timezone.utc)
    created, modified = description.get("CreationTime"), description.get("LastModifiedTime")
    begin = max(now - _SPAN, created) if created is not None else now - _SPAN
    variants = list(description.get("ProductionVariants") or ())
    values = _values(session, name, [str(each["VariantName"]) for each in variants[:_MOST_VARIANTS]], begin, now)
    events = last_events(session, f"{LOG_GROUPS}/{name}", "", modified or now) if status == "Failed" else ()
    return EndpointFacts(
        name=name,
        status=status,
        details=[
            ("configuration", description.get("EndpointConfigName")),
            ("created", None if created is None else created.isoformat(" ", "seconds")),
            ("modified", None if modified is None else modified.isoformat(" ", "seconds")),
            ("place", ON_THIS_MACHINE if session.is_local else None),
        ],
        variants=[_variant(number, each, values) for number, each in enumerate(variants)],
        span=(now - begin).total_seconds(),
        reason=description.get("FailureReason"),
        tail=messages(events),
        console_url=console_url(session, name, "endpoints"),
        log_url=log_url(session, f"{LOG_GROUPS}/{name}"),
    )


def _values(session: Session, name: str, variants: list[str], begin: Any, end: Any) -> _Points:
    wanted: dict[str, tuple[str, str, Mapping[str, str], str]] = {}
    for number, variant in enumerate(variants):
        dimensions = {"EndpointName": name, "VariantName": variant}
        wanted |= {
            f"invocations_{number}": ("AWS/SageMaker", "Invocations", dimensions, "Sum"),
            f"latency_{number}": ("AWS/SageMaker", "ModelLatency", dimensions, "Average"),
            f"cpu_{number}": (LOG_GROUPS, "CPUUtilization", dimensions, "Average"),
            f"memory_{number}": (LOG_GROUPS, "MemoryUtilization", dimensions, "Average"),
        }
    return read_metrics(session, wanted, begin, end) if wanted else {}


def _variant(number: int, described: Mapping[str, Any], values: _Points) -> VariantUse:
    weight, count = described.get("CurrentWeight"), described.get("CurrentInstanceCount")
    words = [
        None if weight is None else f"weight {weight:g}",
        None if count is None else f"{count} instance{'' if count == 1 else 's'}",
    ]
    found = {kind: values.get(f"{kind}_{number}", []) for kind in ("invocations", "latency", "cpu", "memory")}
    charts = [
        Chart("invocations", found["invocations"]),
        Chart("latency", [(seconds, value / 1000) for seconds, value in found["latency"]], " ms"),
        Chart("CPU", found["cpu"], " %"),
        Chart("memory", found["memory"], " %", 100.0),
    ]
    summary = ", ".join(word for word in words if word)
    return VariantUse(str(described["VariantName"]), summary, [chart for chart in charts if chart.points])

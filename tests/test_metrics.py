"""The use of a job's hosts, and its price."""

from __future__ import annotations

import datetime as dt
import types
from typing import TYPE_CHECKING, Any

import pytest

from processing import HostMetrics, JobCost, JobMetrics, ScriptProcessor, Utilization
from processing.job.cost import Instances, console_url, cost_of, highest_price, instances_of_description, log_url
from processing.job.metrics import cpus_of, job_metrics
from processing.testing.clock import VirtualClock

if TYPE_CHECKING:
    import pathlib

    from processing import LocalSession

BEGIN = dt.datetime(2026, 11, 30, 12, tzinfo=dt.timezone.utc)
END = BEGIN + dt.timedelta(hours=2)


class CloudWatch:
    """A session whose GetMetricData has the same samples for each host."""

    is_local = False
    boto_region_name = "us-east-1"

    def __init__(self, **samples: list[float]) -> None:
        self.samples = samples
        self.clock = VirtualClock(END.timestamp())
        self.api = types.SimpleNamespace(call=self._call)
        self.calls: list[Any] = []
        self.endpoint = "https://api.sagemaker.us-east-1.amazonaws.com"

    def client(self, _: str) -> Any:
        return types.SimpleNamespace(meta=types.SimpleNamespace(endpoint_url=self.endpoint))

    def _call(self, service: str, operation: str, params: Any) -> Any:
        assert (service, operation) == ("cloudwatch", "GetMetricData")
        assert len(params["MetricDataQueries"]) <= 500
        self.calls.append(params)
        values: dict[str, Any] = {"Sum": sum, "SampleCount": len, "Maximum": max}
        results = []
        for query in params["MetricDataQueries"]:
            kind, statistic = query["Id"].split("_")[0], query["MetricStat"]["Stat"]
            samples = self.samples.get(kind)
            results.append({"Id": query["Id"], "Values": [float(values[statistic](samples))] if samples else []})
        return {"MetricDataResults": results}


def described(kind: str = "ml.m5.4xlarge", count: int = 1, **members: Any) -> dict[str, Any]:
    cluster = {"InstanceType": kind, "InstanceCount": count}
    return {
        "CreationTime": BEGIN,
        "ProcessingStartTime": BEGIN,
        "ProcessingEndTime": END,
        "ProcessingResources": {"ClusterConfig": cluster},
        **members,
    }


def test_a_job_of_the_engine_has_metrics(local_session: LocalSession, tmp_path: pathlib.Path) -> None:
    """Each host has the mean and the peak of its samples; a job of the engine costs nothing."""
    (tmp_path / "busy.py").write_text("import time\nend = time.time() + 1.5\nwhile time.time() < end: pass\n")
    local_session.engine.settings = type(local_session.engine.settings)(sample=0.2)
    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=2, sagemaker_session=local_session
    )
    job = processor.run(tmp_path / "busy.py", quiet=True)
    metrics = job.metrics()
    assert list(metrics.hosts) == ["algo-1", "algo-2"]
    for host in metrics.hosts.values():
        assert host.cpu is not None
        assert host.memory is not None
        assert 0 < host.cpu.mean <= host.cpu.peak
        assert 0 < host.memory.mean <= host.memory.peak <= 100
    assert metrics.recommendation is None
    assert job.cost == JobCost(0.0, 0.0, "it runs on this machine")
    assert job.console_url is None


def test_many_hosts_take_few_calls() -> None:
    """A call has the nine numbers of 55 hosts; a host without samples is left out."""
    session: Any = CloudWatch(cpu=[100.0, 300.0], memory=[10.0, 20.0])
    metrics = job_metrics(session, "clean", described(count=100))
    assert len(session.calls) == 2
    assert metrics.hosts["algo-100"] == HostMetrics(Utilization(200.0, 300.0), Utilization(15.0, 20.0), None)
    assert job_metrics(CloudWatch(), "clean", described()) == JobMetrics({}, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "samples", "advice"),
    [
        ("ml.m5.4xlarge", {"cpu": [100.0], "memory": [15.0]}, "CPU peaked at 6 % and memory at 15 %: ml.m5.xlarge"),
        ("ml.m5.4xlarge", {"cpu": [500.0], "memory": [15.0]}, "CPU peaked at 31 % and memory at 15 %: ml.m5.2xlarge"),
        ("ml.m5.4xlarge", {"cpu": [500.0], "memory": [60.0]}, None),
        ("ml.m5.4xlarge", {"cpu": [500.0], "memory": [95.0]}, "memory peaked at 95 %: take ml.m5.12xlarge, or"),
        ("ml.m5.4xlarge", {"cpu": [500.0], "memory": [60.0], "disk": [93.0]}, "the disk peaked at 93 %: raise volume"),
        ("ml.m5.4xlarge", {"cpu": [1590.0], "memory": [60.0]}, "the CPUs were busy all the time: ml.m5.12xlarge"),
        ("ml.m5.large", {"cpu": [10.0], "memory": [5.0]}, None),
        ("ml.future.metal", {"cpu": [10.0], "memory": [5.0]}, None),
    ],
)
def test_the_recommendation(kind: str, samples: dict[str, list[float]], advice: str | None) -> None:
    """An instance that is much too large or too small is named, with another one of its family."""
    session: Any = CloudWatch(**samples)
    found = job_metrics(session, "clean", described(kind)).recommendation
    assert found is None if advice is None else found is not None and found.startswith(advice)


def test_the_price_of_a_job() -> None:
    """Before the end it is the ceiling; afterwards the time from start to end counts; unknown stays unknown."""
    session: Any = CloudWatch()
    running = described("ml.m5.xlarge", 2, StoppingCondition={"MaxRuntimeInSeconds": 7200})
    del running["ProcessingEndTime"]
    cost = cost_of(session, running)
    assert cost.ceiling == pytest.approx(0.92)
    assert cost.actual is None
    assert str(cost).startswith("at most 0.92 USD: 2 x ml.m5.xlarge x 2 h at 0.23 USD an hour")
    ended = cost_of(session, {**running, "ProcessingEndTime": BEGIN + dt.timedelta(minutes=30)})
    assert ended.actual == pytest.approx(2 * 0.5 * 0.23)
    assert str(ended).startswith("0.2300 USD: 1,800 s, of 2 x")
    unstarted = {**running, "ProcessingStartTime": None, "ProcessingEndTime": END}
    assert cost_of(session, unstarted).actual == 0.0
    unknown = cost_of(session, described("ml.p5.48xlarge"))
    assert (unknown.ceiling, unknown.actual) == (None, None)
    assert str(unknown).startswith("not known: no price is known for ml.p5.48xlarge in us-east-1")


def test_the_instances_of_a_description() -> None:
    """AWS's choice counts if there is one, else each preference."""
    preferences = [{"InstanceType": "ml.m5.large"}, {"InstanceType": "ml.m5.xlarge", "InstanceCount": 3}]
    cluster = {"InstanceCount": 2, "InstancePreferences": preferences}
    description = {"ProcessingResources": {"ClusterConfig": cluster}}
    assert instances_of_description(description) == [Instances("ml.m5.large", 2), Instances("ml.m5.xlarge", 3)]
    cluster.update(SelectedInstanceType="ml.m5.large", SelectedInstanceCount=2)
    assert instances_of_description(description) == [Instances("ml.m5.large", 2)]
    assert highest_price([], None, "us-east-1") == (None, "the instances are not known")


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "https://eu-west-1.console.aws.amazon.com"),
        ("cn-north-1", "https://cn-north-1.console.amazonaws.cn"),
        ("us-gov-west-1", "https://us-gov-west-1.console.amazonaws-us-gov.com"),
        ("us-iso-east-1", None),
        ("eusc-de-east-1", None),
    ],
)
def test_the_console(region: str, host: str | None) -> None:
    """Each public partition has its own console; a stand-in for AWS has none."""
    session: Any = CloudWatch()
    session.boto_region_name = region
    url = None if host is None else f"{host}/sagemaker/home?region={region}#/processing-jobs/clean"
    assert console_url(session, "clean") == url
    place = "$252Faws$252Fsagemaker$252FProcessingJobs$3FlogStreamNameFilter$3Dclean$252F"
    log = None if host is None else f"{host}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{place}"
    assert log_url(session, "/aws/sagemaker/ProcessingJobs", "clean/") == log
    session.endpoint = "http://127.0.0.1:1234"
    assert console_url(session, "clean") is None


def test_cpus_by_the_name() -> None:
    """A size that says nothing about CPUs gives none."""
    assert [cpus_of(f"ml.m5.{each}") for each in ("medium", "large", "xlarge", "12xlarge", "metal")] == [
        *(2, 2, 4, 48, None)
    ]
